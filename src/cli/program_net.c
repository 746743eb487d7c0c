/* SPDX-License-Identifier: ISC */
/*
 * wherry-net: the program behind `wherry net`. Static, as wherry itself is: a network begins as fast as
 * what runs in it.
 */
#include "programs.h"

const struct cli_command *const cli_commands[] = { &cli_command_net, NULL };
const struct program cli_programs[] = { { NULL, NULL, NULL } };
