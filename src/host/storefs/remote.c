/* SPDX-License-Identifier: ISC */
/*
 * Remotes: other repositories, by URL. Git itself fetches and pushes, in a process of its own: it knows all transports, a
 * remote that hangs holds up nobody and is ended after its time, and what it sends is checked. Nothing is ever forced.
 * remote_auto.c has what is remembered of them, and pushing without being asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storefs_priv.h"

#define ERROR_SIZE 2048u

struct job {
	struct wh_loop_fd done; /* pidfd */
	struct remote *remote;
	struct wh_p9_request *q;
	pid_t pid;
	int errors; /* read end of its standard error */
	bool fetch, timed_out;
	struct wh_loop_timer timer;
	char ref[512], branch[WH_STORE_BRANCH_SIZE_MAX + 1];
	struct wh_store_id id; /* what is pushed */
};

struct remote *remote_find(struct wh_storefs *fs, const char *name, size_t size)
{
	WH_LIST_FOR_EACH(i, &fs->remotes) {
		struct remote *r = WH_LIST_ENTRY(i, struct remote, node);
		if (strlen(r->name) == size && !memcmp(r->name, name, size))
			return r;
	}
	return NULL;
}

int remote_make(struct wh_storefs *fs, const char *name, size_t size, struct remote **ret_remote)
{
	struct remote *r = remote_find(fs, name, size);
	unsigned count = 0;
	if (r) {
		*ret_remote = r;
		return 0;
	}
	WH_LIST_FOR_EACH(i, &fs->remotes)
		count++;
	if (count == REMOTES_MAX)
		return -WH_EMFILE;
	if (!size || size > REMOTE_NAME_MAX)
		return -WH_EINVAL;
	for (size_t i = 0; i < size; i++) {
		char c = name[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_' || (c == '.' && i)))
			return -WH_EINVAL;
	}
	r = calloc(1, sizeof *r);
	if (!r || !(r->name = strndup(name, size))) {
		free(r);
		return -WH_ENOMEM;
	}
	r->refs = 1;
	r->fs = fs;
	wh_loop_timer_init(&r->push_timer, remote_push_due, r);
	wh_list_push_back(&fs->remotes, &r->node);
	*ret_remote = r;
	return 0;
}

int remote_new(struct session *s, struct wh_p9_str name, struct remote **ret_remote)
{
	int r = remote_make(s->fs, name.text, name.size, ret_remote);
	if (r >= 0)
		remote_save(*ret_remote);
	return r;
}

void remote_unref(struct remote *r)
{
	if (--r->refs)
		return;
	free(r->name);
	free(r->url);
	free(r->error);
	free(r->auto_push);
	free(r->timeout);
	for (struct pushed *p; (p = r->pushed);) {
		r->pushed = p->next;
		free(p);
	}
	free(r);
}

void remote_remove(struct remote *r)
{
	if (wh_list_empty(&r->node))
		return;
	remote_forget(r);
	wh_loop_timer_stop(r->fs->loop, &r->push_timer);
	wh_list_remove(&r->node);
	remote_unref(r);
}

/* ---- the process ---- */

static void set_error(struct remote *r, const char *text)
{
	free(r->error);
	r->error = strdup(text);
}

static void job_free(struct job *j)
{
	struct wh_storefs *fs = j->remote->fs;
	wh_loop_timer_stop(fs->loop, &j->timer);
	wh_loop_remove(fs->loop, &j->done);
	close(j->done.fd);
	close(j->errors);
	wh_list_remove(&j->remote->orphan);
	j->remote->job = NULL;
	remote_unref(j->remote);
	free(j);
}

static int finish_fetch(struct job *j)
{
	struct wh_storefs *fs = j->remote->fs;
	char path[4600], text[64];
	snprintf(path, sizeof path, "%s%s", wh_store_path(fs->store), j->ref);
	if (wh_os_read_text(path, text, sizeof text) < 40 ||
	    wh_store_id_parse(text, 40, &j->remote->head) < 0)
		return -WH_EIO;
	j->remote->fetches++;
	streams_remote(fs, j->remote);
	return 0;
}

static void on_done(struct wh_loop_fd *watch, uint32_t events)
{
	struct job *j = watch->ctx;
	struct remote *r = j->remote;
	struct wh_p9_request *q = j->q;
	char text[ERROR_SIZE];
	int status = 0;
	if (waitpid(j->pid, &status, WNOHANG) != j->pid)
		return;
	ssize_t n = read(j->errors, text, sizeof text - 1);
	text[n > 0 ? n : 0] = 0;
	bool timed_out = j->timed_out, fetch = j->fetch;
	if (timed_out)
		snprintf(text, sizeof text, "no end within %u s\n", remote_timeout_s(r));
	bool good = WIFEXITED(status) && !WEXITSTATUS(status);
	if (good && j->fetch)
		good = finish_fetch(j) >= 0;
	if (good && !j->fetch) {
		struct pushed *p = remote_pushed(r, j->branch, true);
		if (p)
			p->id = j->id;
		remote_save(r);
	}
	set_error(r, good ? "" : text);
	r->state = good ? "idle" : "failed";
	r->refs++;
	job_free(j);
	if (good)
		r->retry_s = 0;
	if (r->auto_push && !wh_list_empty(&r->node))
		remote_push_soon(r, !good);
	if (q && good) {
		q->r.count = q->payload_size;
		wh_p9_request_done(q, 0);
	} else if (q) {
		if (fetch && strstr(text, "couldn't find remote ref"))
			snprintf(q->text_buffer, sizeof q->text_buffer, "error: no head to fetch");
		else
			snprintf(q->text_buffer, sizeof q->text_buffer, "error: cannot %s %.90s",
				 timed_out             ? "get an answer of"
				 : WIFSIGNALED(status) ? "finish with"
				 : fetch               ? "fetch"
						       : "push to",
				 r->url ? r->url : "");
		wh_p9_request_done(q, wh_p9_fail(q, -WH_EIO, q->text_buffer));
	}
	remote_unref(r);
}

/* Runs in the child. */
static void become_git(const char *repo, int errors, const char *const *argv)
{
	int null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	dup2(errors, 2);
	(void)close_range(3, ~0u, 0);
	setenv("GIT_TERMINAL_PROMPT", "0", 1);
	setenv("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh",
	       1); /* ext:: would run any command */
	setenv("GIT_DIR", repo, 1);
	setenv("LC_ALL", "C", 1);
	setpgid(0, 0);
	execvp("git", (char *const *)(uintptr_t)argv);
	dprintf(2, "git cannot be started: %s\n", strerror(errno));
	_exit(127);
}

static void on_timeout(struct wh_loop_timer *timer)
{
	struct job *j = timer->ctx;
	j->timed_out = true;
	kill(-j->pid, SIGKILL);
	kill(j->pid, SIGKILL); /* and on_done comes */
}

static int start(struct wh_p9_request *q, struct remote *r, const char *const *argv, bool fetch,
		 const char *ref)
{
	struct wh_storefs *fs = r->fs;
	int p[2];
	struct job *j = calloc(1, sizeof *j);
	if (!j)
		return -WH_ENOMEM;
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK)) {
		free(j);
		return -errno;
	}
	j->pid = fork();
	if (!j->pid)
		become_git(wh_store_path(fs->store), p[1], argv);
	close(p[1]);
	int fd = j->pid < 0 ? -errno : (int)syscall(SYS_pidfd_open, j->pid, 0);
	if (fd < 0) {
		int error = j->pid < 0 ? fd : -errno;
		close(p[0]);
		free(j);
		return error;
	}
	j->remote = r;
	r->refs++;
	j->q = q;
	j->errors = p[0];
	j->fetch = fetch;
	snprintf(j->ref, sizeof j->ref, "%s", ref);
	wh_loop_timer_init(&j->timer, on_timeout, j);
	j->done = (struct wh_loop_fd){ .fd = fd, .events = WH_LOOP_READ, .fn = on_done, .ctx = j };
	r->job = j;
	wh_list_push_back(&fs->jobs, &r->orphan);
	int error = wh_loop_add(fs->loop, &j->done);
	if (error < 0) {
		kill(j->pid, SIGKILL);
		waitpid(j->pid, NULL, 0);
		close(fd);
		close(p[0]);
		wh_list_remove(&r->orphan);
		r->job = NULL;
		remote_unref(r);
		free(j);
		return error;
	}
	wh_loop_timer_start(fs->loop, &j->timer,
			    wh_loop_now(fs->loop) + remote_timeout_s(r) * 1000000000ull);
	return WH_P9_LATER;
}

