/* SPDX-License-Identifier: ISC */
/*
 * debug/gc and debug/fsck: git looks after the repository while it is served. It runs in a process of its own, its progress is read
 * from a terminal that nobody else sees; what it is at can be read from the file at any time.
 *
 * Git packs what is loose by itself as well (`gc --auto`), looked at once a minute when there were commits; gc.auto = 0 in the
 * repository's configuration turns that off.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storefs_priv.h"

#define AUTO_NS 60000000000ull
#define FSCK_HEADS_MAX 20000u /* what a command line takes */

static const char *const gc_words[] = { "git", "-c", "gc.autoDetach=false", "gc", NULL };
static const char *const auto_words[] = { "git",     "-c", "gc.autoDetach=false", "gc", "--auto",
					  "--quiet", NULL };
static const char *const fsck_words[] = { "git",           "fsck",       "--strict",
					  "--no-dangling", "--progress", NULL };

static struct care *care_of(struct wh_storefs *fs, enum kind kind)
{
	return &fs->care[kind == K_FSCK];
}

/* The terminal's text: a line is what stands behind the last return or newline. */
static void take(struct care *c, const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (text[i] == '\r' || text[i] == '\n') {
			if (c->line_size) {
				c->line[c->line_size] = 0;
				memcpy(c->last, c->line, sizeof c->last);
				if (!c->error[0] &&
				    (strstr(c->line, "error") || strstr(c->line, "fatal") ||
				     strstr(c->line, "missing") || strstr(c->line, "broken")))
					memcpy(c->error, c->line, sizeof c->error);
			}
			c->line_size = 0;
		} else if (c->line_size < sizeof c->line - 1) {
			c->line[c->line_size++] = (unsigned char)text[i] >= ' ' ? text[i] : ' ';
		}
	}
}

static void read_out(struct care *c)
{
	char text[4096];
	ssize_t n;
	while ((n = read(c->out.fd, text, sizeof text)) > 0)
		take(c, text, (size_t)n);
	if (n < 0 && errno == EAGAIN)
		return;
	if (c->watching) /* its other end is closed: do not look for that again and again */
		wh_loop_remove(c->fs->loop, &c->out);
	c->watching = false;
}

static void on_out(struct wh_loop_fd *watch, uint32_t events)
{
	read_out(watch->ctx);
}

static void finish(struct care *c, int status)
{
	struct wh_p9_request *q = c->q;
	read_out(c);
	take(c, "\n", 1);
	if (c->watching)
		wh_loop_remove(c->fs->loop, &c->out);
	wh_loop_remove(c->fs->loop, &c->done);
	close(c->out.fd);
	close(c->done.fd);
	c->watching = c->running = false;
	c->q = NULL;
	c->failed = !WIFEXITED(status) || WEXITSTATUS(status);
	c->ended_s = (int64_t)time(NULL);
	if (c->failed && !c->error[0])
		snprintf(c->error, sizeof c->error, "%s",
			 WIFSIGNALED(status) ? "stopped"
			 : c->last[0]        ? c->last
					     : "git failed");
	if (!q)
		return;
	if (!c->failed) {
		q->r.count = q->payload_size;
		wh_p9_request_done(q, 0);
		return;
	}
	snprintf(q->text_buffer, sizeof q->text_buffer, "error: %.100s", c->error);
	wh_p9_request_done(q, wh_p9_fail(q, -WH_EIO, q->text_buffer));
}

static void on_done(struct wh_loop_fd *watch, uint32_t events)
{
	struct care *c = watch->ctx;
	int status = 0;
	if (waitpid(c->pid, &status, WNOHANG) == c->pid)
		finish(c, status);
}

/* Runs in the child. */
static void become(const char *repo, const char *terminal, const char *const *words)
{
	int null = open("/dev/null", O_RDWR), out = open(terminal, O_RDWR | O_NOCTTY);
	dup2(null, 0);
	dup2(out < 0 ? null : out, 1); /* fsck says there what is missing */
	dup2(out < 0 ? null : out, 2);
	(void)close_range(3, ~0u, 0);
	setenv("GIT_DIR", repo, 1);
	setenv("GIT_PROGRESS_DELAY", "0", 1);
	setenv("LC_ALL", "C", 1);
	setpgid(0, 0);
	execvp("git", (char *const *)(uintptr_t)words);
	dprintf(2, "fatal: git cannot be started: %s\n", strerror(errno));
	_exit(127);
}

