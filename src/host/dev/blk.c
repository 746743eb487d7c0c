/* SPDX-License-Identifier: ISC */
/*
 * virtio-blk. A request is a chain: 16 bytes of head, data, and one byte of status at the very
 * end of the in buffers. The head is copied and checked; data moves between guest memory and the
 * image without a copy. A chain without room for head or status cannot be answered and breaks the
 * queue; all else is answered in the status.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/dev_blk.h>
#include <wherry/virtio.h>

#define QUEUE_SIZE 128u
#define SEGMENTS_MAX (QUEUE_SIZE - 2)       /* data buffers of a request */
#define ZERO_SECTORS_MAX ((1u << 30) / 512) /* of one discard or write-zeroes segment */
#define ZERO_SEGMENTS_MAX 16u
#define SEGMENT_UNMAP 1u
#define BURST_NS 10000000u /* how far ahead of its rate a guest may be */
#define NS_PER_S 1000000000ull

struct request {
	struct wh_dev_blk *blk;
	struct request *next; /* free list */
	struct wh_block_request q;
	uint32_t life; /* of the device when it was taken */
	uint16_t head, queue;
	bool in_flight;
	uint32_t written; /* bytes of data for the guest, when it succeeds */
	uint8_t *status;  /* in guest memory */
	uint32_t segment, segment_count;
	uint8_t segments[ZERO_SEGMENTS_MAX * WH_VIRTIO_BLK_SEGMENT_SIZE]; /* a copy */
	struct wh_iov iov[QUEUE_SIZE];
};

struct wh_dev_blk {
	struct wh_virtio_device dev;
	struct wh_block *block;
	uint32_t life; /* goes up at each reset */
	uint32_t in_flight;
	uint32_t request_count; /* QUEUE_SIZE a queue */
	bool burst;             /* inside notify: one interrupt at its end */
	/* Limits: when the requests so far would all have been served at the rate asked for. */
	uint64_t requests_per_s, bytes_per_s, requests_until_ns, bytes_until_ns;
	struct wh_loop *loop;
	struct wh_loop_timer timer;
	uint32_t held; /* queues that wait for it, one bit each */
	char serial[WH_VIRTIO_BLK_ID_SIZE];
	struct request *free_list;
	uint32_t taken; /* requests that were ever used: the others' memory is not touched */
	struct request requests[];
};

static struct request *request_get(struct wh_dev_blk *b)
{
	struct request *r = b->free_list;
	if (r) {
		b->free_list = r->next;
		return r;
	}
	wh_assert(b->taken < b->request_count);
	r = &b->requests[b->taken++];
	r->blk = b;
	return r;
}

static bool request_left(const struct wh_dev_blk *b)
{
	return b->free_list || b->taken < b->request_count;
}

static void release(struct request *r)
{
	struct wh_dev_blk *b = r->blk;
	r->next = b->free_list;
	b->free_list = r;
}

static void answer(struct request *r, uint8_t status)
{
	struct wh_dev_blk *b = r->blk;
	uint32_t written = status == WH_VIRTIO_BLK_S_OK ? r->written + 1 : 1;
	*r->status = status;
	wh_virtio_push(&b->dev, r->queue, r->head, written);
	release(r);
	if (!b->burst)
		wh_virtio_raise(&b->dev, r->queue);
}

static uint8_t status_of(int result)
{
	if (result >= 0)
		return WH_VIRTIO_BLK_S_OK;
	return result == -WH_EOPNOTSUPP ? WH_VIRTIO_BLK_S_UNSUPP : WH_VIRTIO_BLK_S_IOERR;
}

static bool next_segment(struct request *r);

static void block_done(struct wh_block_request *q, int result)
{
	struct request *r = WH_CONTAINER_OF(q, struct request, q);
	struct wh_dev_blk *b = r->blk;
	wh_assert(r->in_flight && b->in_flight);
	r->in_flight = false;
	b->in_flight--;
	if (r->life != b->life) { /* the device was reset meanwhile: nobody waits */
		release(r);
		if (!b->in_flight && b->dev.resetting)
			wh_virtio_reset_done(&b->dev);
		return;
	}
	if (result >= 0 && r->segment < r->segment_count) {
		next_segment(r);
		return;
	}
	answer(r, status_of(result));
}

static void submit(struct request *r)
{
	r->in_flight = true;
	r->blk->in_flight++;
	r->q.done = block_done;
	wh_block_submit(r->blk->block, &r->q);
}

