/* SPDX-License-Identifier: ISC */

/* Files, directories, descriptors, /dev and /proc. Runs the same natively, in a fresh
 * folder that it makes below the current one, or the one that is named. */

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>
#include "check.h"

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	CHECK(f);
	CHECK(fputs(text, f) >= 0);
	CHECK_EQ(fclose(f), 0);
}

static const char *get(const char *path)
{
	static char text[4096];
	FILE *f = fopen(path, "r");
	CHECK(f);
	size_t n = fread(text, 1, sizeof text - 1, f);
	text[n] = 0;
	fclose(f);
	return text;
}

static void streams(void)
{
	char line[32];
	put("f", "one\ntwo\nthree\n");
	FILE *f = fopen("f", "r+");
	CHECK(fgets(line, sizeof line, f) && !strcmp(line, "one\n"));
	CHECK_EQ(fseek(f, -6, SEEK_END), 0);
	CHECK(fgets(line, sizeof line, f) && !strcmp(line, "three\n"));
	CHECK_EQ(ftell(f), 14);
	rewind(f);
	fputs("ONE", f);
	fclose(f);
	CHECK(!strcmp(get("f"), "ONE\ntwo\nthree\n"));
	CHECK_EQ(remove("f"), 0);
	CHECK(!fopen("f", "r") && errno == ENOENT);
	f = tmpfile();
	CHECK(f && fputs("temporary", f) >= 0);
	fclose(f);
}

static void large_file(void)
{
	static char block[10000], back[10000];
	int fd = open("large", O_CREAT | O_RDWR | O_TRUNC, 0600);
	CHECK(fd >= 0);
	for (int i = 0; i < 100; i++) {
		memset(block, i, sizeof block);
		CHECK_EQ(write(fd, block, sizeof block), sizeof block);
	}
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 1000000);
	CHECK_EQ(pread(fd, back, sizeof back, 555000), sizeof back);
	CHECK(back[0] == 55 && back[4999] == 55 && back[5000] == 56);
	CHECK_EQ(ftruncate(fd, 12345), 0);
	CHECK_EQ(pwrite(fd, "end", 3, 20000), 3);
	CHECK_EQ(pread(fd, back, sizeof back, 12000), 8003);
	CHECK(back[344] == 1 && back[345] == 0 && back[8000] == 'e');
	struct stat st;
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, 20003);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(unlink("large"), 0);
}

static void directories(void)
{
	char name[32];
	CHECK_EQ(mkdir("d", 0755), 0);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "d/file-%d", i);
		put(name, name);
	}
	DIR *dir = opendir("d");
	CHECK(dir);
	int seen = 0, dots = 0;
	for (struct dirent *e; (e = readdir(dir)); seen++) {
		dots += e->d_name[0] == '.';
		if (e->d_name[0] != '.') /* removing while reading misses nothing */
			CHECK_EQ(unlinkat(dirfd(dir), e->d_name, 0), 0);
	}
	CHECK_EQ(seen, 302);
	CHECK_EQ(dots, 2);
	rewinddir(dir);
	CHECK(readdir(dir) && readdir(dir) && !readdir(dir));
	closedir(dir);
	CHECK_EQ(rmdir("d"), 0);
	CHECK(rmdir("d") < 0 && errno == ENOENT);
}

static void names(void)
{
	char target[64] = "", here[256], there[256];
	struct stat a, b;
	put("x", "x");
	CHECK_EQ(symlink("x", "s"), 0);
	CHECK_EQ(link("x", "h"), 0);
	CHECK_EQ(readlink("s", target, sizeof target), 1);
	CHECK(!strcmp(target, "x") && !strcmp(get("s"), "x"));
	CHECK_EQ(stat("s", &a), 0);
	CHECK_EQ(stat("h", &b), 0);
	CHECK(a.st_ino == b.st_ino && a.st_nlink == 2);
	CHECK_EQ(lstat("s", &a), 0);
	CHECK(S_ISLNK(a.st_mode));
	CHECK_EQ(rename("h", "x2"), 0);
	CHECK_EQ(mkdir("m", 0700), 0);
	CHECK(rename("x", "m") < 0 && errno == EISDIR);
	CHECK_EQ(rename("x", "m/x"), 0);
	CHECK(stat("s", &a) < 0 && errno == ENOENT);
	CHECK(getcwd(here, sizeof here));
	CHECK_EQ(chdir("m"), 0);
	CHECK(getcwd(there, sizeof there));
	CHECK(!strncmp(here, there, strlen(here)) && !strcmp(there + strlen(there) - 2, "/m"));
	CHECK(!strcmp(get("../m/./x"), "x"));
	CHECK(realpath("../s/..", here) == NULL);
	CHECK(realpath("../m", here) && !strcmp(here, there));
	CHECK_EQ(chdir(".."), 0);
	CHECK_EQ(unlink("m/x") | rmdir("m") | unlink("s") | unlink("x2"), 0);
	CHECK(access("nothing", F_OK) < 0 && errno == ENOENT);
}