static int start(struct care *c, const char *const *words)
{
	char terminal[64];
	int out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), fd, r;
	if (out < 0)
		return -errno;
	if (grantpt(out) || unlockpt(out) || ptsname_r(out, terminal, sizeof terminal)) {
		r = -errno;
		close(out);
		return r;
	}
	c->pid = fork();
	if (!c->pid)
		become(wh_store_path(c->fs->store), terminal, words);
	fd = c->pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, c->pid, 0);
	r = fd < 0 ? -errno : 0;
	c->out = (struct wh_loop_fd){ .fd = out, .events = WH_LOOP_READ, .fn = on_out, .ctx = c };
	c->done = (struct wh_loop_fd){ .fd = fd, .events = WH_LOOP_READ, .fn = on_done, .ctx = c };
	if (r >= 0)
		r = wh_loop_add(c->fs->loop, &c->done);
	if (r < 0) {
		if (c->pid > 0) {
			kill(c->pid, SIGKILL);
			waitpid(c->pid, NULL, 0);
		}
		if (fd >= 0)
			close(fd);
		close(out);
		return r;
	}
	c->watching = wh_loop_add(c->fs->loop, &c->out) >= 0;
	c->running = true;
	c->failed = false;
	c->line_size = 0;
	c->last[0] = c->error[0] = 0;
	return 0;
}

struct words {
	char **word;
	size_t count, room;
	bool failed;
};

static void word_add(struct words *w, const char *text)
{
	if (w->count + 1 >= w->room) {
		char **more = realloc(w->word, (w->room = w->room * 2 + 64) * sizeof *more);
		if (!more) {
			w->failed = true;
			return;
		}
		w->word = more;
	}
	w->word[w->count++] = strdup(text);
	w->word[w->count] = NULL;
	w->failed |= !w->word[w->count - 1];
}

static int head_add(void *ctx, const char *branch, const struct wh_store_id *head)
{
	char hex[WH_STORE_HEX_SIZE + 1];
	struct words *w = ctx;
	wh_store_id_format(head, hex);
	word_add(w, hex);
	return w->failed || w->count > FSCK_HEADS_MAX;
}

/* fsck of the branches as they are now: what is committed while it looks would be missing to it. */
static int start_fsck(struct care *c)
{
	struct words w = { 0 };
	for (unsigned i = 0; fsck_words[i]; i++)
		word_add(&w, fsck_words[i]);
	(void)wh_store_branch_each(c->fs->store, head_add, &w);
	int r = w.failed ? -WH_ENOMEM : start(c, (const char *const *)w.word);
	for (size_t i = 0; i < w.count; i++)
		free(w.word[i]);
	free(w.word);
	return r;
}

static void stop(struct care *c)
{
	kill(-c->pid, SIGKILL);
	kill(c->pid, SIGKILL);
}

int care_command(struct wh_p9_request *q, struct node *n, const char *text)
{
	struct care *c = care_of(n->session->fs, n->kind);
	bool wait = wh_streq(text, "run");
	if (wh_streq(text, "stop")) {
		if (c->running)
			stop(c); /* and on_done comes */
		return 0;
	}
	if (!wait && !wh_streq(text, "start"))
		return wh_p9_fail(q, -WH_EINVAL, "start, run (answered at its end) or stop");
	if (c->running)
		return wh_p9_fail(q, -WH_EBUSY, "it is running");
	int r = n->kind == K_FSCK ? start_fsck(c) : start(c, gc_words);
	if (r < 0 || !wait)
		return r;
	c->q = q;
	return WH_P9_LATER;
}

void care_text(const struct node *n, char *ret_text, size_t max)
{
	struct care *c = care_of(n->session->fs, n->kind);
	if (c->running)
		snprintf(ret_text, max, "running %s\n", c->line_size || c->last[0] ? c->last : "");
	else if (!c->ended_s)
		snprintf(ret_text, max, "idle\n");
	else if (c->failed)
		snprintf(ret_text, max, "failed %lld %s\n", (long long)c->ended_s, c->error);
	else
		snprintf(ret_text, max, "done %lld\n", (long long)c->ended_s);
}

bool care_flush(struct wh_storefs *fs, struct wh_p9_request *q)
{
	for (unsigned i = 0; i < 2; i++)
		if (fs->care[i].q == q) { /* it goes on */
			fs->care[i].q = NULL;
			wh_p9_request_done(q, -WH_EINTR);
			return true;
		}
	return false;
}

static void on_auto(struct wh_loop_timer *timer)
{
	struct wh_storefs *fs = timer->ctx;
	struct wh_store_stats stats;
	wh_store_stats(fs->store, &stats);
	if (stats.flushes != fs->care_flushes && !fs->care[0].running)
		(void)start(&fs->care[0], auto_words); /* what it says can be read */
	fs->care_flushes = stats.flushes;
	wh_loop_timer_start(fs->loop, timer, wh_loop_now(fs->loop) + AUTO_NS);
}

void care_init(struct wh_storefs *fs)
{
	fs->care[0].fs = fs->care[1].fs = fs;
	wh_loop_timer_init(&fs->care_timer, on_auto, fs);
	if (!fs->config.read_only)
		wh_loop_timer_start(fs->loop, &fs->care_timer, wh_loop_now(fs->loop) + AUTO_NS);
}

void care_fini(struct wh_storefs *fs)
{
	wh_loop_timer_stop(fs->loop, &fs->care_timer);
	for (unsigned i = 0; i < 2; i++) {
		struct care *c = &fs->care[i];
		int status = 0;
		if (!c->running)
			continue;
		stop(c);
		while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
			;
		finish(c, status);
	}
}
