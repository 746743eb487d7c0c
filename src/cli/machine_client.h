/* SPDX-License-Identifier: ISC */
#ifndef CLI_MACHINE_CLIENT_H
#define CLI_MACHINE_CLIENT_H

/*
 * Talking to a machine's API (docs/spec/machine-api.md), for the verbs.
 */

#include <stddef.h>

#include "cli.h"

#define MACHINE_ANSWER_MS 20000 /* a snapshot of a large guest takes seconds */

/* A verb's operands, exactly `count` of them, and whether its flag was there (a verb has one at most; NULL: none). -1, or what
 * the command returns. */
int machine_operands(const struct cli_command *command, int argc, char **argv, const char **ret,
		     int count, bool *ret_option);
/* Connected to the machine of that name, or -errno. */
int machine_connect(const char *name);
/* Says that it cannot be reached; returns CLI_ERROR. */
int machine_missing(const char *name, int error);
/* Sends a request, with a descriptor unless `passed` is -1. 0 or -errno. */
int machine_ask(int fd, const char *method, const char *path, const char *body, int passed);
/* Reads to the end. The status and the body, borrowed from `text`; status < 0 = -errno. */
int machine_answer(int fd, char *text, size_t size, const char **ret_body);

#endif
