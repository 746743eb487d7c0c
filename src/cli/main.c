/* SPDX-License-Identifier: ISC */
/*
 * wherry: one command, a visible table of verbs.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/mem.h>

#include "cli.h"

#ifndef WHERRY_VERSION
#define WHERRY_VERSION "development"
#endif

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

static const struct cli_command commands[] = {
	{ .name = "run",
	  .summary = "start an image and be its standard input and output",
	  .run = cmd_run },
	{ .name = "cc", .summary = "compile and link C programs into images", .run = cmd_cc },
	{ .name = "image", .summary = "show what is inside an image, and why", .run = cmd_image },
	{ .name = "disk", .summary = "make and describe disk images", .run = cmd_disk },
	{ .name = "net",
	  .summary = "give a program, a namespace or machines a network",
	  .run = cmd_net },
	{ .name = "help",
	  .summary = "show this list, or the options of a command",
	  .run = cmd_help },
	{ .name = "version", .summary = "show the version", .run = cmd_version },
};

void wh_assert_failed(const char *what, const char *file, int line)
{
	cli_error("internal error: %s (%s:%d); please report it", what, file, line);
	abort();
}

static const struct cli_command *find(const char *name)
{
	for (size_t i = 0; i < WH_ARRAY_COUNT(commands); i++)
		if (wh_streq(commands[i].name, name) && commands[i].run)
			return &commands[i];
	return NULL;
}

static int cmd_help(int argc, char **argv)
{
	if (argc > 1) {
		const struct cli_command *c = find(argv[1]);
		char *help[] = { argv[1], (char[]){ "--help" }, NULL };
		if (c && c->run != cmd_help && c->run != cmd_version)
			return c->run(2, help);
		cli_error("no help on %s (see: wherry help)", argv[1]);
		return CLI_ERROR;
	}
	cli_print("usage: wherry COMMAND [ARGUMENTS]\n");
	for (size_t i = 0; i < WH_ARRAY_COUNT(commands); i++)
		if (commands[i].run)
			cli_print("  %s%s%s", commands[i].name,
				  &"          "[wh_strnlen(commands[i].name, 10)],
				  commands[i].summary);
	cli_print("\nEach command explains itself with --help. Exit status: the guest's own, or\n"
		  "124 the guest broke, 125 wherry could not do its part, 126 not an image,\n"
		  "127 not found, 128+n the guest ended by signal n.");
	return CLI_OK;
}

static int cmd_version(int argc, char **argv)
{
	cli_print("wherry %s", WHERRY_VERSION);
	return CLI_OK;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		cli_error("a command must follow (see: wherry help)");
		return CLI_ERROR;
	}
	const char *verb = argv[1];
	if (wh_streq(verb, "--help") || wh_streq(verb, "-h"))
		verb = "help";
	if (wh_streq(verb, "--version"))
		verb = "version";
	const struct cli_command *c = find(verb);
	if (!c) {
		cli_error("unknown command %s (see: wherry help)", verb);
		return CLI_ERROR;
	}
	return c->run(argc - 1, argv + 1);
}
