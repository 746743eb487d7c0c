/* SPDX-License-Identifier: ISC */
#include <unistd.h>

#include "engine.h"

/* kvm's vendor modules load only where the processor has vmx or svm: looking for them costs a tenth of
 * what a CPUID instruction costs inside a virtual machine. */
bool vmm_kvm_is_native(void)
{
	return (access("/sys/module/kvm_intel", F_OK) == 0 ||
		access("/sys/module/kvm_amd", F_OK) == 0) &&
	       access("/dev/kvm", R_OK | W_OK) == 0;
}
