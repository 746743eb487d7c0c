/* SPDX-License-Identifier: ISC */
/*
 * The verbs of `wherry` itself, and those that are programs of their own.
 */
#include "programs.h"

const struct cli_command *const cli_commands[] = {
	&cli_command_run,
	NULL,
};

const struct program cli_programs[] = {
	{ "cc", "compile and link C programs into images", NULL },
	{ "build", "make an image from wherry.toml, with a bill of materials", NULL },
	{ "image", "show what is inside an image, and why", "cc" },
	{ "disk", "make, describe, change and serve disk images", NULL },
	{ "net", "give a program, a namespace or machines a network without privileges", NULL },
	{ "store", "keep files with history, branches and transactions", NULL },
	{ "ps", "list named machines", "machine" },
	{ "stop", "ask a machine to end", "machine" },
	{ "kill", "end a machine at once", "machine" },
	{ "pause", "let a machine stand still", "machine" },
	{ "resume", "let it go on", "machine" },
	{ "snapshot", "write a machine to a file", "machine" },
	{ "stats", "figures of a machine, as OpenMetrics", "machine" },
	{ "inspect", "show threads, descriptors, sockets and memory of a machine", "machine" },
	{ "logs", "show what a machine wrote on its console", "machine" },
	{ "console", "be at a machine's console", "machine" },
	{ "events", "follow what happens to a machine, as JSON lines", "machine" },
	{ NULL, NULL, NULL },
};
