/* SPDX-License-Identifier: ISC */
#ifndef CLI_STORE_HTTP_H
#define CLI_STORE_HTTP_H

/* Git's smart protocol over HTTP; see store_http.c. */

#include <stdbool.h>

struct http_config {
	const char *git_dir; /* with '/' at its end */
	bool read_only, tokens;
};

/* One request of a connected client, in a process of its own, which ends then. */
void http_serve(const struct http_config *config, int fd);

#endif
