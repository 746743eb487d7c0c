/* SPDX-License-Identifier: ISC */
/*
 * What others do to branches. inotify tells that something under refs/heads or packed-refs changed; then the
 * branches' values are compared with what was last told. Nothing is polled.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "store_priv.h"

#define CHANGES (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR)

struct watch_dir {
	struct watch_dir *next;
	int wd;
	bool top; /* the git directory: only packed-refs counts */
};

static struct head_note *note_of(struct wh_store *s, const char *branch)
{
	for (struct head_note *n = s->heads; n; n = n->next)
		if (wh_streq(n->name, branch))
			return n;
	struct head_note *n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	snprintf(n->name, sizeof n->name, "%s", branch);
	n->next = s->heads;
	s->heads = n;
	return n;
}

void watch_told(struct wh_store *s, const char *branch, const git_oid *old_id,
		const git_oid *new_id)
{
	struct wh_store_id a = id_of(old_id), b = id_of(new_id);
	if (s->config.watch) {
		struct head_note *n = note_of(s, branch);
		if (n)
			n->id = *new_id;
	}
	if (s->config.moved && !oid_eq(old_id, new_id))
		s->config.moved(s->config.ctx, branch, &a, &b);
}

static void watch_tree(struct wh_store *s, const char *path, bool top)
{
	int wd = inotify_add_watch(s->inotify, path, CHANGES);
	if (wd < 0)
		return; /* it went away meanwhile; its parent tells when it comes back */
	struct watch_dir *w;
	for (w = s->watch_dirs; w && w->wd != wd; w = w->next)
		;
	if (!w) {
		w = calloc(1, sizeof *w);
		if (!w)
			return;
		*w = (struct watch_dir){ s->watch_dirs, wd, top };
		s->watch_dirs = w;
	}
	if (top)
		return;
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		char sub[4300];
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		if (snprintf(sub, sizeof sub, "%s/%s", path, e->d_name) < (int)sizeof sub)
			watch_tree(s, sub, false);
	}
	if (d)
		closedir(d);
}

static void watch_heads(struct wh_store *s)
{
	char path[4300];
	snprintf(path, sizeof path, "%srefs/heads", s->path);
	watch_tree(s, path, false);
}

static int first_look(void *ctx, const char *branch, const struct wh_store_id *head)
{
	struct head_note *n = note_of(ctx, branch);
	if (n)
		n->id = oid_of(head);
	return 0;
}

int watch_open(struct wh_store *s)
{
	s->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (s->inotify < 0)
		return -errno;
	watch_tree(s, s->path, true);
	watch_heads(s);
	return wh_store_branch_each(s, first_look, s);
}

void watch_close(struct wh_store *s)
{
	if (s->inotify >= 0)
		close(s->inotify);
	s->inotify = -1;
	for (struct watch_dir *w; (w = s->watch_dirs);) {
		s->watch_dirs = w->next;
		free(w);
	}
	for (struct head_note *n; (n = s->heads);) {
		s->heads = n->next;
		free(n);
	}
}

int wh_store_fd(const struct wh_store *s)
{
	return s->inotify;
}

/* ---- comparing ---- */

static void moved(struct wh_store *s, struct head_note *n, const git_oid *now)
{
	git_oid old = n->id;
	if (oid_eq(&old, now))
		return;
	journal_note_ref(s, n->name, now);
	watch_told(s, n->name, &old, now);
}

static int look(void *ctx, const char *branch, const struct wh_store_id *head)
{
	struct wh_store *s = ctx;
	struct head_note *n = note_of(s, branch);
	git_oid now = oid_of(head);
	if (n) {
		n->seen = true;
		moved(s, n, &now);
	}
	return 0;
}

/* 1 = packed-refs or a folder changed: all must be compared; 2 = a loose ref, and its folder's. */
static bool relevant(struct wh_store *s, const struct inotify_event *e)
{
	struct watch_dir **p = &s->watch_dirs;
	while (*p && (*p)->wd != e->wd)
		p = &(*p)->next;
	if (e->mask & IN_Q_OVERFLOW)
		return true;
	if (!*p)
		return false;
	if (e->mask & IN_IGNORED) {
		struct watch_dir *gone = *p;
		*p = gone->next;
		free(gone);
		return true;
	}
	if ((*p)->top)
		return e->len && wh_streq(e->name, "packed-refs");
	size_t n = e->len ? strlen(e->name) : 0;
	return n < 5 || !wh_streq(e->name + n - 5, ".lock");
}

int wh_store_poll(struct wh_store *s)
{
	char buffer[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	static const git_oid none;
	bool any = false, folders = false;
	ssize_t size;
	if (s->inotify < 0)
		return 0;
	while ((size = read(s->inotify, buffer, sizeof buffer)) > 0)
		for (char *p = buffer; p < buffer + size;) {
			struct inotify_event *e = (struct inotify_event *)(void *)p;
			any |= relevant(s, e);
			folders |= (e->mask & (IN_ISDIR | IN_Q_OVERFLOW)) != 0;
			p += sizeof *e + e->len;
		}
	if (!any)
		return 0;
	if (folders)
		watch_heads(s);
	for (struct head_note *n = s->heads; n; n = n->next)
		n->seen = false;
	int r = wh_store_branch_each(s, look, s);
	for (struct head_note *n = s->heads; n; n = n->next)
		if (!n->seen)
			moved(s, n, &none);
	return r;
}
