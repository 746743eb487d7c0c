/* SPDX-License-Identifier: ISC */
#ifndef PROGRAMS_H
#define PROGRAMS_H

/*
 * Verbs that are programs of their own. `wherry` itself is static and small, because it lies on
 * the path of each start; a verb that needs libraries (compression, TLS, Git, FUSE) is an ordinary dynamic
 * program `wherry-VERB` in libexec/wherry, which `wherry VERB` becomes by exec. In a build tree the programs
 * lie beside `wherry`.
 *
 * Each program consists of main.c, its own list of commands (program_VERB.c) and the files of its verb.
 */

#include <stddef.h>
#include "cli.h"

struct program {
	const char *name; /* the verb; the file is wherry-NAME */
	const char *summary;
	const char *file; /* the file is wherry-FILE: several verbs in one; NULL = NAME */
};

/* What the binary at hand can do itself: each binary links exactly one such list, which ends
 * with help and version. */
extern const struct cli_command *const cli_commands[];
/* What it leaves to others; ends with an entry without a name. Empty in the programs. */
extern const struct program cli_programs[];

/* Becomes wherry-VERB with these arguments (argv[0] = the verb). Returns only when that failed: an exit
 * status, after a message. */
int program_exec(const char *verb, char **argv);

#endif
