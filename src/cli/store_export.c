/* SPDX-License-Identifier: ISC */
/*
 * wherry store export: a branch's files in an ordinary folder, and kept so while the branch moves. Each file is replaced as a
 * whole; what the branch does not have is removed only when an earlier export put it there.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/os.h>

#include "store.h"

struct exporter {
	struct wh_store *store;
	const char *folder;
	int error;
	char path[PATH_MAX];
};

/* Folders above the file, made one by one; a link on the way is not followed. */
static int parent_open(struct exporter *e, const char *path, const char **ret_name)
{
	char step[WH_STORE_NAME_SIZE_MAX + 1];
	int at = open(e->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t n; at >= 0 && path[n = strcspn(path, "/")]; path += n + 1) {
		if (n >= sizeof step)
			errno = ENAMETOOLONG;
		memcpy(step, path, n < sizeof step ? n : 0);
		step[n < sizeof step ? n : 0] = 0;
		if (mkdirat(at, step, 0777) && errno == EEXIST) {
			struct stat st;
			if (!fstatat(at, step, &st, AT_SYMLINK_NOFOLLOW) && !S_ISDIR(st.st_mode) &&
			    !unlinkat(at, step, 0))
				(void)mkdirat(at, step,
					      0777); /* whether it is there shows at the open */
		}
		int next = openat(at, step, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(at);
		at = next;
	}
	*ret_name = path;
	return at < 0 ? -errno : at;
}

static int put_large(struct exporter *e, int fd, const struct wh_store_id *id)
{
	static char piece[256u << 10];
	struct wh_store_file *f;
	int64_t n = wh_store_file_open(e->store, id, &f);
	if (n < 0)
		return (int)n;
	for (uint64_t at = 0; (n = wh_store_file_read(f, at, piece, sizeof piece)) > 0;
	     at += (uint64_t)n)
		if (wh_os_write_all(fd, piece, (size_t)n) < 0) {
			n = -WH_EIO;
			break;
		}
	wh_store_file_close(f);
	return n < 0 ? (int)n : 0;
}

static int put(struct exporter *e, const char *path, const struct wh_store_entry *entry)
{
	static const char temporary[] = ".wherry-export";
	const char *name;
	void *data = NULL;
	size_t size = 0;
	if (entry->mode == WH_STORE_SUBMODULE)
		return 0;
	int dir = parent_open(e, path, &name), fd = -1;
	if (dir < 0)
		return dir;
	bool large = entry->mode == WH_STORE_LARGE;
	int r = large ? 0 : wh_store_blob_read(e->store, &entry->id, &data, &size);
	(void)unlinkat(dir, temporary, 0);
	if (r >= 0 && entry->mode == WH_STORE_SYMLINK) {
		r = symlinkat(data, dir, temporary) ? -errno : 0;
	} else if (r >= 0) {
		fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			    entry->mode == WH_STORE_EXECUTABLE ? 0777 : 0666);
		r = fd < 0  ? -errno
		    : large ? put_large(e, fd, &entry->id)
			    : wh_os_write_all(fd, data, size);
		wh_os_close(&fd);
	}
	struct stat st;
	if (r >= 0 && !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode))
		(void)unlinkat(dir, name, AT_REMOVEDIR); /* emptied by the removals before */
	if (r >= 0 && renameat(dir, temporary, dir, name))
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir, temporary, 0);
	close(dir);
	free(data);
	return r;
}

static int take_away(struct exporter *e, const char *path)
{
	const char *name;
	int dir = parent_open(e, path, &name);
	if (dir < 0)
		return dir;
	int r = unlinkat(dir, name, 0) && errno != ENOENT ? -errno : 0;
	close(dir);
	/* folders that became empty go as well */
	snprintf(e->path, sizeof e->path, "%s/%s", e->folder, path);
	for (char *slash; (slash = strrchr(e->path, '/')) && slash > e->path + strlen(e->folder);) {
		*slash = 0;
		if (rmdir(e->path))
			break;
	}
	return r;
}

static int on_removed(void *ctx, char change, const char *path, const struct wh_store_entry *o,
		      const struct wh_store_entry *n)
{
	return change == '-' ? take_away(ctx, path) : 0;
}

static int on_put(void *ctx, char change, const char *path, const struct wh_store_entry *o,
		  const struct wh_store_entry *n)
{
	return change == '-' ? 0 : put(ctx, path, n);
}

/* From what the folder holds to the head. */
static int bring(struct exporter *e, const char *branch, struct wh_store_id *tree)
{
	struct wh_store_id head, now = { { 0 } };
	struct wh_store_commit c;
	int r = wh_store_branch_head(e->store, branch, &head);
	if (r >= 0)
		r = wh_store_commit_read(e->store, &head, &c);
	if (r >= 0) {
		now = c.tree;
		wh_store_commit_fini(&c);
	} else if (r != -WH_ENOENT) {
		return r;
	}
	r = wh_store_diff(e->store, tree, &now, on_removed, e);
	if (r >= 0)
		r = wh_store_diff(e->store, tree, &now, on_put, e);
	if (r >= 0)
		*tree = now;
	return r;
}

int store_export(struct store_arguments *a)
{
	struct exporter e = { .folder = a->operand[1] };
	struct wh_diag diag = { "" };
	struct wh_store_id tree = { { 0 } }, before;
	struct wh_store_config c = { .size = sizeof c, .path = a->repo, .watch = a->follow };
	int r = wh_store_open(&c, &e.store, &diag);
	if (r < 0)
		return store_failed(r, &diag, a->repo);
	if (mkdir(e.folder, 0777) && errno != EEXIST)
		r = -errno;
	if (r >= 0)
		r = bring(&e, a->branch, &tree);
	/* With --delete the folder is for the process that started this one, and goes with it. */
	pid_t pid = getppid();
	int parent = a->remove && pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (r >= 0 && a->follow && !(a->remove && (parent < 0 || getppid() != pid)))
		cli_print("exported");
	else if (r >= 0 && a->follow)
		r = -WH_ESRCH;
	while (r >= 0 && a->follow) {
		struct pollfd p[2] = { { .fd = wh_store_fd(e.store), .events = POLLIN },
				       { .fd = parent >= 0 ? parent : STDOUT_FILENO,
					 .events = parent >= 0 ? POLLIN : 0 } };
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			r = -errno;
		if (p[1].revents)
			break;
		(void)wh_store_poll(e.store);
		before = tree;
		if (r >= 0)
			r = bring(&e, a->branch, &tree);
		/* whoever has the folder removed at the end only waits for that */
		if (r >= 0 && !wh_store_id_equal(&before, &tree) && !a->remove)
			cli_print("exported");
	}
	if (parent >= 0)
		close(parent);
	if (a->follow && a->remove) {
		struct wh_store_id none = { { 0 } };
		(void)wh_store_diff(e.store, &tree, &none, on_removed, &e);
		(void)rmdir(e.folder);
	}
	wh_store_close(e.store);
	return r < 0 ? store_failed(r, NULL, e.folder) : CLI_OK;
}
