/* SPDX-License-Identifier: ISC */
/* Life of the tree, its sessions and its listening sockets. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storefs_priv.h"

struct listener {
	struct wh_list node;
	struct wh_loop_fd watch;
	struct wh_storefs *fs;
};

static void on_moved(void *ctx, const char *branch, const struct wh_store_id *old_id,
		     const struct wh_store_id *new_id)
{
	streams_moved(ctx, branch, old_id, new_id);
	remotes_moved(ctx, branch);
}

static void on_store(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_storefs *fs = watch->ctx;
	(void)wh_store_poll(
		fs->store); /* a branch that cannot be read now is read again at the next change */
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	struct wh_storefs *fs = hook->ctx;
	bool work = commits_flush(fs);
	return conns_work(fs) || work;
}

int wh_storefs_new(const struct wh_storefs_config *config, struct wh_storefs **ret_fs,
		   struct wh_diag *diag)
{
	wh_assert(config->size == sizeof *config);
	struct wh_storefs *fs = calloc(1, sizeof *fs);
	if (!fs)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a store");
	fs->config = *config;
	fs->loop = config->loop;
	wh_os_random(fs->key, sizeof fs->key);
	wh_list_init(&fs->sessions);
	wh_list_init(&fs->streams);
	wh_list_init(&fs->commits);
	wh_list_init(&fs->connections);
	wh_list_init(&fs->dirty);
	wh_list_init(&fs->listeners);
	wh_list_init(&fs->remotes);
	wh_list_init(&fs->jobs);
	wh_list_init(&fs->leased);
	wh_loop_timer_init(&fs->lease_timer, leases_expire, fs);
	struct wh_store_config c = {
		.size = sizeof c, .path = config->path, .moved = on_moved, .ctx = fs, .watch = true
	};
	int r = wh_store_open(&c, &fs->store, diag);
	if (r < 0) {
		free(fs);
		return r;
	}
	fs->store_watch = (struct wh_loop_fd){
		.fd = wh_store_fd(fs->store), .events = WH_LOOP_READ, .fn = on_store, .ctx = fs
	};
	r = wh_loop_add(fs->loop, &fs->store_watch);
	if (r < 0) {
		wh_store_close(fs->store);
		free(fs);
		return wh_diag_set(diag, r, "the event loop takes no more descriptors");
	}
	fs->hook = (struct wh_loop_hook){ .before_sleep = before_sleep, .ctx = fs };
	wh_loop_hook_add(fs->loop, &fs->hook);
	remotes_load(fs);
	care_init(fs);
	*ret_fs = fs;
	return 0;
}

void wh_storefs_free(struct wh_storefs *fs)
{
	if (!fs)
		return;
	for (struct wh_list *n; (n = wh_list_pop_front(&fs->listeners));) {
		struct listener *l = WH_LIST_ENTRY(n, struct listener, node);
		wh_loop_remove(fs->loop, &l->watch);
		close(l->watch.fd);
		free(l);
	}
	conns_free(fs);
	leases_free(fs);
	care_fini(fs);
	remotes_free(fs);
	wh_loop_hook_remove(fs->loop, &fs->hook);
	wh_loop_remove(fs->loop, &fs->store_watch);
	wh_store_close(fs->store);
	free(fs);
}

struct wh_store *wh_storefs_store(struct wh_storefs *fs)
{
	return fs->store;
}

/* ---- sessions ---- */

int session_init(struct wh_storefs *fs, struct session *s,
		 void (*answered)(void *, void *, uint32_t), void *ctx)
{
	struct wh_p9_server_config c = { .size = sizeof c,
					 .ops = &storefs_ops,
					 .ctx = s,
					 .alloc = &wh_os_allocator,
					 .msize_max = fs->config.msize_max,
					 .fids_max = 1u << 20,
					 .requests_max = WH_STOREFS_WAITING_MAX,
					 .dialects = 7,
					 .read_only = fs->config.read_only,
					 .answered = answered,
					 .answered_ctx = ctx };
	s->fs = fs;
	s->read_only = fs->config.read_only;
	s->serial = ++fs->serial;
	s->allow = WH_STOREFS_ADMIN;
	snprintf(s->mail, sizeof s->mail, "unknown@localhost");
	wh_list_init(&s->txs);
	int r = wh_p9_server_new(&c, &s->server);
	if (r >= 0)
		wh_list_push_back(&fs->sessions, &s->node);
	return r;
}

void session_fini(struct session *s)
{
	wh_p9_server_free(s->server);
	for (struct wh_list *n; (n = wh_list_pop_front(&s->txs));) {
		struct tx *t = WH_LIST_ENTRY(n, struct tx, node);
		t->dead = true;
		tx_unref(t);
	}
	for (struct empty_branch *e; (e = s->empty);) {
		s->empty = e->next;
		free(e->name);
		free(e);
	}
	wh_list_remove(&s->node);
}

/* ---- sockets ---- */

static void on_listener(struct wh_loop_fd *watch, uint32_t events)
{
	struct listener *l = watch->ctx;
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0 && conn_new(l->fs, fd) < 0)
		close(fd);
}

int wh_storefs_listen(struct wh_storefs *fs, int fd)
{
	struct listener *l = calloc(1, sizeof *l);
	if (!l)
		return -WH_ENOMEM;
	l->fs = fs;
	l->watch = (struct wh_loop_fd){
		.fd = fd, .events = WH_LOOP_READ, .fn = on_listener, .ctx = l
	};
	int r = wh_loop_add(fs->loop, &l->watch);
	if (r < 0) {
		free(l);
		return r;
	}
	wh_list_push_back(&fs->listeners, &l->node);
	return 0;
}

int wh_storefs_serve(struct wh_storefs *fs, int fd)
{
	return conn_new(fs, fd);
}
