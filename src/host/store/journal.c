/* SPDX-License-Identifier: ISC */
/*
 * The journal makes commits durable with one sync of one file whose blocks exist already.
 *
 * A journal is a file `wherry/journal-N` of fixed size. Whoever writes it holds a lock (flock) on it, so every
 * process (and every open store) has its own. Its first block is the header, then follow records:
 *
 *	header	magic "WHJRNL1\n", generation[8], boot id[36], crc32c[4] of the former
 *	record	size[4] crc32c[4] generation[8] time_ns[8] | refs[4] objects[4] then
 *		ref     size[1] name old[20] new[20]
 *		object  type[1] id[20] size[4] data
 *
 * The crc covers all behind it. A record counts when its generation is the header's and its crc is right; the
 * first that does not ends the journal.
 *
 * While the system runs, nothing reads it: the page cache is right. When the header's boot id is not the present
 * one, the machine went down in between, and the file system may have lost files that were never synced one by
 * one. Then whoever opens the store first writes each object again that is missing or broken,
 * and moves each branch along the journalled steps: from what it is now to the last of them, if what it is now is one
 * of the steps; a branch that others moved elsewhere stays where it is. Then all is synced and the journal empty.
 *
 * A full journal is left to a thread while another is written: it packs the journal's objects (pack.c), removes their
 * loose files, syncs the branches, and empties the journal. When that fails it syncs the file system instead.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/hash.h>
#include <wherry/os.h>

#include "store_priv.h"

#define HEADER_SIZE 4096u
#define RECORD_HEAD 24u
#define MAGIC "WHJRNL1\n"
#define SLOTS_MAX 256u
#define DEFAULT_SIZE (4u << 20) /* what a command that makes one commit has to make */
#define GROWN_SIZE (32u << 20)

#define KNOWN_BRANCHES 64u

struct journal {
	struct known_branch { /* has a synced record in this generation */
		uint64_t generation;
		char name[WH_STORE_BRANCH_SIZE_MAX + 1];
	} known[KNOWN_BRANCHES];
	char boot[37];
	int fd;
	unsigned slot;
	char path[4300];
	uint64_t generation, at, size;
	uint64_t time_ns; /* of the last record */
	bool unsynced;
	/* the thread that syncs a record */
	pthread_t syncer;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool syncer_runs;
	enum { SYNC_IDLE, SYNC_WANTED, SYNC_DONE, SYNC_END } sync_state;
	bool sync_waits; /* nobody took it: journal_wait does it */
	int sync_result;
	/* the thread that empties a full one */
	pthread_t thread;
	bool thread_runs;
	int full_fd, dir;
	char *root; /* the Git directory, with '/' at its end */
	const struct store_io *io;
	char full_path[4300];
	int full_result;
};

/* CRC-32C; of a megabyte of objects it should not take longer than the disk. */
#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_fast(const uint8_t *p, size_t size)
{
	uint64_t crc = UINT32_MAX;
	for (; size >= 8; p += 8, size -= 8)
		crc = __builtin_ia32_crc32di(crc, wh_load_le64(p));
	for (; size; p++, size--)
		crc = __builtin_ia32_crc32qi((uint32_t)crc, *p);
	return ~(uint32_t)crc;
}

static uint32_t checksum(const uint8_t *p, size_t size)
{
	return __builtin_cpu_supports("sse4.2") ? crc_fast(p, size) : wh_crc32c(0, p, size);
}
#else
static uint32_t checksum(const uint8_t *p, size_t size)
{
	return wh_crc32c(0, p, size);
}
#endif

static void slot_path(const struct wh_store *s, unsigned slot, char *to, size_t max)
{
	snprintf(to, max, "%swherry/journal-%u", s->path, slot);
}

static int header_write(const struct store_io *io, int fd, const char *path, uint64_t generation,
			const char *boot)
{
	uint8_t h[56];
	memcpy(h, MAGIC, 8);
	wh_store_le64(h + 8, generation);
	memcpy(h + 16, boot, 36);
	wh_store_le32(h + 52, wh_crc32c(0, h, 52));
	int r = io->pwrite(io->ctx, fd, path, h, sizeof h, 0);
	return r < 0 ? r : io->datasync(io->ctx, fd, path);
}

