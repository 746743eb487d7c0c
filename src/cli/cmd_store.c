/* SPDX-License-Identifier: ISC */
/*
 * wherry store: a branching store of files in a Git repository.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "store.h"

enum {
	OPTION_MESSAGE = 1,
	OPTION_DELETE,
	OPTION_EXECUTABLE,
	OPTION_LISTEN,
	OPTION_READ_ONLY,
	OPTION_FOLLOW,
	OPTION_TOKENS,
	OPTION_ALLOW,
	OPTION_TTL
};

static const struct cli_option options[] = {
	{ OPTION_MESSAGE, "message", 'm', "TEXT", "put, rm, merge: the commit's message" },
	{ OPTION_DELETE, "delete", 'd', NULL,
	  "branch: delete it; export -f: empty the folder at the end" },
	{ OPTION_LISTEN, "listen", 'l', "WHERE",
	  "serve: unix:PATH, tcp:HOST:PORT, vsock:[CID:]PORT, fd:N, git:HOST:PORT or "
	  "http:HOST:PORT" },
	{ OPTION_READ_ONLY, "read-only", 'r', NULL, "serve, mount: nothing can be changed" },
	{ OPTION_FOLLOW, "follow", 'f', NULL, "export: go on as the branch moves" },
	{ OPTION_TOKENS, "tokens", 't', NULL, "serve: nobody attaches without a token" },
	{ OPTION_ALLOW, "allow", 'a', "WHAT", "token: read, write (unless said) or admin" },
	{ OPTION_TTL, "ttl", 0, "TIME", "token: how long it is valid: 90s, 15m, 12h, 30d" },
	{ OPTION_EXECUTABLE, "executable", 'x', NULL, "put: the file is a program" },
};

/* ---- helpers ---- */

int store_failed(int error, const struct wh_diag *diag, const char *what)
{
	if (diag && diag->text[0])
		cli_error("store: %s", diag->text);
	else
		cli_error("store: %s: %s", what, strerror(-error));
	return error == -WH_ENOENT ? CLI_NOT_FOUND : CLI_ERROR;
}

const char *store_user(void)
{
	const struct passwd *p = getpwuid(getuid());
	return p ? p->pw_name : "nobody";
}

int store_open(const struct store_arguments *a, struct wh_store **ret_store)
{
	struct wh_diag diag = { "" };
	struct wh_store_config c = { .size = sizeof c, .path = a->repo };
	int r = wh_store_open(&c, ret_store, &diag);
	return r < 0 ? store_failed(r, &diag, a->repo) : CLI_OK;
}

int store_commit_of(struct wh_store *s, const char *name, struct wh_store_id *ret_id)
{
	if (wh_store_id_parse(name, strlen(name), ret_id) >= 0 &&
	    wh_store_object_kind(s, ret_id) == WH_STORE_OBJECT_COMMIT)
		return CLI_OK;
	if (wh_store_branch_valid(name) && wh_store_branch_head(s, name, ret_id) >= 0)
		return CLI_OK;
	cli_error("store: there is no branch or commit %s", name);
	return CLI_NOT_FOUND;
}

static int write_out(const void *data, size_t size)
{
	return fwrite(data, 1, size, stdout) == size && !fflush(stdout) ? CLI_OK : CLI_ERROR;
}

static int read_all(FILE *f, char **ret_data, size_t *ret_size)
{
	size_t size = 0, room = 0;
	char *data = NULL;
	for (;;) {
		if (size == room) {
			char *more = realloc(data, (room = room * 2 + 65536));
			if (!more) {
				free(data);
				return -WH_ENOMEM;
			}
			data = more;
		}
		size_t n = fread(data + size, 1, room - size, f);
		size += n;
		if (!n)
			break;
	}
	if (ferror(f)) {
		free(data);
		return -WH_EIO;
	}
	*ret_data = data;
	*ret_size = size;
	return 0;
}

/* ---- verbs ---- */

static int init(struct store_arguments *a)
{
	struct wh_diag diag = { "" };
	int r = wh_store_init(a->repo, &diag);
	return r < 0 ? store_failed(r, &diag, a->repo) : CLI_OK;
}

