/* SPDX-License-Identifier: ISC */
#ifndef DISK_H
#define DISK_H

/*
 * What the verbs of `wherry disk` share. Each verb is a struct cli_command with an option table of its
 * own, named "disk VERB"; options have the letters that qemu-img's users know.
 */

#include <wherry/block_file.h>

#include "cli.h"

/* Exit statuses of verbs that tell more than done or error; qemu-img's numbers. */
enum disk_status {
	DISK_DIFFERENT = 1, /* compare */
	DISK_CORRUPT = 2,   /* check: corruptions (left) */
	DISK_LEAKS = 3,     /* check: leaked clusters (left), no corruptions */
	DISK_UNCHECKED = 63 /* check: not of a format that can be checked */
};

int disk_create(int argc, char **argv);
int disk_info(int argc, char **argv);
int disk_serve(int argc, char **argv);
extern const struct cli_command disk_command_create;
extern const struct cli_command disk_command_info;
extern const struct cli_command disk_command_serve;

/* ---- options (disk_options.c) ---- */

/* 0, or CLI_BAD after a message. `what` names the option. */
int disk_parse_format(const char *text, enum wh_block_format *ret_format);
int disk_parse_cache(const char *text, enum wh_block_cache *ret_cache);
int disk_parse_aio(const char *text, enum wh_blockio_kind *ret_kind);
int disk_parse_size(const char *what, const char *text, uint64_t *ret_size);
/* Operands: stores at most `max`; complains about more. */
int disk_operand(const struct cli_command *command, const char *value, const char **operands,
		 unsigned max, unsigned *count);
int disk_usage(const struct cli_command *command); /* a message; CLI_ERROR */

/* Fills in config->format when it was not said: what the file looks like. Only for showing and serving what the
 * caller named: a guest's disk has its format said. */
int disk_detect(const char *path, enum wh_block_format *ret_format);

#endif