static void attributes(void)
{
	struct stat st;
	struct statvfs vfs;
	struct timespec times[2] = { { 1000, 5 }, { 2000, 7 } };
	put("a", "12345");
	CHECK_EQ(chmod("a", 0640), 0);
	CHECK_EQ(utimensat(AT_FDCWD, "a", times, 0), 0);
	CHECK_EQ(stat("a", &st), 0);
	CHECK(S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640 && st.st_size == 5);
	CHECK(st.st_atim.tv_sec == 1000 && st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 7);
	CHECK_EQ(truncate("a", 2), 0);
	CHECK(!strcmp(get("a"), "12"));
	umask(027);
	CHECK_EQ(mkdir("u", 0777), 0);
	CHECK_EQ(stat("u", &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0750);
	umask(022);
	CHECK_EQ(rmdir("u") | unlink("a"), 0);
	CHECK_EQ(statvfs(".", &vfs), 0);
	CHECK(vfs.f_bavail > 0 && vfs.f_namemax == 255);
}

static void descriptors(void)
{
	char text[16] = "";
	int fd = open("fd", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	int copy = dup(fd), high = fcntl(fd, F_DUPFD, 100);
	CHECK(copy > fd && high >= 100);
	CHECK_EQ(write(fd, "shared", 6), 6);
	CHECK_EQ(lseek(copy, 0, SEEK_CUR), 6); /* one position */
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(copy, F_GETFD), 0);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	CHECK_EQ(dup2(fd, high), high);
	close(fd);
	struct iovec iov[2] = { { text, 3 }, { text + 3, 3 } };
	CHECK_EQ(preadv(high, iov, 2, 0), 6);
	CHECK(!strcmp(text, "shared"));
	struct flock lock = { .l_type = F_WRLCK };
	CHECK_EQ(fcntl(high, F_SETLK, &lock), 0);
	int out = open("out", O_CREAT | O_WRONLY, 0600);
	off_t offset = 2;
	CHECK_EQ(sendfile(out, high, &offset, 100), 4);
	CHECK(!strcmp(get("out"), "ared"));
	CHECK_EQ(posix_fallocate(out, 0, 5000), 0);
	CHECK_EQ(lseek(out, 0, SEEK_END), 5000);
	close(copy);
	close(high);
	close(out);
	CHECK(close(high) < 0 && errno == EBADF);
	CHECK_EQ(unlink("fd") | unlink("out"), 0);
}

static void devices(void)
{
	unsigned char bytes[64] = { 0 };
	struct stat st;
	int fd = open("/dev/urandom", O_RDONLY), sum = 0;
	CHECK_EQ(read(fd, bytes, sizeof bytes), sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		sum += bytes[i];
	CHECK(sum > 1000);
	close(fd);
	fd = open("/dev/null", O_RDWR);
	CHECK(write(fd, "x", 1) == 1 && read(fd, bytes, 1) == 0);
	CHECK(fstat(fd, &st) == 0 && S_ISCHR(st.st_mode));
	close(fd);
	fd = open("/dev/full", O_WRONLY);
	CHECK(write(fd, "x", 1) < 0 && errno == ENOSPC);
	close(fd);
	fd = open("/dev/stdout", O_WRONLY);
	CHECK(write(fd, "through /dev/stdout\n", 20) == 20);
	close(fd);
	CHECK(strstr(get("/proc/meminfo"), "MemTotal:"));
	CHECK(strstr(get("/proc/self/status"), "Name:"));
	CHECK(strlen(get("/proc/self/cmdline")) > 0);
	CHECK(strlen(get("/etc/hosts")) > 0);
	CHECK(atoi(get("/proc/sys/net/core/somaxconn")) > 0);
}

int main(int argc, char **argv)
{
	char folder[] = "files-XXXXXX";
	if (argc > 1)
		CHECK_EQ(chdir(argv[1]), 0);
	CHECK(mkdtemp(folder));
	CHECK_EQ(chdir(folder), 0);
	RUN(streams);
	RUN(large_file);
	RUN(directories);
	RUN(names);
	RUN(attributes);
	RUN(descriptors);
	RUN(devices);
	CHECK_EQ(chdir(".."), 0);
	CHECK_EQ(rmdir(folder), 0);
	printf("ok\n");
	return 0;
}
