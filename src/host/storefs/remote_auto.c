/* SPDX-License-Identifier: ISC */
/*
 * What a server remembers of its remotes, and pushing to them on its own.
 *
 * Each remote is a file wherry/remotes/NAME of lines `url URL`, `timeout SECONDS`, `auto-push BRANCH...` and, for what the remote
 * has confirmed, `pushed BRANCH HASH`. A branch that auto-push names is pushed soon after it moved; when that fails it is tried
 * again after 1 s, 2 s ... 5 min, and at once when it moves again. Pushes are never forced: a remote that went another way is an
 * error that somebody has to look at.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storefs_priv.h"

#define SETTLE_NS 50000000ull /* commits in a row are one push */
#define RETRY_S_MAX 300u
#define LAG_MAX 100000u

/* ---- which branches ---- */

bool remote_pushes(const struct remote *r, const char *branch)
{
	size_t size = strlen(branch);
	for (const char *p = r->auto_push ? r->auto_push : ""; *p;) {
		size_t n = strcspn(p, " \t\r\n");
		if ((n == 1 && *p == '*') || (n == size && !memcmp(p, branch, n)))
			return true;
		p += n;
		p += strspn(p, " \t\r\n");
	}
	return false;
}

struct pushed *remote_pushed(struct remote *r, const char *branch, bool make)
{
	for (struct pushed *p = r->pushed; p; p = p->next)
		if (wh_streq(p->branch, branch))
			return p;
	struct pushed *p = make ? calloc(1, sizeof *p) : NULL;
	if (p) {
		snprintf(p->branch, sizeof p->branch, "%s", branch);
		p->next = r->pushed;
		r->pushed = p;
	}
	return p;
}

unsigned remote_timeout_s(const struct remote *r)
{
	unsigned long v = r->timeout ? strtoul(r->timeout, NULL, 10) : 0;
	return v && v <= REMOTE_TIMEOUT_S_MAX ? (unsigned)v : REMOTE_TIMEOUT_S;
}

/* ---- lag ---- */

/* Commits on the first-parent way from the head to what the remote has. */
static unsigned behind(struct wh_store *s, const struct wh_store_id *head,
		       const struct wh_store_id *has)
{
	struct wh_store_id at = *head;
	unsigned n = 0;
	while (!wh_store_id_equal(&at, has) && n < LAG_MAX) {
		struct wh_store_commit c;
		if (wh_store_commit_read(s, &at, &c) < 0)
			break;
		n++;
		bool more = c.parent_count;
		if (more)
			at = c.parents[0];
		wh_store_commit_fini(&c);
		if (!more)
			break;
	}
	return n;
}

struct lag {
	struct remote *r;
	void (*fn)(void *ctx, const char *branch, unsigned commits);
	void *ctx;
};

static int lag_of(void *ctx, const char *branch, const struct wh_store_id *head)
{
	static const struct wh_store_id none;
	struct lag *l = ctx;
	if (!remote_pushes(l->r, branch))
		return 0;
	const struct pushed *p = remote_pushed(l->r, branch, false);
	l->fn(l->ctx, branch, behind(l->r->fs->store, head, p ? &p->id : &none));
	return 0;
}

void remote_lag(struct remote *r, void (*fn)(void *ctx, const char *branch, unsigned commits),
		void *ctx)
{
	struct lag l = { r, fn, ctx };
	(void)wh_store_branch_each(r->fs->store, lag_of, &l);
}

/* ---- the file ---- */

static void path_of(const struct wh_storefs *fs, const char *name, char *to, size_t max)
{
	snprintf(to, max, "%swherry/remotes%s%s", wh_store_path(fs->store), *name ? "/" : "", name);
}

void remote_forget(const struct remote *r)
{
	char path[4700];
	path_of(r->fs, r->name, path, sizeof path);
	unlink(path);
}

/* One line of a text that clients wrote. */
static void put_line(FILE *f, const char *key, const char *text)
{
	if (!text || !text[strspn(text, " \t\r\n")])
		return;
	fprintf(f, "%s ", key);
	for (const char *p = text + strspn(text, " \t\r\n"); *p; p++)
		if (strchr("\t\r\n", *p)) {
			if (p[strspn(p, " \t\r\n")])
				fputc(' ', f);
		} else {
			fputc(*p, f);
		}
	fputc('\n', f);
}

