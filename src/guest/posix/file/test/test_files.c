/* SPDX-License-Identifier: ISC */

/* File calls on the root file system: paths, descriptors, /dev, /proc, the archive. */

#include <stdio.h>
#include <fs/file.h>
#include <fs/vfs.h>
#include <posix/file.h>
#include <wherry/abi/archive.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>
#include "../../../fs/test/fake_kern.h"

#define O_RDONLY LX_O_RDONLY
#define CREATE (LX_O_CREAT | LX_O_RDWR)

/* An archive: /etc/motd "hello", /www/index.html of 5000 bytes, /www/link -> index.html */
static struct {
	struct wh_archive_header header;
	struct wh_archive_entry entry[6];
	char names[64];
	char contents[6000];
} archive_image __attribute__((aligned(16)));

extern const uint8_t wh_archive_start[], wh_archive_end[];
__asm__(".globl wh_archive_start\n.set wh_archive_start, archive_image\n"
	".globl wh_archive_end\n.set wh_archive_end, archive_image + 6336\n");
_Static_assert(sizeof archive_image == 6336, "as in the assembly above");

static void archive_entry(int i, const char *name, uint32_t mode, uint64_t offset, uint64_t size)
{
	static uint32_t names_at;
	struct wh_archive_entry *e = &archive_image.entry[i];
	e->name_offset = (uint32_t)offsetof(__typeof__(archive_image), names) + names_at;
	e->name_size = (uint32_t)wh_strlen(name);
	memcpy(archive_image.names + names_at, name, e->name_size);
	names_at += e->name_size;
	e->mode = mode;
	e->offset = offset;
	e->size = size;
}

static void make_archive(void)
{
	uint64_t at = offsetof(__typeof__(archive_image), contents);
	archive_image.header = (struct wh_archive_header){ .magic = WH_ARCHIVE_MAGIC,
							   .size = sizeof archive_image,
							   .entry_count = 6,
							   .mtime = 1234 };
	archive_entry(0, "", LX_S_IFDIR | 0755, 1, 2);
	archive_entry(1, "etc", LX_S_IFDIR | 0755, 3, 1);
	archive_entry(2, "www", LX_S_IFDIR | 0755, 4, 2);
	archive_entry(3, "motd", LX_S_IFREG | 0644, at, 5);
	archive_entry(4, "index.html", LX_S_IFREG | 0444, at + 16, 5000);
	archive_entry(5, "link", LX_S_IFLNK | 0777, at + 5100, 10);
	memcpy(archive_image.contents, "hello", 5);
	memset(archive_image.contents + 16, 'x', 5000);
	memcpy(archive_image.contents + 5100, "index.html", 10);
}

static int put(const char *path, const char *text)
{
	int fd = (int)wh_sys_open(path, CREATE | LX_O_TRUNC, 0644);
	if (fd < 0)
		return fd;
	long n = wh_sys_write(fd, text, wh_strlen(text));
	wh_sys_close(fd);
	return (int)n;
}

static const char *get(const char *path)
{
	static char text[256];
	int fd = (int)wh_sys_open(path, O_RDONLY, 0);
	if (fd < 0)
		return NULL;
	long n = wh_sys_read(fd, text, sizeof text - 1);
	wh_sys_close(fd);
	text[n < 0 ? 0 : n] = 0;
	return text;
}

static const char *cwd(void)
{
	static char text[256];
	long n = wh_sys_getcwd(text, sizeof text);
	return n < 0 ? "(error)" : text;
}

static bool listed(const char *path, const char *name)
{
	uint8_t buffer[200]; /* a few entries at a time */
	bool found = false;
	int fd = (int)wh_sys_open(path, LX_O_DIRECTORY, 0);
	long n;
	CHECK(fd >= 0);
	while ((n = wh_sys_getdents64(fd, buffer, sizeof buffer)) > 0)
		for (long at = 0; at < n; at += buffer[at + 16] | buffer[at + 17] << 8)
			found |= wh_streq((char *)buffer + at + 19, name);
	CHECK_EQ(n, 0);
	wh_sys_close(fd);
	return found;
}