static bool header_read(int fd, uint64_t *ret_generation, char ret_boot[37])
{
	uint8_t h[56];
	if (pread(fd, h, sizeof h, 0) != sizeof h || memcmp(h, MAGIC, 8) ||
	    wh_load_le32(h + 52) != wh_crc32c(0, h, 52))
		return false;
	*ret_generation = wh_load_le64(h + 8);
	memcpy(ret_boot, h + 16, 36);
	ret_boot[36] = 0;
	return true;
}

/* The record at `at`: malloc'd payload and its size, 0 = none, -errno. */
static int64_t record_read(int fd, uint64_t at, uint64_t generation, uint64_t *ret_time,
			   uint8_t **ret_data)
{
	uint8_t head[RECORD_HEAD];
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	if (pread(fd, head, sizeof head, (off_t)at) != sizeof head)
		return 0;
	uint32_t size = wh_load_le32(head);
	if (size < RECORD_HEAD + 8 || at + size > (uint64_t)st.st_size ||
	    wh_load_le64(head + 8) != generation)
		return 0;
	uint8_t *p = malloc(size);
	if (!p)
		return -WH_ENOMEM;
	if (pread(fd, p, size, (off_t)at) != (ssize_t)size ||
	    wh_load_le32(p + 4) != checksum(p + 8, size - 8)) {
		free(p);
		return 0;
	}
	*ret_time = wh_load_le64(p + 16);
	*ret_data = p;
	return size;
}

/* ---- recovery ---- */

struct step {
	uint64_t time;
	uint8_t old_id[ID_SIZE], new_id[ID_SIZE];
	char name[WH_STORE_BRANCH_SIZE_MAX + 1];
};

struct steps {
	struct step *step;
	size_t count, room;
};

static int step_add(struct steps *s, uint64_t time, const uint8_t *ref, uint8_t name_size)
{
	if (s->count == s->room) {
		struct step *more = realloc(s->step, (s->room = s->room * 2 + 64) * sizeof *more);
		if (!more)
			return -WH_ENOMEM;
		s->step = more;
	}
	struct step *t = &s->step[s->count++];
	t->time = time;
	memcpy(t->name, ref + 1, name_size);
	t->name[name_size] = 0;
	memcpy(t->old_id, ref + 1 + name_size, ID_SIZE);
	memcpy(t->new_id, ref + 1 + name_size + ID_SIZE, ID_SIZE);
	return 0;
}

static int replay_object(void *ctx, git_object_t type, const uint8_t *name, const uint8_t *data,
			 uint32_t size)
{
	struct wh_store *s = ctx;
	git_oid id, check;
	memcpy(id.id, name, ID_SIZE);
	object_hash(type, data, size, &check);
	if (!oid_eq(&id, &check))
		return -WH_EBADMSG;
	if (object_is_whole(s, &id))
		return 0;
	return object_write_loose(s, &id, type, data, size, false);
}

static int pack_object(void *ctx, git_object_t type, const uint8_t *name, const uint8_t *data,
		       uint32_t size)
{
	return pack_add(ctx, type, name, data, size);
}

