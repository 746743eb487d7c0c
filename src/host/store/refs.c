/* SPDX-License-Identifier: ISC */
/*
 * Branches by Git's own protocol: whoever made `refs/heads/NAME.lock` may change NAME.
 *
 * Our locks are links of one file for each open store, `wherry/lock-PID-N`, on which it holds a flock(2). So a lock is
 * made in one step, and one that a killed process left is known for what it is: a file of ours that nobody holds. The new
 * value is written to a file in `wherry/` that then changes names with the branch's while the lock is there.
 *
 * The file that was the branch's is kept as its spare and written again at the next commit: making, allocating and freeing a
 * file took a third of a commit. Three things must hold before it is written:
 *   - nobody reads it. A reader may have opened it while it was the branch's; a write lease is given only when nobody has
 *     it open, and holds off who comes late until the value is whole.
 *   - it has no other name (a copy of the repository made of hard links).
 *   - what is in it is a value that the present journal knows for this branch. After a power cut the disk may still have the
 *     old content under the branch's name; replay then goes on from there. So a spare ends with the journal's generation.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store_priv.h"

#define VALUE_SIZE 41u /* hash and newline */
#define LOCK_TEXT "wherry-lock\n"

bool wh_store_branch_valid(const char *name)
{
	size_t n = wh_strnlen(name, WH_STORE_BRANCH_SIZE_MAX + 1);
	if (!n || n > WH_STORE_BRANCH_SIZE_MAX || name[0] == '-' || name[0] == '/' ||
	    name[n - 1] == '/' || name[n - 1] == '.')
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = name[i];
		bool start = !i || name[i - 1] == '/';
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_' || c == '.' || c == '/'))
			return false;
		if ((c == '.' && (start || name[i - 1] == '.')) || (c == '/' && start))
			return false;
		if (c == '.' && !strncmp(name + i, ".lock", 5) &&
		    (!name[i + 5] || name[i + 5] == '/'))
			return false;
	}
	return true;
}

static void ref_path(const struct wh_store *s, const char *branch, const char *suffix, char *to,
		     size_t max)
{
	snprintf(to, max, "%srefs/heads/%s%s", s->path, branch, suffix);
}