static void writes_and_reads(void)
{
	char text[8] = "";
	int fd = (int)wh_sys_open("/tmp/a", CREATE, 0600);
	CHECK_EQ(fd, 3);
	CHECK_EQ(wh_sys_write(fd, "hello", 5), 5);
	CHECK_EQ(wh_sys_lseek(fd, 1, LX_SEEK_SET), 1);
	CHECK_EQ(wh_sys_read(fd, text, sizeof text), 4);
	CHECK_STR(text, "ello");
	CHECK_EQ(wh_sys_read(fd, text, sizeof text), 0);
	CHECK_EQ(wh_sys_pread64(fd, text, 2, 3), 2);
	CHECK_EQ(wh_sys_lseek(fd, 0, LX_SEEK_CUR), 5);
	CHECK_EQ(wh_sys_lseek(fd, -6, LX_SEEK_END), -WH_EINVAL);
	CHECK_EQ(wh_sys_pwrite64(fd, "!", 1, 9000), 1);
	struct fs_stat st;
	CHECK_EQ(wh_sys_fstat(fd, &st), 0);
	CHECK_EQ(st.size, 9001);
	CHECK_EQ(st.mode, LX_S_IFREG | 0600);
	CHECK_EQ(wh_sys_ftruncate(fd, 3), 0);
	CHECK_EQ(wh_sys_ftruncate(fd, 5), 0);
	CHECK_EQ(wh_sys_pread64(fd, text, 8, 0), 5);
	CHECK_MEM(text, "hel\0\0", 5);
	CHECK_EQ(wh_sys_close(fd), 0);
	CHECK_EQ(wh_sys_close(fd), -WH_EBADF);
	CHECK_EQ(wh_sys_write(fd, "x", 1), -WH_EBADF);
	CHECK_EQ(wh_sys_unlink("/tmp/a"), 0);
	CHECK_EQ(wh_sys_stat("/tmp/a", &st), -WH_ENOENT);
}

static void append_goes_to_the_end(void)
{
	CHECK_EQ(put("/tmp/log", "one"), 3);
	int fd = (int)wh_sys_open("/tmp/log", LX_O_WRONLY | LX_O_APPEND, 0);
	CHECK_EQ(wh_sys_write(fd, "two", 3), 3);
	CHECK_EQ(wh_sys_lseek(fd, 0, LX_SEEK_SET), 0);
	CHECK_EQ(wh_sys_write(fd, "!", 1), 1);
	CHECK_EQ(wh_sys_lseek(fd, 0, LX_SEEK_CUR), 7);
	CHECK_EQ(wh_sys_read(fd, (char[1]){ 0 }, 1), -WH_EBADF);
	wh_sys_close(fd);
	CHECK_STR(get("/tmp/log"), "onetwo!");
	wh_sys_unlink("/tmp/log");
}

static void open_files_outlive_their_name(void)
{
	char text[4] = "";
	CHECK_EQ(put("/tmp/gone", "abc"), 3);
	int fd = (int)wh_sys_open("/tmp/gone", O_RDONLY, 0);
	CHECK_EQ(wh_sys_unlink("/tmp/gone"), 0);
	CHECK_EQ(wh_sys_read(fd, text, 3), 3);
	CHECK_STR(text, "abc");
	struct fs_stat st;
	CHECK_EQ(wh_sys_fstat(fd, &st), 0);
	CHECK_EQ(st.nlink, 0);
	wh_sys_close(fd);
}

