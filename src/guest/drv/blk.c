/* SPDX-License-Identifier: ISC */
#include <drv/blk.h>
#include <drv/virtio.h>
#include <kern/mem.h>
#include <kern/poll.h>
#include <kern/sched.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/virtio_wire.h>

#define ENTRIES 64u             /* 21 requests of 3 descriptors in flight */
#define TRANSFER_MAX (1u << 20) /* bytes of one request */
#define BOUNCE_SIZE (16u << 10) /* for buffers that devices cannot reach */

struct request {
	uint8_t header[WH_VIRTIO_BLK_REQ_SIZE];
	uint8_t status;
	bool done;
};

struct drv_blk {
	struct drv_virtio dev;
	struct wh_virtq_driver q;
	struct kern_waitq waitq; /* for answers, for free descriptors, for the lock */
	struct kern_poller poller;
	uint64_t sectors;
	uint32_t transfer_max; /* bytes */
	bool locked;
	bool broken; /* the device answered nonsense: every request ends with -WH_EIO */
	uint64_t ring[(26 * ENTRIES + 15) / 8 + 1] __attribute__((aligned(16)));
	struct wh_virtq_driver_slot slots[ENTRIES];
};

static struct drv_blk *devices[DRV_BLK_MAX];
static uint32_t device_count;

struct drv_blk *drv_blk_get(uint32_t index)
{
	return index < device_count ? devices[index] : NULL;
}

const char *drv_blk_name(const struct drv_blk *b)
{
	return b->dev.boot->name;
}

uint64_t drv_blk_sectors(const struct drv_blk *b)
{
	return b->sectors;
}

bool drv_blk_read_only(const struct drv_blk *b)
{
	return b->dev.features & WH_VIRTIO_BLK_F_RO;
}

/* Sleeps until something about the device changed; a pending signal cannot end it. */
static void wait(struct drv_blk *b)
{
	(void)kern_wait_uninterruptible(&b->waitq, KERN_FOREVER);
}

void drv_blk_lock(struct drv_blk *b)
{
	while (b->locked)
		wait(b);
	b->locked = true;
}

void drv_blk_unlock(struct drv_blk *b)
{
	wh_assert(b->locked);
	b->locked = false;
	kern_waitq_wake(&b->waitq, LX_POLLOUT, UINT32_MAX);
}

static bool take_answers(struct drv_blk *b)
{
	struct request *request;
	void *cookie;
	uint32_t written;
	int r;
	if (b->broken || !wh_virtq_driver_pending(&b->q))
		return false;
	do {
		while ((r = wh_virtq_driver_get(&b->q, &cookie, &written)) > 0)
			((struct request *)cookie)->done = true;
	} while (r == 0 && wh_virtq_driver_interrupts_on(&b->q));
	b->broken = r < 0;
	while (b->broken && (request = wh_virtq_driver_detach(&b->q))) {
		request->status = WH_VIRTIO_BLK_S_IOERR;
		request->done = true;
	}
	return true;
}

static uint64_t poll(struct kern_poller *poller, uint64_t now_ns)
{
	struct drv_blk *b = WH_CONTAINER_OF(poller, struct drv_blk, poller);
	if (take_answers(b))
		kern_waitq_wake(&b->waitq, LX_POLLIN, UINT32_MAX);
	return KERN_FOREVER;
}

static int submit(struct drv_blk *b, uint32_t type, uint64_t sector, void *data, size_t size,
		  bool device_writes)
{
	struct request r = { .status = WH_VIRTIO_BLK_S_IOERR };
	struct wh_iov iov[3] = { { r.header, sizeof r.header } };
	uint32_t n = 1;
	wh_store_le32(r.header + WH_VIRTIO_BLK_REQ_TYPE, type);
	wh_store_le64(r.header + WH_VIRTIO_BLK_REQ_SECTOR, sector);
	if (size)
		iov[n++] = (struct wh_iov){ data, size };
	iov[n] = (struct wh_iov){ &r.status, 1 };
	uint32_t in = 1 + (size && device_writes);
	int e = 0;
	while (!b->broken &&
	       (e = wh_virtq_driver_add(&b->q, iov, n + 1 - in, in, &r)) == -WH_EAGAIN)
		wait(b);
	if (b->broken || e < 0)
		return -WH_EIO;
	drv_virtio_kick(&b->dev, 0, &b->q);
	while (!__atomic_load_n(&r.done, __ATOMIC_RELAXED))
		wait(b);
	switch (__atomic_load_n(&r.status, __ATOMIC_RELAXED)) {
	case WH_VIRTIO_BLK_S_OK:
		return 0;
	case WH_VIRTIO_BLK_S_UNSUPP:
		return -WH_EOPNOTSUPP;
	default:
		return -WH_EIO;
	}
}