/* 0, -WH_ENOENT, -WH_EINVAL: not a plain value. */
static int read_loose(const struct wh_store *s, const char *branch, git_oid *ret_id)
{
	char path[4300], text[64];
	ref_path(s, branch, "", path, sizeof path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -WH_ENOENT : -errno;
	ssize_t n = read(fd, text, sizeof text - 1);
	int r = n >= 0 ? 0 : errno == EISDIR ? -WH_ENOENT : -errno;
	close(fd);
	if (n < 0)
		return r;
	text[n] = 0;
	if (n < 40 || git_oid_fromstrn(ret_id, text, 40))
		return -WH_EINVAL;
	return 0;
}

static int read_disk(struct wh_store *s, const char *branch, git_oid *ret_id)
{
	char name[WH_STORE_BRANCH_SIZE_MAX + 16];
	int r = read_loose(s, branch, ret_id);
	if (r >= 0)
		return 0;
	if (r != -WH_ENOENT && r != -WH_EINVAL)
		return r;
	snprintf(name, sizeof name, "refs/heads/%s", branch);
	r = git_reference_name_to_id(ret_id, s->repo, name);
	return !r ? 0 : r == GIT_ENOTFOUND || r == GIT_EINVALIDSPEC ? -WH_ENOENT : -WH_EIO;
}

struct staged_ref *ref_staged(struct wh_store *s, const char *branch)
{
	WH_LIST_FOR_EACH(n, &s->staged_refs) {
		struct staged_ref *r = WH_LIST_ENTRY(n, struct staged_ref, order);
		if (wh_streq(r->name, branch))
			return r;
	}
	return NULL;
}

int ref_read(struct wh_store *s, const char *branch, git_oid *ret_id)
{
	if (!wh_store_branch_valid(branch))
		return -WH_EINVAL;
	/* What is staged is not there yet for anybody. */
	return read_disk(s, branch, ret_id);
}

/* ---- locks ---- */

/* A power cut may have taken the text of a lock. It still is a link of one of ours. */
static bool is_link_of_ours(const struct wh_store *s, const struct stat *st)
{
	char path[4700];
	struct stat there;
	bool same = false;
	snprintf(path, sizeof path, "%swherry", s->path);
	DIR *d = opendir(path);
	for (struct dirent *e; d && !same && (e = readdir(d));) {
		snprintf(path, sizeof path, "%swherry/%s", s->path, e->d_name);
		same = !strncmp(e->d_name, "lock-", 5) && !stat(path, &there) &&
		       there.st_ino == st->st_ino && there.st_dev == st->st_dev;
	}
	if (d)
		closedir(d);
	return same;
}

/* Is the open file one of ours whose process ended? Then we hold its flock until it is closed. */
static bool is_left(const struct wh_store *s, int fd)
{
	char text[sizeof LOCK_TEXT];
	struct stat st;
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	bool ours = n == sizeof text - 1 ? !memcmp(text, LOCK_TEXT, sizeof text - 1)
					 : !n && !fstat(fd, &st) && is_link_of_ours(s, &st);
	return ours && !flock(fd, LOCK_EX | LOCK_NB);
}

/* A lock whose maker is dead is taken away. */
static bool break_stale(struct wh_store *s, const char *path)
{
	struct stat mine, there;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT;
	/* Another may have broken it meanwhile, and the name may be a new lock. */
	bool gone = is_left(s, fd) && !fstat(fd, &mine) && !stat(path, &there) &&
		    mine.st_ino == there.st_ino && s->io->unlink(s->io->ctx, path) >= 0;
	close(fd);
	return gone;
}

/* The file whose links our locks are. */
static int lock_file(struct wh_store *s)
{
	static unsigned counter;
	char path[4300];
	struct stat st;
	if (s->lock_fd >= 0 && !stat(s->lock_path, &st))
		return 0;
	ref_close(s);
	for (int try = 0; try < 100; try++) {
		snprintf(path, sizeof path, "%swherry/lock-%d-%u", s->path, (int)getpid(),
			 __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED));
		int fd = s->io->open_new(s->io->ctx, path, O_RDWR);
		if (fd == -WH_EEXIST)
			continue;
		if (fd < 0)
			return fd;
		int r = s->io->pwrite(s->io->ctx, fd, path, LOCK_TEXT, sizeof LOCK_TEXT - 1, 0);
		if (r >= 0 && flock(fd, LOCK_EX | LOCK_NB))
			r = -errno; /* somebody thinks that it is left over, and will remove it */
		s->lock_path = strdup(path);
		s->value_path = malloc(strlen(path) + 8);
		if (r >= 0 && s->lock_path && s->value_path) {
			sprintf(s->value_path, "%s.value", path);
			s->lock_fd = fd;
			return 0;
		}
		close(fd);
		(void)s->io->unlink(s->io->ctx, path);
		ref_close(s);
	}
	return -WH_EBUSY;
}

static void values_remove(struct wh_store *s, const char *value_path)
{
	char path[4700];
	for (unsigned i = 0; i < SPARES; i++) {
		snprintf(path, sizeof path, "%s%u", value_path, i);
		(void)s->io->unlink(s->io->ctx, path);
	}
}

void ref_close(struct wh_store *s)
{
	if (s->lock_fd >= 0) {
		values_remove(s, s->value_path);
		memset(s->spare, 0, sizeof s->spare);
		(void)s->io->unlink(s->io->ctx, s->lock_path);
		close(s->lock_fd);
		s->lock_fd = -1;
	}
	free(s->lock_path);
	free(s->value_path);
	s->lock_path = s->value_path = NULL;
}

static void make_parents(const char *path)
{
	char dir[4300];
	for (const char *p = strstr(path, "refs/heads/"); p && (p = strchr(p, '/')); p++) {
		snprintf(dir, sizeof dir, "%.*s", (int)(p - path), path);
		(void)mkdir(dir, 0777); /* whether it is there shows at the open */
	}
}