static int record_each(const uint8_t *p, uint64_t size, uint64_t time, struct steps *steps,
		       int (*object)(void *ctx, git_object_t type, const uint8_t *id,
				     const uint8_t *data, uint32_t size),
		       void *ctx)
{
	const uint8_t *end = p + size;
	uint32_t refs = wh_load_le32(p + RECORD_HEAD), objects = wh_load_le32(p + RECORD_HEAD + 4);
	p += RECORD_HEAD + 8;
	for (uint32_t i = 0; i < refs; i++) {
		if (end - p < 1 || end - p < 1 + p[0] + 40 || p[0] > WH_STORE_BRANCH_SIZE_MAX)
			return -WH_EBADMSG;
		int r = step_add(steps, time, p, p[0]);
		if (r < 0)
			return r;
		p += 1 + p[0] + 40;
	}
	for (uint32_t i = 0; i < objects; i++) {
		uint32_t n = end - p < 25 ? UINT32_MAX : wh_load_le32(p + 21);
		if (n == UINT32_MAX || (uint64_t)(end - p) < 25ull + n ||
		    p[0] < GIT_OBJECT_COMMIT || p[0] > GIT_OBJECT_TAG)
			return -WH_EBADMSG;
		int r = object(ctx, (git_object_t)p[0], p + 1, p + 25, n);
		if (r < 0)
			return r;
		p += 25 + n;
	}
	return p == end ? 0 : -WH_EBADMSG;
}

static int compare_steps(const void *a, const void *b)
{
	const struct step *x = a, *y = b;
	int r = strcmp(x->name, y->name);
	return r ? r : x->time < y->time ? -1 : x->time > y->time;
}

static int whole_change(void *ctx, char change, const char *path, const struct wh_store_entry *o,
			const struct wh_store_entry *n)
{
	git_oid id;
	if (change == '-' || n->mode == WH_STORE_SUBMODULE)
		return 0;
	id = oid_of(&n->id);
	bool whole =
		n->mode == WH_STORE_LARGE ? large_is_whole(ctx, &id) : object_is_whole(ctx, &id);
	return whole ? 0 : -WH_EIO;
}

/* Is all there that a commit brought since another, which is whole? */
static bool is_whole_since(struct wh_store *s, const git_oid *commit, const git_oid *since)
{
	git_revwalk *walk = NULL;
	git_oid at, tree, old_tree = { { 0 } };
	bool whole = object_is_whole(s, commit) && !git_revwalk_new(&walk, s->repo) &&
		     !git_revwalk_push(walk, commit);
	if (whole && !oid_is_zero(since) && object_is_whole(s, since)) {
		whole = !git_revwalk_hide(walk, since) && commit_tree(s, since, &old_tree) >= 0;
	}
	for (int r = 0; whole && (r = git_revwalk_next(&at, walk)) != GIT_ITEROVER;) {
		struct wh_store_id a = id_of(&old_tree), b;
		whole = !r && object_is_whole(s, &at) && commit_tree(s, &at, &tree) >= 0;
		b = id_of(&tree);
		whole = whole && wh_store_diff(s, &a, &b, whole_change, s) == 0;
	}
	git_revwalk_free(walk);
	return whole;
}

/* `step` has all steps of one branch in order. */
static int replay_ref(struct wh_store *s, const struct step *step, size_t count)
{
	git_oid now, to;
	struct staged_ref *ref;
	bool known = false;
	int r = ref_stage(s, step->name, true, &ref, NULL);
	if (r < 0)
		return r;
	now = ref->old_id;
	for (size_t i = 0; i < count; i++)
		if (!memcmp(now.id, step[i].old_id, ID_SIZE) ||
		    !memcmp(now.id, step[i].new_id, ID_SIZE))
			known = true;
	memcpy(to.id, step[count - 1].new_id, ID_SIZE);
	/* A value that names nothing is what a power cut leaves of a file; one whose objects are not all there, what it
	 * leaves of a lazy commit. */
	if (!known && !oid_is_zero(&now) && is_whole_since(s, &now, &to)) {
		ref_unstage(s, ref);
		return 0;
	}
	if (oid_eq(&now, &to) || (!oid_is_zero(&to) && !object_is_whole(s, &to))) {
		ref_unstage(s, ref);
		return 0;
	}
	ref->new_id = to;
	r = ref_publish(s, ref);
	ref_unstage(s, ref);
	return r;
}