/* Byte offset of a range of sectors; false = outside the disk. */
static bool range(const struct wh_dev_blk *b, uint64_t sector, uint64_t size, uint64_t *ret_offset)
{
	uint64_t offset;
	if (wh_mul_overflows(sector, 512, &offset) ||
	    !wh_range_inside(offset, size, wh_block_size(b->block)))
		return false;
	*ret_offset = offset;
	return true;
}

static void transfer(struct request *r, const struct wh_virtq_chain *c, uint64_t sector, bool write)
{
	/* out: head, data; in: data, status */
	uint64_t size = write ? c->out_size - WH_VIRTIO_BLK_REQ_SIZE : c->in_size - 1;
	int n = write ? wh_iov_slice(c->iov, c->out_count, WH_VIRTIO_BLK_REQ_SIZE, size, r->iov,
				     QUEUE_SIZE)
		      : wh_iov_slice(c->iov + c->out_count, c->in_count, 0, size, r->iov,
				     QUEUE_SIZE);
	wh_assert(n >= 0);
	r->q = (struct wh_block_request){ .op = write ? WH_BLOCK_WRITE : WH_BLOCK_READ,
					  .size = size,
					  .iov = r->iov,
					  .iov_count = (uint32_t)n };
	if (size % 512 || !range(r->blk, sector, size, &r->q.offset)) {
		answer(r, WH_VIRTIO_BLK_S_IOERR);
		return;
	}
	r->written = write ? 0 : (uint32_t)size;
	submit(r);
}

/* Starts the next range of a discard or write-zeroes; all were checked before the first. */
static bool next_segment(struct request *r)
{
	const uint8_t *s = r->segments + r->segment++ * WH_VIRTIO_BLK_SEGMENT_SIZE;
	bool unmap = wh_load_le32(s + WH_VIRTIO_BLK_SEGMENT_FLAGS) & SEGMENT_UNMAP;
	r->q.offset = wh_load_le64(s + WH_VIRTIO_BLK_SEGMENT_SECTOR) * 512;
	r->q.size = wh_load_le32(s + WH_VIRTIO_BLK_SEGMENT_COUNT) * 512ull;
	r->q.flags = unmap ? WH_BLOCK_UNMAP : 0;
	submit(r);
	return true;
}

static uint8_t check_segments(const struct request *r, bool discard)
{
	for (uint32_t i = 0; i < r->segment_count; i++) {
		const uint8_t *s = r->segments + i * WH_VIRTIO_BLK_SEGMENT_SIZE;
		uint32_t flags = wh_load_le32(s + WH_VIRTIO_BLK_SEGMENT_FLAGS);
		uint32_t count = wh_load_le32(s + WH_VIRTIO_BLK_SEGMENT_COUNT);
		uint64_t offset;
		if (flags & ~SEGMENT_UNMAP || (discard && flags)) /* 5.2.6.2 */
			return WH_VIRTIO_BLK_S_UNSUPP;
		if (count > ZERO_SECTORS_MAX ||
		    !range(r->blk, wh_load_le64(s + WH_VIRTIO_BLK_SEGMENT_SECTOR), count * 512ull,
			   &offset))
			return WH_VIRTIO_BLK_S_IOERR;
	}
	return WH_VIRTIO_BLK_S_OK;
}

static void zero(struct request *r, const struct wh_virtq_chain *c, bool discard)
{
	uint64_t size = c->out_size - WH_VIRTIO_BLK_REQ_SIZE;
	uint8_t status = WH_VIRTIO_BLK_S_IOERR;
	if (size && size % WH_VIRTIO_BLK_SEGMENT_SIZE == 0 && size <= sizeof r->segments) {
		wh_iov_read(c->iov, c->out_count, WH_VIRTIO_BLK_REQ_SIZE, r->segments, size);
		r->segment_count = (uint32_t)size / WH_VIRTIO_BLK_SEGMENT_SIZE;
		status = check_segments(r, discard);
	}
	if (status != WH_VIRTIO_BLK_S_OK) {
		answer(r, status);
		return;
	}
	r->q = (struct wh_block_request){ .op = discard ? WH_BLOCK_DISCARD
							: WH_BLOCK_WRITE_ZEROES };
	next_segment(r);
}

static void get_id(struct request *r, const struct wh_virtq_chain *c)
{
	struct wh_dev_blk *b = r->blk;
	uint64_t room = c->in_size - 1;
	uint32_t n = room < sizeof b->serial ? (uint32_t)room : (uint32_t)sizeof b->serial;
	r->written = (uint32_t)wh_iov_write(c->iov + c->out_count, c->in_count, 0, b->serial, n);
	answer(r, WH_VIRTIO_BLK_S_OK);
}

