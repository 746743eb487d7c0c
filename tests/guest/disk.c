/* SPDX-License-Identifier: ISC */

/* A disk as a file: disk write|verify|readonly /dev/NAME */

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"

#define GET_SIZE 0x80081272 /* BLKGETSIZE64 */
#define GET_SECTOR 0x1268   /* BLKSSZGET */
#define DISCARD 0x1277      /* BLKDISCARD */
#define AT 12345
#define SIZE 3000001

static char block[SIZE], back[SIZE];
static int fd;

static void fill(void)
{
	for (int i = 0; i < SIZE; i++)
		block[i] = (char)(i * 31 >> 4);
}

/* Neighbours in one sector, written by threads that take turns at every wait. */
static void *one_byte(void *arg)
{
	intptr_t at = (intptr_t)arg;
	for (int i = 0; i < 20; i++) {
		char c = (char)('a' + at);
		CHECK_EQ(pwrite(fd, &c, 1, 1024 + at), 1);
		sched_yield();
	}
	return NULL;
}

static void partial_sectors(void)
{
	pthread_t t[8];
	char text[9] = "";
	for (intptr_t i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, one_byte, (void *)i), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(pread(fd, text, 8, 1024), 8);
	CHECK(!strcmp(text, "abcdefgh"));
}

static void ends(uint64_t size)
{
	char c[4];
	CHECK_EQ(lseek(fd, 0, SEEK_END), size);
	CHECK(write(fd, "xx", 2) < 0 && errno == ENOSPC);
	CHECK_EQ(pwrite(fd, "xy", 2, (off_t)size - 1), 1);
	CHECK_EQ(pread(fd, c, 4, (off_t)size - 1), 1);
	CHECK_EQ(c[0], 'x');
	CHECK_EQ(pread(fd, c, 4, (off_t)size), 0);
}

static void attributes(uint64_t *ret_size)
{
	struct stat st;
	int sector;
	CHECK(fstat(fd, &st) == 0 && S_ISBLK(st.st_mode));
	CHECK_EQ(ioctl(fd, GET_SIZE, ret_size), 0);
	CHECK(ioctl(fd, GET_SECTOR, &sector) == 0 && sector == 512);
}

static void discards(void)
{
	uint64_t range[2] = { 4 << 20, 1 << 20 };
	CHECK_EQ(pwrite(fd, "gone", 4, 4 << 20), 4);
	if (ioctl(fd, DISCARD, range) < 0)
		CHECK_EQ(errno, EOPNOTSUPP);
	range[0]++;
	CHECK(ioctl(fd, DISCARD, range) < 0 && errno == EINVAL);
}

int main(int argc, char **argv)
{
	uint64_t size;
	CHECK_EQ(argc, 3);
	fill();
	if (!strcmp(argv[1], "readonly")) {
		CHECK(open(argv[2], O_RDWR) < 0 && errno == EROFS);
		fd = open(argv[2], O_RDONLY);
	} else {
		fd = open(argv[2], O_RDWR);
	}
	CHECK(fd >= 0);
	attributes(&size);
	if (!strcmp(argv[1], "write")) {
		CHECK_EQ(pwrite(fd, block, SIZE, AT), SIZE);
		CHECK_EQ(pwrite(fd, "straight from constant data", 27, 100), 27);
		partial_sectors();
		ends(size);
		discards();
		CHECK_EQ(fsync(fd), 0);
	}
	CHECK_EQ(pread(fd, back, SIZE, AT), SIZE);
	CHECK(!memcmp(block, back, SIZE));
	CHECK_EQ(pread(fd, back, 27, 100), 27);
	CHECK(!memcmp(back, "straight from constant data", 27));
	CHECK_EQ(close(fd), 0);
	CHECK(open("/dev/nodisk", O_RDONLY) < 0 && errno == ENOENT);
	printf("ok\n");
	return 0;
}
