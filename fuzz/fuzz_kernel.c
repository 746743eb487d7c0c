/* SPDX-License-Identifier: ISC */
/* Kernel files: whatever is accepted must load inside its memory, above 1 MiB. */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/test.h>

#include "pc/pc_priv.h"

#define RAM_SIZE (20u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wh_vmm_kernel *kernel;
	struct wh_diag diag = { "" };
	static uint8_t *ram;
	if (!ram)
		ram = test_guarded(RAM_SIZE); /* an access behind it faults */
	if (wh_vmm_kernel_open_memory(data, size, &kernel, &diag) < 0) {
		wh_assert(diag.text[0]); /* every refusal says why */
		return 0;
	}
	struct wh_vmm_machine machine = { .ram = ram };
	struct pc pc = { .machine = &machine, .low_size = RAM_SIZE, .vcpu_count = 3 };
	wh_assert(wh_vmm_kernel_kind_name(wh_vmm_kernel_kind(kernel))[0] != 'u');
	for (uint32_t i = 0; i < kernel->segment_count; i++)
		wh_assert(kernel->segment[i].address >= PC_HIGH_START);
	int error = pc_boot_load(&pc, kernel, "console=ttyS0", NULL, &diag);
	if (error >= 0)
		wh_assert(pc.entry.rip >= PC_HIGH_START);
	else
		wh_assert(diag.text[0]);
	wh_vmm_kernel_close(kernel);
	return 0;
}
