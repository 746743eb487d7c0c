/* SPDX-License-Identifier: ISC */
#ifndef CLI_MACHINE_CONSOLE_H
#define CLI_MACHINE_CONSOLE_H

/*
 * The console of a named machine: the last of what the guest wrote, for those who ask the API for it, follow it or type.
 */

#include "run.h"

#define CONSOLE_KEPT 65536u /* bytes; an ordinary boot fits */

/* Begins to keep; without it the others do nothing. CLI_OK, or CLI_ERROR after a message. */
int machine_console_open(void);
/* What the guest wrote. */
void machine_console_output(const char *text, size_t size);
/* The guest takes input again. */
void machine_console_room(void);
/* Bytes so far, and those from *at on that are in one piece: at most what is kept, *at moves up to the oldest. */
const char *machine_console_read(uint64_t *at, size_t *ret_size);

/* machine_api.c: there is more to read; there is room for input. */
void machine_api_console_output(void);
void machine_api_console_room(void);

#endif
