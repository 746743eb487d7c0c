/* SPDX-License-Identifier: ISC */
/* Image files: whatever the loader accepts must load inside its memory and answer questions. */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/test.h>

#include "vmm_priv.h"

#define RAM_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(struct wh_vmm_image *image)
{
	const struct wh_elf *elf = wh_vmm_image_elf(image);
	const char *name;
	uint64_t offset;
	char text[32];
	for (uint32_t i = 0; i < elf->section_count && i < 64; i++) {
		struct wh_elf_section s;
		uint8_t *content;
		if (wh_elf_section(elf, i, &s) < 0)
			continue;
		(void)wh_elf_section_name(elf, &s, text, sizeof text);
		if (s.size < RAM_MAX && wh_elf_section_load(elf, &s, &content) >= 0)
			free(content);
	}
	(void)wh_vmm_image_symbol(image, image->manifest.boot_entry, &name, &offset);
	(void)wh_vmm_image_symbol(image, elf->entry, &name, &offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wh_vmm_image *image;
	struct wh_diag diag = { "" };
	int error = wh_vmm_image_open_memory(data, size, &image, &diag);
	if (error < 0) {
		wh_assert(diag.text[0]); /* every refusal says why */
		return 0;
	}
	uint64_t ram_size = image->end - image->ram_start;
	wh_assert(image->ram_start >= image->start && image->relro_end >= image->ram_start);
	for (uint32_t i = 0; i < image->piece_count; i++)
		wh_assert(image->piece[i].start + image->piece[i].size <= image->ram_start);
	if (ram_size <= RAM_MAX) {
		uint8_t *ram = test_guarded(ram_size); /* a write behind it faults */
		wh_assert(vmm_image_load(image, ram, 0x100000, true) >= 0);
		test_guarded_free(ram, ram_size);
	}
	ask(image);
	wh_vmm_image_close(image);
	return 0;
}