void remote_save(const struct remote *r)
{
	char path[4700], temporary[4800], hex[WH_STORE_HEX_SIZE + 1];
	if (wh_list_empty(&r->node) || r->fs->config.read_only)
		return;
	path_of(r->fs, "", path, sizeof path);
	(void)mkdir(path, 0777);
	path_of(r->fs, r->name, path, sizeof path);
	snprintf(temporary, sizeof temporary, "%s.tmp~", path);
	/* 0600: an URL may carry a password */
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		if (fd >= 0)
			close(fd);
		return;
	}
	put_line(f, "url", r->url);
	put_line(f, "timeout", r->timeout);
	put_line(f, "auto-push", r->auto_push);
	for (const struct pushed *p = r->pushed; p; p = p->next)
		if (!wh_store_id_is_zero(&p->id)) {
			wh_store_id_format(&p->id, hex);
			fprintf(f, "pushed %s %s\n", p->branch, hex);
		}
	bool good = !fflush(f) && !fdatasync(fd);
	fclose(f);
	if (!good || rename(temporary, path))
		unlink(temporary);
}

static void take_line(struct remote *r, char *line)
{
	char *value = strchr(line, ' ');
	struct wh_store_id id;
	if (!value)
		return;
	*value++ = 0;
	if (wh_streq(line, "url")) {
		free(r->url);
		r->url = strdup(value);
		r->url_size = r->url ? strlen(r->url) : 0;
	} else if (wh_streq(line, "timeout")) {
		free(r->timeout);
		r->timeout = strdup(value);
		r->timeout_size = r->timeout ? strlen(r->timeout) : 0;
	} else if (wh_streq(line, "auto-push")) {
		free(r->auto_push);
		r->auto_push = strdup(value);
		r->auto_push_size = r->auto_push ? strlen(r->auto_push) : 0;
	} else if (wh_streq(line, "pushed")) {
		char *hash = strchr(value, ' ');
		if (!hash)
			return;
		*hash++ = 0;
		if (wh_store_branch_valid(value) &&
		    wh_store_id_parse(hash, strlen(hash), &id) >= 0) {
			struct pushed *p = remote_pushed(r, value, true);
			if (p)
				p->id = id;
		}
	}
}

static void load(struct wh_storefs *fs, const char *name)
{
	char path[4700], line[4096];
	struct remote *r;
	if (remote_make(fs, name, strlen(name), &r) < 0)
		return;
	path_of(fs, name, path, sizeof path);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		take_line(r, line);
	}
	if (f)
		fclose(f);
	if (r->auto_push)
		remote_push_soon(r, false);
}

void remotes_load(struct wh_storefs *fs)
{
	char path[4700];
	path_of(fs, "", path, sizeof path);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.' && !strchr(e->d_name, '~'))
			load(fs, e->d_name);
	if (d)
		closedir(d);
}

/* ---- pushing ---- */

void remote_push_soon(struct remote *r, bool failed)
{
	struct wh_loop *loop = r->fs->loop;
	uint64_t wait = SETTLE_NS;
	if (failed) {
		r->retry_s = r->retry_s ? r->retry_s * 2 : 1;
		if (r->retry_s > RETRY_S_MAX)
			r->retry_s = RETRY_S_MAX;
		wait = r->retry_s * 1000000000ull;
	}
	wh_loop_timer_start(loop, &r->push_timer, wh_loop_now(loop) + wait);
}

static int push_one(void *ctx, const char *branch, const struct wh_store_id *head)
{
	struct remote *r = ctx;
	const struct pushed *p = remote_pushed(r, branch, false);
	if (!remote_pushes(r, branch) || (p && wh_store_id_equal(&p->id, head)))
		return 0;
	return remote_push(r, branch, head) < 0 ? -WH_EIO : 1;
}

/* The next branch that the remote does not have. */
void remote_push_due(struct wh_loop_timer *timer)
{
	struct remote *r = timer->ctx;
	if (r->job || !r->url_size || !r->auto_push)
		return; /* the job's end comes back here */
	if (wh_store_branch_each(r->fs->store, push_one, r) < 0)
		remote_push_soon(r, true);
}

void remotes_moved(struct wh_storefs *fs, const char *branch)
{
	WH_LIST_FOR_EACH(i, &fs->remotes) {
		struct remote *r = WH_LIST_ENTRY(i, struct remote, node);
		if (r->auto_push && remote_pushes(r, branch)) {
			r->retry_s = 0;
			remote_push_soon(r, false);
		}
	}
}
