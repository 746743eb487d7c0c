/* SPDX-License-Identifier: ISC */
#include <wherry/abi/manifest.h>
#include <wherry/base/errors.h>

#include "units_file.h"

int units_load(const struct wh_elf *elf, struct units *ret_units, char **ret_text,
	       struct wh_diag *diag)
{
	struct wh_elf_section section;
	uint8_t *text = NULL;
	int error = wh_elf_section_find(elf, WH_MANIFEST_UNITS_SECTION, &section);
	if (error == -WH_ENOENT)
		return 0;
	if (!error)
		error = wh_elf_section_load(elf, &section, &text);
	if (error)
		return wh_diag_set(diag, error, "the unit list cannot be read");
	*ret_text = (char *)text;
	return units_parse(*ret_text, ret_units, diag);
}