static int replay(struct wh_store *s, int fd, uint64_t generation, struct steps *steps)
{
	uint64_t at = HEADER_SIZE, time;
	uint8_t *p;
	for (int64_t n; (n = record_read(fd, at, generation, &time, &p)) != 0; at += (uint64_t)n) {
		if (n < 0)
			return (int)n;
		int r = record_each(p, (uint64_t)n, time, steps, replay_object, s);
		free(p);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Loose files that the machine's end left empty: no object is, and `git fsck` would complain of them for ever. */
static void remove_empty_objects(struct wh_store *s)
{
	char path[4700];
	struct stat st;
	for (unsigned i = 0; i < 256; i++) {
		snprintf(path, sizeof path, "%sobjects/%02x", s->path, i);
		DIR *d = opendir(path);
		for (struct dirent *e; d && (e = readdir(d));) {
			snprintf(path, sizeof path, "%sobjects/%02x/%s", s->path, i, e->d_name);
			if (e->d_name[0] != '.' && !stat(path, &st) && S_ISREG(st.st_mode) &&
			    !st.st_size)
				(void)s->io->unlink(s->io->ctx, path);
		}
		if (d)
			closedir(d);
	}
}

/* Journals of former boots that nobody holds. */
static int recover(struct wh_store *s, const char *boot, struct wh_diag *diag)
{
	char path[4300], old[37];
	int fds[SLOTS_MAX], r = 0;
	unsigned count = 0;
	struct steps steps = { 0 };
	uint64_t generation;
	for (unsigned slot = 0; slot < SLOTS_MAX && r >= 0; slot++) {
		slot_path(s, slot, path, sizeof path);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			break;
		if (flock(fd, LOCK_EX | LOCK_NB) || !header_read(fd, &generation, old) ||
		    !strcmp(old, boot)) {
			close(fd);
			continue;
		}
		fds[count++] = fd;
		r = replay(s, fd, generation, &steps);
	}
	if (steps.count)
		qsort(steps.step, steps.count, sizeof *steps.step, compare_steps);
	for (size_t i = 0, n; i < steps.count && r >= 0; i += n) {
		for (n = 1;
		     i + n < steps.count && wh_streq(steps.step[i].name, steps.step[i + n].name);)
			n++;
		r = replay_ref(s, &steps.step[i], n);
	}
	free(steps.step);
	if (count && r >= 0) {
		remove_empty_objects(s);
		r = s->io->syncfs(s->io->ctx, s->dir);
	}
	for (unsigned i = 0; i < count; i++) {
		if (r >= 0 && header_read(fds[i], &generation, old))
			r = header_write(s->io, fds[i], path, generation + 1, boot);
		close(fds[i]);
	}
	return r < 0 ? wh_diag_set(diag, r, "the journal in %swherry cannot be replayed: %s",
				   s->path, strerror(-r))
		     : 0;
}

/* ---- slots ---- */

static int slot_make(struct wh_store *s, int fd, const char *path, uint64_t from)
{
	static const uint8_t zeros[65536];
	char folder[4300];
	int r = 0;
	/* Written, not only reserved: the first write to a reserved block changes metadata, and each sync would
	 * wait for that. */
	for (uint64_t at = from; at < s->journal->size && r >= 0; at += sizeof zeros)
		r = s->io->pwrite(s->io->ctx, fd, path, zeros, sizeof zeros, at);
	if (r >= 0)
		r = s->io->datasync(s->io->ctx, fd, path);
	snprintf(folder, sizeof folder, "%swherry", s->path);
	if (r >= 0)
		r = s->io->sync_path(s->io->ctx, folder, true);
	return r < 0 ? r : s->io->sync_path(s->io->ctx, s->path, true);
}

/* Takes a journal that nobody holds, or makes one. */
static int slot_take(struct wh_store *s)
{
	struct journal *j = s->journal;
	char path[4300], boot[37];
	for (unsigned slot = 0; slot < SLOTS_MAX; slot++) {
		struct stat st;
		slot_path(s, slot, path, sizeof path);
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r = 0;
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) || fstat(fd, &st)) {
			close(fd);
			continue;
		}
		bool known = header_read(fd, &j->generation, boot);
		if (!known) {
			r = slot_make(s, fd, path, 0);
			wh_os_random(&j->generation, sizeof j->generation);
			if (r >= 0)
				r = header_write(s->io, fd, path, j->generation, j->boot);
		} else if (strcmp(boot, j->boot)) { /* of a boot that could not be replayed here */
			close(fd);
			continue;
		} else if ((uint64_t)st.st_size < j->size) { /* what is in it stays */
			r = slot_make(s, fd, path, (uint64_t)st.st_size);
		}
		if (r < 0) {
			close(fd);
			return r;
		}
		j->size = (uint64_t)st.st_size > j->size ? (uint64_t)st.st_size : j->size;
		j->fd = fd;
		j->slot = slot;
		memcpy(j->path, path, sizeof path);
		j->at = HEADER_SIZE;
		uint8_t *p;
		for (int64_t n; (n = record_read(fd, j->at, j->generation, &j->time_ns, &p)) > 0;) {
			free(p);
			j->at += (uint64_t)n;
		}
		return 0;
	}
	return -WH_EMFILE;
}