static void walks_paths(void)
{
	struct fs_stat st;
	CHECK_EQ(wh_sys_mkdir("/w", 0755), 0);
	CHECK_EQ(wh_sys_mkdir("/w/d/", 0755), 0);
	CHECK_EQ(wh_sys_mkdir("/w/d", 0755), -WH_EEXIST);
	CHECK_EQ(wh_sys_mkdir("/w/x/y", 0755), -WH_ENOENT);
	CHECK_EQ(wh_sys_mkdir("/", 0755), -WH_EEXIST);
	CHECK_EQ(put("/w/f", "f"), 1);
	CHECK_EQ(wh_sys_stat("//w/.//d/../d/./../f", &st), 0);
	CHECK_EQ(wh_sys_stat("/w/f/", &st), -WH_ENOTDIR);
	CHECK_EQ(wh_sys_stat("/w/f/.", &st), -WH_ENOTDIR);
	CHECK_EQ(wh_sys_stat("/w/f/x", &st), -WH_ENOTDIR);
	CHECK_EQ(wh_sys_stat("", &st), -WH_ENOENT);
	CHECK_EQ(wh_sys_stat("/../..", &st), 0);
	CHECK_EQ(wh_sys_open("/w/f/x", CREATE, 0644), -WH_ENOTDIR);
	CHECK_EQ(wh_sys_open("/w/new/", CREATE, 0644), -WH_EISDIR);
	CHECK_EQ(wh_sys_open("/w/d", LX_O_WRONLY, 0), -WH_EISDIR);
	CHECK_EQ(wh_sys_open("/w/f", LX_O_DIRECTORY, 0), -WH_ENOTDIR);
	CHECK_EQ(wh_sys_open("/w/f", CREATE | LX_O_EXCL, 0), -WH_EEXIST);
	char name[300];
	memset(name, 'n', sizeof name);
	name[0] = '/';
	name[257] = 0;
	CHECK_EQ(wh_sys_stat(name, &st), -WH_ENAMETOOLONG);
	CHECK_EQ(wh_sys_open(name, CREATE, 0), -WH_ENAMETOOLONG);
	static char longest[5000];
	memset(longest, '/', sizeof longest - 1);
	CHECK_EQ(wh_sys_stat(longest, &st), -WH_ENAMETOOLONG);
	CHECK_EQ(wh_sys_stat((char *)8, &st), -WH_EFAULT);
	CHECK_EQ(wh_sys_rmdir("/w"), -WH_ENOTEMPTY);
	CHECK_EQ(wh_sys_rmdir("/w/."), -WH_EINVAL);
	CHECK_EQ(wh_sys_rmdir("/w/f"), -WH_ENOTDIR);
	CHECK_EQ(wh_sys_unlink("/w/d"), -WH_EISDIR);
	CHECK_EQ(wh_sys_rmdir("/w/d"), 0);
	CHECK_EQ(wh_sys_unlink("/w/f"), 0);
	CHECK_EQ(wh_sys_rmdir("/w"), 0);
}

static void follows_links(void)
{
	char text[32];
	struct fs_stat st;
	wh_sys_mkdir("/l", 0755);
	put("/l/f", "target");
	CHECK_EQ(wh_sys_symlink("f", "/l/rel"), 0);
	CHECK_EQ(wh_sys_symlink("/l/rel", "/l/abs"), 0);
	CHECK_EQ(wh_sys_symlink("/l", "/l/dir"), 0);
	CHECK_EQ(wh_sys_symlink("loop", "/l/loop"), 0);
	CHECK_EQ(wh_sys_symlink("later", "/l/dangling"), 0);
	CHECK_EQ(wh_sys_symlink("f", "/l/rel"), -WH_EEXIST);
	CHECK_STR(get("/l/abs"), "target");
	CHECK_STR(get("/l/dir/dir/dir/rel"), "target");
	CHECK_EQ(wh_sys_stat("/l/loop", &st), -WH_ELOOP);
	CHECK_EQ(wh_sys_stat("/l/dangling", &st), -WH_ENOENT);
	CHECK_EQ(wh_sys_lstat("/l/dangling", &st), 0);
	CHECK_EQ(st.mode & LX_S_IFMT, LX_S_IFLNK);
	CHECK_EQ(wh_sys_readlink("/l/abs", text, sizeof text), 6);
	CHECK_EQ(wh_sys_readlink("/l/abs", text, 3), 3);
	CHECK_EQ(wh_sys_readlink("/l/f", text, 3), -WH_EINVAL);
	CHECK_EQ(wh_sys_open("/l/rel", LX_O_NOFOLLOW, 0), -WH_ELOOP);
	CHECK_EQ(wh_sys_open("/l/dangling", CREATE | LX_O_EXCL, 0), -WH_EEXIST);
	CHECK_EQ(put("/l/dangling", "made"), 4);
	CHECK_STR(get("/l/later"), "made");
	CHECK_EQ(wh_sys_lstat("/l/dir/", &st), 0);
	CHECK_EQ(st.mode & LX_S_IFMT, LX_S_IFDIR);
	CHECK_EQ(wh_sys_unlink("/l/dir"), 0);
	CHECK_EQ(wh_sys_stat("/l/f", &st), 0);
}

