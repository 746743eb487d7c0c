/* SPDX-License-Identifier: ISC */

/*
 * Console, disk and 9P drivers on shared-memory registers, with the device half of
 * wherry/virtq.h at the other end of the same memory. The devices work when the
 * driver waits, and can be told to answer nonsense.
 */

#include <stdio.h>
#include <drv/blk.h>
#include <drv/console.h>
#include <drv/p9.h>
#include <fs/file.h>
#include <fs/p9.h>
#include <fs/vfs.h>
#include <posix/file.h>
#include <wherry/abi/shm.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/test.h>
#include <wherry/virtio_wire.h>
#include <wherry/virtq.h>
#include "../../fs/test/fake_kern.h"

#define DISK_SIZE (64u << 10)
#define QUEUE 64u

enum { CONSOLE, DISK, SICK_DISK, FOLDER, DEVICES };

static struct wh_shm_device regs[DEVICES];
static struct wh_boot_device boot_devices[DEVICES];
static struct wh_boot_mount mount = { .tag = "folder", .path = "/folder" };
static struct wh_virtq_device queues[DEVICES][2];
static struct wh_gmem memory;
static uint8_t disk[DISK_SIZE];
static char output[200000];
static uint32_t output_size;
static const char *input;
static bool input_ended, output_stopped;
static uint32_t flushes, nonsense;

/* ---- devices ---- */

static void serve_disk(int device, struct wh_virtq_chain *chain)
{
	uint8_t head[WH_VIRTIO_BLK_REQ_SIZE], status = WH_VIRTIO_BLK_S_OK;
	CHECK_EQ(wh_iov_read(chain->iov, chain->out_count, 0, head, sizeof head), sizeof head);
	uint64_t at = wh_load_le64(head + WH_VIRTIO_BLK_REQ_SECTOR) * 512;
	size_t size = chain->out_size - sizeof head;
	const struct wh_iov *in = chain->iov + chain->out_count;
	switch (wh_load_le32(head + WH_VIRTIO_BLK_REQ_TYPE)) {
	case WH_VIRTIO_BLK_T_IN:
		CHECK(at + chain->in_size - 1 <= DISK_SIZE);
		wh_iov_write(in, chain->in_count, 0, disk + at, chain->in_size - 1);
		break;
	case WH_VIRTIO_BLK_T_OUT:
		CHECK(at + size <= DISK_SIZE);
		wh_iov_read(chain->iov, chain->out_count, sizeof head, disk + at, size);
		break;
	case WH_VIRTIO_BLK_T_FLUSH:
		flushes++;
		break;
	default:
		status = WH_VIRTIO_BLK_S_UNSUPP;
	}
	if (device == SICK_DISK)
		status = WH_VIRTIO_BLK_S_IOERR;
	wh_iov_write(in, chain->in_count, chain->in_size - 1, &status, 1);
	wh_virtq_device_push(&queues[device][0], chain->head, (uint32_t)chain->in_size);
}

static void serve_output(struct wh_virtq_chain *chain)
{
	struct wh_console_header h;
	CHECK_EQ(wh_iov_read(chain->iov, chain->out_count, 0, &h, sizeof h), sizeof h);
	size_t n = chain->out_size - sizeof h;
	CHECK(n && output_size + n < sizeof output);
	char *to = output + output_size;
	wh_iov_read(chain->iov, chain->out_count, sizeof h, to, n);
	if (h.stream == WH_CONSOLE_STDERR) /* upper case shows which stream it was */
		for (size_t i = 0; i < n; i++)
			to[i] = (char)(to[i] & ~0x20);
	output_size += (uint32_t)n;
	wh_virtq_device_push(&queues[CONSOLE][1], chain->head, 0);
}

/* Answers like a server that knows nothing but errors; after `nonsense`, with bytes that are
 * no message. */
