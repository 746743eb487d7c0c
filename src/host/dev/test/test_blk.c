/* SPDX-License-Identifier: ISC */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/block_file.h>
#include <wherry/dev_blk.h>

#include "fake_vmm.h"

#define DISK (1u << 20)

static struct wh_block_image *image;
static struct wh_dev_blk *blk;
static char path[64];

static struct wh_dev_blk_config more; /* of the next set_up */

static void set_up(bool read_only)
{
	struct wh_diag diag = { "" };
	if (!path[0]) {
		wh_format(path, sizeof path, "/tmp/wherry-test-blk-%d", (int)getpid());
		int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
		CHECK(fd >= 0 && !ftruncate(fd, DISK));
		close(fd);
	}
	struct wh_block_image_config ic = { .size = sizeof ic,
					    .path = path,
					    .flags = read_only ? WH_BLOCK_FILE_READ_ONLY : 0 };
	CHECK_EQ(wh_block_image_open(&ic, &image, &diag), 0);
	struct wh_dev_blk_config c = more;
	c.size = sizeof c;
	c.block = wh_block_image_block(image);
	c.name = "thedisk";
	CHECK_EQ(wh_dev_blk_new(&c, fake_new(), &blk, NULL), 0);
	CHECK_EQ(wh_load_le64(fake.shm->config), DISK / 512);
	fake_start(WH_VIRTQ_F_EVENT_IDX | WH_VIRTIO_BLK_F_FLUSH, 64);
}

static void tear_down(void)
{
	wh_dev_blk_free(blk);
	CHECK_EQ(wh_block_image_close(image), 0);
	fake_free();
}

/* One request: head, out data, in data, status. Returns the status. */
static int ask(uint32_t type, uint64_t sector, uint32_t out, uint32_t in, uint32_t *ret_written)
{
	uint8_t *p = fake.ram + FAKE_DATA;
	struct wh_iov v[4];
	uint32_t n = 0, outs;
	wh_store_le32(p, type);
	wh_store_le32(p + 4, 0);
	wh_store_le64(p + 8, sector);
	v[n++] = (struct wh_iov){ p, 16 };
	if (out)
		v[n++] = (struct wh_iov){ p + 4096, out };
	outs = n;
	if (in)
		v[n++] = (struct wh_iov){ p + 4096, in };
	p[16] = 0xee;
	v[n++] = (struct wh_iov){ p + 16, 1 };
	*ret_written = fake_ask(0, v, outs, n - outs);
	return p[16];
}

static void reads_and_writes(void)
{
	uint8_t *p = fake.ram + FAKE_DATA + 4096;
	uint32_t n;
	set_up(false);
	p = fake.ram + FAKE_DATA + 4096;
	memset(p, 0x5a, 4096);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_OUT, 8, 4096, 0, &n), 0);
	CHECK_EQ(n, 1);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_FLUSH, 0, 0, 0, &n), 0);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, 7, 0, 1024, &n), 0);
	CHECK_EQ(n, 1025);
	CHECK_EQ(p[0], 0);
	CHECK_EQ(p[511], 0);
	CHECK_EQ(p[512], 0x5a);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_GET_ID, 0, 0, 20, &n), 0);
	CHECK_STR((char *)p, "thedisk");
	CHECK_EQ(n, 21);
	wh_store_le64(p, 8); /* one segment: zero sectors 8..11 */
	wh_store_le32(p + 8, 4);
	wh_store_le32(p + 12, 1);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0, &n), 0);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, 8, 0, 4096, &n), 0);
	CHECK_EQ(p[2047], 0);
	CHECK_EQ(p[2048], 0x5a);
	wh_store_le64(p, 0); /* two segments */
	wh_store_le32(p + 8, 8);
	wh_store_le32(p + 12, 0);
	wh_store_le64(p + 16, 12);
	wh_store_le32(p + 24, 4);
	wh_store_le32(p + 28, 0);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_DISCARD, 0, 32, 0, &n), 0);
	CHECK(!fake_broken());
	tear_down();
}

