/* SPDX-License-Identifier: ISC */
/*
 * Guest memory is the input: rings, requests and data of one device, which is kicked, reset and kicked
 * again. The first two bytes choose the device and the features.
 */
#include <stdlib.h>
#include <wherry/abi/console.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/dev_9p.h>
#include <wherry/dev_balloon.h>
#include <wherry/dev_blk.h>
#include <wherry/dev_console.h>
#include <wherry/dev_net.h>
#include <wherry/dev_rng.h>
#include <wherry/dev_vsock.h>
#include <wherry/loop.h>

#include "../src/host/dev/test/fake_vmm.h"
#include "../src/portable/block/test/mem_file.h"

#define RINGS 0x1000u /* in RAM; the input begins here */
#define RING_SIZE 0x200u
#define ENTRIES 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned frames;

static int receive(struct wh_net_port *port, const struct wh_net_frame *f)
{
	wh_assert(f->size == wh_iov_size(f->iov, f->iov_count) &&
		  f->iov_count <= WH_NET_FRAME_IOV_MAX);
	if (f->flags & WH_NET_NEEDS_CSUM)
		wh_assert(f->csum_start + f->csum_offset + 2u <= f->size);
	return frames++ % 5 == 4 ? -WH_EAGAIN : 0;
}

static int p9_attach(void *ctx, struct wh_p9_request *q)
{
	q->fid->node = ctx;
	q->r.qid.type = WH_P9_QID_DIR;
	return 0;
}

static int p9_walk(void *ctx, struct wh_p9_request *q)
{
	q->r.name_count = q->t.name_count;
	q->fid2->node = ctx;
	return 0;
}

static int p9_nothing(void *ctx, struct wh_p9_request *q)
{
	return 0;
}

static int p9_fill(void *ctx, struct wh_p9_request *q)
{
	for (uint32_t i = 0; i < q->payload_count; i++)
		memset(q->payload[i].base, 0x41, q->payload[i].size);
	q->r.count = q->payload_size;
	return 0;
}

static void p9_clunk(void *ctx, struct wh_p9_fid *f)
{
}

static const struct wh_p9_fs_ops p9_ops = { .attach = p9_attach,
					    .walk = p9_walk,
					    .open = p9_nothing,
					    .read = p9_fill,
					    .getattr = p9_nothing,
					    .clunk = p9_clunk };

/* Everything that a driver may set, then twice through all the queues. The registers are memory that the
 * device's own buffers may lie in: they are not believed here either. */
static void drive(const uint8_t *data, size_t size, uint64_t features)
{
	static const uint64_t sets[] = { 0, WH_VIRTQ_F_EVENT_IDX, WH_VIRTQ_F_INDIRECT,
					 WH_VIRTQ_F_INDIRECT | WH_VIRTQ_F_EVENT_IDX };
	for (int life = 0; life < 2; life++) {
		memset(fake.ram + RINGS, 0, 0x10000);
		memcpy(fake.ram + RINGS, data, size < 0x10000 ? size : 0x10000);
		fake.shm->driver_features = WH_VIRTIO_F_VERSION_1 | sets[(features + life) % 4] |
					    (features & fake.shm->device_features);
		for (uint32_t i = 0; i < 2; i++) {
			uint64_t at = FAKE_RAM_START + RINGS + i * RING_SIZE;
			fake.shm->queue[i].size = ENTRIES;
			fake.shm->queue[i].desc = at;
			fake.shm->queue[i].driver = at + 16 * ENTRIES;
			fake.shm->queue[i].device = at + 16 * ENTRIES + 0x20;
		}
		fake.shm->status = WH_VIRTIO_STATUS_DRIVER_OK;
		for (int i = 0; i < 3; i++) {
			fake.shm->kick |= 7;
			fake.slot.ops.kicked(fake.slot.ctx);
		}
		if (fake.slot.ops.drain)
			fake.slot.ops.drain(fake.slot.ctx);
		fake_reset();
	}
}