static void renames(void)
{
	struct fs_stat st;
	wh_sys_mkdir("/r", 0755);
	wh_sys_mkdir("/r/a", 0755);
	wh_sys_mkdir("/r/b", 0755);
	put("/r/f", "f");
	put("/r/g", "g");
	CHECK_EQ(wh_sys_rename("/r/f", "/r/g"), 0);
	CHECK_STR(get("/r/g"), "f");
	CHECK_EQ(wh_sys_rename("/r/f", "/r/g"), -WH_ENOENT);
	CHECK_EQ(wh_sys_rename("/r/g", "/r/a"), -WH_EISDIR);
	CHECK_EQ(wh_sys_rename("/r/a", "/r/g"), -WH_ENOTDIR);
	CHECK_EQ(wh_sys_rename("/r/a", "/r/a/x"), -WH_EINVAL);
	CHECK_EQ(wh_sys_rename("/r/a", "/r/b/a"), 0);
	CHECK_EQ(wh_sys_rename("/r/b/a", "/r/b/."), -WH_EBUSY);
	CHECK_EQ(wh_sys_renameat2(LX_AT_FDCWD, "/r/g", LX_AT_FDCWD, "/r/b", 1), -WH_EEXIST);
	CHECK_EQ(wh_sys_renameat2(LX_AT_FDCWD, "/r/g", LX_AT_FDCWD, "/r/b", 2), 0);
	CHECK_EQ(wh_sys_stat("/r/g/a", &st), 0);
	CHECK_STR(get("/r/b"), "f");
	CHECK_EQ(wh_sys_link("/r/b", "/r/hard"), 0);
	CHECK_EQ(wh_sys_link("/r/g", "/r/hard2"), -WH_EPERM);
	CHECK_EQ(wh_sys_stat("/r/b", &st), 0);
	CHECK_EQ(st.nlink, 2);
	CHECK_EQ(wh_sys_rename("/r/b", "/r/hard"), 0); /* the same file: nothing happens */
	CHECK_EQ(wh_sys_stat("/r/b", &st), 0);
}

static void keeps_a_current_directory(void)
{
	CHECK_STR(cwd(), "/");
	wh_sys_mkdir("/c", 0755);
	wh_sys_mkdir("/c/d", 0755);
	CHECK_EQ(wh_sys_chdir("c/d"), 0);
	CHECK_STR(cwd(), "/c/d");
	CHECK_EQ(put("here", "x"), 1);
	CHECK_STR(get("/c/d/here"), "x");
	CHECK_EQ(wh_sys_chdir("here"), -WH_ENOTDIR);
	CHECK_EQ(wh_sys_rename("/c", "/e"), 0);
	CHECK_STR(cwd(), "/e/d");
	int fd = (int)wh_sys_open("..", LX_O_DIRECTORY, 0);
	CHECK_EQ(wh_sys_fchdir(fd), 0);
	CHECK_STR(cwd(), "/e");
	CHECK_EQ(wh_sys_getcwd((char[2]){ 0 }, 2), -WH_ERANGE);
	CHECK_EQ(wh_sys_openat(fd, "d/here", O_RDONLY, 0), fd + 1);
	CHECK_EQ(wh_sys_unlinkat(fd, "d/here", 0), 0);
	CHECK_EQ(wh_sys_unlinkat(fd, "d", LX_AT_REMOVEDIR), 0);
	wh_sys_close(fd + 1);
	wh_sys_close(fd);
	CHECK_EQ(wh_sys_rmdir("/e"), 0);
	CHECK_EQ(wh_sys_getcwd((char[20]){ 0 }, 20), -WH_ENOENT);
	CHECK_EQ(wh_sys_mkdir("x", 0755), -WH_ENOENT);
	CHECK_EQ(wh_sys_open("x", CREATE, 0644), -WH_ENOENT);
	CHECK_EQ(wh_sys_chdir("/"), 0);
}