static int transfer(struct drv_blk *b, uint32_t type, uint64_t sector, uint8_t *data, size_t size)
{
	bool reads = type == WH_VIRTIO_BLK_T_IN;
	uint8_t *bounce = NULL;
	size_t step = b->transfer_max;
	int r = 0;
	if (!drv_in_ram(data, size)) {
		wh_assert(!reads);
		bounce = kern_alloc(BOUNCE_SIZE);
		if (!bounce)
			return -WH_ENOMEM;
		step = BOUNCE_SIZE;
	}
	while (size && r >= 0) {
		size_t n = size < step ? size : step;
		if (bounce)
			memcpy(bounce, data, n);
		r = submit(b, type, sector, bounce ? bounce : data, n, reads);
		data += n;
		size -= n;
		sector += n / DRV_BLK_SECTOR;
	}
	kern_free(bounce, BOUNCE_SIZE);
	return r;
}

static int check(const struct drv_blk *b, uint64_t sector, uint32_t count, bool writes)
{
	if (writes && drv_blk_read_only(b))
		return -WH_EROFS;
	return wh_range_inside(sector, count, b->sectors) ? 0 : -WH_ENOSPC;
}

int drv_blk_read(struct drv_blk *b, uint64_t sector, void *to, uint32_t count)
{
	int r = check(b, sector, count, false);
	return r < 0 ? r : transfer(b, WH_VIRTIO_BLK_T_IN, sector, to, (size_t)count * 512);
}

int drv_blk_write(struct drv_blk *b, uint64_t sector, const void *from, uint32_t count)
{
	int r = check(b, sector, count, true);
	return r < 0 ? r
		     : transfer(b, WH_VIRTIO_BLK_T_OUT, sector, (uint8_t *)(uintptr_t)from,
				(size_t)count * 512);
}

int drv_blk_flush(struct drv_blk *b)
{
	if (!(b->dev.features & WH_VIRTIO_BLK_F_FLUSH))
		return 0; /* a device without the feature writes through (5.2.5.2) */
	return submit(b, WH_VIRTIO_BLK_T_FLUSH, 0, NULL, 0, false);
}

int drv_blk_discard(struct drv_blk *b, uint64_t sector, uint32_t count, bool zero)
{
	uint8_t segment[WH_VIRTIO_BLK_SEGMENT_SIZE] = { 0 };
	int r = check(b, sector, count, true);
	if (r < 0)
		return r;
	if (!(b->dev.features & (zero ? WH_VIRTIO_BLK_F_WRITE_ZEROES : WH_VIRTIO_BLK_F_DISCARD)))
		return -WH_EOPNOTSUPP;
	wh_store_le64(segment + WH_VIRTIO_BLK_SEGMENT_SECTOR, sector);
	wh_store_le32(segment + WH_VIRTIO_BLK_SEGMENT_COUNT, count);
	return submit(b, zero ? WH_VIRTIO_BLK_T_WRITE_ZEROES : WH_VIRTIO_BLK_T_DISCARD, 0, segment,
		      sizeof segment, false);
}

static int start(struct drv_blk *b, const struct wh_boot_device *boot)
{
	const uint64_t features = WH_VIRTIO_BLK_F_SIZE_MAX | WH_VIRTIO_BLK_F_RO |
				  WH_VIRTIO_BLK_F_FLUSH | WH_VIRTIO_BLK_F_DISCARD |
				  WH_VIRTIO_BLK_F_WRITE_ZEROES;
	uint8_t le[8];
	int r = drv_virtio_open(&b->dev, boot);
	if (r >= 0)
		r = drv_virtio_start(&b->dev, features);
	if (r >= 0)
		r = drv_virtio_queue(&b->dev, 0, &b->q, ENTRIES, b->ring, b->slots);
	if (r < 0)
		return r;
	b->dev.transport->config_read(&b->dev, WH_VIRTIO_BLK_CONFIG_CAPACITY, le, 8);
	b->sectors = wh_load_le64(le);
	if (b->sectors > INT64_MAX / DRV_BLK_SECTOR)
		return -WH_ENODEV;
	b->transfer_max = TRANSFER_MAX;
	if (b->dev.features & WH_VIRTIO_BLK_F_SIZE_MAX) {
		b->dev.transport->config_read(&b->dev, WH_VIRTIO_BLK_CONFIG_SIZE_MAX, le, 4);
		uint32_t max = wh_load_le32(le) & ~(DRV_BLK_SECTOR - 1);
		if (max && max < b->transfer_max)
			b->transfer_max = max;
	}
	kern_waitq_init(&b->waitq);
	b->poller.poll = poll;
	b->dev.transport->driver_ok(&b->dev);
	kern_poller_add(&b->poller);
	return 0;
}

int drv_blk_init(void)
{
	const struct wh_boot_device *boot;
	for (uint32_t i = 0; i < DRV_BLK_MAX; i++) {
		boot = drv_virtio_find(WH_VIRTIO_ID_BLK, i);
		if (!boot)
			break;
		struct drv_blk *b = kern_alloc_zero(sizeof *b);
		if (!b)
			return -WH_ENOMEM;
		int r = start(b, boot);
		if (r < 0) {
			kern_free(b, sizeof *b);
			return r;
		}
		devices[device_count++] = b;
	}
	return 0;
}