static int lock_take(struct wh_store *s, const char *path, struct wh_diag *diag)
{
	int r = lock_file(s);
	if (r < 0)
		return wh_diag_set(diag, r, "%swherry cannot be written: %s", s->path,
				   strerror(-r));
	for (unsigned ms = 0; ms <= LOCK_WAIT_MS; ms++) {
		r = s->io->link(s->io->ctx, s->lock_path, path);
		if (r == -WH_ENOENT || r == -WH_ENOTDIR) {
			make_parents(path);
			r = lock_file(s);
			if (r >= 0)
				r = s->io->link(s->io->ctx, s->lock_path, path);
		}
		if (r != -WH_EEXIST)
			break;
		if (break_stale(s, path))
			continue;
		struct timespec t = { 0, 1000000 };
		nanosleep(&t, NULL);
	}
	if (r == -WH_EEXIST)
		return wh_diag_set(diag, -WH_EBUSY, "another program holds %s", path);
	return r < 0 ? wh_diag_set(diag, r, "%s cannot be made: %s", path, strerror(-r)) : 0;
}

int ref_stage(struct wh_store *s, const char *branch, bool recovering, struct staged_ref **ret_ref,
	      struct wh_diag *diag)
{
	char path[4300];
	struct staged_ref *r = ref_staged(s, branch);
	if (r) {
		*ret_ref = r;
		return 0;
	}
	if (!wh_store_branch_valid(branch))
		return wh_diag_set(diag, -WH_EINVAL, "%s is no name of a branch", branch);
	ref_path(s, branch, ".lock", path, sizeof path);
	int taken = lock_take(s, path, diag);
	if (taken < 0)
		return taken;
	r = calloc(1, sizeof *r);
	int error = r ? read_loose(s, branch, &r->old_id) : -WH_ENOMEM;
	if (r)
		r->loose = error >= 0;
	if (r && error < 0)
		error = read_disk(s, branch, &r->old_id);
	if (error == -WH_ENOENT)
		error = 0;
	if (error == -WH_EIO &&
	    recovering) { /* what a power cut leaves of a value; replay knows better */
		memset(&r->old_id, 0, sizeof r->old_id);
		error = 0;
	}
	if (error < 0) {
		(void)s->io->unlink(s->io->ctx, path);
		free(r);
		return wh_diag_set(diag, error, "branch %s cannot be read", branch);
	}
	r->new_id = r->old_id;
	r->locked = true;
	snprintf(r->name, sizeof r->name, "%s", branch);
	wh_list_push_back(&s->staged_refs, &r->order);
	*ret_ref = r;
	return 0;
}

void ref_unstage(struct wh_store *s, struct staged_ref *r)
{
	char path[4300];
	ref_path(s, r->name, ".lock", path, sizeof path);
	if (r->locked)
		(void)s->io->unlink(s->io->ctx, path);
	wh_list_remove(&r->order);
	free(r);
}

/* A folder may be in the way that held branches once. */
static int remove_empty(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return type == FTW_DP ? rmdir(path) : -1;
}

static int delete_ref(struct wh_store *s, struct staged_ref *r)
{
	char path[4300], name[WH_STORE_BRANCH_SIZE_MAX + 16];
	git_reference *ref = NULL;
	git_oid now;
	ref_path(s, r->name, "", path, sizeof path);
	/* The packed value first, or it would come to light. libgit2 takes the lock itself. */
	ref_path(s, r->name, ".lock", path, sizeof path);
	r->locked = false;
	(void)s->io->unlink(s->io->ctx, path);
	snprintf(name, sizeof name, "refs/heads/%s", r->name);
	int error = git_reference_lookup(&ref, s->repo, name);
	if (error == GIT_ENOTFOUND)
		return 0;
	if (error)
		return -WH_EIO;
	if (git_reference_type(ref) != GIT_REFERENCE_DIRECT ||
	    (now = *git_reference_target(ref), !oid_eq(&now, &r->old_id)))
		error = -WH_EAGAIN;
	else
		error = git_reference_delete(ref) ? -WH_EIO : 0;
	git_reference_free(ref);
	return error;
}

/* ---- values ---- */

static struct spare *spare_of(struct wh_store *s, const char *branch, char *ret_path, size_t max)
{
	uint32_t h = 2166136261u;
	for (const char *p = branch; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	snprintf(ret_path, max, "%s%u", s->value_path, h % SPARES);
	return &s->spare[h % SPARES];
}

/* The new value into the spare, if that may be. */
static int spare_write(struct wh_store *s, const char *path, const char *text)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC), r = -WH_EBUSY;
	if (fd < 0)
		return -errno;
	/* Who comes late is announced by a signal that nobody minds, instead of one that kills. */
	if (!fstat(fd, &st) && st.st_nlink == 1 && st.st_size == VALUE_SIZE &&
	    !fcntl(fd, F_SETSIG, SIGURG) && !fcntl(fd, F_SETLEASE, F_WRLCK))
		r = s->io->pwrite(s->io->ctx, fd, path, text, VALUE_SIZE, 0);
	close(fd); /* and the lease ends */
	return r;
}