static void refusals(void)
{
	uint32_t n;
	set_up(false);
	uint8_t *p = fake.ram + FAKE_DATA + 4096;
	CHECK_EQ(ask(77, 0, 512, 0, &n), WH_VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, DISK / 512, 0, 512, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, DISK / 512 - 1, 0, 1024, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, UINT64_MAX / 512, 0, 512, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, UINT64_MAX, 0, 512, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, 1ull << 55, 0, 512, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, 0, 0, 100, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_OUT, 0, 511, 0, &n), WH_VIRTIO_BLK_S_IOERR);
	wh_store_le64(p, UINT64_MAX / 512);
	wh_store_le32(p + 8, 2);
	wh_store_le32(p + 12, 0);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_DISCARD, 0, 16, 0, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_DISCARD, 0, 15, 0, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_DISCARD, 0, 0, 0, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_DISCARD, 0, 16 * 17, 0, &n), WH_VIRTIO_BLK_S_IOERR);
	wh_store_le64(p, 0);
	wh_store_le32(p + 12, 2);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0, &n), WH_VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_GET_ID, 0, 0, 3, &n), 0);
	CHECK_EQ(n, 4);
	CHECK(!fake_broken());
	struct wh_iov v = { fake.ram + FAKE_DATA, 16 };
	fake_send(0, &v, 1, 0, &v); /* no status */
	CHECK(fake_broken());
	tear_down();
	set_up(false);
	v.base = fake.ram + FAKE_DATA;
	fake_send(0, &v, 0, 1, &v); /* no head */
	CHECK(fake_broken());
	fake_reset();
	tear_down();
	set_up(true);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_OUT, 0, 512, 0, &n), WH_VIRTIO_BLK_S_IOERR);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_IN, 0, 0, 512, &n), 0);
	tear_down();
}

static void serial_and_queues(void)
{
	uint32_t n;
	more = (struct wh_dev_blk_config){ .serial = "0123456789abcdefghijklm",
					   .queues = 3,
					   .no_discard = true };
	set_up(false);
	uint8_t *p = fake.ram + FAKE_DATA;
	CHECK_EQ(wh_load_le16(fake.shm->config + WH_VIRTIO_BLK_CONFIG_NUM_QUEUES), 3);
	CHECK_EQ(ask(WH_VIRTIO_BLK_T_GET_ID, 0, 0, 20, &n), 0);
	CHECK_MEM(p + 4096, "0123456789abcdefghij", 20);
	for (uint32_t queue = 0; queue < 3; queue++) {
		wh_store_le32(p, WH_VIRTIO_BLK_T_IN);
		wh_store_le64(p + 8, 0);
		p[16] = 0xee;
		struct wh_iov v[] = { { p, 16 }, { p + 4096, 512 }, { p + 16, 1 } };
		CHECK_EQ(fake_ask(queue, v, 1, 2), 513); /* answered where it was asked */
		CHECK_EQ(p[16], 0);
	}
	tear_down();
	more = (struct wh_dev_blk_config){ 0 };
}

/* Twenty requests a second: the first at once, each other one 50 ms later than the one before. */
static void limits(void)
{
	struct wh_loop *loop;
	void *cookie;
	uint32_t written;
	CHECK_EQ(wh_loop_new(&loop), 0);
	more = (struct wh_dev_blk_config){ .loop = loop, .requests_per_s = 20 };
	set_up(false);
	uint8_t *p = fake.ram + FAKE_DATA;
	uint64_t begin = wh_loop_now(loop);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t *at = p + 64 * i;
		wh_store_le32(at, WH_VIRTIO_BLK_T_IN);
		wh_store_le64(at + 8, 0);
		struct wh_iov v[] = { { at, 16 }, { p + 4096, 512 }, { at + 16, 1 } };
		fake_send(0, v, 1, 2, at);
	}
	CHECK_EQ(fake_get(0, &cookie, &written), 1);
	CHECK_EQ(fake_get(0, &cookie, &written), 0);
	for (unsigned got = 0; got < 2;) {
		CHECK(wh_loop_step(loop, 10000) >= 0);
		got += (unsigned)fake_get(0, &cookie, &written);
	}
	CHECK(wh_loop_now(loop) - begin >= 85000000u);
	tear_down();
	wh_loop_free(loop);
	more = (struct wh_dev_blk_config){ 0 };
}

int main(void)
{
	RUN(reads_and_writes);
	RUN(refusals);
	RUN(serial_and_queues);
	RUN(limits);
	unlink(path);
	return test_end();
}