static int show_commit(void *ctx, const struct wh_store_id *id, const struct wh_store_commit *c)
{
	char hex[WH_STORE_HEX_SIZE + 1], when[32];
	time_t t = (time_t)c->time_s;
	struct tm tm;
	wh_store_id_format(id, hex);
	gmtime_r(&t, &tm);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	printf("%s %s %s %.*s\n", hex, when, c->author, (int)strcspn(c->message, "\n"), c->message);
	return 0;
}

static int show_log(struct store_arguments *a)
{
	struct wh_store *s;
	struct wh_store_id id;
	int status = store_open(a, &s);
	if (status)
		return status;
	status = store_commit_of(s, a->branch, &id);
	if (!status) {
		int r = wh_store_log(s, &id, a->operand[1], show_commit, NULL);
		if (r < 0)
			status = store_failed(r, NULL, a->branch);
		else if (fflush(stdout))
			status = CLI_ERROR;
	}
	wh_store_close(s);
	return status;
}

/* The entry at the second operand of the branch or commit. */
static int entry_of(struct wh_store *s, const struct store_arguments *a,
		    struct wh_store_entry *ret_entry)
{
	struct wh_store_id id;
	struct wh_store_commit c;
	int status = store_commit_of(s, a->branch, &id);
	if (status)
		return status;
	int r = wh_store_commit_read(s, &id, &c);
	if (r >= 0) {
		r = wh_store_lookup(s, &c.tree, a->operand[1] ? a->operand[1] : "", ret_entry);
		wh_store_commit_fini(&c);
	}
	return r < 0 ? store_failed(r, NULL, a->operand[1] ? a->operand[1] : a->branch) : CLI_OK;
}

static int cat_large(struct wh_store *s, const struct store_arguments *a,
		     const struct wh_store_id *id)
{
	static char piece[256u << 10];
	struct wh_store_file *f;
	int64_t n = wh_store_file_open(s, id, &f);
	if (n < 0)
		return store_failed((int)n, NULL, a->operand[1]);
	int status = CLI_OK;
	for (uint64_t at = 0; !status && (n = wh_store_file_read(f, at, piece, sizeof piece)) > 0;
	     at += (uint64_t)n)
		status = write_out(piece, (size_t)n);
	wh_store_file_close(f);
	return n < 0 ? store_failed((int)n, NULL, a->operand[1]) : status;
}

static int cat(struct store_arguments *a)
{
	struct wh_store *s;
	struct wh_store_entry e;
	void *data;
	size_t size;
	int status = store_open(a, &s);
	if (status)
		return status;
	status = entry_of(s, a, &e);
	if (!status && e.mode == WH_STORE_LARGE) {
		status = cat_large(s, a, &e.id);
	} else if (!status) {
		int r = e.mode == WH_STORE_DIR ? -WH_EISDIR
					       : wh_store_blob_read(s, &e.id, &data, &size);
		if (r < 0) {
			status = store_failed(r, NULL, a->operand[1]);
		} else {
			status = write_out(data, size);
			free(data);
		}
	}
	wh_store_close(s);
	return status;
}

static int ls(struct store_arguments *a)
{
	struct wh_store *s;
	struct wh_store_entry e;
	struct wh_store_tree *t;
	int status = store_open(a, &s);
	if (status)
		return status;
	status = entry_of(s, a, &e);
	int r = status                   ? 0
		: e.mode != WH_STORE_DIR ? -WH_ENOTDIR
					 : wh_store_tree_open(s, &e.id, &t);
	if (r < 0)
		status = store_failed(r, NULL, a->operand[1] ? a->operand[1] : a->branch);
	if (!status) {
		for (size_t i = 0; i < wh_store_tree_count(t); i++) {
			wh_store_tree_entry(t, i, &e);
			printf("%.*s%s\n", (int)e.name_size, e.name,
			       e.mode == WH_STORE_DIR ? "/" : "");
		}
		wh_store_tree_unref(t);
		status = fflush(stdout) ? CLI_ERROR : CLI_OK;
	}
	wh_store_close(s);
	return status;
}

