/* SPDX-License-Identifier: ISC */
/*
 * A processor and its thread: enters the guest, answers ports and PCI configuration itself under the PC's
 * lock, and hands accesses to devices' registers to the loop's thread.
 *
 * The thread blocks all signals; KVM_RUN alone lets PC_STOP_SIGNAL end it.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#include "pc_priv.h"

#define MSR_MTRR_DEFAULT 0x2ffu
#define MTRR_WRITE_BACK (1u << 11 | 6u)
#define SPIN_COUNT 2000u
#define KERNEL_SIGSET_SIZE 8u
#define LAPIC_LVT0 0x350u
#define LAPIC_LVT1 0x360u
#define DELIVERY_EXTINT 0x700u
#define DELIVERY_NMI 0x400u

static int set_registers(struct pc_vcpu *v, struct wh_diag *diag)
{
	const struct pc_entry *e = &v->pc->entry;
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = e->rip,
			      .rsi = e->rsi,
			      .rbx = e->rbx,
			      .rax = e->rax,
			      .rsp = PC_STACK_TOP,
			      .rflags = 2 };
	if (ioctl(v->fd, KVM_GET_SREGS, &s))
		return wh_diag_set(diag, -errno, "kvm: cannot read a processor's state (errno %d)",
				   errno);
	struct kvm_segment flat = { .limit = 0xffffffff, .present = 1, .s = 1, .db = 1, .g = 1 };
	s.cs = s.ds = s.es = s.ss = s.fs = s.gs = flat;
	s.cs.type = 11;
	s.cs.selector = 0x10;
	s.ds.type = s.es.type = s.ss.type = s.fs.type = s.gs.type = 3;
	s.ds.selector = s.es.selector = s.ss.selector = s.fs.selector = s.gs.selector = 0x18;
	s.tr = (struct kvm_segment){ .limit = 0x67, .type = 11, .present = 1 };
	s.cr0 = 0x11;
	s.cr4 = s.efer = 0;
	if (e->long_mode) {
		s.cs.db = 0;
		s.cs.l = 1;
		s.cr0 |= 0x80000000u;
		s.cr3 = PC_PAGE_TABLES;
		s.cr4 = 0x20;
		s.efer = 0x500;
		s.gdt.base = PC_GDT;
		s.gdt.limit = 31;
	}
	if (ioctl(v->fd, KVM_SET_SREGS, &s) || ioctl(v->fd, KVM_SET_REGS, &r))
		return wh_diag_set(diag, -errno, "kvm: cannot set a processor's state (errno %d)",
				   errno);
	return 0;
}

/* The first processor takes the 8259's interrupts through LINT0, as after a BIOS. */
static void set_lapic(struct pc_vcpu *v)
{
	struct kvm_lapic_state l;
	if (ioctl(v->fd, KVM_GET_LAPIC, &l))
		return;
	uint32_t lvt0 = DELIVERY_EXTINT, lvt1 = DELIVERY_NMI;
	memcpy(l.regs + LAPIC_LVT0, &lvt0, sizeof lvt0);
	memcpy(l.regs + LAPIC_LVT1, &lvt1, sizeof lvt1);
	(void)ioctl(v->fd, KVM_SET_LAPIC, &l); /* kernels that need it are old */
}

int pc_vcpu_prepare(struct pc_vcpu *v, struct wh_diag *diag)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = MSR_MTRR_DEFAULT, .data = MTRR_WRITE_BACK } };
	struct {
		struct kvm_signal_mask head;
		uint64_t bits;
	} __attribute__((packed))
	mask = { .head.len = KERNEL_SIGSET_SIZE, .bits = ~(1ull << (PC_STOP_SIGNAL - 1)) };
	(void)ioctl(v->fd, KVM_SET_MSRS, &m); /* only a hint to the guest */
	if (ioctl(v->fd, KVM_SET_SIGNAL_MASK, &mask))
		return wh_diag_set(diag, -errno, "kvm: no signal mask (errno %d)", errno);
	if (v->index || v->pc->from.cpus)
		return 0; /* waits for the first one's start-up message */
	set_lapic(v);
	return set_registers(v, diag);
}

bool pc_ask(struct pc_vcpu *v)
{
	struct pc *pc = v->pc;
	uint32_t *state = &v->mail.state, asked = PC_MAIL_ASKED;
	__atomic_store_n(state, PC_MAIL_ASKED, __ATOMIC_SEQ_CST);
	/* Whoever ends the machine sets stop, then answers: one of us sees the other. */
	if (__atomic_load_n(&pc->stop, __ATOMIC_SEQ_CST))
		return false;
	if (__atomic_load_n(&pc->loop_sleeping, __ATOMIC_SEQ_CST))
		pc_tell_loop(pc);
	for (uint32_t i = 0; i < SPIN_COUNT; i++) {
		if (__atomic_load_n(state, __ATOMIC_ACQUIRE) == PC_MAIL_ANSWERED)
			break;
		__builtin_ia32_pause();
	}
	if (__atomic_compare_exchange_n(state, &asked, PC_MAIL_ASKED_ASLEEP, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		while (__atomic_load_n(state, __ATOMIC_ACQUIRE) == PC_MAIL_ASKED_ASLEEP)
			syscall(SYS_futex, state, FUTEX_WAIT_PRIVATE, PC_MAIL_ASKED_ASLEEP, NULL,
				NULL, 0);
	return !__atomic_load_n(&pc->stop, __ATOMIC_ACQUIRE);
}

static enum pc_exit_cause port_access(struct pc_vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	enum pc_exit_cause cause = PC_EXIT_PORT_OTHER;
	uint32_t size = run->io.size;
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		uint32_t value = 0;
		if (run->io.direction == KVM_EXIT_IO_IN) {
			cause = pc_port_read(v, run->io.port, size, &value);
			memcpy(data, &value, size);
		} else {
			memcpy(&value, data, size);
			cause = pc_port_write(v, run->io.port, size, value);
		}
	}
	return cause;
}

static enum pc_exit_cause ecam_access(struct pc_vcpu *v, uint64_t at)
{
	struct kvm_run *run = v->run;
	uint32_t value = UINT32_MAX, size = run->mmio.len, where = (uint32_t)at;
	if (size > 4)
		return PC_EXIT_PCI_CONFIG;
	pthread_mutex_lock(&v->pc->lock);
	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, size);
		pc_pci_write(v->pc, where >> 12, where & 4095, size, value);
	} else {
		value = pc_pci_read(v->pc, where >> 12, where & 4095, size);
		memcpy(run->mmio.data, &value, size);
	}
	pthread_mutex_unlock(&v->pc->lock);
	return PC_EXIT_PCI_CONFIG;
}

