/* SPDX-License-Identifier: ISC */
/*
 * wherry-run: what `wherry run` becomes when an option needs more code than each start should carry
 * (gateway_extras.c, observe.c). The same sources otherwise.
 */
#include "programs.h"

const struct cli_command *const cli_commands[] = { &cli_command_run, NULL };
const struct program cli_programs[] = { { NULL, NULL, NULL } };