/* A branch's file and the folders that lead to it; or, without a file, where it was packed or removed. */
static int sync_branch(const struct journal *j, const char *name)
{
	char path[4300];
	size_t root = strlen(j->root);
	snprintf(path, sizeof path, "%srefs/heads/%s", j->root, name);
	int r = j->io->sync_path(j->io->ctx, path, false);
	if (r == -WH_ENOENT || r == -WH_ENOTDIR) {
		char packed[4300];
		snprintf(packed, sizeof packed, "%spacked-refs", j->root);
		r = j->io->sync_path(j->io->ctx, packed, false);
		if (r == -WH_ENOENT)
			r = 0;
	}
	for (char *slash; r >= 0 && (slash = strrchr(path, '/')) > path + root;) {
		*slash = 0;
		r = j->io->sync_path(j->io->ctx, path, true);
		if (r == -WH_ENOENT || r == -WH_ENOTDIR)
			r = 0; /* its removal is in the folder above */
	}
	return r < 0 ? r : j->io->sync_path(j->io->ctx, j->root, true);
}

static int sync_branches(const struct journal *j, struct steps *steps)
{
	int r = 0;
	if (steps->count)
		qsort(steps->step, steps->count, sizeof *steps->step, compare_steps);
	for (size_t i = 0; i < steps->count && r >= 0; i++)
		if (!i || !wh_streq(steps->step[i].name, steps->step[i - 1].name))
			r = sync_branch(j, steps->step[i].name);
	return r;
}

/* All that is in a full journal gets to the disk without it. */
static int settle(struct journal *j, uint64_t generation)
{
	char objects[4300];
	uint64_t at = HEADER_SIZE, time;
	uint8_t *p;
	int r = 0;
	struct steps steps = { 0 };
	struct pack *pack = pack_new();
	snprintf(objects, sizeof objects, "%sobjects/", j->root);
	if (!pack)
		return -WH_ENOMEM;
	for (int64_t n; r >= 0 && (n = record_read(j->full_fd, at, generation, &time, &p)) != 0;
	     at += (uint64_t)n) {
		r = n < 0 ? (int)n : record_each(p, (uint64_t)n, time, &steps, pack_object, pack);
		if (n > 0)
			free(p);
	}
	if (r >= 0)
		r = pack_write(pack, j->io, objects);
	if (r >= 0) {
		pack_remove_loose(pack, j->io, objects);
		r = sync_branches(j, &steps);
	}
	pack_free(pack);
	free(steps.step);
	return r;
}

static void *empty_full(void *ctx)
{
	struct journal *j = ctx;
	uint64_t generation;
	char boot[37];
	if (header_read(j->full_fd, &generation, boot)) {
		j->full_result = settle(j, generation);
		if (j->full_result < 0)
			j->full_result = j->io->syncfs(j->io->ctx, j->dir);
		if (j->full_result >= 0)
			j->full_result =
				header_write(j->io, j->full_fd, j->full_path, generation + 1, boot);
	}
	close(j->full_fd);
	return NULL;
}

