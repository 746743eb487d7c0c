/* SPDX-License-Identifier: ISC */
/* The unit list of an image: any text. */
#include <stdlib.h>
#include <string.h>

#include "../src/cli/units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct units units;
	struct wh_diag diag;
	char *text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = 0;
	if (!units_parse(text, &units, &diag)) {
		const struct units_entry *chain[UNITS_CHAIN_MAX];
		for (uint32_t i = 0; i < units.count; i++)
			if (units_chain(&units, &units.entry[i], chain) > UNITS_CHAIN_MAX)
				abort();
		units_free(&units);
	}
	free(text);
	return 0;
}