static int value_write(struct wh_store *s, const char *path, const char *text)
{
	int fd = s->io->open_new(s->io->ctx, path, O_WRONLY);
	if (fd == -WH_EEXIST) { /* of another branch, or of a rename that failed */
		(void)s->io->unlink(s->io->ctx, path);
		fd = s->io->open_new(s->io->ctx, path, O_WRONLY);
	}
	if (fd < 0)
		return fd;
	int r = s->io->pwrite(s->io->ctx, fd, path, text, VALUE_SIZE, 0);
	close(fd);
	return r;
}

int ref_publish(struct wh_store *s, struct staged_ref *r)
{
	char path[4300], value[4400], text[VALUE_SIZE + 1];
	if (oid_is_zero(&r->new_id))
		return delete_ref(s, r);
	struct spare *spare = spare_of(s, r->name, value, sizeof value);
	uint64_t generation = journal_generation(s);
	ref_path(s, r->name, "", path, sizeof path);
	git_oid_tostr(text, sizeof text, &r->new_id);
	text[40] = '\n';
	bool usable =
		spare->there && spare->generation == generation && wh_streq(spare->name, r->name);
	spare->there = false;
	int error = usable ? spare_write(s, value, text) : -WH_ENOENT;
	if (error < 0)
		error = value_write(s, value, text);
	if (error < 0)
		return error;
	if (r->loose && s->io->exchange(s->io->ctx, value, path) >= 0) {
		spare->there = true;
		spare->generation = generation;
		memcpy(spare->name, r->name, sizeof spare->name);
		return 0;
	}
	error = s->io->rename(s->io->ctx, value, path);
	if (error == -WH_EISDIR || error == -WH_ENOTEMPTY) {
		(void)nftw(path, remove_empty, 16, FTW_DEPTH | FTW_PHYS);
		error = s->io->rename(s->io->ctx, value, path);
	}
	return error; /* ref_unstage gives the lock back */
}

/* ---- after a crash ---- */

static struct wh_store *sweep_store; /* nftw has no argument; only during wh_store_open */
static pthread_mutex_t sweep_mutex = PTHREAD_MUTEX_INITIALIZER;

static int sweep(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	size_t n = strlen(path);
	if (type == FTW_F && n > 5 && !strcmp(path + n - 5, ".lock"))
		(void)break_stale(sweep_store, path);
	return 0;
}

/* Files of processes that ended without clearing up. */
static void remove_left(struct wh_store *s)
{
	char path[4700];
	snprintf(path, sizeof path, "%swherry", s->path);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (strncmp(e->d_name, "lock-", 5))
			continue;
		snprintf(path, sizeof path, "%swherry/%s", s->path, e->d_name);
		bool value = strstr(e->d_name, ".value") != NULL;
		if (value) /* removed with its lock file */
			continue;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (is_left(s, fd)) {
			(void)s->io->unlink(s->io->ctx, path);
			strncat(path, ".value", sizeof path - strlen(path) - 1);
			values_remove(s, path);
		}
		close(fd);
	}
	if (d)
		closedir(d);
}

void ref_recover_locks(struct wh_store *s)
{
	char path[4300];
	snprintf(path, sizeof path, "%srefs/heads", s->path);
	pthread_mutex_lock(&sweep_mutex);
	sweep_store = s;
	(void)nftw(path, sweep, 16, FTW_PHYS);
	pthread_mutex_unlock(&sweep_mutex);
	remove_left(s); /* behind the locks, which are known by it */
}

/* ---- public ---- */

int wh_store_branch_head(struct wh_store *s, const char *branch, struct wh_store_id *ret_id)
{
	git_oid id;
	int r = ref_read(s, branch, &id);
	if (r >= 0)
		*ret_id = id_of(&id);
	return r;
}

