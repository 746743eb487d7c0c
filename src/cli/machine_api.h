/* SPDX-License-Identifier: ISC */
#ifndef CLI_MACHINE_API_H
#define CLI_MACHINE_API_H

/*
 * The API socket of a named machine (docs/spec/machine-api.md): HTTP with JSON on a Unix socket, served by
 * the machine's own loop.
 */

#include "run.h"

/* False in `wherry` itself (machine_none.c), which becomes wherry-run for machines with names. */
bool machine_api_is_here(void);
/* Takes the machine's name and listens, if it has one. CLI_OK or CLI_ERROR, after a message: somebody
 * else has it. Before the machine is made. */
int machine_api_open(struct run *r);
/* The machine runs: answers from now on. */
int machine_api_start(struct run *r);
/* Tells those who listen to events how it ended, gives the name back; harmless without one. */
void machine_api_close(struct run *r);

#endif
