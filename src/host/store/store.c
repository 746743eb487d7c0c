/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store_priv.h"

bool wh_store_id_is_zero(const struct wh_store_id *id)
{
	static const struct wh_store_id zero;
	return !memcmp(id, &zero, sizeof zero);
}

bool wh_store_id_equal(const struct wh_store_id *a, const struct wh_store_id *b)
{
	return !memcmp(a, b, sizeof *a);
}

void wh_store_id_format(const struct wh_store_id *id, char ret_hex[WH_STORE_HEX_SIZE + 1])
{
	for (unsigned i = 0; i < ID_SIZE; i++) {
		ret_hex[2 * i] = "0123456789abcdef"[id->bytes[i] >> 4];
		ret_hex[2 * i + 1] = "0123456789abcdef"[id->bytes[i] & 15];
	}
	ret_hex[WH_STORE_HEX_SIZE] = 0;
}

int wh_store_id_parse(const char *hex, size_t size, struct wh_store_id *ret_id)
{
	struct wh_store_id id = { { 0 } };
	if (size != WH_STORE_HEX_SIZE)
		return -WH_EINVAL;
	for (unsigned i = 0; i < WH_STORE_HEX_SIZE; i++) {
		char c = hex[i];
		int v = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;
		if (v < 0)
			return -WH_EINVAL;
		id.bytes[i / 2] = (uint8_t)(id.bytes[i / 2] << 4 | v);
	}
	*ret_id = id;
	return 0;
}

int store_git_error(int r, struct wh_diag *diag, const char *what)
{
	const git_error *e = git_error_last();
	int error = r == GIT_ENOTFOUND ? -WH_ENOENT
		    : r == GIT_EEXISTS ? -WH_EEXIST
		    : r == GIT_ELOCKED ? -WH_EBUSY
				       : -WH_EIO;
	return wh_diag_set(diag, error, "%s: %s", what,
			   e && e->message ? e->message : "Git's library failed");
}

int wh_store_init(const char *path, struct wh_diag *diag)
{
	git_repository *repo = NULL;
	git_libgit2_init();
	git_repository_init_options o = GIT_REPOSITORY_INIT_OPTIONS_INIT;
	o.flags = GIT_REPOSITORY_INIT_BARE | GIT_REPOSITORY_INIT_MKPATH |
		  GIT_REPOSITORY_INIT_NO_DOTGIT_DIR;
	o.initial_head = "main";
	int r = git_repository_init_ext(&repo, path, &o);
	if (r)
		r = store_git_error(r, diag, path);
	git_repository_free(repo);
	git_libgit2_shutdown();
	return r;
}

int wh_store_open(const struct wh_store_config *config, struct wh_store **ret_store,
		  struct wh_diag *diag)
{
	wh_assert(config->size == sizeof *config);
	struct wh_store *s = calloc(1, sizeof *s);
	if (!s)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a store");
	git_libgit2_init();
	s->config = *config;
	s->io = store_io_default;
	s->dir = s->inotify = s->lock_fd = -1;
	wh_list_init(&s->staged);
	wh_list_init(&s->staged_refs);
	wh_list_init(&s->tree_lru);
	int r = git_repository_open_ext(&s->repo, config->path, GIT_REPOSITORY_OPEN_NO_SEARCH,
					NULL);
	if (r) {
		r = store_git_error(r, diag, config->path);
		goto out;
	}
	s->path = strdup(git_repository_commondir(s->repo));
	r = s->path ? object_backend_add(s) : -1;
	if (r) {
		r = store_git_error(r, diag, config->path);
		goto out;
	}
	s->dir = s->path ? open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (s->dir < 0) {
		r = wh_diag_set(diag, s->path ? -errno : -WH_ENOMEM, "%s cannot be opened",
				config->path);
		goto out;
	}
	ref_recover_locks(s);
	r = journal_open(s, diag);
	if (r >= 0 && config->watch) {
		r = watch_open(s);
		if (r < 0)
			wh_diag_set(diag, r, "%s cannot be watched: %s", s->path, strerror(-r));
	}
	if (r >= 0) {
		*ret_store = s;
		return 0;
	}
out:
	wh_store_close(s);
	return r;
}