struct branch_list {
	char **name;
	git_oid *id;
	size_t count, room;
};

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_branches(struct wh_store *s, char ***ret_names, size_t *ret_count)
{
	git_reference_iterator *it = NULL;
	const char *name;
	char **names = NULL;
	size_t count = 0, room = 0;
	if (git_reference_iterator_glob_new(&it, s->repo, "refs/heads/*"))
		return -WH_EIO;
	int r = 0;
	while (r >= 0 && !git_reference_next_name(&name, it)) {
		if (!wh_store_branch_valid(name + 11))
			continue;
		if (count == room) {
			char **more = realloc(names, (room = room * 2 + 16) * sizeof *names);
			if (!more) {
				r = -WH_ENOMEM;
				break;
			}
			names = more;
		}
		names[count] = strdup(name + 11);
		r = names[count] ? 0 : -WH_ENOMEM;
		count += r >= 0;
	}
	git_reference_iterator_free(it);
	if (count)
		qsort(names, count, sizeof *names, compare_names);
	*ret_names = names;
	*ret_count = count;
	return r;
}

int wh_store_branch_each(struct wh_store *s,
			 int (*fn)(void *ctx, const char *branch, const struct wh_store_id *head),
			 void *ctx)
{
	char **names = NULL;
	size_t count = 0;
	int r = list_branches(s, &names, &count);
	for (size_t i = 0; i < count; i++) {
		git_oid id;
		if (r >= 0 && !(r > 0) && ref_read(s, names[i], &id) >= 0) {
			struct wh_store_id head = id_of(&id);
			r = fn(ctx, names[i], &head);
		}
		free(names[i]);
	}
	free(names);
	return r;
}

int wh_store_branch_set(struct wh_store *s, const char *branch, const struct wh_store_id *expected,
			const struct wh_store_id *to, struct wh_diag *diag)
{
	struct staged_ref *ref;
	git_oid want = { { 0 } }, zero = { { 0 } };
	int r = wh_store_flush(s, diag);
	if (r < 0)
		return r;
	if (to && wh_store_object_kind(s, to) != WH_STORE_OBJECT_COMMIT) {
		char hex[41];
		wh_store_id_format(to, hex);
		return wh_diag_set(diag, -WH_ENOENT, "there is no commit %s", hex);
	}
	r = ref_stage(s, branch, false, &ref, diag);
	if (r < 0)
		return r;
	if (expected)
		want = oid_of(expected);
	if (expected && !oid_eq(&want, &ref->old_id)) {
		ref_unstage(s, ref);
		return wh_diag_set(diag, -WH_EAGAIN, "branch %s has moved meanwhile", branch);
	}
	if (!to && oid_is_zero(&ref->old_id)) {
		ref_unstage(s, ref);
		return wh_diag_set(diag, -WH_ENOENT, "there is no branch %s", branch);
	}
	ref->new_id = to ? oid_of(to) : zero;
	return wh_store_flush(s, diag);
}

int wh_store_branch_forward(struct wh_store *s, const char *branch, const struct wh_store_id *to,
			    struct wh_diag *diag)
{
	struct wh_store_id head, zero = { { 0 } };
	for (;;) {
		int r = wh_store_branch_head(s, branch, &head);
		if (r < 0 && r != -WH_ENOENT)
			return r;
		bool none = r == -WH_ENOENT;
		if (!none) {
			r = wh_store_leads_to(s, &head, to);
			if (r < 0)
				return wh_diag_set(diag, r, "No such file or directory");
			if (!r)
				return wh_diag_set(diag, -WH_EPERM, "not-fast-forward");
		}
		r = wh_store_branch_set(s, branch, none ? &zero : &head, to, diag);
		if (r != -WH_EAGAIN)
			return r;
	}
}

int wh_store_branch_rename(struct wh_store *s, const char *from, const char *to,
			   struct wh_diag *diag)
{
	struct wh_store_id head, zero = { { 0 } };
	int r = wh_store_branch_head(s, from, &head);
	if (r < 0)
		return wh_diag_set(diag, r, "there is no branch %s", from);
	r = wh_store_branch_set(s, to, &zero, &head, diag);
	if (r == -WH_EAGAIN)
		return wh_diag_set(diag, -WH_EEXIST, "there is a branch %s already", to);
	if (r < 0)
		return r;
	r = wh_store_branch_set(s, from, &head, NULL, diag);
	if (r < 0)
		(void)wh_store_branch_set(s, to, &head, NULL, NULL); /* as it was */
	return r;
}
