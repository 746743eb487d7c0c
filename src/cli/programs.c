/* SPDX-License-Identifier: ISC */
/*
 * Where the programs of other verbs are: beside an installed `wherry` (../libexec/wherry), in the same
 * folder (a build tree), or where Meson was told to install them.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/diag.h>
#include <wherry/base/mem.h>

#include "programs.h"

#ifndef WHERRY_LIBEXEC
#define WHERRY_LIBEXEC "/usr/local/libexec/wherry"
#endif

/* The folder of the running binary, without a slash at the end; "" = unknown. */
static void own_folder(char *folder, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", folder, size - 1);
	folder[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(folder, '/');
	if (slash)
		*slash = '\0';
	else
		folder[0] = '\0';
}

int program_exec(const char *verb, char **argv)
{
	char own[PATH_MAX], path[PATH_MAX + 64];
	const char *const formats[] = { "%s/../libexec/wherry/wherry-%s", "%s/wherry-%s" };
	own_folder(own, sizeof own);
	for (size_t i = 0; own[0] && i < WH_ARRAY_COUNT(formats); i++) {
		wh_format(path, sizeof path, formats[i], own, verb);
		execv(path, argv);
		if (errno != ENOENT && errno != ENOTDIR)
			goto failed;
	}
	wh_format(path, sizeof path, "%s/wherry-%s", WHERRY_LIBEXEC, verb);
	execv(path, argv);
failed:
	if (errno == ENOENT)
		cli_error("%s: the program wherry-%s is not installed (looked beside wherry and in "
			  "%s)",
			  verb, verb, WHERRY_LIBEXEC);
	else
		cli_error("%s: cannot start %s: %s", verb, path, strerror(errno));
	return CLI_ERROR;
}
