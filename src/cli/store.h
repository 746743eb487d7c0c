/* SPDX-License-Identifier: ISC */
#ifndef CLI_STORE_H
#define CLI_STORE_H

/* What the files of `wherry store` share. */

#include <wherry/store.h>

#include "cli.h"

struct store_arguments {
	const char *operand[8]; /* behind the verb */
	unsigned count;
	const char *message;
	const char *listen[8];
	unsigned listen_count;
	const char *from; /* --from COMMIT */
	bool remove, follow, json, read_only, executable, tokens;
	const char *allow, *ttl;
	char repo[4096];  /* operand 0 without @BRANCH */
	char branch[201]; /* "main" when not said */
	bool branch_said;
};

struct store_verb {
	const char *name;
	const char *operands;
	unsigned operands_min, operands_max; /* REPO counts */
	int (*run)(struct store_arguments *a);
};

int store_open(const struct store_arguments *a, struct wh_store **ret_store);
/* A branch or a whole hash. Prints what is wrong. */
int store_commit_of(struct wh_store *s, const char *name, struct wh_store_id *ret_id);
int store_failed(int error, const struct wh_diag *diag, const char *what); /* prints; CLI_ERROR */
const char *store_user(void);

int store_serve(struct store_arguments *a);
int store_mount(struct store_arguments *a);
int store_watch(struct store_arguments *a);
int store_gc(struct store_arguments *a);
int store_fsck(struct store_arguments *a);
int store_export(struct store_arguments *a);
int store_stats(struct store_arguments *a);
int store_token(struct store_arguments *a);

#endif
