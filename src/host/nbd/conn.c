/* SPDX-License-Identifier: ISC */
/*
 * A connection: bytes in, bytes out.
 *
 * In: a buffer of NBD_RX_SIZE that system calls fill; options and heads of requests are parsed where they
 * lie, and the data of small writes stays there until the image has taken it (the buffer is
 * counted). Data that is not there as a whole gets a buffer of its own, which the next bytes go to directly.
 *
 * Out: a list of heads with bodies. Replies go out in the order in which the image answers.
 *
 * A client that breaks the protocol in a way that leaves its position in the stream unknown is dead: nothing
 * more is read or sent. All else is answered in the protocol.
 */
#include <stdlib.h>

#include "nbd_priv.h"

void nbd_broken(struct wh_nbd_conn *c, const char *why)
{
	if (c->dead)
		return;
	wh_log_write(&c->config.log, WH_LOG_DEBUG, "nbd", c->config.id, "hung up: %s", why);
	wh_nbd_conn_hang_up(c);
}

/* ---- out ---- */

void nbd_send(struct wh_nbd_conn *c, struct nbd_out *out)
{
	if (c->dead) {
		out->sent(c, out);
		return;
	}
	wh_list_push_back(&c->out, &out->node);
	c->out_size += out->head_size + out->body_size;
	if (!c->active && c->config.changed)
		c->config.changed(c->config.ctx);
}

struct copy {
	struct nbd_out out;
	size_t size;
	uint8_t data[];
};

static void copy_sent(struct wh_nbd_conn *c, struct nbd_out *out)
{
	struct copy *m = WH_CONTAINER_OF(out, struct copy, out);
	c->control_size -= m->size;
	free(m);
}

bool nbd_send_copy(struct wh_nbd_conn *c, const void *head, size_t head_size, const void *body,
		   size_t body_size)
{
	size_t size = head_size + body_size;
	struct copy *m = malloc(sizeof *m + size);
	if (!m) {
		nbd_broken(c, "no memory");
		return false;
	}
	m->out.head_size = 0;
	m->out.body = m->data;
	m->out.body_size = m->size = size;
	m->out.sent = copy_sent;
	memcpy(m->data, head, head_size);
	if (body_size)
		memcpy(m->data + head_size, body, body_size);
	c->control_size += size;
	nbd_send(c, &m->out);
	return true;
}

uint32_t wh_nbd_conn_tx(struct wh_nbd_conn *c, struct wh_iov *ret_iov, uint32_t max)
{
	uint64_t skip = c->out_done;
	uint32_t n = 0;
	WH_LIST_FOR_EACH(node, &c->out) {
		struct nbd_out *o = WH_LIST_ENTRY(node, struct nbd_out, node);
		if (n + 2 > max)
			break;
		if (skip < o->head_size)
			ret_iov[n++] = (struct wh_iov){ o->head + skip, o->head_size - skip };
		uint64_t in_body = skip > o->head_size ? skip - o->head_size : 0;
		if (o->body_size)
			ret_iov[n++] = (struct wh_iov){ (uint8_t *)(uintptr_t)o->body + in_body,
							o->body_size - in_body };
		skip = 0;
	}
	return n;
}

static bool step(struct wh_nbd_conn *c);

/* Parses what is there; requests may begin and end in here. */
static void pump(struct wh_nbd_conn *c)
{
	wh_assert(!c->active);
	c->active = true;
	while (step(c))
		;
	c->active = false;
}

void wh_nbd_conn_sent(struct wh_nbd_conn *c, size_t size)
{
	c->out_done += size;
	while (!wh_list_empty(&c->out)) {
		struct nbd_out *o = WH_LIST_ENTRY(c->out.next, struct nbd_out, node);
		if (c->out_done < o->head_size + o->body_size)
			break;
		c->out_done -= o->head_size + o->body_size;
		c->out_size -= o->head_size + o->body_size;
		wh_list_remove(&o->node);
		o->sent(c, o);
	}
	wh_assert(!wh_list_empty(&c->out) || (!c->out_done && !c->out_size));
	pump(c); /* what waited for room */
}

/* ---- in ---- */

static bool crowded(const struct wh_nbd_conn *c)
{
	return c->requests >= WH_NBD_REQUESTS_MAX || c->bytes >= WH_NBD_BYTES_MAX ||
	       c->control_size >= NBD_CONTROL_MAX;
}

