/* SPDX-License-Identifier: ISC */
/*
 * wherry-kernel: what `wherry run` becomes when the file is a kernel and no image. It has the same options.
 */
#include "programs.h"

const struct cli_command *const cli_commands[] = { &cli_command_run, NULL };
const struct program cli_programs[] = { { NULL, NULL, NULL } };
