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
	enum wh_vmm_solo5_target target;
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
/* Where a device's data may be, what the ABI calls a bad argument: is this a request for whole blocks of it? */
bool solo5_block_range(const struct wh_vmm_solo5_device *d, uint64_t offset, uint64_t size);

/* hvt.c, spt.c: the machine is made but for its engine's part; solo5.c's caller frees it after an error. */
int solo5_hvt_build(struct wh_vmm_machine *m, const struct wh_vmm_solo5_config *config,
		    struct wh_vmm_solo5 *solo5, struct wh_diag *diag);
int solo5_spt_build(struct wh_vmm_machine *m, const struct wh_vmm_solo5_config *config,
		    struct wh_vmm_solo5 *solo5, struct wh_diag *diag);
void solo5_hvt_ready(struct wh_vmm_machine *m);
void solo5_spt_ready(struct wh_vmm_machine *m);
extern const struct vmm_engine_ops solo5_engine_hvt, solo5_engine_spt;

#endif
