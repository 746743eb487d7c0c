/* SPDX-License-Identifier: ISC */
/*
 * Transfer: requests and their replies (proto, "Transmission").
 *
 * A request is checked when its head is there. What cannot be done is answered at once; the data of a write
 * that is refused is read and thrown away. Data moves between the socket's buffer and the image without a copy.
 *
 * Requests that do not begin and end at sectors are for clients that did not ask for the block size. Reads
 * read more and send a part. Writes change a part of a sector: inside WH_BLOCK_QUIESCE, where nothing else
 * touches the image.
 */
#include <stdlib.h>

#include "nbd_priv.h"

struct nbd_request {
	struct nbd_out out;
	struct wh_nbd_conn *conn;
	struct nbd_request *next; /* free list */
	struct wh_block_request block;
	struct wh_iov iov;
	struct nbd_buffer *buffer; /* data, or the receive buffer where it lies */
	uint8_t *data;
	uint16_t command, flags;
	uint64_t cookie, offset, length;
	uint32_t data_size; /* counted in conn->bytes */
	bool flushing;      /* the flush after a write with FUA */
};

/* ---- memory ---- */

static struct nbd_request *request_get(struct wh_nbd_conn *c)
{
	struct nbd_request *q = c->free_requests;
	if (q)
		c->free_requests = q->next;
	else
		q = malloc(sizeof *q);
	if (!q)
		return NULL;
	q->conn = c;
	q->buffer = NULL;
	q->data = NULL;
	q->data_size = 0;
	q->flushing = false;
	q->out.body = NULL;
	q->out.body_size = 0;
	c->requests++;
	return q;
}

static void drop_data(struct nbd_request *q)
{
	nbd_buffer_unref(&q->conn->buffers, q->buffer);
	q->buffer = NULL;
	q->conn->bytes -= q->data_size;
	q->data_size = 0;
}

void nbd_request_free(struct nbd_request *q)
{
	struct wh_nbd_conn *c = q->conn;
	drop_data(q);
	wh_assert(c->requests);
	c->requests--;
	q->next = c->free_requests;
	c->free_requests = q;
}

void nbd_requests_fini(struct wh_nbd_conn *c)
{
	while (c->free_requests) {
		struct nbd_request *q = c->free_requests;
		c->free_requests = q->next;
		free(q);
	}
}

uint8_t *nbd_request_payload(struct nbd_request *q, uint32_t *ret_size)
{
	*ret_size = (uint32_t)q->length;
	return q->data;
}

/* ---- replies ---- */

static void reply_sent(struct wh_nbd_conn *c, struct nbd_out *out)
{
	nbd_request_free(WH_CONTAINER_OF(out, struct nbd_request, out));
}

