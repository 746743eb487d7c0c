/* SPDX-License-Identifier: ISC */
/* Solo5 binaries: whatever is accepted has a manifest that makes sense and loads inside its memory. */
#include <wherry/base/assert.h>
#include <wherry/test.h>

#include "solo5/solo5_priv.h"

#define RAM_MAX (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wh_vmm_solo5 *s;
	struct wh_vmm_solo5_device *d;
	struct wh_diag diag = { "" };
	if (wh_vmm_solo5_open_memory(data, size, &s, &diag) < 0) {
		wh_assert(diag.text[0]); /* every refusal says why */
		return 0;
	}
	for (uint32_t handle = 1; (d = wh_vmm_solo5_device(s, handle)); handle++) {
		wh_assert(wh_strnlen(d->name, sizeof d->name) < sizeof d->name);
		wh_assert(d->kind == WH_VMM_SOLO5_BLOCK || d->kind == WH_VMM_SOLO5_NET);
		d->attached = true;
	}
	wh_assert(s->fixed + s->fixed_size <= s->end);
	if (s->end <= RAM_MAX) {
		uint8_t *ram = test_guarded(s->end); /* a write behind it faults */
		(void)solo5_load(s, ram, &diag);
		solo5_manifest_fill(s);
		test_guarded_free(ram, s->end);
	}
	wh_vmm_solo5_close(s);
	return 0;
}
