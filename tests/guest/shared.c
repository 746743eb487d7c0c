/* SPDX-License-Identifier: ISC */

/* Two host folders, mounted on /deep/data and, read-only, on /ro. */

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "check.h"

#define SIZE 3000000

static char large[SIZE];

static void reads_and_writes(void)
{
	char text[64] = "";
	int fd = open("/deep/data/host.txt", O_RDONLY);
	CHECK(fd >= 0);
	CHECK_EQ(read(fd, text, sizeof text), 14);
	CHECK(!strcmp(text, "from the host\n"));
	close(fd);
	fd = open("/deep/data/guest.txt", O_CREAT | O_EXCL | O_WRONLY | O_APPEND, 0644);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "from the ", 9), 9); /* constant data: outside of RAM */
	CHECK_EQ(write(fd, "guest\n", 6), 6);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(close(fd), 0);
}

static void copies(void)
{
	int in = open("/deep/data/large", O_RDONLY);
	int out = open("/deep/data/copy", O_CREAT | O_WRONLY | O_TRUNC, 0644);
	CHECK(in >= 0 && out >= 0);
	CHECK_EQ(read(in, large, SIZE), SIZE);
	CHECK_EQ(read(in, large, SIZE), 0);
	CHECK_EQ(write(out, large, SIZE), SIZE);
	CHECK_EQ(close(in) | close(out), 0);
}

static void stays_read_only(void)
{
	CHECK(open("/ro/host.txt", O_RDWR) < 0 && errno == EROFS);
	CHECK(open("/ro/new", O_CREAT | O_WRONLY, 0644) < 0 && errno == EROFS);
	CHECK(unlink("/ro/host.txt") < 0 && errno == EROFS);
	CHECK(mkdir("/ro/d", 0755) < 0 && errno == EROFS);
	CHECK(rename("/ro/host.txt", "/ro/x") < 0 && errno == EROFS);
	CHECK(chmod("/ro/host.txt", 0600) < 0 && errno == EROFS);
	CHECK(rename("/deep/data/host.txt", "/ro/x") < 0 && errno == EXDEV);
	CHECK(access("/ro/host.txt", R_OK) == 0);
	CHECK(access("/ro/host.txt", W_OK) < 0 && errno == EROFS);
}

static void mounts_are_places(void)
{
	char path[64];
	struct stat a, b;
	CHECK_EQ(chdir("/deep/data"), 0);
	CHECK(getcwd(path, sizeof path) && !strcmp(path, "/deep/data"));
	CHECK(stat(".", &a) == 0 && stat("..", &b) == 0 && a.st_dev != b.st_dev);
	CHECK_EQ(chdir(".."), 0);
	CHECK(getcwd(path, sizeof path) && !strcmp(path, "/deep"));
	CHECK(rmdir("/deep/data") < 0 && errno == EBUSY);
	CHECK(rename("/deep/data", "/deep/x") < 0 && errno == EBUSY);
	struct statfs fs;
	CHECK(statfs("/deep/data", &fs) == 0 && fs.f_blocks > 0);
}

static void *many(void *arg)
{
	char name[64], text[64] = "";
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "/deep/data/t-%d-%d", (int)(intptr_t)arg, i);
		int fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
		CHECK(fd >= 0);
		CHECK_EQ(write(fd, name, strlen(name)), strlen(name));
		CHECK_EQ(unlink(name), 0);
		CHECK_EQ(pread(fd, text, sizeof text, 0), strlen(name)); /* open, and nameless */
		CHECK(!strcmp(text, name));
		CHECK_EQ(close(fd), 0);
	}
	return NULL;
}

static void threads_share_the_session(void)
{
	pthread_t t[30];
	for (intptr_t i = 0; i < 30; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, many, (void *)i), 0);
	for (int i = 0; i < 30; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
}

int main(void)
{
	RUN(reads_and_writes);
	RUN(copies);
	RUN(stays_read_only);
	RUN(mounts_are_places);
	RUN(threads_share_the_session);
	printf("ok\n");
	return 0;
}