static void wait_full(struct journal *j)
{
	if (j->thread_runs)
		pthread_join(j->thread, NULL);
	j->thread_runs = false;
}

/* The journal has no room left: take another. */
static int turn(struct wh_store *s)
{
	struct journal *j = s->journal;
	wait_full(j);
	int r = j->unsynced ? s->io->datasync(s->io->ctx, j->fd, j->path) : 0;
	if (r < 0)
		return r;
	j->unsynced = false;
	j->full_fd = j->fd;
	slot_path(s, j->slot, j->full_path, sizeof j->full_path);
	j->fd = -1;
	s->stats.checkpoints++;
	/* Who fills one will fill more: fewer and larger packs. */
	if (!s->config.journal_size && j->size < GROWN_SIZE)
		j->size *= 2;
	r = slot_take(s); /* before the other's lock goes: never the same one */
	if (r < 0) {
		j->fd = j->full_fd;
		return r;
	}
	j->thread_runs = j->io->threads && !pthread_create(&j->thread, NULL, empty_full, j);
	if (!j->thread_runs)
		(void)empty_full(j);
	return 0;
}

int journal_open(struct wh_store *s, struct wh_diag *diag)
{
	char path[4300];
	struct journal *j = calloc(1, sizeof *j);
	if (!j)
		return -WH_ENOMEM;
	s->journal = j;
	j->fd = -1;
	pthread_mutex_init(&j->mutex, NULL);
	pthread_cond_init(&j->changed, NULL);
	j->io = s->io;
	j->dir = s->dir;
	j->root = s->path;
	j->size = s->config.journal_size ? s->config.journal_size : DEFAULT_SIZE;
	const char *boot_file = getenv("WHERRY_STORE_BOOT_ID"); /* for tests of recovery */
	if (boot_file)
		snprintf(j->boot, sizeof j->boot, "%-36s", boot_file);
	else if (wh_os_read_text("/proc/sys/kernel/random/boot_id", j->boot, sizeof j->boot) != 36)
		return wh_diag_set(diag, -WH_EIO, "/proc/sys/kernel/random/boot_id cannot be read");
	snprintf(path, sizeof path, "%swherry", s->path);
	if (mkdir(path, 0777) && errno != EEXIST)
		return wh_diag_set(diag, -errno, "%s cannot be made: %s", path, strerror(errno));
	snprintf(path, sizeof path, "%swherry/recovery", s->path);
	int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0)
		return wh_diag_set(diag, -errno, "%s cannot be opened: %s", path, strerror(errno));
	int r = flock(lock, LOCK_EX) ? -errno : recover(s, j->boot, diag);
	close(lock);
	return r;
}

void journal_close(struct wh_store *s)
{
	struct journal *j = s->journal;
	if (!j)
		return;
	(void)journal_wait(s);
	(void)journal_sync(s);
	if (j->syncer_runs) {
		pthread_mutex_lock(&j->mutex);
		j->sync_state = SYNC_END;
		pthread_cond_broadcast(&j->changed);
		pthread_mutex_unlock(&j->mutex);
		pthread_join(j->syncer, NULL);
	}
	pthread_mutex_destroy(&j->mutex);
	pthread_cond_destroy(&j->changed);
	wait_full(j);
	if (j->fd >= 0)
		close(j->fd);
	free(j);
	s->journal = NULL;
}

/* ---- syncing beside other work ---- */

static void *syncer(void *ctx)
{
	struct journal *j = ctx;
	pthread_mutex_lock(&j->mutex);
	for (;;) {
		while (j->sync_state == SYNC_IDLE || j->sync_state == SYNC_DONE)
			pthread_cond_wait(&j->changed, &j->mutex);
		if (j->sync_state == SYNC_END)
			break;
		int fd = j->fd; /* stays until journal_wait */
		pthread_mutex_unlock(&j->mutex);
		int r = j->io->datasync(j->io->ctx, fd, j->path);
		pthread_mutex_lock(&j->mutex);
		j->sync_result = r;
		j->sync_state = SYNC_DONE;
		pthread_cond_broadcast(&j->changed);
	}
	pthread_mutex_unlock(&j->mutex);
	return NULL;
}