/* Makes room behind rx_end: in the same buffer, or in a new one with the rest of the old. */
static bool rx_room(struct wh_nbd_conn *c)
{
	uint32_t left = c->rx ? c->rx_end - c->rx_at : 0;
	if (c->rx && !left && c->rx->refs == 1)
		c->rx_at = c->rx_end = 0;
	if (c->rx && c->rx->size - c->rx_end >= NBD_RX_ROOM)
		return true;
	if (c->rx && c->rx->refs == 1) {
		memmove(c->rx->data, c->rx->data + c->rx_at, left);
	} else {
		struct nbd_buffer *b = nbd_buffer_get(&c->buffers, NBD_RX_SIZE);
		if (!b)
			return false;
		if (left)
			memcpy(b->data, c->rx->data + c->rx_at, left);
		nbd_buffer_unref(&c->buffers, c->rx);
		c->rx = b;
	}
	c->rx_at = 0;
	c->rx_end = left;
	return c->rx->size > c->rx_end;
}

uint32_t wh_nbd_conn_rx(struct wh_nbd_conn *c, struct wh_iov ret_iov[2])
{
	uint32_t n = 0, size;
	if (c->dead || c->phase == NBD_PHASE_END || c->phase == NBD_PHASE_TLS)
		return 0;
	if (c->phase == NBD_PHASE_PAYLOAD) {
		uint8_t *p = nbd_request_payload(c->receiving, &size);
		ret_iov[n++] = (struct wh_iov){ p + c->received, size - c->received };
	} else if (crowded(c)) {
		return 0;
	}
	if (!rx_room(c)) {
		nbd_broken(c, "no memory");
		return 0;
	}
	/* Behind data of its own: only so much that the next data does not all have to be copied. */
	uint32_t room = c->rx->size - c->rx_end;
	if (n && room > NBD_RX_ROOM)
		room = NBD_RX_ROOM;
	ret_iov[n++] = (struct wh_iov){ c->rx->data + c->rx_end, room };
	return n;
}

void wh_nbd_conn_received(struct wh_nbd_conn *c, size_t size)
{
	if (c->dead)
		return;
	if (c->phase == NBD_PHASE_PAYLOAD) {
		uint32_t whole;
		(void)nbd_request_payload(c->receiving, &whole);
		uint32_t n = whole - c->received < size ? whole - c->received : (uint32_t)size;
		c->received += n;
		size -= n;
	}
	c->rx_end += (uint32_t)size;
	wh_assert(!size || c->rx_end <= c->rx->size);
	pump(c);
}

/* `size` bytes that were received and not parsed yet, or NULL. */
static const uint8_t *take(struct wh_nbd_conn *c, uint32_t size)
{
	if (c->rx_end - c->rx_at < size)
		return NULL;
	const uint8_t *p = c->rx ? c->rx->data + c->rx_at : (const uint8_t *)"";
	c->rx_at += size;
	return p;
}

static bool step_flags(struct wh_nbd_conn *c)
{
	const uint8_t *p = take(c, NBD_CLIENT_FLAGS_SIZE);
	if (!p)
		return false;
	uint32_t flags = wh_load_be32(p);
	if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) ||
	    !(flags & NBD_FLAG_FIXED_NEWSTYLE)) {
		nbd_broken(c, "client flags");
		return false;
	}
	c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	c->phase = NBD_PHASE_OPTION;
	return true;
}

static bool step_option(struct wh_nbd_conn *c)
{
	const uint8_t *p = crowded(c) ? NULL : take(c, NBD_OPTION_HEAD_SIZE);
	if (!p)
		return false;
	if (wh_load_be64(p) != NBD_OPTION_MAGIC) {
		nbd_broken(c, "no option where one must be");
		return false;
	}
	if (c->option_count++ == WH_NBD_OPTIONS_MAX) {
		nbd_broken(c, "too many options");
		return false;
	}
	c->option = wh_load_be32(p + 8);
	c->option_size = wh_load_be32(p + 12);
	if (c->option_size > WH_NBD_OPTION_SIZE_MAX) {
		nbd_broken(c, "an option is too long");
		return false;
	}
	c->phase = NBD_PHASE_OPTION_DATA;
	return true;
}

