/* SPDX-License-Identifier: ISC */
#include "cli.h"

int cmd_run(int argc, char **argv)
{
	cli_error("run: not built yet");
	return CLI_ERROR;
}