/* One change in a transaction, retried while others win the race for the same path's branch. */
static int change(struct store_arguments *a, const char *path, const void *data, size_t size)
{
	struct wh_store *s;
	struct wh_store_tx *tx;
	struct wh_store_id id;
	struct wh_diag diag = { "" };
	char hex[WH_STORE_HEX_SIZE + 1];
	int status = store_open(a, &s);
	if (status)
		return status;
	int r = wh_store_tx_begin(s, a->branch, &tx, &diag);
	if (r >= 0) {
		r = data ? wh_store_tx_put(tx, path, data, size,
					   a->executable ? WH_STORE_EXECUTABLE : 0, &diag)
			 : wh_store_tx_remove(tx, path, &diag);
		struct wh_store_commit_config c = { .message = a->message ? a->message : path,
						    .author = store_user(),
						    .mail = "wherry@localhost" };
		if (r >= 0)
			r = wh_store_tx_commit(tx, &c, &id, &diag);
		wh_store_tx_free(tx);
	}
	if (r < 0) {
		status = store_failed(r, &diag, path);
	} else {
		wh_store_id_format(&id, hex);
		cli_print("%s", hex);
	}
	wh_store_close(s);
	return status;
}

static int put(struct store_arguments *a)
{
	char *data;
	size_t size;
	FILE *f = a->operand[2] ? fopen(a->operand[2], "rb") : stdin;
	if (!f)
		return store_failed(-errno, NULL, a->operand[2]);
	int r = read_all(f, &data, &size);
	if (f != stdin)
		fclose(f);
	if (r < 0)
		return store_failed(r, NULL, a->operand[2] ? a->operand[2] : "standard input");
	int status = change(a, a->operand[1], data, size);
	free(data);
	return status;
}

static int rm(struct store_arguments *a)
{
	return change(a, a->operand[1], NULL, 0);
}

static int show_change(void *ctx, char kind, const char *path, const struct wh_store_entry *o,
		       const struct wh_store_entry *n)
{
	printf("%c %s\n", kind, path);
	return 0;
}

static int diff(struct store_arguments *a)
{
	struct wh_store *s;
	struct wh_store_id id[2], tree[2];
	int status = store_open(a, &s);
	if (status)
		return status;
	for (unsigned i = 0; i < 2 && !status; i++) {
		struct wh_store_commit c;
		status = store_commit_of(s, a->operand[1 + i], &id[i]);
		if (status)
			break;
		int r = wh_store_commit_read(s, &id[i], &c);
		if (r < 0) {
			status = store_failed(r, NULL, a->operand[1 + i]);
			break;
		}
		tree[i] = c.tree;
		wh_store_commit_fini(&c);
	}
	if (!status) {
		int r = wh_store_diff(s, &tree[0], &tree[1], show_change, NULL);
		status = r < 0            ? store_failed(r, NULL, a->repo)
			 : fflush(stdout) ? CLI_ERROR
					  : CLI_OK;
	}
	wh_store_close(s);
	return status;
}

static int show_branch(void *ctx, const char *branch, const struct wh_store_id *head)
{
	char hex[WH_STORE_HEX_SIZE + 1];
	wh_store_id_format(head, hex);
	printf("%s %s\n", hex, branch);
	return 0;
}

static int branch(struct store_arguments *a)
{
	struct wh_store *s;
	struct wh_diag diag = { "" };
	struct wh_store_id id, zero = { { 0 } };
	int r = 0, status = store_open(a, &s);
	if (status)
		return status;
	if (a->count == 1) {
		r = wh_store_branch_each(s, show_branch, NULL);
		status = fflush(stdout) ? CLI_ERROR : CLI_OK;
	} else if (a->remove) {
		r = wh_store_branch_set(s, a->operand[1], NULL, NULL, &diag);
	} else {
		status = store_commit_of(s, a->operand[2] ? a->operand[2] : a->branch, &id);
		if (!status)
			r = wh_store_branch_set(s, a->operand[1], &zero, &id, &diag);
		if (r == -WH_EAGAIN)
			wh_diag_set(&diag, r, "there is a branch %s already", a->operand[1]);
	}
	if (r < 0)
		status = store_failed(r, &diag, a->operand[1] ? a->operand[1] : a->repo);
	wh_store_close(s);
	return status;
}

