/* SPDX-License-Identifier: ISC */
#ifndef CLI_SETTINGS_STORE_H
#define CLI_SETTINGS_STORE_H

/* --settings REPO@BRANCH; see settings_store.c. */

#include <stdbool.h>

/* Is it a repository and a branch, not a folder? */
bool settings_in_store(const char *value);
/* A folder that is kept as the branch is, until this process ends. NULL: why was printed. */
const char *settings_export(const char *value);
/* `wherry run`'s arguments: the folder in place of the branch, and what machine/options says. 0 or CLI_ERROR. */
int settings_expand(int *argc, char ***argv);

#endif
