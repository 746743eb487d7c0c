/* SPDX-License-Identifier: ISC */
/*
 * wherry-store: the program behind `wherry store`.
 */
#include "programs.h"

const struct cli_command *const cli_commands[] = { &cli_command_store, NULL };
const struct program cli_programs[] = { { NULL, NULL, NULL } };