static void serve_folder(struct wh_virtq_chain *chain)
{
	struct wh_p9_msg t, r = { .type = WH_P9_RLERROR, .error = WH_EDQUOT };
	uint8_t buffer[9000], answer[512];
	size_t n = wh_iov_read(chain->iov, chain->out_count, 0, buffer, sizeof buffer);
	CHECK(wh_p9_decode(WH_P9_DIALECT_2000L, buffer, n, &t) > 0);
	if (t.type == WH_P9_TVERSION) {
		r.type = WH_P9_TVERSION + 1;
		r.msize = 8192;
		r.name = wh_p9_str("9P2000.L", 8);
	} else if (t.type == WH_P9_TATTACH) {
		r.type = WH_P9_TATTACH + 1;
		r.qid = (struct wh_p9_qid){ .path = 1, .type = WH_P9_QID_DIR };
	}
	r.tag = t.tag;
	int size = wh_p9_encode(WH_P9_DIALECT_2000L, &r, answer, sizeof answer);
	CHECK(size > 0);
	if (nonsense == 1)
		answer[4] ^= 0x55;
	wh_iov_write(chain->iov + chain->out_count, chain->in_count, 0, answer, (size_t)size);
	wh_virtq_device_push(&queues[FOLDER][0], chain->head,
			     nonsense == 2 ? UINT32_MAX : (uint32_t)size);
}

static bool give_input(struct wh_virtq_chain *chain)
{
	if (!input && !input_ended)
		return false;
	uint32_t n = input ? (uint32_t)wh_strlen(input) : 0;
	wh_iov_write(chain->iov, chain->in_count, 0, input, n);
	wh_virtq_device_push(&queues[CONSOLE][0], chain->head, n);
	input = NULL;
	return true;
}

/* Sets the device's queues up when its driver is ready. */
static bool start(int device)
{
	struct wh_shm_device *d = &regs[device];
	for (uint32_t i = 0; i < d->queue_count; i++) {
		struct wh_virtq_device_config c = { .mem = &memory,
						    .size = d->queue[i].size,
						    .desc = d->queue[i].desc,
						    .driver = d->queue[i].driver,
						    .device = d->queue[i].device,
						    .features = d->driver_features };
		if (!(d->status & WH_VIRTIO_STATUS_DRIVER_OK))
			return false;
		if (!wh_virtq_device_ready(&queues[device][i]))
			CHECK_EQ(wh_virtq_device_init(&queues[device][i], &c), 0);
	}
	return true;
}

static bool serve(int device, uint32_t queue)
{
	struct wh_iov iov[QUEUE];
	struct wh_virtq_chain chain = { .iov = iov, .iov_max = QUEUE };
	struct wh_virtq_device *q = &queues[device][queue];
	if (!start(device) || (queue && output_stopped))
		return false;
	int n = wh_virtq_device_pop(q, &chain);
	CHECK(n >= 0);
	if (!n)
		return false;
	if (device == FOLDER)
		serve_folder(&chain);
	else if (device != CONSOLE)
		serve_disk(device, &chain);
	else if (queue)
		serve_output(&chain);
	else if (!give_input(&chain)) {
		wh_virtq_device_unpop(q, 1);
		return false;
	}
	return true;
}

static bool devices_work(void)
{
	bool any = false;
	for (int d = 0; d < DEVICES; d++)
		for (uint32_t q = 0; q < regs[d].queue_count; q++)
			while (serve(d, q))
				any = true;
	return any;
}

static void add_device(int d, uint32_t id, const char *name, uint64_t features)
{
	regs[d] = (struct wh_shm_device){ .magic = WH_SHM_MAGIC,
					  .virtio_id = id,
					  .queue_count = d == CONSOLE ? 2 : 1,
					  .device_features = features | WH_VIRTIO_F_VERSION_1 |
							     WH_VIRTQ_F_EVENT_IDX };
	regs[d].queue[0].size_max = regs[d].queue[1].size_max = QUEUE;
	boot_devices[d] = (struct wh_boot_device){ .virtio_id = id,
						   .transport = WH_BOOT_TRANSPORT_SHM,
						   .regs = (uintptr_t)&regs[d] };
	memcpy(boot_devices[d].name, name, wh_strlen(name));
}

