/* SPDX-License-Identifier: ISC */
/*
 * The verbs of `wherry` itself, and those that are programs of their own.
 */
#include "programs.h"

static const struct cli_command command_cc = { .name = "cc",
					       .summary = "compile and link C programs into images",
					       .run = cmd_cc };

const struct cli_command *const cli_commands[] = {
	&cli_command_run,
	&command_cc,
	&cli_command_image,
	NULL,
};

const struct program cli_programs[] = {
	{ "disk", "make, describe, change and serve disk images" },
	{ "net", "give a program, a namespace or machines a network without privileges" },
	{ "store", "keep files with history, branches and transactions" },
	{ NULL, NULL },
};
