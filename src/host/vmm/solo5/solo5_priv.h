/* SPDX-License-Identifier: ISC */
#ifndef VMM_SOLO5_PRIV_H
#define VMM_SOLO5_PRIV_H

/*
 * What the files for Solo5's guests share. Numbers are of its include/hvt_abi.h, mft_abi.h and elf_abi.h (version 0.12).
 */

#include <wherry/solo5.h>

#include "../engine.h"

#define SOLO5_MIN_ADDRESS 0x100000ull
#define SOLO5_PAGE_2M (2ull << 20)
#define SOLO5_MFT_ENTRY 104u
#define SOLO5_MFT_HEADER 8u
#define SOLO5_COMMAND_LINE 8192u

struct wh_vmm_solo5 {
	int fd;
	struct wh_elf elf;
	uint32_t device_count; /* manifest entries behind the reserved first one */
	struct wh_vmm_solo5_device device[WH_VMM_SOLO5_DEVICES_MAX];
	uint8_t manifest[SOLO5_MFT_HEADER + WH_VMM_SOLO5_DEVICES_MAX * SOLO5_MFT_ENTRY];
	uint32_t manifest_size;
	uint64_t end;               /* of the last loaded segment */
	uint64_t fixed, fixed_size; /* pages that are never written */
};

/* Copies the segments into `ram`, which begins at address 0 and has room for solo5->end. */
int solo5_load(const struct wh_vmm_solo5 *solo5, uint8_t *ram, struct wh_diag *diag);
/* The manifest with the attached devices' properties. */
void solo5_manifest_fill(struct wh_vmm_solo5 *solo5);

#endif
