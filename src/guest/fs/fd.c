/* SPDX-License-Identifier: ISC */

/*
 * The descriptor table: an array of files and two bitmaps (in use, close on
 * exec). It starts inside .bss, so that a program with few descriptors
 * allocates nothing, and doubles up to FS_FDS_MAX.
 */

#include <fs/console.h>
#include <fs/file.h>
#include <fs/linux.h>
#include <kern/mem.h>
#include <kern/observe.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#define FIRST 64u /* slots in .bss; a power of two, at least 64 */

static struct fs_file *first_file[FIRST];
static uint64_t first_bits[2 * FIRST / 64];

static struct {
	uint32_t count; /* slots */
	struct fs_file **file;
	uint64_t *used; /* count / 64 words, then as many of cloexec */
} fds = { FIRST, first_file, first_bits };

static uint64_t *cloexec_word(int fd)
{
	return &fds.used[fds.count / 64 + (uint32_t)fd / 64];
}

static uint64_t bit_of(int fd)
{
	return 1ull << ((uint32_t)fd % 64);
}

static size_t table_size(uint32_t count)
{
	return count * sizeof(struct fs_file *) + count / 64 * 2 * sizeof(uint64_t);
}

static int grow(uint32_t needed)
{
	uint32_t count = fds.count, words = fds.count / 64;
	while (count < needed)
		count *= 2;
	struct fs_file **file = kern_alloc_zero(table_size(count));
	if (!file)
		return -WH_ENOMEM;
	uint64_t *used = (uint64_t *)(file + count);
	memcpy(file, fds.file, fds.count * sizeof *file);
	memcpy(used, fds.used, words * sizeof *used);
	memcpy(used + count / 64, fds.used + words, words * sizeof *used);
	if (fds.file != first_file)
		kern_free(fds.file, table_size(fds.count));
	fds.file = file;
	fds.used = used;
	fds.count = count;
	return 0;
}

struct fs_file *fs_fd_get(int fd)
{
	return (uint32_t)fd < fds.count ? fds.file[fd] : NULL;
}

static void put(struct fs_file *f, int fd, bool cloexec)
{
	fds.file[fd] = f;
	fds.used[fd / 64] |= bit_of(fd);
	if (cloexec)
		*cloexec_word(fd) |= bit_of(fd);
	else
		*cloexec_word(fd) &= ~bit_of(fd);
}

/* Lowest free number >= from; fds.count when all are taken. */
static uint32_t lowest_free(uint32_t from)
{
	for (uint32_t w = from / 64; w < fds.count / 64; w++) {
		uint64_t free_bits = ~fds.used[w];
		if (w == from / 64)
			free_bits &= ~0ull << (from % 64);
		if (free_bits)
			return w * 64 + (uint32_t)__builtin_ctzll(free_bits);
	}
	return from > fds.count ? from : fds.count;
}

int fs_fd_install(struct fs_file *f, int lowest, bool cloexec)
{
	wh_assert(f && lowest >= 0);
	uint32_t fd = lowest_free((uint32_t)lowest);
	if (fd >= FS_FDS_MAX)
		return -WH_EMFILE;
	if (fd >= fds.count) {
		int r = grow(fd + 1);
		if (r < 0)
			return r;
	}
	wh_assert(!fds.file[fd]);
	put(f, (int)fd, cloexec);
	return (int)fd;
}

int fs_fd_close(int fd)
{
	struct fs_file *f = fs_fd_get(fd);
	if (!f)
		return -WH_EBADF;
	fds.file[fd] = NULL;
	fds.used[fd / 64] &= ~bit_of(fd);
	fs_file_unref(f);
	return 0;
}

int fs_fd_replace(struct fs_file *f, int fd, bool cloexec)
{
	if ((uint32_t)fd >= FS_FDS_MAX)
		return -WH_EBADF;
	if ((uint32_t)fd >= fds.count) {
		int r = grow((uint32_t)fd + 1);
		if (r < 0)
			return r;
	}
	struct fs_file *old = fds.file[fd];
	put(f, fd, cloexec);
	if (old)
		fs_file_unref(old);
	return fd;
}

bool fs_fd_cloexec(int fd)
{
	return fs_fd_get(fd) && (*cloexec_word(fd) & bit_of(fd));
}

void fs_fd_set_cloexec(int fd, bool cloexec)
{
	if (fs_fd_get(fd))
		put(fds.file[fd], fd, cloexec);
}

int fs_fd_next(int fd)
{
	for (uint32_t i = fd < 0 ? 0 : (uint32_t)fd; i < fds.count; i++) {
		if (!(i % 64) && !fds.used[i / 64]) {
			i += 63;
			continue;
		}
		if (fds.file[i])
			return (int)i;
	}
	return -1;
}

/* fs/vfs.c; there when the program uses paths. */
__attribute__((weak)) int fs_root_init(void);

/* fs/vfs.c as well */
__attribute__((weak)) int fs_node_path(struct fs_node *n, char *to, uint32_t size);

static void tell(void)
{
	static const char *const kinds[] = { "file",  "pipe",   "socket",  "event", "timer",
					     "epoll", "signal", "console", "device" };
	char path[128];
	for (int fd = fs_fd_next(0); fd >= 0; fd = fs_fd_next(fd + 1)) {
		struct fs_file *f = fds.file[fd];
		kern_observe_put("fd %d kind=%s flags=%x ready=%x", fd, kinds[f->ops->kind],
				 f->flags, f->ops->poll ? f->ops->poll(f) : 0);
		if (f->ops->seekable)
			kern_observe_put(" position=%llu", (unsigned long long)f->position);
		if (f->ops->tell)
			f->ops->tell(f);
		if (f->node && fs_node_path && fs_node_path(f->node, path, sizeof path) >= 0)
			kern_observe_put(" path=%s", path);
		kern_observe_put("\n");
	}
}

int fs_init(void)
{
	static struct kern_observer observer = { .tell = tell };
	kern_observer_add(&observer);
	for (int fd = 0; fd < 3; fd++) {
		int r = fs_fd_install(fs_console_file(fd), fd, false);
		if (r < 0)
			return r;
	}
	return fs_root_init ? fs_root_init() : 0;
}
