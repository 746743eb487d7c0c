/* SPDX-License-Identifier: ISC */
/*
 * wherry disk: the verbs.
 */
#include "disk.h"

static const struct cli_command *const verbs[] = {
	&disk_command_create,   &disk_command_info,    &disk_command_map,    &disk_command_check,
	&disk_command_repair,   &disk_command_convert, &disk_command_resize, &disk_command_compact,
	&disk_command_snapshot, &disk_command_rebase,  &disk_command_commit, &disk_command_measure,
	&disk_command_compare,  &disk_command_serve,
};

const struct cli_command cli_command_disk = {
	.name = "disk",
	.synopsis = "VERB [OPTIONS] FILE...",
	.summary = "make, describe, change and serve disk images",
	.run = cmd_disk,
};

/* The verb behind "disk ". */
static const char *verb_of(const struct cli_command *c)
{
	return c->name + sizeof "disk " - 1;
}

static int help(void)
{
	cli_print("usage: wherry disk VERB [OPTIONS] FILE...\n");
	for (unsigned i = 0; i < WH_ARRAY_COUNT(verbs); i++)
		cli_print("  %s%s%s", verb_of(verbs[i]),
			  &"            "[wh_strnlen(verb_of(verbs[i]), 12)], verbs[i] -> summary);
	cli_print("\nEach explains itself with wherry disk VERB --help.");
	return CLI_OK;
}

int cmd_disk(int argc, char **argv)
{
	if (argc > 1 && (wh_streq(argv[1], "--help") || wh_streq(argv[1], "-h")))
		return help();
	if (argc < 2) {
		cli_error("disk: what is to be done? (see: wherry disk --help)");
		return CLI_ERROR;
	}
	for (unsigned i = 0; i < WH_ARRAY_COUNT(verbs); i++)
		if (wh_streq(argv[1], verb_of(verbs[i])))
			return verbs[i]->run(argc - 1, argv + 1);
	cli_error("disk: unknown verb %s (see: wherry disk --help)", argv[1]);
	return CLI_ERROR;
}