static void sync_begin(struct wh_store *s)
{
	struct journal *j = s->journal;
	s->stats.syncs++;
	j->sync_waits = true;
	/* With nothing else to do, another thread would only be a detour. */
	if (!j->io->threads || wh_list_empty(&s->staged))
		return;
	if (!j->syncer_runs)
		j->syncer_runs = !pthread_create(&j->syncer, NULL, syncer, j);
	if (!j->syncer_runs)
		return;
	pthread_mutex_lock(&j->mutex);
	j->sync_state = SYNC_WANTED;
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->mutex);
}

int journal_wait(struct wh_store *s)
{
	struct journal *j = s->journal;
	int r;
	if (!j->sync_waits)
		return 0;
	pthread_mutex_lock(&j->mutex);
	if (j->sync_state == SYNC_IDLE) {
		r = j->io->datasync(j->io->ctx, j->fd, j->path);
	} else {
		while (j->sync_state == SYNC_WANTED)
			pthread_cond_wait(&j->changed, &j->mutex);
		r = j->sync_result;
		j->sync_state = SYNC_IDLE;
	}
	pthread_mutex_unlock(&j->mutex);
	j->sync_waits = false;
	j->unsynced = r < 0;
	return r;
}

uint64_t journal_generation(const struct wh_store *s)
{
	return s->journal->generation;
}

/* ---- writing ---- */

static uint8_t *put_refs(uint8_t *p, struct wh_store *s)
{
	WH_LIST_FOR_EACH(n, &s->staged_refs) {
		struct staged_ref *r = WH_LIST_ENTRY(n, struct staged_ref, order);
		size_t size = strlen(r->name);
		*p++ = (uint8_t)size;
		memcpy(p, r->name, size);
		memcpy(p + size, r->old_id.id, ID_SIZE);
		memcpy(p + size + ID_SIZE, r->new_id.id, ID_SIZE);
		p += size + 40;
	}
	return p;
}

/* A lazy commit's branch may get to the disk before its record and its objects do. Then replay must find what the branch
 * was: in each generation the first record of a branch is synced, whatever was asked for. */
static bool first_of_branch(struct wh_store *s, bool mark)
{
	struct journal *j = s->journal;
	bool first = false;
	WH_LIST_FOR_EACH(n, &s->staged_refs) {
		struct staged_ref *r = WH_LIST_ENTRY(n, struct staged_ref, order);
		struct known_branch *k =
			&j->known[wh_crc32c(0, r->name, strlen(r->name)) % KNOWN_BRANCHES];
		first |= k->generation != j->generation || !wh_streq(k->name, r->name);
		if (mark) {
			k->generation = j->generation;
			memcpy(k->name, r->name, sizeof k->name);
		}
	}
	return first;
}

static int append(struct wh_store *s, uint8_t *record, size_t size, bool sync, bool hint)
{
	struct journal *j = s->journal;
	int r = 0;
	if (j->fd < 0)
		r = slot_take(s);
	if (r >= 0 && j->at + size + RECORD_HEAD > j->size)
		r = turn(s);
	if (r < 0)
		return r;
	uint64_t now = wh_os_wall_clock();
	j->time_ns = now > j->time_ns ? now : j->time_ns + 1;
	wh_store_le32(record, (uint32_t)size);
	wh_store_le64(record + 8, j->generation);
	wh_store_le64(record + 16, j->time_ns);
	wh_store_le32(record + 4, checksum(record + 8, size - 8));
	r = s->io->pwrite(s->io->ctx, j->fd, j->path, record, size, j->at);
	if (r < 0)
		return r;
	j->unsynced = true;
	if (sync || (!hint && first_of_branch(s, false))) {
		if (!hint)
			(void)first_of_branch(s, true);
		sync_begin(s);
	}
	j->at += size;
	s->stats.journal_bytes += size;
	return 0;
}

