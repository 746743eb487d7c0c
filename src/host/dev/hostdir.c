/* SPDX-License-Identifier: ISC */
/*
 * A folder of the host as 9P files.
 *
 * Confinement. A fid holds an O_PATH descriptor of its file; all else starts from there. Names have one
 * component, are never "..", and are opened with O_NOFOLLOW (and RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
 * where the kernel knows it), so a step leads to a child of the folder that the fid is, or fails. A
 * symbolic link is a file with text in it here: the guest follows it in its own tree. Whoever
 * moves folders about on the host meanwhile cannot give the guest a way up.
 *
 * A file is opened for reading or writing through /proc/self/fd/N of its O_PATH descriptor, which
 * is that very file, after a look that it is a regular file or a folder: devices, pipes and sockets
 * are never opened.
 *
 * Everything is done as the user who runs the machine; his files look like root's in the guest. Set-user-id
 * bits are not set for a guest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/dev_9p.h>

#define DIRENTS_SIZE 8192u
#define DIRENT_SIZE_MAX 280u /* struct linux_dirent64 with a name of 255 bytes */
#define MODE_MASK 01777u
#define OPEN_MASK (O_ACCMODE | O_TRUNC | O_APPEND | O_SYNC | O_DSYNC)

struct wh_p9_hostdir {
	int root;
	bool no_openat2;
	uid_t uid;
	gid_t gid;
	char link[WH_P9_PATH_SIZE_MAX + 1]; /* of the readlink being answered */
};

struct node {
	int path;    /* O_PATH, or the same as io for a file that was created */
	int io;      /* -1 = not open */
	uint64_t at; /* offset of io in a folder */
};

/* struct linux_dirent64 of getdents64(2) */
struct dirent64_head {
	uint64_t ino;
	int64_t off;
	uint16_t size;
	uint8_t type;
	char name[];
};

static struct node *node_of(const struct wh_p9_fid *f)
{
	return f->node;
}

static struct node *node_new(int path)
{
	struct node *n = malloc(sizeof *n);
	if (n)
		*n = (struct node){ .path = path, .io = -1 };
	return n;
}

/* The wire's names are not terminated. */
struct name {
	char text[WH_P9_NAME_SIZE_MAX + 1];
};

static struct name name_of(struct wh_p9_str s)
{
	struct name n;
	wh_assert(s.size < sizeof n.text);
	memcpy(n.text, s.text, s.size);
	n.text[s.size] = 0;
	return n;
}

struct proc_path {
	char text[32];
};

static struct proc_path proc_path(int fd)
{
	struct proc_path p;
	wh_format(p.text, sizeof p.text, "/proc/self/fd/%d", fd);
	return p;
}

static struct wh_p9_qid qid_of(const struct stat *st)
{
	uint64_t time = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
	uint8_t type = S_ISDIR(st->st_mode)   ? WH_P9_QID_DIR
		       : S_ISLNK(st->st_mode) ? WH_P9_QID_SYMLINK
					      : WH_P9_QID_FILE;
	/* The folder may span file systems: device numbers keep their inodes apart. */
	return (struct wh_p9_qid){ .path = st->st_ino ^ (uint64_t)st->st_dev << 40,
				   .version = (uint32_t)(time ^ time >> 32),
				   .type = type };
}

static int qid_at(int fd, struct wh_p9_qid *ret_qid)
{
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	*ret_qid = qid_of(&st);
	return 0;
}

/* ---- steps ---- */

static int open_beneath(struct wh_p9_hostdir *d, int folder, const char *name, int flags,
			mode_t mode)
{
	flags |= O_NOFOLLOW | O_CLOEXEC;
	if (!d->no_openat2) {
		struct open_how how = { .flags = (uint64_t)flags,
					.mode = mode,
					.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
						   RESOLVE_NO_MAGICLINKS };
		long fd = syscall(SYS_openat2, folder, name, &how, sizeof how);
		if (fd >= 0)
			return (int)fd;
		if (errno != ENOSYS && errno != EPERM)
			return -errno;
		d->no_openat2 = errno == ENOSYS;
	}
	int fd = openat(folder, name, flags, mode);
	return fd < 0 ? -errno : fd;
}

