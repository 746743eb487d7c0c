/* SPDX-License-Identifier: ISC */
/*
 * wherry-cc: the program behind `wherry cc` and `wherry image`, which make images and look into them.
 */
#include "programs.h"

static const struct cli_command command_cc = { .name = "cc",
					       .summary = "compile and link C programs into images",
					       .run = cmd_cc };

const struct cli_command *const cli_commands[] = { &command_cc, &cli_command_image, NULL };
const struct program cli_programs[] = { { NULL, NULL, NULL } };
