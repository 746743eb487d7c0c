/* SPDX-License-Identifier: ISC */
#include "machine_console.h"

#include <stdlib.h>
#include <string.h>

static char *ring; /* NULL: nobody may ask */
static uint64_t total;

int machine_console_open(void)
{
	ring = malloc(CONSOLE_KEPT);
	if (!ring)
		cli_error("no memory");
	return ring ? CLI_OK : CLI_ERROR;
}

void machine_console_output(const char *text, size_t size)
{
	if (!ring)
		return;
	while (size) {
		size_t at = total % CONSOLE_KEPT, n = CONSOLE_KEPT - at;
		n = size < n ? size : n;
		memcpy(ring + at, text, n);
		total += n;
		text += n;
		size -= n;
	}
	machine_api_console_output();
}

void machine_console_room(void)
{
	if (ring)
		machine_api_console_room();
}

const char *machine_console_read(uint64_t *at, size_t *ret_size)
{
	if (total - *at > CONSOLE_KEPT)
		*at = total - CONSOLE_KEPT;
	size_t from = *at % CONSOLE_KEPT, n = CONSOLE_KEPT - from;
	*ret_size = n < total - *at ? n : (size_t)(total - *at);
	return ring + from;
}
