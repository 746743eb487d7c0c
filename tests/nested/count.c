/* SPDX-License-Identifier: ISC */
/*
 * Turns the `wherry` command into one that counts the guest's instructions from the first one to
 * main(), exactly: the virtual machine runs one instruction at a time
 * (KVM_GUESTDBG_SINGLESTEP) until then. A repeated string instruction counts once a round, as
 * the processor does it. At the guest's end a line on standard error says
 *
 *	counted IMAGE: <number> to the C library, <number> to main
 */
#include <stdio.h>

#include "kvm/kvm_priv.h"

int __real_kvm_vcpu_prepare(struct kvm *k, struct wh_diag *diag);
int __wrap_kvm_vcpu_prepare(struct kvm *k, struct wh_diag *diag);
void __real_vmm_machine_ended(struct wh_vmm_machine *m, int host_signal);
void __wrap_vmm_machine_ended(struct wh_vmm_machine *m, int host_signal);

int __wrap_kvm_vcpu_prepare(struct kvm *k, struct wh_diag *diag)
{
	kvm_count_steps(k->machine);
	return __real_kvm_vcpu_prepare(k, diag);
}

void __wrap_vmm_machine_ended(struct wh_vmm_machine *m, int host_signal)
{
	fprintf(stderr, "counted %s: %llu to the C library, %llu to main\n", m->info->hostname,
		(unsigned long long)kvm_steps_at(m, WH_BOOT_STAGE_KERNEL),
		(unsigned long long)kvm_steps_at(m, WH_BOOT_STAGE_MAIN));
	__real_vmm_machine_ended(m, host_signal);
}