static void descriptors_are_lowest_first(void)
{
	int fd[200];
	for (int i = 0; i < 200; i++) {
		fd[i] = (int)wh_sys_open("/dev/null", LX_O_RDWR | LX_O_CLOEXEC, 0);
		CHECK_EQ(fd[i], i + 3);
	}
	wh_sys_close(70);
	wh_sys_close(10);
	CHECK_EQ(wh_sys_dup(5), 10);
	CHECK_EQ(wh_sys_fcntl(5, 0, 20), 70);
	CHECK_EQ(wh_sys_fcntl(10, 1, 0), 0);
	CHECK_EQ(wh_sys_fcntl(5, 1, 0), 1);
	CHECK_EQ(wh_sys_dup2(5, 5), 5);
	CHECK_EQ(wh_sys_dup3(5, 5, 0), -WH_EINVAL);
	CHECK_EQ(wh_sys_dup2(5, 1000), 1000);
	CHECK_EQ(wh_sys_dup2(5, FS_FDS_MAX), -WH_EBADF);
	CHECK_EQ(wh_sys_dup2(999, 4), -WH_EBADF);
	CHECK_EQ(fs_fd_next(203), 1000);
	CHECK_EQ(wh_sys_close_range(3, 9999, 0), 0);
	CHECK_EQ(fs_fd_next(3), -1);
	CHECK_EQ(wh_sys_close_range(5, 4, 0), -WH_EINVAL);
	CHECK_EQ(wh_sys_fcntl(1, 1030, FS_FDS_MAX), -WH_EINVAL);
}

static void shows_the_archive_under_the_files(void)
{
	char text[8];
	CHECK_STR(get("/etc/motd"), "hello");
	CHECK(listed("/www", "index.html") && listed("/etc", "motd") && listed("/", "www"));
	CHECK(get("/etc/hosts")); /* added to the archive's directory */
	struct fs_stat st;
	CHECK_EQ(wh_sys_stat("/www/link", &st), 0);
	CHECK_EQ(st.size, 5000);
	CHECK_EQ(st.mtime.sec, 1234);
	int fd = (int)wh_sys_open("/www/index.html", LX_O_RDWR, 0);
	CHECK_EQ(wh_sys_pwrite64(fd, "new", 3, 4095), 3);
	CHECK_EQ(wh_sys_pread64(fd, text, 5, 4094), 5);
	CHECK_MEM(text, "xnewx", 5);
	CHECK_EQ(wh_sys_pread64(fd, text, 5, 4998), 2);
	CHECK_EQ(wh_sys_ftruncate(fd, 2), 0);
	CHECK_EQ(wh_sys_ftruncate(fd, 4), 0);
	CHECK_EQ(wh_sys_pread64(fd, text, 5, 0), 4);
	CHECK_MEM(text, "xx\0\0", 4);
	CHECK_EQ(archive_image.contents[16 + 4095], 'x');
	wh_sys_close(fd);
	CHECK_EQ(put("/www/new", "beside"), 6);
	CHECK_EQ(wh_sys_unlink("/www/index.html"), 0);
	CHECK_EQ(wh_sys_stat("/www/link", &st), -WH_ENOENT);
}