/* The place of the status byte: the last one of the in buffers. */
static uint8_t *status_byte(const struct wh_virtq_chain *c)
{
	const struct wh_iov *last = &c->iov[c->out_count + c->in_count - 1];
	return (uint8_t *)last->base + last->size - 1;
}

static void take(struct wh_dev_blk *b, uint32_t queue, const struct wh_virtq_chain *c)
{
	uint8_t head[WH_VIRTIO_BLK_REQ_SIZE];
	if (c->out_size < sizeof head || !c->in_size) {
		wh_virtio_broken(&b->dev, "a request without head or status");
		return;
	}
	struct request *r = request_get(b);
	r->life = b->life;
	r->head = c->head;
	r->queue = (uint16_t)queue;
	r->written = r->segment = r->segment_count = 0;
	r->status = status_byte(c);
	wh_iov_read(c->iov, c->out_count, 0, head, sizeof head);
	uint64_t sector = wh_load_le64(head + WH_VIRTIO_BLK_REQ_SECTOR);
	switch (wh_load_le32(head + WH_VIRTIO_BLK_REQ_TYPE)) {
	case WH_VIRTIO_BLK_T_IN:
		transfer(r, c, sector, false);
		break;
	case WH_VIRTIO_BLK_T_OUT:
		transfer(r, c, sector, true);
		break;
	case WH_VIRTIO_BLK_T_FLUSH:
		r->q = (struct wh_block_request){ .op = WH_BLOCK_FLUSH };
		submit(r);
		break;
	case WH_VIRTIO_BLK_T_DISCARD:
		zero(r, c, true);
		break;
	case WH_VIRTIO_BLK_T_WRITE_ZEROES:
		zero(r, c, false);
		break;
	case WH_VIRTIO_BLK_T_GET_ID:
		get_id(r, c);
		break;
	default:
		answer(r, WH_VIRTIO_BLK_S_UNSUPP);
	}
}

/* ---- limits ---- */

static void charge(uint64_t *until_ns, uint64_t now_ns, uint64_t rate, uint64_t amount)
{
	uint64_t ns = amount > UINT64_MAX / NS_PER_S ? UINT64_MAX / 2 : amount * NS_PER_S / rate;
	*until_ns = (*until_ns > now_ns ? *until_ns : now_ns) + ns;
}

static void account(struct wh_dev_blk *b, uint64_t bytes)
{
	if (!b->loop)
		return;
	uint64_t now_ns = wh_loop_now(b->loop);
	if (b->requests_per_s)
		charge(&b->requests_until_ns, now_ns, b->requests_per_s, 1);
	if (b->bytes_per_s)
		charge(&b->bytes_until_ns, now_ns, b->bytes_per_s, bytes);
}

/* Is the guest ahead of its rate? Then the queue is looked at again when it is not any more. */
static bool hold(struct wh_dev_blk *b, uint32_t queue)
{
	uint64_t until_ns =
		b->requests_until_ns > b->bytes_until_ns ? b->requests_until_ns : b->bytes_until_ns;
	if (!b->loop || until_ns <= wh_loop_now(b->loop) + BURST_NS)
		return false;
	b->held |= 1u << queue;
	wh_loop_timer_start(b->loop, &b->timer, until_ns - BURST_NS);
	return true;
}

static void release_held(struct wh_loop_timer *timer)
{
	struct wh_dev_blk *b = timer->ctx;
	uint32_t held = b->held;
	b->held = 0;
	for (uint32_t i = 0; i < WH_DEV_BLK_QUEUES_MAX; i++)
		if (held & 1u << i)
			wh_virtio_notify(&b->dev, i);
}

static void notify(void *ctx, uint32_t queue)
{
	struct wh_dev_blk *b = ctx;
	struct wh_iov iov[QUEUE_SIZE];
	struct wh_virtq_chain chain = { .iov = iov, .iov_max = QUEUE_SIZE };
	uint32_t left = WH_VIRTIO_TURN;
	b->burst = true;
	/* A driver that offers one head twice can have more in flight than the queue has entries. */
	for (; left && request_left(b) && !hold(b, queue) && wh_virtio_pop(&b->dev, queue, &chain);
	     left--) {
		account(b, (uint64_t)chain.in_size + chain.out_size);
		take(b, queue, &chain);
	}
	b->burst = false;
	if (!left)
		wh_virtio_again(&b->dev, queue);
	wh_virtio_raise(&b->dev, queue);
}

