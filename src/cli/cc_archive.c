/* SPDX-License-Identifier: ISC */
#include "cc.h"
#include "cli.h"

int cc_archive_build(const char *root, struct cc_archive *ret_archive)
{
	cli_error("cc: --wherry-root: not yet");
	return CLI_ERROR;
}

void cc_archive_remove(struct cc_archive *archive)
{
}
