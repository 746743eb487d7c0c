/* SPDX-License-Identifier: ISC */
/*
 * wherry-build: the program behind `wherry build`.
 */
#include "programs.h"

const struct cli_command *const cli_commands[] = { &cli_command_build, NULL };
const struct program cli_programs[] = { { NULL, NULL, NULL } };
