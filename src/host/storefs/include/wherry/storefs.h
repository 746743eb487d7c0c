/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_STOREFS_H
#define WHERRY_STOREFS_H

/*
 * A store as a tree of 9P files: branches, transactions, snapshots, watches (docs/spec/store-tree.md). It serves
 * connections of a wherry/loop.h: 9P2000, 9P2000.u and 9P2000.L, as each client asks.
 *
 * Threads: the loop's. The store may be used by its owner between the loop's rounds.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/loop.h>
#include <wherry/ninep.h>
#include <wherry/store.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_storefs;

#define WH_STOREFS_CONNECTIONS_MAX 4096u /* descriptors and memory of one server */
#define WH_STOREFS_WAITING_MAX \
	4096u /* reads that wait, and other requests under way, of one connection */

struct wh_storefs_config {
	size_t size;      /* sizeof(struct wh_storefs_config) */
	const char *path; /* of the repository: the tree opens a store of its own */
	struct wh_loop *loop;
	bool read_only;
	bool tokens;        /* nobody attaches without one */
	uint32_t msize_max; /* 0 = 1 MiB */
	/* The folder of one branch as the root, and no way out of it (NULL = the whole tree). A client can ask for
	 * the same with `branch/NAME` as attach name. */
	const char *branch;
	/* A connection came to its end; how many are left. Optional. */
	void (*ended)(void *ctx, unsigned connections);
	void *ctx;
};

int wh_storefs_new(const struct wh_storefs_config *config, struct wh_storefs **ret_fs,
		   struct wh_diag *diag);
/* Ends all connections; waiting reads are dropped. */
void wh_storefs_free(struct wh_storefs *fs);
struct wh_store *wh_storefs_store(struct wh_storefs *fs);

/* Takes connections from a listening stream socket, which it owns from now on (unless it fails). */
int wh_storefs_listen(struct wh_storefs *fs, int fd);
/* Serves one connected stream, which it owns from now on (unless it fails). */
int wh_storefs_serve(struct wh_storefs *fs, int fd);

/* ---- tokens ---- */

#define WH_STOREFS_TOKEN_SIZE_MAX 3072u /* of a token's text, with its NUL */
#define WH_STOREFS_TOKEN_PATH_MAX 1024u

enum wh_storefs_allow {
	WH_STOREFS_READ,
	WH_STOREFS_WRITE, /* transactions */
	WH_STOREFS_ADMIN, /* fast-forward, making, deleting and renaming branches, remotes, gc */
};

struct wh_storefs_token {
	char name[64];                             /* author of the commits */
	char branch[WH_STORE_BRANCH_SIZE_MAX + 1]; /* "*" = all */
	char path[WH_STOREFS_TOKEN_PATH_MAX];      /* folder in it; "" = all */
	enum wh_storefs_allow allow;
	int64_t until_s; /* seconds since 1970; 0 = for ever */
};

/* Text that a client gives as attach name (or as user name). Makes the repository's key if there is none. max:
 * WH_STOREFS_TOKEN_SIZE_MAX at least. */
int wh_storefs_token_make(struct wh_store *store, const struct wh_storefs_token *token,
			  char *ret_text, size_t max, struct wh_diag *diag);
/* Is it one? git_dir: wh_store_path. -WH_EACCES: not made with this repository's key; -WH_ETIMEDOUT: its time is over. */
int wh_storefs_token_take(const char *git_dir, const char *text, size_t size,
			  struct wh_storefs_token *ret_token);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