static int merge(struct store_arguments *a)
{
	struct wh_store *s;
	struct wh_diag diag = { "" };
	struct wh_store_id id, head;
	char hex[WH_STORE_HEX_SIZE + 1];
	int status = store_open(a, &s);
	if (status)
		return status;
	status = store_commit_of(s, a->operand[1], &id);
	if (!status) {
		int r = wh_store_branch_merge(s, a->branch, &id, a->message, &head, &diag);
		if (r < 0) {
			status = store_failed(r, &diag, a->operand[1]);
		} else {
			wh_store_id_format(&head, hex);
			cli_print("%s", hex);
		}
	}
	wh_store_close(s);
	return status;
}

static int apply(struct store_arguments *a)
{
	struct wh_store *s;
	struct wh_store_tx *tx;
	struct wh_store_id id;
	struct wh_diag diag = { "" };
	const char *message = NULL;
	char *data, hex[WH_STORE_HEX_SIZE + 1];
	size_t size;
	FILE *f = a->operand[1] ? fopen(a->operand[1], "rb") : stdin;
	if (!f)
		return store_failed(-errno, NULL, a->operand[1]);
	int r = read_all(f, &data, &size);
	if (f != stdin)
		fclose(f);
	if (r < 0)
		return store_failed(r, NULL, a->operand[1] ? a->operand[1] : "standard input");
	int status = store_open(a, &s);
	if (status) {
		free(data);
		return status;
	}
	r = wh_store_tx_begin(s, a->branch, &tx, &diag);
	if (r >= 0) {
		r = wh_store_tx_apply(tx, data, size, &message, &diag);
		struct wh_store_commit_config c = { .message = a->message ? a->message : message,
						    .author = store_user(),
						    .mail = "wherry@localhost" };
		if (r >= 0)
			r = wh_store_tx_commit(tx, &c, &id, &diag);
		wh_store_tx_free(tx);
	}
	if (r < 0) {
		status = store_failed(r, &diag, a->repo);
	} else {
		wh_store_id_format(&id, hex);
		cli_print("%s", hex);
	}
	wh_store_close(s);
	free(data);
	return status;
}

static const struct store_verb verbs[] = {
	{ "init", "REPO", 1, 1, init },
	{ "log", "REPO[@BRANCH] [PATH]", 1, 2, show_log },
	{ "ls", "REPO[@BRANCH] [PATH]", 1, 2, ls },
	{ "cat", "REPO[@BRANCH] PATH", 2, 2, cat },
	{ "put", "REPO[@BRANCH] PATH [FILE]", 2, 3, put },
	{ "rm", "REPO[@BRANCH] PATH", 2, 2, rm },
	{ "diff", "REPO OLD NEW", 3, 3, diff },
	{ "branch", "REPO [NAME [START]]", 1, 3, branch },
	{ "merge", "REPO[@BRANCH] COMMIT", 2, 2, merge },
	{ "apply", "REPO[@BRANCH] [FILE]", 1, 2, apply },
	{ "watch", "REPO[@BRANCH] [COMMIT]", 1, 2, store_watch },
	{ "export", "REPO[@BRANCH] FOLDER", 2, 2, store_export },
	{ "gc", "REPO", 1, 1, store_gc },
	{ "fsck", "REPO", 1, 1, store_fsck },
	{ "stats", "REPO", 1, 1, store_stats },
	{ "mount", "REPO[@BRANCH]|unix:PATH FOLDER", 2, 2, store_mount },
	{ "serve", "REPO[@BRANCH] --listen WHERE", 1, 1, store_serve },
	{ "token", "REPO[@BRANCH] NAME [PATH]", 2, 3, store_token },
};