static enum pc_exit_cause bar_access(struct pc_vcpu *v, struct wh_vmm_slot *slot, uint64_t offset)
{
	struct kvm_run *run = v->run;
	struct pc_mail *mail = &v->mail;
	mail->kind = run->mmio.is_write ? PC_MAIL_WRITE : PC_MAIL_READ;
	mail->slot = slot->index;
	mail->offset = offset;
	mail->size = run->mmio.len;
	mail->value = 0;
	if (run->mmio.is_write)
		memcpy(&mail->value, run->mmio.data, run->mmio.len);
	if (pc_ask(v) && !run->mmio.is_write)
		memcpy(run->mmio.data, &mail->value, run->mmio.len);
	return PC_EXIT_BAR;
}

static enum pc_exit_cause memory_access(struct pc_vcpu *v)
{
	struct pc *pc = v->pc;
	struct kvm_run *run = v->run;
	uint64_t address = run->mmio.phys_addr, offset = 0, value = 0;
	if (run->mmio.len > 8)
		return PC_EXIT_OTHER;
	if (address - PC_ECAM < PC_ECAM_SIZE)
		return ecam_access(v, address - PC_ECAM);
	pthread_mutex_lock(&pc->lock);
	struct pc_function *f = pc_pci_at(pc, address, &offset);
	bool msix = f && offset >= WH_VIRTIO_PCI_MSIX;
	if (msix && run->mmio.is_write) {
		memcpy(&value, run->mmio.data, run->mmio.len);
		pc_msix_write(pc, f, offset, run->mmio.len, value);
	} else if (msix) {
		value = pc_msix_read(f, offset, run->mmio.len);
		memcpy(run->mmio.data, &value, run->mmio.len);
	}
	struct wh_vmm_slot *slot = f ? f->slot : NULL;
	pthread_mutex_unlock(&pc->lock);
	if (msix)
		return PC_EXIT_MSIX;
	if (slot)
		return bar_access(v, slot, offset);
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, run->mmio.len);
	return PC_EXIT_MEMORY_OTHER;
}

static void fails(struct pc_vcpu *v, const char *what, uint64_t detail)
{
	struct wh_vmm_machine *m = v->pc->machine;
	pthread_mutex_lock(&v->pc->lock);
	if (!m->failure[0])
		wh_format(m->failure, sizeof m->failure, "kvm gave up on processor %u: %s %llu",
			  v->index, what, (unsigned long long)detail);
	pthread_mutex_unlock(&v->pc->lock);
	pc_ends(v->pc, PC_END_ERROR);
}

static enum pc_exit_cause handle_exit(struct pc_vcpu *v)
{
	struct kvm_run *run = v->run;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return port_access(v);
	case KVM_EXIT_MMIO:
		return memory_access(v);
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return PC_EXIT_SIGNAL;
	case KVM_EXIT_SHUTDOWN:
		pc_ends(v->pc, PC_END_TRIPLE);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		pc_ends(v->pc, run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? PC_END_OFF
										   : PC_END_RESET);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fails(v, "internal error", run->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		fails(v, "entry refused, reason", run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		fails(v, "exit reason", run->exit_reason);
	}
	return PC_EXIT_OTHER;
}

void *pc_vcpu_main(void *ctx)
{
	struct pc_vcpu *v = ctx;
	struct pc *pc = v->pc;
	vmm_thread_begins(pc->machine);
	if (!v->index)
		pc->control.timeline[WH_BOOT_STAGE_ENTRY] = __builtin_ia32_rdtsc();
	while (!__atomic_load_n(&pc->stop, __ATOMIC_ACQUIRE) &&
	       !__atomic_load_n(&pc->end, __ATOMIC_ACQUIRE)) {
		if (__atomic_load_n(&pc->pause, __ATOMIC_ACQUIRE)) {
			pc_vcpu_park(v);
			continue;
		}
		if (ioctl(v->fd, KVM_RUN, 0) >= 0) {
			enum pc_exit_cause cause = handle_exit(v);
			__atomic_store_n(&v->exits[cause], v->exits[cause] + 1, __ATOMIC_RELAXED);
		} else if (errno != EINTR && errno != EAGAIN) {
			fails(v, "errno", (uint64_t)errno);
		}
	}
	return NULL;
}
