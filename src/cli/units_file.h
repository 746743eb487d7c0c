/* SPDX-License-Identifier: ISC */
#ifndef CLI_UNITS_FILE_H
#define CLI_UNITS_FILE_H

#include <wherry/elf.h>

#include "units.h"

/* The image's list of units, if it has one (else *ret_text stays NULL): free both. 0 or a negative error with diag. */
int units_load(const struct wh_elf *elf, struct units *ret_units, char **ret_text,
	       struct wh_diag *diag);

#endif
