/* SPDX-License-Identifier: ISC */
/* A store on /data: reads the head, makes a commit, and sees it; a watch tells of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	return close(fd) || n != (ssize_t)strlen(text) ? -1 : 0;
}

static int file_is(const char *path, const char *wanted)
{
	char text[256];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return -1;
	text[n] = 0;
	if (!strcmp(text, wanted))
		return 0;
	errno = EILSEQ;
	return -1;
}

int main(int argc, char **argv)
{
	char before[64] = "", after[64] = "";
	if (argc > 1) { /* read-only */
		if (file_is("/data/ro/motd", "from the guest\n"))
			return failed("ro/motd");
		if (!mkdir("/data/transactions/t", 0755) || errno != EROFS)
			return failed("mkdir in a read-only store");
		return 0;
	}
	int live = open("/data/head.live", O_RDONLY);
	if (live < 0 || read(live, before, sizeof before - 1) != 41)
		return failed("head.live");
	if (file_is("/data/ro/motd", "from the host\n"))
		return failed("ro/motd");
	if (mkdir("/data/transactions/t", 0755))
		return failed("mkdir");
	if (write_file("/data/transactions/t/rw/motd", "from the guest\n") ||
	    write_file("/data/transactions/t/msg", "guest"))
		return failed("rw");
	if (write_file("/data/transactions/t/ctl", "commit"))
		return failed("commit");
	if (file_is("/data/ro/motd", "from the guest\n"))
		return failed("ro/motd after the commit");
	ssize_t n = read(live, after, sizeof after - 1);
	if (!n) /* the mark of a short read */
		n = read(live, after, sizeof after - 1);
	if (n != 41 || !strcmp(before, after))
		return failed("head.live after the commit");
	return 0;
}