const struct cli_command cli_command_store = {
	.name = "store",
	.synopsis = "VERB REPO[@BRANCH] ...",
	.summary = "keep files with history, branches and transactions",
	.details = "verbs: init REPO | log REPO[@BRANCH] [PATH] | ls REPO[@BRANCH] [PATH] | cat "
		   "REPO[@BRANCH] PATH |\n"
		   "put REPO[@BRANCH] PATH [FILE] | rm REPO[@BRANCH] PATH | diff REPO OLD NEW |\n"
		   "branch REPO [NAME [START]] | merge REPO[@BRANCH] COMMIT |\n"
		   "apply REPO[@BRANCH] [FILE] | watch REPO[@BRANCH] [COMMIT] | gc REPO | export "
		   "REPO[@BRANCH] FOLDER | fsck "
		   "REPO |\n"
		   "stats REPO | mount REPO[@BRANCH]|unix:PATH FOLDER |\n"
		   "serve REPO[@BRANCH] --listen WHERE | token REPO[@BRANCH] NAME [PATH]\n"
		   "BRANCH is main unless said; a commit is a branch or a whole hash.",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = cmd_store,
};

/* REPO@BRANCH; a path with '@' in it can end in '@'. */
static int split(struct store_arguments *a)
{
	const char *at = strrchr(a->operand[0], '@'), *branch = "main";
	size_t n = strlen(a->operand[0]);
	if (at) {
		n = (size_t)(at - a->operand[0]);
		a->branch_said = at[1] != 0;
		if (at[1])
			branch = at + 1;
	}
	if (n >= sizeof a->repo || !n) {
		cli_error("store: %s is no repository", a->operand[0]);
		return CLI_ERROR;
	}
	if (!wh_store_branch_valid(branch)) {
		cli_error("store: %s is no name of a branch", branch);
		return CLI_ERROR;
	}
	memcpy(a->repo, a->operand[0], n);
	a->repo[n] = 0;
	snprintf(a->branch, sizeof a->branch, "%s", branch);
	return CLI_OK;
}

static int parse(int argc, char **argv, struct store_arguments *a, const char **ret_verb)
{
	struct cli_parser parser;
	const char *value;
	int id;
	cli_parser_init(&parser, &cli_command_store, argc, argv);
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		switch (id) {
		case CLI_BAD:
		case CLI_HELP:
			return id;
		case OPTION_MESSAGE:
			a->message = value;
			break;
		case OPTION_DELETE:
			a->remove = true;
			break;
		case OPTION_LISTEN:
			if (a->listen_count == WH_ARRAY_COUNT(a->listen)) {
				cli_error("store: %zu times --listen is the most",
					  WH_ARRAY_COUNT(a->listen));
				return CLI_BAD;
			}
			a->listen[a->listen_count++] = value;
			break;
		case OPTION_TOKENS:
			a->tokens = true;
			break;
		case OPTION_ALLOW:
			a->allow = value;
			break;
		case OPTION_TTL:
			a->ttl = value;
			break;
		case OPTION_READ_ONLY:
			a->read_only = true;
			break;
		case OPTION_FOLLOW:
			a->follow = true;
			break;
		case OPTION_EXECUTABLE:
			a->executable = true;
			break;
		default:
			if (!*ret_verb) {
				*ret_verb = value;
			} else if (a->count == WH_ARRAY_COUNT(a->operand) - 1) {
				cli_error("store: what is %s for? (see: wherry store --help)",
					  value);
				return CLI_BAD;
			} else {
				a->operand[a->count++] = value;
			}
		}
	}
	return 0;
}

int cmd_store(int argc, char **argv)
{
	struct store_arguments a = { .count = 0 };
	const char *verb = NULL;
	int stop = parse(argc, argv, &a, &verb);
	if (stop)
		return stop == CLI_HELP ? CLI_OK : CLI_ERROR;
	for (size_t i = 0; verb && i < WH_ARRAY_COUNT(verbs); i++) {
		if (!wh_streq(verbs[i].name, verb))
			continue;
		if (a.count < verbs[i].operands_min || a.count > verbs[i].operands_max) {
			cli_error("store: usage: wherry store %s %s", verb, verbs[i].operands);
			return CLI_ERROR;
		}
		return split(&a) ? CLI_ERROR : verbs[i].run(&a);
	}
	cli_error("store: %s? (see: wherry store --help)", verb ? verb : "a verb must follow");
	return CLI_ERROR;
}