static void make_machine(void)
{
	add_device(CONSOLE, WH_VIRTIO_ID_CONSOLE, "", WH_CONSOLE_F_STREAMS);
	add_device(DISK, WH_VIRTIO_ID_BLK, "disk", WH_VIRTIO_BLK_F_FLUSH);
	add_device(SICK_DISK, WH_VIRTIO_ID_BLK, "sick", WH_VIRTIO_BLK_F_RO);
	add_device(FOLDER, WH_VIRTIO_ID_9P, "folder", 0);
	wh_store_le64(regs[DISK].config, DISK_SIZE / 512);
	wh_store_le64(regs[SICK_DISK].config, DISK_SIZE / 512);
	fake_boot.devices = (uintptr_t)boot_devices;
	fake_boot.device_count = DEVICES;
	fake_boot.mounts = (uintptr_t)&mount;
	fake_boot.mount_count = 1;
	fake_devices = devices_work;
	CHECK_EQ(wh_gmem_add(&memory, 4096, 1ull << 47, (uint8_t *)4096, true), 0);
	CHECK_EQ(drv_console_init(), 0);
	CHECK_EQ(fs_init(), 0);
	CHECK_EQ(drv_blk_init(), 0);
	CHECK_EQ(drv_9p_init(), 0);
	CHECK_EQ(fs_mount_9p_init(), 0);
}

/* ---- cases ---- */

static void output_keeps_its_order(void)
{
	CHECK_EQ(wh_sys_write(1, "one ", 4), 4);
	CHECK_EQ(wh_sys_write(2, "two ", 4), 4);
	CHECK_EQ(wh_sys_write(1, "three", 5), 5);
	CHECK_EQ(output_size, 0); /* nobody has waited */
	devices_work();
	CHECK_EQ(output_size, 13);
	CHECK_MEM(output, "one TWO\0three", 13);
	output_size = 0;
	static char block[150000];
	for (uint32_t i = 0; i < sizeof block; i++)
		block[i] = (char)(i * 7);
	uint64_t seed = test_seed();
	for (uint32_t at = 0, n; at < sizeof block; at += n) {
		n = 1 + (uint32_t)(wh_random_next(&seed) % (at % 5 ? 300 : 20000));
		if (n > sizeof block - at)
			n = sizeof block - at;
		CHECK_EQ(wh_sys_write(1, block + at, n), n);
	}
	devices_work();
	CHECK_EQ(output_size, sizeof block);
	CHECK_MEM(output, block, sizeof block);
}

static void a_full_ring_makes_a_writer_wait(void)
{
	static char block[20000];
	output_size = 0;
	output_stopped = true;
	CHECK_EQ(wh_sys_fcntl(1, 4, LX_O_NONBLOCK), 0);
	long n = wh_sys_write(1, block, sizeof block);
	CHECK(n > 4000 && n <= 8192);
	CHECK_EQ(wh_sys_write(1, block, 1000), -WH_EAGAIN);
	CHECK_EQ(wh_sys_fcntl(1, 4, 0), 0);
	CHECK_EQ(wh_sys_write(1, block, 1000), -WH_EINTR);
	CHECK_EQ(drv_console_poll() & LX_POLLOUT, 0);
	output_stopped = false;
	CHECK_EQ(wh_sys_write(1, block, 1000), 1000);
	devices_work();
	CHECK_EQ(output_size, n + 1000);
	CHECK_EQ(drv_console_poll() & LX_POLLOUT, LX_POLLOUT);
}

static void input_comes_and_ends(void)
{
	char text[16] = "";
	CHECK_EQ(wh_sys_read(0, text, sizeof text), -WH_EINTR);
	input = "hello";
	CHECK_EQ(wh_sys_read(0, text, 2), 2);
	CHECK_EQ(drv_console_poll() & LX_POLLIN, LX_POLLIN);
	CHECK_EQ(wh_sys_read(0, text + 2, 14), 3);
	CHECK_STR(text, "hello");
	for (int i = 0; i < 20; i++) { /* more lines than buffers */
		input = "line";
		CHECK_EQ(wh_sys_read(0, text, sizeof text), 4);
	}
	CHECK_EQ(drv_console_poll() & LX_POLLIN, 0);
	input_ended = true;
	CHECK_EQ(wh_sys_read(0, text, sizeof text), 0);
	CHECK_EQ(wh_sys_read(0, text, sizeof text), 0);
}

