/* SPDX-License-Identifier: ISC */
/*
 * wherry: one command, a visible table of verbs (program_wherry.c). The same main serves the
 * programs of other verbs (programs.h), whose argv[0] ends in wherry-VERB or is the verb.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/mem.h>

#include "programs.h"

#ifndef WHERRY_VERSION
#define WHERRY_VERSION "development"
#endif

void wh_assert_failed(const char *what, const char *file, int line)
{
	cli_error("internal error: %s (%s:%d); please report it", what, file, line);
	abort();
}

static const struct cli_command *find_command(const char *name)
{
	for (size_t i = 0; cli_commands[i]; i++)
		if (wh_streq(cli_commands[i]->name, name))
			return cli_commands[i];
	return NULL;
}

static const struct program *find_program(const char *name)
{
	for (size_t i = 0; cli_programs[i].name; i++)
		if (wh_streq(cli_programs[i].name, name))
			return &cli_programs[i];
	return NULL;
}

static int run_verb(const char *verb, int argc, char **argv)
{
	const struct cli_command *c = find_command(verb);
	if (c)
		return c->run(argc, argv);
	const struct program *p = find_program(verb);
	if (p)
		return program_exec(p->file ? p->file : p->name, argv);
	cli_error("unknown command %s (see: wherry help)", verb);
	return CLI_ERROR;
}

static void print_line(const char *name, const char *summary)
{
	cli_print("  %s%s%s", name, &"          "[wh_strnlen(name, 10)], summary);
}

static int help(int argc, char **argv)
{
	if (argc > 1) {
		char *words[] = { argv[1], (char[]){ "--help" }, NULL };
		if (find_command(argv[1]) || find_program(argv[1]))
			return run_verb(argv[1], 2, words);
		cli_error("no help on %s (see: wherry help)", argv[1]);
		return CLI_ERROR;
	}
	cli_print("usage: wherry COMMAND [ARGUMENTS]\n");
	for (size_t i = 0; cli_commands[i]; i++)
		print_line(cli_commands[i]->name, cli_commands[i]->summary);
	for (size_t i = 0; cli_programs[i].name; i++)
		print_line(cli_programs[i].name, cli_programs[i].summary);
	print_line("help", "show this list, or the options of a command");
	print_line("version", "show the version");
	cli_print("\nEach command explains itself with --help. Exit status: the guest's own, or\n"
		  "124 the guest broke, 125 wherry could not do its part, 126 not an image,\n"
		  "127 not found, 128+n the guest ended by signal n.");
	return CLI_OK;
}

int main(int argc, char **argv)
{
	if (!cli_programs[0].name) { /* the program of one verb */
		const struct cli_command *own = argc ? find_command(argv[0]) : NULL;
		if (!own) /* by its file's name */
			own = cli_commands[0];
		argv[0] = (char *)own->name;
		return own->run(argc, argv);
	}
	if (argc < 2) {
		cli_error("a command must follow (see: wherry help)");
		return CLI_ERROR;
	}
	const char *verb = argv[1];
	if (wh_streq(verb, "--help") || wh_streq(verb, "-h") || wh_streq(verb, "help"))
		return help(argc - 1, argv + 1);
	if (wh_streq(verb, "--version") || wh_streq(verb, "version")) {
		cli_print("wherry %s", WHERRY_VERSION);
		return CLI_OK;
	}
	return run_verb(verb, argc - 1, argv + 1);
}
