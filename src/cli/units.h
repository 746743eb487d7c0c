/* SPDX-License-Identifier: ISC */
#ifndef CLI_UNITS_H
#define CLI_UNITS_H

/*
 * The list of kernel units in an image: section .wherry.units, docs/spec/units.md. The
 * text comes from a file that anybody may have made.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>

#define UNITS_ENTRIES_MAX 16384u /* units, members and missing calls; an image has some hundred */
#define UNITS_CHAIN_MAX 64u      /* links followed from a unit to the program */

enum units_kind { UNITS_UNIT, UNITS_VIA, UNITS_MISSING, UNITS_PART };

struct units_entry {
	enum units_kind kind;
	const char *name, *by, *symbol; /* point into the text */
	uint64_t size;                  /* bytes; units and parts only */
};

struct units {
	uint32_t available; /* units there are to choose from */
	uint32_t count;
	struct units_entry *entry;
};

/* Cuts `text` (NUL-terminated, stays in use) into entries. 0, -WH_EINVAL with diag, -WH_ENOMEM. */
int units_parse(char *text, struct units *ret_units, struct wh_diag *diag);
void units_free(struct units *units);
uint32_t units_count(const struct units *units, enum units_kind kind);

/* The entries from `entry` outwards to the program, innermost first; returns how many. */
uint32_t units_chain(const struct units *units, const struct units_entry *entry,
		     const struct units_entry *chain[UNITS_CHAIN_MAX]);

#endif
