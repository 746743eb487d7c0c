/* SPDX-License-Identifier: ISC */
/*
 * wherry-machine: the program behind the verbs that talk to running machines.
 */
#include "programs.h"

const struct cli_command *const cli_commands[] = {
	&cli_command_ps,     &cli_command_stop,     &cli_command_kill,    &cli_command_pause,
	&cli_command_resume, &cli_command_snapshot, &cli_command_stats,   &cli_command_inspect,
	&cli_command_events, &cli_command_logs,     &cli_command_console, NULL,
};
const struct program cli_programs[] = { { NULL, NULL, NULL } };
