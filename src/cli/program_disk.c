/* SPDX-License-Identifier: ISC */
/*
 * wherry-disk: the program behind `wherry disk`.
 */
#include "programs.h"

const struct cli_command *const cli_commands[] = { &cli_command_disk, NULL };
const struct program cli_programs[] = { { NULL, NULL, NULL } };