static void has_devices(void)
{
	char text[16];
	int fd = (int)wh_sys_open("/dev/zero", LX_O_RDWR, 0);
	memset(text, 1, sizeof text);
	CHECK_EQ(wh_sys_read(fd, text, 16), 16);
	CHECK_EQ(text[0] | text[15], 0);
	wh_sys_close(fd);
	fd = (int)wh_sys_open("/dev/full", LX_O_RDWR, 0);
	CHECK_EQ(wh_sys_write(fd, text, 1), -WH_ENOSPC);
	wh_sys_close(fd);
	fd = (int)wh_sys_open("/dev/urandom", O_RDONLY, 0);
	CHECK_EQ(wh_sys_read(fd, text, 16), 16);
	CHECK_EQ(text[15], 0x5a);
	struct fs_stat st;
	CHECK_EQ(wh_sys_fstat(fd, &st), 0);
	CHECK_EQ(st.mode, LX_S_IFCHR | 0666);
	CHECK_EQ(st.rdev, FS_MAKEDEV(1, 9));
	wh_sys_close(fd);
	fake_output_size = 0;
	CHECK_EQ(put("/dev/console", "to the console"), 14);
	CHECK_EQ(put("/dev/stderr", "!"), 1);
	CHECK_EQ(fake_output_size, 15);
	CHECK_MEM(fake_output, "to the console!", 15);
	CHECK(listed("/dev", "null") && listed("/dev", "shm") && listed("/dev/fd", "1"));
}

static void has_proc(void)
{
	char text[64] = "";
	CHECK(get("/proc/meminfo") && get("/proc/self/status") && get("/proc/cpuinfo"));
	CHECK_STR(get("/proc/sys/net/core/somaxconn"), "4096\n");
	CHECK_STR(get("/proc/sys/kernel/hostname"), "box\n");
	CHECK_STR(get("/proc/self/cmdline"), "");
	put("/tmp/open", "via fd");
	int fd = (int)wh_sys_open("/tmp/open", O_RDONLY, 0);
	snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
	CHECK_STR(get(text), "via fd");
	char target[64] = "";
	CHECK_EQ(wh_sys_readlink(text, target, sizeof target), 9);
	CHECK_STR(target, "/tmp/open");
	wh_sys_close(fd);
	CHECK(!get(text));
	CHECK_EQ(wh_sys_readlink("/proc/self/fd/1", target, sizeof target), 12);
}

static void sets_attributes(void)
{
	struct fs_stat st;
	struct lx_timespec times[2] = { { 5, 6 }, { 7, 0x3ffffffe } };
	put("/tmp/attr", "x");
	CHECK_EQ(wh_sys_chmod("/tmp/attr", 0751), 0);
	CHECK_EQ(wh_sys_chown("/tmp/attr", 10, UINT32_MAX), 0);
	CHECK_EQ(wh_sys_utimensat(LX_AT_FDCWD, "/tmp/attr", times, 0), 0);
	CHECK_EQ(wh_sys_stat("/tmp/attr", &st), 0);
	CHECK_EQ(st.mode, LX_S_IFREG | 0751);
	CHECK_EQ(st.uid, 10);
	CHECK_EQ(st.gid, 0);
	CHECK_EQ(st.atime.sec, 5);
	CHECK(st.mtime.sec > 1000);
	CHECK_EQ(wh_sys_access("/tmp/attr", 7), 0);
	CHECK_EQ(wh_sys_chmod("/tmp/attr", 0600), 0);
	CHECK_EQ(wh_sys_access("/tmp/attr", 1), -WH_EACCES);
	CHECK_EQ(wh_sys_umask(077), 022);
	put("/tmp/private", "x");
	CHECK_EQ(wh_sys_stat("/tmp/private", &st), 0);
	CHECK_EQ(st.mode & 0777, 0600);
	wh_sys_umask(022);
}

static void refuses_to_fill_memory(void)
{
	static char block[65536];
	struct fs_statfs st;
	int fd = (int)wh_sys_open("/tmp/big", CREATE, 0644);
	long n, total = 0;
	while ((n = wh_sys_write(fd, block, sizeof block)) > 0)
		total += n;
	CHECK_EQ(n, -WH_ENOSPC);
	CHECK(total > 2040 * 4096L && total <= 2048 * 4096L); /* half of the pages */
	CHECK_EQ(wh_sys_statfs("/tmp", &st), 0);
	CHECK_EQ(st.bfree, 0);
	CHECK_EQ(wh_sys_ftruncate(fd, 0), 0);
	CHECK_EQ(wh_sys_statfs("/tmp", &st), 0);
	CHECK(st.bfree > 2000);
	CHECK_EQ(wh_sys_pwrite64(fd, "x", 1, 1ll << 41), -WH_EFBIG);
	wh_sys_close(fd);
	wh_sys_unlink("/tmp/big");
}