static void sizes(const struct wh_store *s, size_t *ret_refs, size_t *ret_all, uint32_t *ret_count)
{
	size_t size = RECORD_HEAD + 8;
	*ret_count = 0;
	WH_LIST_FOR_EACH(n, &s->staged_refs) {
		size += 41 + strlen(WH_LIST_ENTRY(n, struct staged_ref, order)->name);
		++*ret_count;
	}
	*ret_refs = size;
	WH_LIST_FOR_EACH(n, &s->staged) {
		struct staged *o = WH_LIST_ENTRY(n, struct staged, order);
		if (o->size <= JOURNAL_OBJECT_MAX)
			size += 25 + o->size;
	}
	*ret_all = size;
}

bool journal_is_full_of(const struct wh_store *s)
{
	size_t refs, all;
	uint32_t count;
	sizes(s, &refs, &all, &count);
	return s->need_syncfs || all > s->journal->size - HEADER_SIZE - 2 * RECORD_HEAD;
}

int journal_append(struct wh_store *s, bool sync)
{
	size_t refs_size, size;
	uint32_t refs, objects = 0;
	sizes(s, &refs_size, &size, &refs);
	bool big = journal_is_full_of(s);
	if (big) { /* the objects are there as files: make those durable, then note the refs only */
		int r = s->io->syncfs(s->io->ctx, s->dir);
		if (r < 0)
			return r;
		size = refs_size;
	}
	uint8_t *record = malloc(size);
	if (!record)
		return -WH_ENOMEM;
	uint8_t *p = put_refs(record + RECORD_HEAD + 8, s);
	if (!big) {
		WH_LIST_FOR_EACH(n, &s->staged) {
			struct staged *o = WH_LIST_ENTRY(n, struct staged, order);
			if (o->size > JOURNAL_OBJECT_MAX)
				continue;
			*p = (uint8_t)o->type;
			memcpy(p + 1, o->id.id, ID_SIZE);
			wh_store_le32(p + 21, (uint32_t)o->size);
			memcpy(p + 25, o->data, o->size);
			p += 25 + o->size;
			objects++;
		}
	}
	wh_assert(p == record + size);
	wh_store_le32(record + RECORD_HEAD, refs);
	wh_store_le32(record + RECORD_HEAD + 4, objects);
	int r = append(s, record, size, sync, false);
	free(record);
	return r;
}

void journal_note_ref(struct wh_store *s, const char *branch, const git_oid *id)
{
	uint8_t record[RECORD_HEAD + 8 + 41 + WH_STORE_BRANCH_SIZE_MAX];
	size_t size = strlen(branch);
	if (s->journal->fd < 0)
		return; /* nothing of ours could be replayed over it */
	uint8_t *p = record + RECORD_HEAD + 8;
	wh_store_le32(record + RECORD_HEAD, 1);
	wh_store_le32(record + RECORD_HEAD + 4, 0);
	*p++ = (uint8_t)size;
	memcpy(p, branch, size);
	memcpy(p + size, id->id, ID_SIZE);
	memcpy(p + size + ID_SIZE, id->id, ID_SIZE);
	(void)append(s, record, RECORD_HEAD + 8 + 41 + size, false,
		     true); /* a hint; the next sync takes it along */
}

void journal_take_back(struct wh_store *s)
{
	/* The record may be on the disk already. */
	WH_LIST_FOR_EACH(n, &s->staged_refs) {
		struct staged_ref *r = WH_LIST_ENTRY(n, struct staged_ref, order);
		journal_note_ref(s, r->name, &r->old_id);
	}
	(void)journal_sync(
		s); /* when this fails as well, all that is left is the error that is being told */
}

int journal_sync(struct wh_store *s)
{
	struct journal *j = s->journal;
	if (!j->unsynced || j->fd < 0)
		return 0;
	int r = s->io->datasync(s->io->ctx, j->fd, j->path);
	s->stats.syncs++;
	j->unsynced = r < 0;
	return r;
}