static int push(struct wh_p9_request *q, struct remote *r, const char *branch,
		const struct wh_store_id *id)
{
	char spec[900], hex[WH_STORE_HEX_SIZE + 1];
	wh_store_id_format(id, hex);
	snprintf(spec, sizeof spec, "%s:refs/heads/%s", hex, branch);
	const char *const argv[] = { "git", "push", "--quiet", "--", r->url, spec, NULL };
	int error = start(q, r, argv, false, "");
	if (r->job) {
		snprintf(r->job->branch, sizeof r->job->branch, "%s", branch);
		r->job->id = *id;
	}
	return error;
}

int remote_push(struct remote *r, const char *branch, const struct wh_store_id *id)
{
	r->url[strcspn(r->url, "\r\n")] = 0;
	int error = push(NULL, r, branch, id);
	return error == WH_P9_LATER ? 0 : error;
}

int remote_command(struct wh_p9_request *q, struct node *n, char *text)
{
	struct remote *r = n->remote;
	char spec[900], ref[512];
	if (r->job)
		return wh_p9_fail(q, -WH_EBUSY, "error: the remote is busy");
	size_t size = r->url ? strcspn(r->url, "\r\n") : 0;
	if (!size)
		return wh_p9_fail(q, -WH_EINVAL, "error: remote url is not defined");
	r->url[size] = 0;
	r->url_size = size;
	if (!wh_store_branch_valid(text))
		return wh_p9_fail(q, -WH_EINVAL, "error: no head to fetch");
	snprintf(ref, sizeof ref, "refs/wherry/remotes/%s/%s", r->name, text);
	if (n->kind == K_FETCH) {
		/* The ref keeps what was fetched from being collected; what it is there may go back. */
		snprintf(spec, sizeof spec, "+refs/heads/%s:%s", text, ref);
		const char *const argv[] = { "git",
					     "-c",
					     "fetch.fsckObjects=true",
					     "fetch",
					     "--quiet",
					     "--no-tags",
					     "--no-write-fetch-head",
					     "--no-auto-gc",
					     "--",
					     r->url,
					     spec,
					     NULL };
		return start(q, r, argv, true, ref);
	}
	struct wh_store_id id;
	if (wh_store_branch_head(r->fs->store, text, &id) < 0)
		return wh_p9_fail(q, -WH_ENOENT, "error: no head to push");
	return push(q, r, text, &id);
}

static void job_end(struct job *j)
{
	kill(-j->pid, SIGKILL);
	kill(j->pid, SIGKILL);
	waitpid(j->pid, NULL, 0);
	set_error(j->remote, "interrupted\n");
	j->remote->state = "failed";
	job_free(j);
}

bool remote_flush(struct wh_storefs *fs, struct wh_p9_request *q)
{
	WH_LIST_FOR_EACH(i, &fs->jobs) {
		struct remote *r = WH_LIST_ENTRY(i, struct remote, orphan);
		if (r->job->q != q)
			continue;
		job_end(r->job);
		wh_p9_request_done(q, -WH_EINTR);
		return true;
	}
	return false;
}

void remotes_free(struct wh_storefs *fs)
{
	for (struct wh_list *i; (i = wh_list_pop_front(&fs->jobs));)
		job_end(WH_LIST_ENTRY(i, struct remote, orphan)->job);
	for (struct wh_list *i; (i = wh_list_pop_front(&fs->remotes));) {
		struct remote *r = WH_LIST_ENTRY(i, struct remote, node);
		wh_loop_timer_stop(fs->loop, &r->push_timer);
		remote_unref(r);
	}
}