/* The head of a chunk with `size` bytes of payload, of which the caller stores some behind it. */
static uint8_t *chunk_head(struct nbd_request *q, uint16_t type, uint64_t size)
{
	uint8_t *h = q->out.head;
	bool extended = q->conn->extended;
	wh_store_be32(h, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
	wh_store_be16(h + 4, NBD_REPLY_FLAG_DONE);
	wh_store_be16(h + 6, type);
	wh_store_be64(h + 8, q->cookie);
	if (extended) {
		wh_store_be64(h + 16, q->offset);
		wh_store_be64(h + 24, size);
	} else {
		wh_store_be32(h + 16, (uint32_t)size);
	}
	q->out.head_size = extended ? NBD_EXTENDED_REPLY_SIZE : NBD_STRUCTURED_REPLY_SIZE;
	return h + q->out.head_size;
}

static void send_out(struct nbd_request *q)
{
	q->out.sent = reply_sent;
	nbd_send(q->conn, &q->out);
}

static uint32_t wire_error(int result)
{
	switch (-result) {
	case WH_EPERM:
	case WH_EROFS:
		return NBD_EPERM;
	case WH_ENOMEM:
		return NBD_ENOMEM;
	case WH_EINVAL:
		return NBD_EINVAL;
	case WH_ENOSPC:
	case WH_EDQUOT:
	case WH_EFBIG:
		return NBD_ENOSPC;
	case WH_EOVERFLOW:
		return NBD_EOVERFLOW;
	case WH_EOPNOTSUPP:
		return NBD_ENOTSUP;
	default:
		return NBD_EIO;
	}
}

/* A reply without data: success (0) or an error of the wire. */
static void answer(struct nbd_request *q, uint32_t error)
{
	struct wh_nbd_conn *c = q->conn;
	drop_data(q);
	q->out.body = NULL;
	q->out.body_size = 0;
	/* Only reads and block status must be answered in chunks, but extended headers know nothing else. */
	if (!c->extended && !(c->structured &&
			      (q->command == NBD_CMD_READ || q->command == NBD_CMD_BLOCK_STATUS))) {
		uint8_t *h = q->out.head;
		wh_store_be32(h, NBD_SIMPLE_REPLY_MAGIC);
		wh_store_be32(h + 4, error);
		wh_store_be64(h + 8, q->cookie);
		q->out.head_size = NBD_SIMPLE_REPLY_SIZE;
	} else if (error) {
		uint8_t *p = chunk_head(q, NBD_REPLY_ERROR, 6);
		wh_store_be32(p, error);
		wh_store_be16(p + 4, 0); /* no text */
		q->out.head_size += 6;
	} else {
		chunk_head(q, NBD_REPLY_NONE, 0);
	}
	send_out(q);
}

static void answer_read(struct nbd_request *q)
{
	struct wh_nbd_conn *c = q->conn;
	if (c->structured || c->extended) {
		uint8_t *p = chunk_head(q, NBD_REPLY_OFFSET_DATA, 8 + q->length);
		wh_store_be64(p, q->offset);
		q->out.head_size += 8;
	} else {
		uint8_t *h = q->out.head;
		wh_store_be32(h, NBD_SIMPLE_REPLY_MAGIC);
		wh_store_be32(h + 4, 0);
		wh_store_be64(h + 8, q->cookie);
		q->out.head_size = NBD_SIMPLE_REPLY_SIZE;
	}
	q->out.body = q->data + q->offset % WH_BLOCK_SECTOR;
	q->out.body_size = q->length;
	send_out(q);
}

/* ---- the image ---- */

static void submit(struct nbd_request *q)
{
	q->conn->in_image++;
	wh_block_submit(q->conn->export->block, &q->block);
}

static void block_done(struct wh_block_request *b, int result)
{
	struct nbd_request *q = WH_CONTAINER_OF(b, struct nbd_request, block);
	struct wh_nbd_conn *c = q->conn;
	wh_assert(c->in_image);
	c->in_image--;
	bool changes = q->command == NBD_CMD_WRITE || q->command == NBD_CMD_TRIM ||
		       q->command == NBD_CMD_WRITE_ZEROES;
	if (result >= 0 && changes && q->flags & NBD_CMD_FLAG_FUA && !q->flushing) {
		q->flushing = true;
		b->op = WH_BLOCK_FLUSH;
		b->flags = 0;
		b->offset = b->size = 0;
		submit(q);
		return;
	}
	if (result >= 0 && q->command == NBD_CMD_READ)
		answer_read(q);
	else
		answer(q, result < 0 ? wire_error(result) : 0);
	if (c->dead && !c->in_image && !c->active && c->config.changed)
		c->config.changed(c->config.ctx); /* it may be freed now */
}

/* A write of parts of sectors: read around it, change, write, while the image does nothing else. */
static int write_around(struct nbd_request *q)
{
	struct wh_nbd_conn *c = q->conn;
	struct wh_block *b = c->export->block;
	uint64_t begin = wh_align_down(q->offset, WH_BLOCK_SECTOR);
	uint64_t end = wh_align_up(q->offset + q->length, WH_BLOCK_SECTOR), size = end - begin;
	struct nbd_buffer *whole = nbd_buffer_get(&c->buffers, size);
	if (!whole)
		return -WH_ENOMEM;
	int r = wh_block_do(b, WH_BLOCK_READ, begin, whole->data, WH_BLOCK_SECTOR, 0);
	if (r >= 0 && size > WH_BLOCK_SECTOR)
		r = wh_block_do(b, WH_BLOCK_READ, end - WH_BLOCK_SECTOR,
				whole->data + size - WH_BLOCK_SECTOR, WH_BLOCK_SECTOR, 0);
	if (r >= 0) {
		uint8_t *at = whole->data + (q->offset - begin);
		if (q->command == NBD_CMD_WRITE)
			memcpy(at, q->data, q->length);
		else
			memset(at, 0, q->length);
		r = wh_block_do(b, WH_BLOCK_WRITE, begin, whole->data, size, 0);
	}
	nbd_buffer_unref(&c->buffers, whole);
	return r;
}

static void quiet(struct wh_block_request *b, int result)
{
	struct nbd_request *q = WH_CONTAINER_OF(b, struct nbd_request, block);
	block_done(b, result < 0 ? result : write_around(q));
}

/* Fills in what the image is asked for; the range is inside the disk. */
static void to_image(struct nbd_request *q, enum wh_block_op op, uint32_t flags)
{
	uint64_t begin = q->offset, end = q->offset + q->length;
	bool odd = (begin | end) % WH_BLOCK_SECTOR;
	if (odd && op == WH_BLOCK_DISCARD) { /* a hint: whole sectors only */
		begin = wh_align_up(begin, WH_BLOCK_SECTOR);
		end = wh_align_down(end, WH_BLOCK_SECTOR);
		end = end < begin ? begin : end;
	} else if (odd && op == WH_BLOCK_READ) {
		begin = wh_align_down(begin, WH_BLOCK_SECTOR);
		end = wh_align_up(end, WH_BLOCK_SECTOR);
	}
	q->iov = (struct wh_iov){ q->data, end - begin };
	q->block.op = op;
	q->block.flags = flags;
	q->block.offset = begin;
	q->block.size = end - begin;
	q->block.iov = &q->iov;
	q->block.iov_count = q->data ? 1 : 0;
	q->block.done = block_done;
	if (odd && (op == WH_BLOCK_WRITE || op == WH_BLOCK_WRITE_ZEROES)) {
		if (q->length >
		    WH_NBD_PAYLOAD_MAX) { /* zeroes of any length, but these are copied */
			answer(q, NBD_EINVAL);
			return;
		}
		q->block.op = WH_BLOCK_QUIESCE;
		q->block.flags = 0;
		q->block.offset = q->block.size = 0;
		q->block.done = quiet;
	}
	submit(q);
}

/* ---- block status ---- */

static uint32_t status_of(const struct wh_block_extent *x, uint32_t context)
{
	bool present = x->flags & WH_BLOCK_MAP_PRESENT;
	if (context == NBD_CONTEXT_DEPTH)
		return present ? x->depth + 1 : 0;
	if (x->flags & WH_BLOCK_MAP_DATA)
		return 0;
	/* A place is reserved: zeroes, but no hole. */
	return NBD_STATE_ZERO | (x->flags & WH_BLOCK_MAP_HOST ? 0 : NBD_STATE_HOLE);
}

/* Descriptors of one context from q->offset on, at `to`; returns how many. */
static int describe(struct nbd_request *q, uint32_t context, uint8_t *to, uint32_t max)
{
	struct wh_nbd_conn *c = q->conn;
	uint64_t at = q->offset, end = q->offset + q->length, run = 0;
	uint32_t width = c->extended ? 8 : 4, n = 0, status = 0;
	while (at < end) {
		struct wh_block_extent x;
		int r = wh_block_map(c->export->block, at, end - at, WH_BLOCK_CHAIN_MAX, &x);
		if (r == -WH_EOPNOTSUPP) { /* it does not know: it may be data */
			x = (struct wh_block_extent){
				.size = end - at, .flags = WH_BLOCK_MAP_PRESENT | WH_BLOCK_MAP_DATA
			};
			r = 0;
		}
		if (r < 0)
			return r;
		uint64_t size = x.size < end - at ? x.size : end - at;
		uint32_t s = status_of(&x, context);
		if (run && s != status) {
			if (n + 1 == max)
				break;
			n++;
			to += 2 * width;
			run = 0;
		}
		status = s;
		run += size;
		at += size;
		if (c->extended) {
			wh_store_be64(to, run);
			wh_store_be64(to + 8, status);
		} else {
			wh_store_be32(to, (uint32_t)run);
			wh_store_be32(to + 4, status);
		}
	}
	return (int)n + 1;
}

/* All chunks in one body; the first one's head is the reply's head. */
static void block_status(struct nbd_request *q)
{
	struct wh_nbd_conn *c = q->conn;
	uint32_t max = q->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : WH_NBD_EXTENTS_MAX;
	uint32_t width = c->extended ? 16 : 8, fixed = c->extended ? 8 : 4, left = c->contexts;
	uint32_t head = c->extended ? NBD_EXTENDED_REPLY_SIZE : NBD_STRUCTURED_REPLY_SIZE;
	q->buffer = nbd_buffer_get(&c->buffers, 2 * (head + fixed + (size_t)max * width));
	if (!q->buffer) {
		answer(q, NBD_ENOMEM);
		return;
	}
	uint8_t *p = q->buffer->data;
	for (uint32_t bit = 1; left; bit <<= 1) {
		if (!(left & bit))
			continue;
		left &= ~bit;
		int n = describe(q, bit, p + head + fixed, max);
		if (n < 0) {
			answer(q, wire_error(n));
			return;
		}
		uint64_t size = fixed + (uint64_t)n * width;
		chunk_head(q, c->extended ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS,
			   size);
		if (left)
			wh_store_be16(q->out.head + 4, 0); /* not the last one */
		memcpy(p, q->out.head, head);
		wh_store_be32(p + head, bit == NBD_CONTEXT_ALLOCATION ? 1 : 2);
		if (c->extended)
			wh_store_be32(p + head + 4, (uint32_t)n);
		p += head + size;
	}
	q->out.head_size = 0;
	q->out.body = q->buffer->data;
	q->out.body_size = (size_t)(p - q->buffer->data);
	send_out(q);
}

/* ---- commands ---- */

static uint16_t allowed_flags(const struct wh_nbd_conn *c, uint16_t command)
{
	bool chunks = c->structured || c->extended;
	switch (command) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA | (chunks ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE:
		return NBD_CMD_FLAG_FUA | (c->extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

/* 0 = may be done, or an error of the wire. */
static uint32_t check(const struct nbd_request *q)
{
	const struct wh_nbd_conn *c = q->conn;
	bool writes = q->command == NBD_CMD_WRITE || q->command == NBD_CMD_TRIM ||
		      q->command == NBD_CMD_WRITE_ZEROES;
	if (q->command > NBD_CMD_BLOCK_STATUS || q->command == NBD_CMD_DISC || q->command == 5)
		return NBD_EINVAL;
	if (q->flags & ~allowed_flags(c, q->command))
		return NBD_EINVAL;
	if (writes && c->read_only)
		return NBD_EPERM;
	if (q->command == NBD_CMD_FLUSH)
		return q->offset || q->length ? NBD_EINVAL : 0;
	if (!q->length)
		return NBD_EINVAL;
	if (!wh_range_inside(q->offset, q->length, c->export_size))
		return q->command == NBD_CMD_WRITE || q->command == NBD_CMD_WRITE_ZEROES
			       ? NBD_ENOSPC
			       : NBD_EINVAL;
	if ((q->command == NBD_CMD_READ || q->command == NBD_CMD_WRITE) &&
	    q->length > WH_NBD_PAYLOAD_MAX)
		return NBD_EOVERFLOW;
	if (q->command == NBD_CMD_BLOCK_STATUS && !c->contexts)
		return NBD_EINVAL;
	return 0;
}

/* A buffer for the data of a read, or of a write whose data has not come as a whole. */
static bool data_get(struct nbd_request *q, uint64_t size)
{
	q->buffer = nbd_buffer_get(&q->conn->buffers, size);
	if (!q->buffer)
		return false;
	q->data = q->buffer->data;
	q->data_size = (uint32_t)size;
	q->conn->bytes += size;
	return true;
}

static void begin_read(struct nbd_request *q)
{
	uint64_t first = wh_align_down(q->offset, WH_BLOCK_SECTOR);
	uint64_t last = wh_align_up(q->offset + q->length, WH_BLOCK_SECTOR);
	if (!data_get(q, last - first)) {
		answer(q, NBD_ENOMEM);
		return;
	}
	to_image(q, WH_BLOCK_READ, 0);
}

/* Where the data of a write is: as a whole behind its head, or (a part of it) still on its way. */
static void begin_write(struct nbd_request *q)
{
	struct wh_nbd_conn *c = q->conn;
	uint32_t there = c->rx_end - c->rx_at, size = (uint32_t)q->length;
	if (there >= size && !c->export->direct) {
		q->buffer = c->rx;
		q->buffer->refs++;
		q->data = c->rx->data + c->rx_at;
		q->data_size = size;
		c->bytes += size;
		c->rx_at += size;
		nbd_request_go(q);
		return;
	}
	if (!data_get(q, size)) {
		c->skip = size;
		c->phase = NBD_PHASE_SKIP;
		answer(q, NBD_ENOMEM);
		return;
	}
	if (there > size)
		there = size;
	if (there)
		memcpy(q->data, c->rx->data + c->rx_at, there);
	c->rx_at += there;
	c->received = there;
	c->receiving = q;
	c->phase = NBD_PHASE_PAYLOAD;
}

void nbd_request_go(struct nbd_request *q)
{
	to_image(q, WH_BLOCK_WRITE, 0);
}

static void begin(struct nbd_request *q)
{
	switch (q->command) {
	case NBD_CMD_READ:
		begin_read(q);
		break;
	case NBD_CMD_WRITE:
		begin_write(q);
		break;
	case NBD_CMD_FLUSH:
		to_image(q, WH_BLOCK_FLUSH, 0);
		break;
	case NBD_CMD_TRIM:
		to_image(q, WH_BLOCK_DISCARD, 0);
		break;
	case NBD_CMD_WRITE_ZEROES:
		to_image(q, WH_BLOCK_WRITE_ZEROES,
			 (q->flags & NBD_CMD_FLAG_NO_HOLE ? 0 : WH_BLOCK_UNMAP) |
				 (q->flags & NBD_CMD_FLAG_FAST_ZERO ? WH_BLOCK_FAST : 0));
		break;
	default:
		wh_assert(q->command == NBD_CMD_BLOCK_STATUS);
		block_status(q);
	}
}

void nbd_request_head(struct wh_nbd_conn *c, const uint8_t *head)
{
	bool extended = c->extended;
	uint16_t flags = wh_load_be16(head + 4), command = wh_load_be16(head + 6);
	if (wh_load_be32(head) != (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC)) {
		nbd_broken(c, "no request where one must be");
		return;
	}
	if (command == NBD_CMD_DISC) { /* what is in flight is done, nothing is answered */
		c->phase = NBD_PHASE_END;
		return;
	}
	uint64_t length = extended ? wh_load_be64(head + 24) : wh_load_be32(head + 24);
	bool payload = command == NBD_CMD_WRITE || (extended && flags & NBD_CMD_FLAG_PAYLOAD_LEN);
	if (payload && length > 2ull * WH_NBD_PAYLOAD_MAX) {
		nbd_broken(c, "a write that is too long to be read");
		return;
	}
	struct nbd_request *q = request_get(c);
	if (!q) {
		nbd_broken(c, "no memory");
		return;
	}
	q->command = command;
	q->flags = flags;
	q->cookie = wh_load_be64(head + 8);
	q->offset = wh_load_be64(head + 16);
	q->length = length;
	uint32_t error = check(q);
	if (!error) {
		begin(q);
		return;
	}
	if (payload && length) {
		c->skip = length;
		c->phase = NBD_PHASE_SKIP;
	}
	answer(q, error);
}