static void disks_agree_with_memory(void)
{
	static uint8_t model[DISK_SIZE], data[20000], back[20000];
	uint64_t seed = test_seed();
	int fd = (int)wh_sys_open("/dev/disk", LX_O_RDWR, 0);
	CHECK(fd >= 0);
	CHECK_EQ(wh_sys_lseek(fd, 0, LX_SEEK_END), DISK_SIZE);
	for (int i = 0; i < 3000; i++) {
		uint64_t r = wh_random_next(&seed);
		int64_t at = (int64_t)(r % (DISK_SIZE + 600));
		size_t size = (r >> 24) % (r >> 60 ? 2000 : sizeof data);
		size_t fits = at >= DISK_SIZE                   ? 0
			      : size < DISK_SIZE - (uint64_t)at ? size
								: DISK_SIZE - (uint64_t)at;
		if (r >> 40 & 1) {
			for (size_t k = 0; k < size; k++)
				data[k] = (uint8_t)wh_random_next(&seed);
			CHECK_EQ(wh_sys_pwrite64(fd, data, size, at),
				 fits || !size ? (long)fits : -WH_ENOSPC);
			memcpy(model + at * (fits != 0), data, fits);
		} else {
			CHECK_EQ(wh_sys_pread64(fd, back, size, at), fits);
			CHECK_MEM(back, model + at * (fits != 0), fits);
		}
	}
	CHECK_MEM(disk, model, DISK_SIZE);
	CHECK_EQ(wh_sys_fsync(fd), 0);
	CHECK_EQ(flushes, 1);
	wh_sys_close(fd);
}

static void disk_errors_are_io_errors(void)
{
	char byte;
	CHECK_EQ(wh_sys_open("/dev/sick", LX_O_RDWR, 0), -WH_EROFS);
	int fd = (int)wh_sys_open("/dev/sick", 0, 0);
	CHECK_EQ(wh_sys_read(fd, &byte, 1), -WH_EIO);
	CHECK_EQ(wh_sys_write(fd, &byte, 1), -WH_EBADF);
	wh_sys_close(fd);
	struct drv_blk *b = drv_blk_get(0);
	CHECK_EQ(drv_blk_discard(b, 0, 1, false), -WH_EOPNOTSUPP);
	CHECK_EQ(drv_blk_read(b, DISK_SIZE / 512, &byte, 1), -WH_ENOSPC);
	/* An answer to what nobody asked: the device is given up. */
	uint8_t sector[512];
	uint8_t *used = (uint8_t *)regs[SICK_DISK].queue[0].device;
	uint16_t index = wh_load_le16(used + 2);
	wh_store_le32(used + 4 + 8 * (index % QUEUE), 9999);
	wh_store_le16(used + 2, (uint16_t)(index + 1));
	CHECK_EQ(drv_blk_read(drv_blk_get(1), 0, sector, 1), -WH_EIO);
	CHECK_EQ(drv_blk_read(drv_blk_get(1), 0, sector, 1), -WH_EIO);
}

static void a_folder_passes_errors_on_and_ends_on_nonsense(void)
{
	struct fs_stat st;
	CHECK_EQ(wh_sys_stat("/folder/x", &st), -WH_EDQUOT);
	CHECK_EQ(wh_sys_mkdir("/folder/x", 0755), -WH_EDQUOT);
	nonsense = 2; /* claims to have written more than there was room for */
	CHECK_EQ(wh_sys_stat("/folder/x", &st), -WH_EDQUOT);
	nonsense = 1;
	CHECK_EQ(wh_sys_stat("/folder/x", &st), -WH_EIO);
	nonsense = 0;
	CHECK_EQ(wh_sys_stat("/folder/x", &st), -WH_EIO);
	CHECK_EQ(wh_sys_stat("/tmp", &st), 0);
}

int main(void)
{
	RUN(make_machine);
	RUN(output_keeps_its_order);
	RUN(a_full_ring_makes_a_writer_wait);
	RUN(input_comes_and_ends);
	RUN(disks_agree_with_memory);
	RUN(disk_errors_are_io_errors);
	RUN(a_folder_passes_errors_on_and_ends_on_nonsense);
	return test_end();
}