static int hostdir_attach(void *ctx, struct wh_p9_request *q)
{
	struct wh_p9_hostdir *d = ctx;
	int fd = fcntl(d->root, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	int r = qid_at(fd, &q->r.qid);
	q->fid->node = r < 0 ? NULL : node_new(fd);
	if (!q->fid->node)
		close(fd);
	return r < 0 ? r : q->fid->node ? 0 : -WH_ENOMEM;
}

static int hostdir_walk(void *ctx, struct wh_p9_request *q)
{
	struct wh_p9_hostdir *d = ctx;
	int fd = fcntl(node_of(q->fid)->path, F_DUPFD_CLOEXEC, 3), r = fd < 0 ? -errno : 0;
	uint16_t i = 0;
	for (; r >= 0 && i < q->t.name_count; i++) {
		struct name name = name_of(q->t.names[i]);
		int next = wh_streq(name.text, "..") ? -WH_EACCES
						     : open_beneath(d, fd, name.text, O_PATH, 0);
		close(fd);
		fd = next;
		r = next < 0 ? next : qid_at(next, &q->r.qids[i]);
		if (r < 0)
			break;
	}
	q->r.name_count = i;
	if (r >= 0) {
		q->fid2->node = node_new(fd);
		if (q->fid2->node)
			return 0;
		r = -WH_ENOMEM;
	}
	if (fd >= 0)
		close(fd);
	return i ? 0 : r; /* some steps were good: that is the answer */
}

static void hostdir_clunk(void *ctx, struct wh_p9_fid *f)
{
	struct node *n = f->node;
	if (n->io >= 0 && n->io != n->path)
		close(n->io);
	close(n->path);
	free(n);
}

/* ---- files ---- */

/* Opens the very file behind an O_PATH descriptor. */
static int reopen(int path, int flags)
{
	struct stat st;
	if (fstat(path, &st))
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -WH_ELOOP;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -WH_EPERM;
	if (S_ISDIR(st.st_mode))
		flags = O_RDONLY | O_DIRECTORY;
	int fd = open(proc_path(path).text, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

static int hostdir_open(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	if (q->fid->qid.type & WH_P9_QID_DIR && q->t.flags & (O_ACCMODE | O_TRUNC))
		return -WH_EISDIR;
	if (q->t.flags & O_DIRECTORY && !(q->fid->qid.type & WH_P9_QID_DIR))
		return -WH_ENOTDIR;
	int fd = reopen(n->path, (int)(q->t.flags & OPEN_MASK));
	if (fd < 0)
		return fd;
	n->io = fd;
	n->at = 0;
	return qid_at(fd, &q->r.qid);
}

static int hostdir_create(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	struct name name = name_of(q->t.name);
	struct stat st;
	int flags = (int)(q->t.flags & (OPEN_MASK | O_EXCL)) | O_CREAT | O_NONBLOCK | O_NOCTTY;
	/* O_TRUNC would hit the file before it is known to be a regular one: done below. */
	int fd = open_beneath(ctx, n->path, name.text, flags & ~O_TRUNC, q->t.mode & MODE_MASK);
	if (fd < 0)
		return fd;
	int r = fstat(fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : -WH_EPERM;
	if (r >= 0 && flags & O_TRUNC && st.st_size && ftruncate(fd, 0))
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	q->r.qid = qid_of(&st);
	close(n->path);
	n->path = n->io = fd;
	return 0;
}

static int hostdir_read(void *ctx, struct wh_p9_request *q)
{
	ssize_t n = preadv(node_of(q->fid)->io, (const struct iovec *)q->payload,
			   (int)q->payload_count, (off_t)q->t.offset);
	if (n < 0)
		return -errno;
	q->r.count = (uint32_t)n;
	return 0;
}

static int hostdir_write(void *ctx, struct wh_p9_request *q)
{
	ssize_t n = pwritev(node_of(q->fid)->io, (const struct iovec *)q->payload,
			    (int)q->payload_count, (off_t)q->t.offset);
	if (n < 0)
		return -errno;
	q->r.count = (uint32_t)n;
	return 0;
}

/* Gives entries from a getdents64 buffer until the answer is full (false). */
static bool give_entries(struct wh_p9_request *q, const uint8_t *buffer, long size)
{
	struct node *n = node_of(q->fid);
	for (long at = 0; at < size;) {
		struct dirent64_head e;
		memcpy(&e, buffer + at, sizeof e);
		const char *name = (const char *)buffer + at + offsetof(struct dirent64_head, name);
		uint8_t type = e.type == DT_DIR   ? WH_P9_QID_DIR
			       : e.type == DT_LNK ? WH_P9_QID_SYMLINK
						  : WH_P9_QID_FILE;
		struct wh_p9_dirent entry = { .qid = { .path = e.ino, .type = type },
					      .offset = (uint64_t)e.off,
					      .type = e.type,
					      .name = wh_p9_str(name, strlen(name)) };
		if (!wh_p9_request_dirent(q, &entry))
			return false;
		n->at = (uint64_t)e.off;
		at += e.size;
	}
	return true;
}

static int hostdir_readdir(void *ctx, struct wh_p9_request *q)
{
	struct node *n = node_of(q->fid);
	_Alignas(8) uint8_t buffer[DIRENTS_SIZE];
	if (q->t.offset != n->at && lseek(n->io, (off_t)q->t.offset, SEEK_SET) < 0)
		return -errno;
	n->at = q->t.offset;
	for (;;) {
		/* No more than fits: some file systems lose entries when one seeks back while others are
		 * removed (tmpfs before Linux 6.6). A 9P entry is at most 7/6 of a dirent64 (4 letters). */
		size_t room = (size_t)(q->payload_size - q->r.count) / 7 * 6;
		if (room < DIRENT_SIZE_MAX && q->r.count)
			return 0;
		if (room > sizeof buffer || room < DIRENT_SIZE_MAX)
			room = sizeof buffer;
		long size = syscall(SYS_getdents64, n->io, buffer, room);
		if (size < 0)
			return q->r.count ? 0 : -errno;
		if (!size)
			return 0;
		if (give_entries(q, buffer, size))
			continue;
		/* The descriptor is further than what was given. */
		if (lseek(n->io, (off_t)n->at, SEEK_SET) < 0)
			return -errno;
		return q->r.count ? 0 : -WH_EINVAL;
	}
}

static int hostdir_fsync(void *ctx, struct wh_p9_request *q)
{
	int fd = node_of(q->fid)->io;
	return (q->t.flags ? fdatasync(fd) : fsync(fd)) ? -errno : 0;
}

/* ---- attributes ---- */

static int hostdir_getattr(void *ctx, struct wh_p9_request *q)
{
	const struct wh_p9_hostdir *d = ctx;
	struct stat st;
	if (fstat(node_of(q->fid)->path, &st))
		return -errno;
	q->r.attr = (struct wh_p9_attr){ .valid = WH_P9_GETATTR_BASIC,
					 .qid = qid_of(&st),
					 .mode = st.st_mode,
					 .uid = st.st_uid == d->uid ? 0 : st.st_uid,
					 .gid = st.st_gid == d->gid ? 0 : st.st_gid,
					 .nlink = st.st_nlink,
					 .rdev = st.st_rdev,
					 .size = (uint64_t)st.st_size,
					 .block_size = (uint64_t)st.st_blksize,
					 .blocks = (uint64_t)st.st_blocks,
					 .atime_s = (uint64_t)st.st_atim.tv_sec,
					 .atime_ns = (uint64_t)st.st_atim.tv_nsec,
					 .mtime_s = (uint64_t)st.st_mtim.tv_sec,
					 .mtime_ns = (uint64_t)st.st_mtim.tv_nsec,
					 .ctime_s = (uint64_t)st.st_ctim.tv_sec,
					 .ctime_ns = (uint64_t)st.st_ctim.tv_nsec };
	return 0;
}

static struct timespec new_time(uint32_t valid, uint32_t bit, uint32_t bit_set, uint64_t s,
				uint64_t ns)
{
	struct timespec t = { .tv_nsec = UTIME_OMIT };
	if (valid & bit)
		t.tv_nsec = UTIME_NOW;
	if (valid & bit && valid & bit_set)
		t = (struct timespec){ .tv_sec = (time_t)s, .tv_nsec = (long)ns };
	return t;
}

static int resize(struct node *n, uint64_t size, uint32_t open_flags)
{
	if (n->io >= 0 && open_flags & O_ACCMODE)
		return ftruncate(n->io, (off_t)size) ? -errno : 0;
	int fd = reopen(n->path, O_WRONLY);
	if (fd < 0)
		return fd;
	int r = ftruncate(fd, (off_t)size) ? -errno : 0;
	close(fd);
	return r;
}

static int hostdir_setattr(void *ctx, struct wh_p9_request *q)
{
	const struct wh_p9_setattr *a = &q->t.setattr;
	struct node *n = node_of(q->fid);
	uint32_t times = WH_P9_SETATTR_ATIME | WH_P9_SETATTR_MTIME;
	uint32_t needs_path = WH_P9_SETATTR_MODE | WH_P9_SETATTR_SIZE | times;
	struct stat st;
	if (fstat(n->path, &st))
		return -errno;
	if (a->valid & WH_P9_SETATTR_UID && a->uid && a->uid != st.st_uid)
		return -WH_EPERM;
	if (a->valid & WH_P9_SETATTR_GID && a->gid && a->gid != st.st_gid)
		return -WH_EPERM;
	if (a->valid & times && (a->atime_ns > 999999999 || a->mtime_ns > 999999999))
		return -WH_EINVAL;
	if (a->valid & WH_P9_SETATTR_SIZE && a->size > INT64_MAX)
		return -WH_EFBIG;
	if (!(a->valid & needs_path))
		return 0;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) /* /proc would follow links */
		return -WH_EOPNOTSUPP;
	struct proc_path path = proc_path(n->path);
	if (a->valid & WH_P9_SETATTR_MODE && chmod(path.text, a->mode & MODE_MASK))
		return -errno;
	if (a->valid & WH_P9_SETATTR_SIZE) {
		int r = S_ISDIR(st.st_mode) ? -WH_EISDIR : resize(n, a->size, q->fid->open_flags);
		if (r < 0)
			return r;
	}
	struct timespec t[2] = { new_time(a->valid, WH_P9_SETATTR_ATIME, WH_P9_SETATTR_ATIME_SET,
					  a->atime_s, a->atime_ns),
				 new_time(a->valid, WH_P9_SETATTR_MTIME, WH_P9_SETATTR_MTIME_SET,
					  a->mtime_s, a->mtime_ns) };
	return a->valid & times && utimensat(AT_FDCWD, path.text, t, 0) ? -errno : 0;
}

static int hostdir_statfs(void *ctx, struct wh_p9_request *q)
{
	struct statfs st;
	if (fstatfs(node_of(q->fid)->path, &st))
		return -errno;
	q->r.statfs = (struct wh_p9_statfs){ .type = (uint32_t)st.f_type,
					     .block_size = (uint32_t)st.f_bsize,
					     .blocks = st.f_blocks,
					     .blocks_free = st.f_bfree,
					     .blocks_available = st.f_bavail,
					     .files = st.f_files,
					     .files_free = st.f_ffree,
					     .name_size_max = WH_P9_NAME_SIZE_MAX };
	return 0;
}

static int hostdir_readlink(void *ctx, struct wh_p9_request *q)
{
	struct wh_p9_hostdir *d = ctx;
	ssize_t n = readlinkat(node_of(q->fid)->path, "", d->link, sizeof d->link);
	if (n < 0)
		return errno == ENOENT ? -WH_EINVAL : -errno; /* "" on a file that is no link */
	if (n == sizeof d->link)
		return -WH_ENAMETOOLONG;
	q->r.name = wh_p9_str(d->link, (size_t)n);
	return 0;
}

/* ---- names ---- */

/* The qid of what was just made. */
static int qid_of_name(void *ctx, struct wh_p9_request *q, const char *name)
{
	int fd = open_beneath(ctx, node_of(q->fid)->path, name, O_PATH, 0);
	if (fd < 0)
		return fd;
	int r = qid_at(fd, &q->r.qid);
	close(fd);
	return r;
}

static int hostdir_mkdir(void *ctx, struct wh_p9_request *q)
{
	struct name name = name_of(q->t.name);
	if (mkdirat(node_of(q->fid)->path, name.text, q->t.mode & MODE_MASK))
		return -errno;
	return qid_of_name(ctx, q, name.text);
}

/* Only regular files: a guest has no use for the host's devices and pipes. */
static int hostdir_mknod(void *ctx, struct wh_p9_request *q)
{
	struct name name = name_of(q->t.name);
	if (!S_ISREG(q->t.mode))
		return -WH_EPERM;
	int fd = open_beneath(ctx, node_of(q->fid)->path, name.text, O_CREAT | O_EXCL | O_WRONLY,
			      q->t.mode & MODE_MASK);
	if (fd < 0)
		return fd;
	int r = qid_at(fd, &q->r.qid);
	close(fd);
	return r;
}

static int hostdir_symlink(void *ctx, struct wh_p9_request *q)
{
	struct name name = name_of(q->t.name);
	char target[WH_P9_PATH_SIZE_MAX + 1];
	memcpy(target, q->t.name2.text, q->t.name2.size);
	target[q->t.name2.size] = 0;
	if (symlinkat(target, node_of(q->fid)->path, name.text))
		return -errno;
	return qid_of_name(ctx, q, name.text);
}

static int hostdir_link(void *ctx, struct wh_p9_request *q)
{
	struct name name = name_of(q->t.name);
	if (q->fid2->qid.type != WH_P9_QID_FILE) /* /proc would follow a symbolic link */
		return -WH_EPERM;
	if (linkat(AT_FDCWD, proc_path(node_of(q->fid2)->path).text, node_of(q->fid)->path,
		   name.text, AT_SYMLINK_FOLLOW))
		return -errno;
	return 0;
}

static int hostdir_renameat(void *ctx, struct wh_p9_request *q)
{
	struct name from = name_of(q->t.name), to = name_of(q->t.name2);
	if (renameat(node_of(q->fid)->path, from.text, node_of(q->fid2)->path, to.text))
		return -errno;
	return 0;
}

static int hostdir_unlinkat(void *ctx, struct wh_p9_request *q)
{
	struct name name = name_of(q->t.name);
	if (q->t.flags & ~(uint32_t)AT_REMOVEDIR)
		return -WH_EINVAL;
	return unlinkat(node_of(q->fid)->path, name.text, (int)q->t.flags) ? -errno : 0;
}

/* Not here: rename and remove by fid (a descriptor does not know its name; clients use renameat and
 * unlinkat), extended attributes, locks (the client keeps its own). */
const struct wh_p9_fs_ops wh_p9_hostdir_ops = { .attach = hostdir_attach,
						.walk = hostdir_walk,
						.open = hostdir_open,
						.create = hostdir_create,
						.read = hostdir_read,
						.write = hostdir_write,
						.readdir = hostdir_readdir,
						.getattr = hostdir_getattr,
						.setattr = hostdir_setattr,
						.statfs = hostdir_statfs,
						.readlink = hostdir_readlink,
						.symlink = hostdir_symlink,
						.mknod = hostdir_mknod,
						.mkdir = hostdir_mkdir,
						.link = hostdir_link,
						.renameat = hostdir_renameat,
						.unlinkat = hostdir_unlinkat,
						.fsync = hostdir_fsync,
						.clunk = hostdir_clunk };

int wh_p9_hostdir_open(const char *path, struct wh_p9_hostdir **ret_dir, struct wh_diag *diag)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return wh_diag_set(diag, -errno, "%s: %s", path,
				   errno == ENOENT    ? "no such folder"
				   : errno == ENOTDIR ? "not a folder"
				   : errno == EACCES  ? "no permission"
						      : "cannot be opened");
	struct wh_p9_hostdir *d = calloc(1, sizeof *d);
	if (!d || faccessat(fd, ".", R_OK | X_OK, 0)) {
		int r = d ? -errno : -WH_ENOMEM;
		close(fd);
		free(d);
		return wh_diag_set(diag, r, "%s: %s", path,
				   r == -WH_EACCES ? "no permission to read it" : "no memory");
	}
	d->root = fd;
	d->uid = geteuid();
	d->gid = getegid();
	*ret_dir = d;
	return 0;
}

void wh_p9_hostdir_close(struct wh_p9_hostdir *dir)
{
	if (!dir)
		return;
	close(dir->root);
	free(dir);
}