static bool reset(void *ctx)
{
	struct wh_dev_blk *b = ctx;
	b->life++;
	return !b->in_flight;
}

static void set_config(struct wh_dev_blk *b)
{
	uint8_t *c = b->dev.config;
	wh_store_le64(c + WH_VIRTIO_BLK_CONFIG_CAPACITY, wh_block_size(b->block) / 512);
	wh_store_le32(c + WH_VIRTIO_BLK_CONFIG_SEG_MAX, SEGMENTS_MAX);
	wh_store_le32(c + WH_VIRTIO_BLK_CONFIG_BLK_SIZE, 512);
	wh_store_le16(c + WH_VIRTIO_BLK_CONFIG_NUM_QUEUES, (uint16_t)b->dev.c.queue_count);
	wh_store_le32(c + WH_VIRTIO_BLK_CONFIG_DISCARD_SECTORS_MAX, ZERO_SECTORS_MAX);
	wh_store_le32(c + WH_VIRTIO_BLK_CONFIG_DISCARD_SEG_MAX, ZERO_SEGMENTS_MAX);
	wh_store_le32(c + WH_VIRTIO_BLK_CONFIG_DISCARD_ALIGN, 1);
	wh_store_le32(c + WH_VIRTIO_BLK_CONFIG_WRITE_ZEROES_SECTORS_MAX, ZERO_SECTORS_MAX);
	wh_store_le32(c + WH_VIRTIO_BLK_CONFIG_WRITE_ZEROES_SEG_MAX, ZERO_SEGMENTS_MAX);
	c[WH_VIRTIO_BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP] = 1;
}

int wh_dev_blk_new(const struct wh_dev_blk_config *config, struct wh_vmm_machine *machine,
		   struct wh_dev_blk **ret_blk, struct wh_diag *diag)
{
	static const struct wh_virtio_ops ops = { .notify = notify, .reset = reset };
	uint32_t queues = config->queues ? config->queues : 1;
	const char *serial = config->serial ? config->serial : config->name;
	if (queues > WH_DEV_BLK_QUEUES_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "disk %s: 1 to %u queues", config->name,
				   WH_DEV_BLK_QUEUES_MAX);
	wh_assert(config->loop || (!config->requests_per_s && !config->bytes_per_s));
	uint32_t requests = queues * QUEUE_SIZE;
	struct wh_dev_blk *b = calloc(1, sizeof *b + requests * sizeof b->requests[0]);
	if (!b)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for disk %s", config->name);
	b->request_count = requests;
	b->requests_per_s = config->requests_per_s;
	b->bytes_per_s = config->bytes_per_s;
	b->loop = b->requests_per_s || b->bytes_per_s ? config->loop : NULL;
	wh_loop_timer_init(&b->timer, release_held, b);
	struct wh_virtio_config v = { .virtio_id = WH_VIRTIO_ID_BLK,
				      .queue_count = queues,
				      .queue_size_max = QUEUE_SIZE,
				      .features = WH_VIRTIO_BLK_F_SEG_MAX |
						  WH_VIRTIO_BLK_F_BLK_SIZE | WH_VIRTIO_BLK_F_FLUSH,
				      .ops = &ops,
				      .ctx = b,
				      .log = config->log };
	if (wh_block_read_only(config->block))
		v.features |= WH_VIRTIO_BLK_F_RO;
	else
		v.features |= (config->no_discard ? 0 : WH_VIRTIO_BLK_F_DISCARD) |
			      WH_VIRTIO_BLK_F_WRITE_ZEROES;
	if (queues > 1)
		v.features |= WH_VIRTIO_BLK_F_MQ;
	b->block = config->block;
	memcpy(b->serial, serial, wh_strnlen(serial, sizeof b->serial));
	wh_virtio_init(&b->dev, &v);
	set_config(b);
	int r = wh_virtio_attach(&b->dev, machine, config->name, diag);
	if (r < 0) {
		free(b);
		return r;
	}
	*ret_blk = b;
	return 0;
}

uint32_t wh_dev_blk_busy(const struct wh_dev_blk *blk)
{
	return blk->in_flight;
}

void wh_dev_blk_free(struct wh_dev_blk *blk)
{
	if (!blk)
		return;
	wh_assert(!blk->in_flight);
	if (blk->loop)
		wh_loop_timer_stop(blk->loop, &blk->timer);
	free(blk);
}