static void net(const uint8_t *data, size_t size, uint64_t features)
{
	struct wh_dev_net_config c = { .size = sizeof c, .offloads = 15 };
	struct wh_dev_net *n;
	static uint8_t bytes[4000];
	struct wh_iov v = { bytes, sizeof bytes };
	struct wh_net_frame f = { .iov = &v, .iov_count = 1, .size = sizeof bytes };
	if (wh_dev_net_new(&c, fake_new(), &n, NULL) < 0)
		abort();
	struct wh_net_port *port = wh_dev_net_port(n);
	port->receive = receive;
	drive(data, size, features);
	drive(data, size, ~0ull);
	fake.shm->status = WH_VIRTIO_STATUS_DRIVER_OK;
	fake_kick(0);
	for (int i = 0; i < 4; i++)
		(void)port->send(port, &f);
	port->flush(port);
	port->resume(port);
	wh_dev_net_free(n);
	fake_free();
}

static void blk(const uint8_t *data, size_t size, uint64_t features, bool qcow2)
{
	struct mem_file m;
	struct wh_block *b;
	mem_file_init(&m);
	struct wh_block_qcow2_config q = { .size = sizeof q,
					   .disk_size = 64 << 10,
					   .cluster_size = 512 };
	struct wh_block_io grow = { .kind = WH_BLOCK_IO_RESIZE, .offset = 64 << 10 };
	struct wh_block_config c = { .size = sizeof c,
				     .file = m.file,
				     .format = qcow2 ? WH_BLOCK_FORMAT_QCOW2 : WH_BLOCK_FORMAT_RAW,
				     .alloc = &test_allocator };
	if ((qcow2 ? wh_block_qcow2_create(&m.file, &q, &test_allocator, NULL)
		   : m.file.ops->submit(&m, &grow)) < 0 ||
	    wh_block_open(&c, &b, NULL) < 0)
		abort();
	struct wh_dev_blk_config d = { .size = sizeof d, .block = b, .name = "disk" };
	struct wh_dev_blk *dev;
	if (wh_dev_blk_new(&d, fake_new(), &dev, NULL) < 0)
		abort();
	drive(data, size, features);
	wh_dev_blk_free(dev);
	if (wh_block_close(b) < 0)
		abort();
	if (qcow2) {
		struct image_check check;
		image_check(&m, &check);
		wh_assert(!check.errors && !check.leaks);
	}
	mem_file_fini(&m);
	fake_free();
}

static void others(const uint8_t *data, size_t size, uint64_t features, unsigned which)
{
	struct wh_dev_9p_config p = {
		.size = sizeof p, .tag = "t", .ops = &p9_ops, .ctx = &frames
	};
	struct wh_dev_console_config c = {
		.size = sizeof c, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
	};
	struct wh_dev_9p *p9 = NULL;
	struct wh_dev_console *console = NULL;
	struct wh_dev_rng *rng = NULL;
	int r = which == 0   ? wh_dev_9p_new(&p, fake_new(), &p9, NULL)
		: which == 1 ? wh_dev_console_new(&c, fake_new(), NULL, &console, NULL)
			     : wh_dev_rng_new(fake_new(), NULL, &rng, NULL);
	if (r < 0)
		abort();
	drive(data, size, features);
	wh_dev_9p_free(p9);
	wh_dev_console_free(console);
	wh_dev_rng_free(rng);
	fake_free();
}

/* The guest's CID is 3 here; nobody listens on the host. */
static void vsock_or_balloon(const uint8_t *data, size_t size, uint64_t features, bool vsock)
{
	struct wh_dev_vsock_config c = { .size = sizeof c };
	struct wh_dev_vsock *v = NULL;
	struct wh_dev_balloon *b = NULL;
	struct wh_loop *loop = NULL;
	if (wh_loop_new(&loop) < 0 || (vsock ? wh_dev_vsock_new(&c, fake_new(), loop, &v, NULL)
					     : wh_dev_balloon_new(fake_new(), NULL, &b, NULL)) < 0)
		abort();
	drive(data, size, features);
	wh_dev_vsock_free(v);
	wh_dev_balloon_free(b);
	wh_loop_free(loop);
	fake_free();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 4)
		return 0;
	uint64_t features = data[1] & 1 ? ~0ull : data[1] >> 1;
	uint8_t which = data[0] < 128 ? data[0] % 6 : 6 + data[0] % 2;
	frames = 0;
	if (which == 0)
		net(data + 4, size - 4, features);
	else if (which < 3)
		blk(data + 4, size - 4, features, which == 2);
	else if (which >= 6)
		vsock_or_balloon(data + 4, size - 4, features, which == 6);
	else
		others(data + 4, size - 4, features, which - 3u);
	wh_assert(!test_alloc_live());
	return 0;
}