void wh_store_close(struct wh_store *s)
{
	if (!s)
		return;
	if (s->journal)
		(void)wh_store_flush(s, NULL); /* what nobody waited for */
	batch_drop(s);
	journal_close(s);
	ref_close(s);
	watch_close(s);
	tree_cache_clear(s);
	wh_assert(!s->tree_bytes && !s->stats.nodes_live && !s->stats.transactions_open);
	if (s->dir >= 0)
		close(s->dir);
	git_odb_free(s->odb);
	git_repository_free(s->repo);
	free(s->path);
	free(s);
	git_libgit2_shutdown();
}

bool wh_store_staged(const struct wh_store *s)
{
	return !wh_list_empty(&s->staged_refs);
}

static void told(struct wh_store *s, const struct staged_ref *r)
{
	watch_told(s, r->name, &r->old_id, &r->new_id);
}

/* Large objects are not in the journal: they are synced before it. */
static int write_objects(struct wh_store *s, bool large, struct wh_diag *diag)
{
	WH_LIST_FOR_EACH(n, &s->staged) {
		struct staged *o = WH_LIST_ENTRY(n, struct staged, order);
		if ((o->size > JOURNAL_OBJECT_MAX) != large)
			continue;
		int r = object_write_loose(s, &o->id, o->type, o->data, o->size, large);
		if (r < 0)
			return wh_diag_set(diag, r, "an object cannot be written: %s",
					   strerror(-r));
	}
	return 0;
}

/* The journal's sync and the small objects go on side by side; both must have ended well. */
static int make_durable(struct wh_store *s, struct wh_diag *diag)
{
	bool lazy = true;
	WH_LIST_FOR_EACH(n, &s->staged_refs)
		lazy &= WH_LIST_ENTRY(n, struct staged_ref, order)->lazy;
	int r = write_objects(s, true, diag);
	bool small_first = journal_is_full_of(s);
	if (r >= 0 && small_first)
		r = write_objects(s, false, diag);
	if (r < 0)
		return r;
	r = journal_append(s, !lazy);
	int objects = r >= 0 && !small_first ? write_objects(s, false, diag) : 0;
	int synced = journal_wait(s);
	if (r >= 0 && (objects < 0 || synced < 0))
		journal_take_back(s);
	if (objects < 0)
		return objects;
	if (r >= 0)
		r = synced;
	return r < 0 ? wh_diag_set(diag, r, "the journal cannot be written: %s", strerror(-r)) : 0;
}

int wh_store_flush(struct wh_store *s, struct wh_diag *diag)
{
	int result = 0;
	if (wh_list_empty(&s->staged_refs)) {
		/* Objects without a ref: trees made to be looked at. They stay staged until something refers to them. */
		return 0;
	}
	int r = make_durable(s, diag);
	if (r < 0) {
		batch_drop(s);
		return r;
	}
	s->stats.flushes++;
	WH_LIST_FOR_EACH_SAFE(n, &s->staged_refs) {
		struct staged_ref *ref = WH_LIST_ENTRY(n, struct staged_ref, order);
		r = ref_publish(s, ref);
		if (r < 0)
			result = wh_diag_set(diag, r, "branch %s cannot be moved: %s", ref->name,
					     strerror(-r));
		else
			told(s, ref);
		ref_unstage(s, ref);
	}
	batch_drop(s);
	return result;
}

int wh_store_sync(struct wh_store *s)
{
	int r = wh_store_flush(s, NULL);
	return r < 0 ? r : journal_sync(s);
}

void wh_store_stats(const struct wh_store *s, struct wh_store_stats *ret_stats)
{
	*ret_stats = s->stats;
	ret_stats->trees_cached_bytes = s->tree_bytes;
}

const char *wh_store_path(const struct wh_store *s)
{
	return s->path;
}
