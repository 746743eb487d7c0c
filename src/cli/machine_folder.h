/* SPDX-License-Identifier: ISC */
#ifndef CLI_MACHINE_FOLDER_H
#define CLI_MACHINE_FOLDER_H

/*
 * Where named machines are found: NAME.sock speaks docs/spec/machine-api.md, NAME.lock is held by
 * the owner of the name. The folder is the user's alone.
 */

#include <stddef.h>
#include "cli.h"

/* $WHERRY_MACHINES, else $XDG_RUNTIME_DIR/wherry, else /tmp/wherry-UID. Made when `make`, and then checked to
 * be ours and closed to others. 0 or CLI_ERROR, after a message. */
int machine_folder(char *to, size_t size, bool make);

#endif
