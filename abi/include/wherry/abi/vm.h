/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_ABI_VM_H
#define WHERRY_ABI_VM_H

/*
 * What a virtual machine (WH_BOOT_ENGINE_KVM) has besides the boot contract: entry, ports,
 * interrupts, version 1.
 *
 * Entry: PVH (ELF note "Xen", type 18: the 32-bit physical entry). struct
 * hvm_start_info lies below the image in writable memory; module 0 is struct wh_boot_info, whose
 * guest addresses are physical addresses. RAM is zero but for what the boot contract puts there.
 *
 * Processor: one vCPU; local APIC with x2APIC mode and TSC-deadline timer; the time-stamp counter
 * is the host's. There is no other interrupt controller and no other timer: what a
 * device raises arrives as a message, vector WH_VM_WAKE_VECTOR, edge-triggered.
 *
 * Waking: a device's interrupt counts control.host_events up; only when control.guest_sleeping
 * is set does the vector follow. So the guest sets guest_sleeping, looks at host_events once
 * more, then halts with interrupts on. InterruptStatus of virtio-mmio need not be read
 * for queues.
 */

#ifdef __cplusplus
extern "C" {
#endif

#define WH_VM_WAKE_VECTOR 33u

/* Write of any size: ends the machine; wh_boot_control says how. QEMU's isa-debug-exit can listen
 * there too (exit status 2 * value + 1). */
#define WH_VM_EXIT_PORT 0xf4u

/* 16550 transmitter, for messages before and besides the console. */
#define WH_VM_SERIAL_PORT 0x3f8u

#ifdef __cplusplus
}
#endif
#endif