static bool step(struct wh_nbd_conn *c)
{
	const uint8_t *p;
	if (c->dead)
		return false;
	switch (c->phase) {
	case NBD_PHASE_FLAGS:
		return step_flags(c);
	case NBD_PHASE_OPTION:
		return step_option(c);
	case NBD_PHASE_OPTION_DATA:
		p = take(c, c->option_size);
		if (p) {
			c->phase = NBD_PHASE_OPTION;
			nbd_option(c, p);
		}
		return p;
	case NBD_PHASE_REQUEST:
		if (crowded(c) || c->out_size - c->out_done >= NBD_PUSH_SIZE)
			return false;
		p = take(c, c->extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE);
		if (p)
			nbd_request_head(c, p);
		return p;
	case NBD_PHASE_PAYLOAD: {
		uint32_t whole;
		(void)nbd_request_payload(c->receiving, &whole);
		if (c->received < whole)
			return false;
		struct nbd_request *q = c->receiving;
		c->receiving = NULL;
		c->phase = NBD_PHASE_REQUEST;
		nbd_request_go(q);
		return true;
	}
	case NBD_PHASE_SKIP: {
		uint32_t there = c->rx_end - c->rx_at;
		uint32_t n = c->skip < there ? (uint32_t)c->skip : there;
		c->rx_at += n;
		c->skip -= n;
		if (!c->skip)
			c->phase = NBD_PHASE_REQUEST;
		return !c->skip;
	}
	default:
		return false;
	}
}

/* ---- life ---- */

int wh_nbd_conn_new(const struct wh_nbd_conn_config *config, struct wh_nbd_conn **ret_conn)
{
	uint8_t greeting[NBD_GREETING_SIZE];
	wh_assert(config->size == sizeof *config && config->export_count);
	struct wh_nbd_conn *c = calloc(1, sizeof *c);
	if (!c)
		return -WH_ENOMEM;
	c->config = *config;
	wh_list_init(&c->out);
	c->active = true; /* the owner knows that there is a greeting */
	wh_store_be64(greeting, NBD_INIT_MAGIC);
	wh_store_be64(greeting + 8, NBD_OPTION_MAGIC);
	wh_store_be16(greeting + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	if (!nbd_send_copy(c, greeting, sizeof greeting, NULL, 0)) {
		free(c);
		return -WH_ENOMEM;
	}
	c->active = false;
	*ret_conn = c;
	return 0;
}

void wh_nbd_conn_hang_up(struct wh_nbd_conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	if (c->receiving) {
		struct nbd_request *q = c->receiving;
		c->receiving = NULL;
		nbd_request_free(q);
	}
	while (!wh_list_empty(&c->out)) {
		struct nbd_out *o = WH_LIST_ENTRY(c->out.next, struct nbd_out, node);
		wh_list_remove(&o->node);
		o->sent(c, o);
	}
	c->out_done = c->out_size = 0;
}

void wh_nbd_conn_free(struct wh_nbd_conn *c)
{
	if (!c)
		return;
	wh_assert(!c->in_image);
	wh_nbd_conn_hang_up(c);
	wh_assert(!c->requests && !c->bytes && !c->control_size);
	nbd_requests_fini(c);
	nbd_buffer_unref(&c->buffers, c->rx);
	nbd_buffers_fini(&c->buffers);
	free(c);
}

uint32_t wh_nbd_conn_busy(const struct wh_nbd_conn *c)
{
	return c->in_image;
}

enum wh_nbd_state wh_nbd_conn_state(const struct wh_nbd_conn *c)
{
	if (c->dead)
		return WH_NBD_DEAD;
	if (c->phase == NBD_PHASE_TLS)
		return WH_NBD_TLS;
	if (c->phase == NBD_PHASE_END)
		return c->in_image ? WH_NBD_TRANSFER : WH_NBD_ENDING;
	return c->phase < NBD_PHASE_TLS ? WH_NBD_HANDSHAKE : WH_NBD_TRANSFER;
}

void wh_nbd_conn_tls_started(struct wh_nbd_conn *c)
{
	wh_assert(c->phase == NBD_PHASE_TLS && wh_list_empty(&c->out));
	/* Bytes that came in the clear must not be taken for encrypted ones. */
	if (c->rx_at != c->rx_end) {
		nbd_broken(c, "data between STARTTLS and TLS");
		return;
	}
	c->secure = true;
	c->structured = c->extended = false;
	c->contexts = 0;
	c->contexts_export = NULL;
	c->phase = NBD_PHASE_OPTION;
}
