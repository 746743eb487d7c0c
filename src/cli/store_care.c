/* SPDX-License-Identifier: ISC */
/*
 * wherry store watch, gc, fsck, stats: looking after a store. What Git does well is left to git.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "store.h"

/* ---- watch ---- */

struct watch {
	struct wh_store *store;
	const char *branch;
	struct wh_store_id seen;
	bool failed;
};

static void tell(struct watch *w, const char *what, const struct wh_store_id *id)
{
	struct wh_store_commit c;
	char hex[WH_STORE_HEX_SIZE + 1];
	wh_store_id_format(id, hex);
	if (wh_store_commit_read(w->store, id, &c) < 0) {
		printf("%s %s\n", what, hex);
		return;
	}
	printf("%s %s %lld %s %.*s\n", what, hex, (long long)c.time_s, c.author,
	       (int)strcspn(c.message, "\n"), c.message);
	wh_store_commit_fini(&c);
}

/* The commits from the one seen last (not told) to the head, oldest first, along first parents. */
static void tell_all(struct watch *w)
{
	struct wh_store_id head = { { 0 } }, *chain = NULL, at;
	size_t count = 0, room = 0;
	bool joined = false;
	(void)wh_store_branch_head(w->store, w->branch, &head); /* none: zero */
	if (wh_store_id_equal(&head, &w->seen))
		return;
	for (at = head; !joined && !wh_store_id_is_zero(&at);) {
		struct wh_store_commit c;
		if (count == room) {
			struct wh_store_id *more =
				realloc(chain, (room = room * 2 + 64) * sizeof *more);
			if (!more)
				break;
			chain = more;
		}
		chain[count++] = at;
		if (wh_store_commit_read(w->store, &at, &c) < 0)
			break;
		at = c.parent_count ? c.parents[0] : (struct wh_store_id){ { 0 } };
		wh_store_commit_fini(&c);
		joined = wh_store_id_equal(&at, &w->seen);
	}
	if (!joined)
		tell(w, wh_store_id_is_zero(&head) ? "deleted" : "moved", &head);
	while (joined && count)
		tell(w, "commit", &chain[--count]);
	free(chain);
	w->seen = head;
	w->failed = fflush(stdout) != 0;
}

int store_watch(struct store_arguments *a)
{
	struct watch w = { .branch = a->branch };
	struct wh_diag diag = { "" };
	struct wh_store_config c = { .size = sizeof c, .path = a->repo, .watch = true };
	int status = CLI_OK, r = wh_store_open(&c, &w.store, &diag);
	if (r < 0)
		return store_failed(r, &diag, a->repo);
	if (a->operand[1])
		status = store_commit_of(w.store, a->operand[1], &w.seen);
	else
		(void)wh_store_branch_head(w.store, a->branch,
					   &w.seen); /* none: from its first commit on */
	while (!status && !w.failed) {
		tell_all(&w);
		struct pollfd p[2] = { { .fd = wh_store_fd(w.store), .events = POLLIN },
				       { .fd = STDOUT_FILENO } };
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			status = CLI_ERROR;
		if (p[1].revents & (POLLERR | POLLHUP)) /* nobody reads any more */
			break;
		(void)wh_store_poll(w.store);
	}
	wh_store_close(w.store);
	return status;
}

/* ---- git ---- */

/* Runs git on the repository; its exit status, or -1. */
static int git(const char *repo, const char *const *arguments)
{
	const char *argv[16] = { "git", "-C", repo };
	unsigned n = 3;
	for (; *arguments && n < WH_ARRAY_COUNT(argv) - 1; arguments++)
		argv[n++] = *arguments;
	pid_t pid = fork();
	int status;
	if (!pid) {
		execvp("git", (char *const *)(uintptr_t)argv);
		cli_error("store: git cannot be started: %s", strerror(errno));
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int check(const struct store_arguments *a)
{
	struct wh_store *s;
	int status = store_open(a, &s); /* replays a journal if that is due */
	if (!status)
		wh_store_close(s);
	return status;
}

int store_gc(struct store_arguments *a)
{
	static const char *const gc[] = { "-c", "gc.auto=0", "gc", "--quiet", NULL };
	int status = check(a);
	return status ? status : git(a->repo, gc) ? CLI_ERROR : CLI_OK;
}

int store_fsck(struct store_arguments *a)
{
	static const char *const fsck[] = { "fsck", "--strict", "--no-dangling", "--no-progress",
					    NULL };
	int status = check(a);
	if (status)
		return status;
	if (git(a->repo, fsck)) {
		cli_error("store: %s is damaged; what git says above names the objects", a->repo);
		return CLI_ERROR;
	}
	return CLI_OK;
}

static int count_branch(void *ctx, const char *branch, const struct wh_store_id *head)
{
	(*(unsigned *)ctx)++;
	return 0;
}

int store_stats(struct store_arguments *a)
{
	static const char *const count[] = { "count-objects", "-v", NULL };
	struct wh_store *s;
	unsigned branches = 0, journals = 0;
	uint64_t bytes = 0;
	char path[4300];
	struct stat st;
	int status = store_open(a, &s);
	if (status)
		return status;
	(void)wh_store_branch_each(s, count_branch, &branches);
	for (;; journals++) {
		snprintf(path, sizeof path, "%swherry/journal-%u", wh_store_path(s), journals);
		if (stat(path, &st))
			break;
		bytes += (uint64_t)st.st_size;
	}
	printf("branches: %u\njournals: %u\njournal-bytes: %llu\n", branches, journals,
	       (unsigned long long)bytes);
	wh_store_close(s);
	return fflush(stdout) || git(a->repo, count) ? CLI_ERROR : CLI_OK;
}