static void sends_and_vectors(void)
{
	char a[4], b[16];
	char one[] = "one", two[] = "two";
	struct wh_iov out[3] = { { one, 3 }, { one, 0 }, { two, 3 } };
	struct wh_iov in[2] = { { a, 2 }, { b, sizeof b } };
	int fd = (int)wh_sys_open("/tmp/v", CREATE | LX_O_TRUNC, 0644);
	CHECK_EQ(wh_sys_writev(fd, out, 3), 6);
	CHECK_EQ(wh_sys_preadv(fd, in, 2, 0), 6);
	CHECK_MEM(a, "on", 2);
	CHECK_MEM(b, "etwo", 4);
	CHECK_EQ(wh_sys_writev(fd, out, -1), -WH_EINVAL);
	CHECK_EQ(wh_sys_writev(fd, out, 1025), -WH_EINVAL);
	out[1] = (struct wh_iov){ (void *)8, 1 };
	CHECK_EQ(wh_sys_writev(fd, out, 3), -WH_EFAULT);
	int to = (int)wh_sys_open("/tmp/w", CREATE | LX_O_TRUNC, 0644);
	int64_t offset = 2;
	CHECK_EQ(wh_sys_sendfile(to, fd, &offset, 100), 4);
	CHECK_EQ(offset, 6);
	CHECK_STR(get("/tmp/w"), "etwo");
	wh_sys_close(fd);
	wh_sys_close(to);
}

/* Each allocation of a sequence of calls fails once: the calls say so, and nothing is left. */
static void survives_every_failed_allocation(void)
{
	static char block[20000];
	struct fs_stat st;
	for (uint32_t n = 1; n < 60; n++) {
		fake_alloc_fail_in = n;
		wh_sys_mkdir("/oom", 0755);
		int fd = (int)wh_sys_open("/oom/f", CREATE, 0644);
		wh_sys_write(fd, block, sizeof block);
		wh_sys_symlink("f", "/oom/s");
		wh_sys_link("/oom/f", "/oom/h");
		wh_sys_rename("/oom/h", "/oom/i");
		wh_sys_stat("/oom/s", &st);
		(void)get("/proc/self/status");
		int dir = (int)wh_sys_open("/oom", LX_O_DIRECTORY, 0);
		int far = (int)wh_sys_fcntl(fd, 0, 300);
		for (int i = 0; i < 40; i++) {
			char name[16];
			snprintf(name, sizeof name, "%d", i);
			wh_sys_symlinkat("x", dir, name);
			wh_sys_unlinkat(dir, name, 0);
		}
		fake_alloc_fail_in = 0;
		wh_sys_close(fd);
		wh_sys_close(dir);
		wh_sys_close(far);
		wh_sys_unlink("/oom/f");
		wh_sys_unlink("/oom/s");
		wh_sys_unlink("/oom/h");
		wh_sys_unlink("/oom/i");
		long r = wh_sys_rmdir("/oom");
		CHECK(!r || r == -WH_ENOENT);
		CHECK_EQ(fs_fd_next(3), -1);
	}
}

int main(void)
{
	make_archive();
	if (fs_init() < 0)
		return 1;
	RUN(writes_and_reads);
	RUN(append_goes_to_the_end);
	RUN(open_files_outlive_their_name);
	RUN(walks_paths);
	RUN(follows_links);
	RUN(renames);
	RUN(keeps_a_current_directory);
	RUN(descriptors_are_lowest_first);
	RUN(shows_the_archive_under_the_files);
	RUN(has_devices);
	RUN(has_proc);
	RUN(sets_attributes);
	RUN(refuses_to_fill_memory);
	RUN(sends_and_vectors);
	RUN(survives_every_failed_allocation);
	return test_end();
}
