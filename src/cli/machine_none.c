/* SPDX-License-Identifier: ISC */
/* `wherry` itself: machines with names are wherry-run's. */
#include "machine_api.h"
#include "machine_console.h"

bool machine_api_is_here(void)
{
	return false;
}

int machine_api_open(struct run *r)
{
	return CLI_OK;
}

int machine_api_start(struct run *r)
{
	return CLI_OK;
}

void machine_api_close(struct run *r)
{
}

void machine_console_output(const char *text, size_t size)
{
}

void machine_console_room(void)
{
}
