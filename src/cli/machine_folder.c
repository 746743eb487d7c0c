/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/diag.h>

#include "machine_folder.h"

int machine_folder(char *to, size_t size, bool make)
{
	struct stat st;
	const char *own = getenv("WHERRY_MACHINES"), *runtime = getenv("XDG_RUNTIME_DIR");
	size_t n = own && *own ? wh_format(to, size, "%s", own)
		   : runtime && *runtime
			   ? wh_format(to, size, "%s/wherry", runtime)
			   : wh_format(to, size, "/tmp/wherry-%u", (unsigned)getuid());
	if (n >= size) {
		cli_error("machines: the name of their folder is too long");
		return CLI_ERROR;
	}
	if (!make)
		return CLI_OK;
	if (mkdir(to, 0700) && errno != EEXIST) {
		cli_error("machines: cannot make the folder %s: %s; set XDG_RUNTIME_DIR", to,
			  strerror(errno));
		return CLI_ERROR;
	}
	/* In /tmp somebody else may have been faster. */
	if (lstat(to, &st) || !S_ISDIR(st.st_mode) || st.st_uid != getuid() ||
	    st.st_mode & (S_IWGRP | S_IWOTH)) {
		cli_error("machines: %s is not a folder of yours alone; set XDG_RUNTIME_DIR", to);
		return CLI_ERROR;
	}
	return CLI_OK;
}
