/* SPDX-License-Identifier: ISC */
/*
 * virtio-vsock on Unix sockets.
 *
 * A connection is a Unix socket and a pair of ports. Its states:
 *
 *	GREETING    somebody of the host connected and has not said a port yet
 *	ASKED       the guest was sent a REQUEST
 *	OPEN        bytes flow
 *
 * Guest -> host: payload is written from guest memory; what the socket does not take is kept in a buffer of
 * WH_DEV_VSOCK_BUFFER bytes, which is exactly the credit that the guest has. A guest that sends more is cut
 * off. Host -> guest: read() goes straight into the guest's receive buffers, never more than its
 * credit. What must be told to the guest is a bit in `owed` until there is a buffer for it, so that nothing is queued
 * without bound: connections take turns.
 *
 * A half that is closed stays closed; when both are and everything was delivered the guest gets RST, which
 * frees the pair of ports on both sides.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/list.h>
#include <wherry/dev_vsock.h>
#include <wherry/os.h>
#include <wherry/virtio.h>

#define QUEUE_SIZE 128u
#define QUEUE_RX 0u
#define QUEUE_TX 1u
#define QUEUE_EVENT 2u
#define QUEUE_COUNT 3u
#define CID_HOST 2u
#define FIRST_HOST_PORT 0x40000000u /* of connections that the host makes */
#define PATH_SIZE 108u              /* sun_path */
#define GREETING_MAX 32u
#define IOV_MAX_IO 16

/* struct virtio_vsock_hdr */
enum {
	HDR_SRC_CID = 0,
	HDR_DST_CID = 8,
	HDR_SRC_PORT = 16,
	HDR_DST_PORT = 20,
	HDR_LEN = 24,
	HDR_TYPE = 28,
	HDR_OP = 30,
	HDR_FLAGS = 32,
	HDR_BUF_ALLOC = 36,
	HDR_FWD_CNT = 40,
	HDR_SIZE = 44,
};
enum {
	OP_REQUEST = 1,
	OP_RESPONSE,
	OP_RST,
	OP_SHUTDOWN,
	OP_RW,
	OP_CREDIT_UPDATE,
	OP_CREDIT_REQUEST
};
#define TYPE_STREAM 1u
#define SHUTDOWN_RECEIVE 1u
#define SHUTDOWN_SEND 2u

/* What a connection owes the guest: packets without payload, in this order. */
#define OWE_REQUEST 1u
#define OWE_RESPONSE 2u
#define OWE_CREDIT 4u
#define OWE_SHUTDOWN 8u
#define OWE_RST 16u /* the last word: frees the connection */

enum state { GREETING, ASKED, OPEN };

struct connection {
	struct wh_list node; /* in vsock->connections */
	struct wh_dev_vsock *vsock;
	struct wh_loop_fd watch;
	bool watched;
	enum state state;
	uint32_t guest_port, host_port;
	uint32_t owed;
	uint32_t peer_alloc, peer_forwarded; /* the guest's credit */
	uint32_t sent;                       /* bytes to the guest */
	uint32_t forwarded, told_forwarded;  /* bytes from the guest that reached the socket */
	uint8_t *buffer;                     /* made at the first need */
	uint32_t buffer_start, buffer_size;
	bool read_ended;   /* the host's side sends no more, or the guest takes no more */
	bool guest_ended;  /* the guest sends no more */
	bool write_closed; /* ... and the socket was told */
	char greeting[GREETING_MAX];
	uint32_t greeting_size;
};

struct wh_dev_vsock {
	struct wh_virtio_device dev;
	struct wh_loop *loop;
	uint64_t cid;
	char path[PATH_SIZE], listen_path[PATH_SIZE];
	bool folder;
	int listen_fd;
	struct wh_loop_fd listen_watch;
	bool starved; /* the guest has no receive buffers */
	struct wh_list connections;
	uint32_t count, next_port;
	struct wh_iov tx_iov[QUEUE_SIZE], rx_iov[QUEUE_SIZE];
};

static void update(struct connection *c);

/* ---- packets to the guest ---- */

struct packet {
	uint32_t src_port, dst_port, op, flags, size, alloc, forwarded;
};

static void encode(const struct wh_dev_vsock *s, const struct packet *p, uint8_t *h)
{
	memset(h, 0, HDR_SIZE);
	wh_store_le64(h + HDR_SRC_CID, CID_HOST);
	wh_store_le64(h + HDR_DST_CID, s->cid);
	wh_store_le32(h + HDR_SRC_PORT, p->src_port);
	wh_store_le32(h + HDR_DST_PORT, p->dst_port);
	wh_store_le32(h + HDR_LEN, p->size);
	wh_store_le16(h + HDR_TYPE, TYPE_STREAM);
	wh_store_le16(h + HDR_OP, (uint16_t)p->op);
	wh_store_le32(h + HDR_FLAGS, p->flags);
	wh_store_le32(h + HDR_BUF_ALLOC, p->alloc);
	wh_store_le32(h + HDR_FWD_CNT, p->forwarded);
}

/* A receive buffer of the guest, large enough for a header; false = none now. */
static bool buffer_get(struct wh_dev_vsock *s, struct wh_virtq_chain *chain)
{
	*chain = (struct wh_virtq_chain){ .iov = s->rx_iov, .iov_max = QUEUE_SIZE };
	if (!wh_virtio_pop(&s->dev, QUEUE_RX, chain)) {
		s->starved = true;
		return false;
	}
	if (chain->in_size < HDR_SIZE) {
		wh_virtio_broken(&s->dev, "a receive buffer without room for a header");
		return false;
	}
	return true;
}

/* A packet without payload. false = no buffer. */
static bool send_packet(struct wh_dev_vsock *s, const struct packet *p)
{
	struct wh_virtq_chain chain;
	uint8_t h[HDR_SIZE];
	if (!buffer_get(s, &chain))
		return false;
	encode(s, p, h);
	wh_iov_write(chain.iov + chain.out_count, chain.in_count, 0, h, sizeof h);
	wh_virtio_push(&s->dev, QUEUE_RX, chain.head, HDR_SIZE);
	wh_virtio_raise(&s->dev, QUEUE_RX);
	return true;
}

static struct packet packet_of(struct connection *c, uint32_t op)
{
	c->told_forwarded = c->forwarded;
	return (struct packet){ .src_port = c->host_port,
				.dst_port = c->guest_port,
				.op = op,
				.alloc = WH_DEV_VSOCK_BUFFER,
				.forwarded = c->forwarded };
}

/* ---- connections ---- */

static void connection_free(struct connection *c)
{
	struct wh_dev_vsock *s = c->vsock;
	if (c->watched)
		wh_loop_remove(s->loop, &c->watch);
	wh_os_close(&c->watch.fd);
	wh_list_remove(&c->node);
	s->count--;
	free(c->buffer);
	free(c);
}

/* Ends it on the host's side at once; the guest is told when it has a buffer. */
static void cut(struct connection *c)
{
	if (c->watched)
		wh_loop_remove(c->vsock->loop, &c->watch);
	c->watched = false;
	wh_os_close(&c->watch.fd);
	c->buffer_size = 0;
	if (c->state == GREETING) {
		connection_free(c);
		return;
	}
	c->owed = OWE_RST;
	update(c);
}

static uint32_t credit(const struct connection *c)
{
	uint32_t in_flight = c->sent - c->peer_forwarded;
	return c->peer_alloc > in_flight ? c->peer_alloc - in_flight : 0;
}

/* Pays one packet. false = no buffer; the connection may be gone after true. */
static bool pay(struct connection *c)
{
	static const struct {
		uint32_t owe, op;
	} order[] = { { OWE_REQUEST, OP_REQUEST },
		      { OWE_RESPONSE, OP_RESPONSE },
		      { OWE_CREDIT, OP_CREDIT_UPDATE },
		      { OWE_SHUTDOWN, OP_SHUTDOWN },
		      { OWE_RST, OP_RST } };
	for (size_t i = 0; i < WH_ARRAY_COUNT(order); i++) {
		if (!(c->owed & order[i].owe))
			continue;
		struct packet p = packet_of(c, order[i].op);
		if (order[i].owe == OWE_SHUTDOWN)
			p.flags = SHUTDOWN_SEND;
		if (!send_packet(c->vsock, &p))
			return false;
		c->owed &= ~order[i].owe;
		if (order[i].owe == OWE_RST)
			connection_free(c);
		return true;
	}
	return true;
}

/* Reads from the socket into one buffer of the guest. false = not now. */
static bool read_some(struct connection *c)
{
	struct wh_dev_vsock *s = c->vsock;
	struct wh_virtq_chain chain;
	struct wh_iov part[IOV_MAX_IO];
	uint8_t h[HDR_SIZE];
	if (!buffer_get(s, &chain))
		return false;
	uint64_t room = chain.in_size - HDR_SIZE;
	if (room > credit(c))
		room = credit(c);
	int count = wh_iov_slice(chain.iov + chain.out_count, chain.in_count, HDR_SIZE, room, part,
				 IOV_MAX_IO);
	ssize_t n = -1;
	errno = EAGAIN;
	if (count > 0)
		n = readv(c->watch.fd, (const struct iovec *)part, count);
	if (count == -WH_E2BIG) { /* a guest that offers crumbs */
		wh_virtio_broken(&s->dev, "a receive buffer in too many pieces");
		return false;
	}
	if (n <= 0) {
		wh_virtq_device_unpop(&s->dev.queue[QUEUE_RX], 1);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		c->read_ended = true;
		c->owed |= OWE_SHUTDOWN;
		return true;
	}
	c->sent += (uint32_t)n;
	struct packet p = packet_of(c, OP_RW);
	p.size = (uint32_t)n;
	encode(s, &p, h);
	wh_iov_write(chain.iov + chain.out_count, chain.in_count, 0, h, sizeof h);
	wh_virtio_push(&s->dev, QUEUE_RX, chain.head, HDR_SIZE + p.size);
	wh_virtio_raise(&s->dev, QUEUE_RX);
	return true;
}

static void count_forwarded(struct connection *c, uint32_t n)
{
	c->forwarded += n;
	if (c->forwarded - c->told_forwarded > WH_DEV_VSOCK_BUFFER / 4)
		c->owed |= OWE_CREDIT;
}

/* Writes what waits. false = the socket is broken. */
static bool drain_buffer(struct connection *c)
{
	while (c->buffer_size) {
		uint32_t n = WH_DEV_VSOCK_BUFFER - c->buffer_start;
		if (n > c->buffer_size)
			n = c->buffer_size;
		ssize_t r = send(c->watch.fd, c->buffer + c->buffer_start, n, MSG_NOSIGNAL);
		if (r < 0)
			return errno == EAGAIN || errno == EINTR;
		c->buffer_start = (c->buffer_start + (uint32_t)r) % WH_DEV_VSOCK_BUFFER;
		c->buffer_size -= (uint32_t)r;
		count_forwarded(c, (uint32_t)r);
	}
	return true;
}

/* Watches what it waits for; ends it when both halves are done. */
static void update(struct connection *c)
{
	struct wh_dev_vsock *s = c->vsock;
	uint32_t events = 0;
	if (c->owed && !s->starved && s->dev.running) {
		bool last = c->owed == OWE_RST;
		if (pay(c)) {
			if (!last)
				update(c);
			return;
		}
	}
	if (c->watch.fd < 0)
		return;
	if (c->guest_ended && !c->buffer_size && !c->write_closed) {
		(void)shutdown(c->watch.fd, SHUT_WR);
		c->write_closed = true;
	}
	if (c->state == OPEN && c->read_ended && c->write_closed && !(c->owed & OWE_SHUTDOWN)) {
		cut(c);
		return;
	}
	if (c->state == GREETING ||
	    (c->state == OPEN && s->dev.running && !c->read_ended && !s->starved && credit(c)))
		events |= WH_LOOP_READ;
	if (c->buffer_size)
		events |= WH_LOOP_WRITE;
	if (events == (c->watched ? c->watch.events : 0))
		return;
	if (!events) {
		wh_loop_remove(s->loop, &c->watch);
		c->watched = false;
	} else if (c->watched) {
		(void)wh_loop_modify(s->loop, &c->watch, events);
	} else {
		c->watch.events = events;
		c->watched = wh_loop_add(s->loop, &c->watch) >= 0;
		if (!c->watched)
			cut(c);
	}
}

static struct connection *find(struct wh_dev_vsock *s, uint32_t guest_port, uint32_t host_port)
{
	WH_LIST_FOR_EACH(n, &s->connections) {
		struct connection *c = WH_LIST_ENTRY(n, struct connection, node);
		if (c->state != GREETING && c->guest_port == guest_port &&
		    c->host_port == host_port)
			return c;
	}
	return NULL;
}

/* "CONNECT 52" or "00000003.00000034". false = neither. */
static bool parse_greeting(const struct wh_dev_vsock *s, const char *text, uint32_t size,
			   uint32_t *ret_port)
{
	static const char word[] = "CONNECT ";
	uint64_t value = 0, base = s->folder ? 16 : 10, cid = 0;
	uint32_t at = 0;
	if (!s->folder) {
		if (size < sizeof word || memcmp(text, word, sizeof word - 1))
			return false;
		at = sizeof word - 1;
	} else if (size != 17 || text[8] != '.') {
		return false;
	}
	for (; at < size; at++) {
		char c = text[at] | 32;
		uint64_t digit = c >= '0' && c <= '9'   ? (uint64_t)(c - '0')
				 : c >= 'a' && c <= 'f' ? (uint64_t)(c - 'a' + 10)
							: 16;
		if (s->folder && at == 8) {
			cid = value;
			value = 0;
			continue;
		}
		if (digit >= base)
			return false;
		value = value * base + digit;
		if (value > UINT32_MAX)
			return false;
	}
	*ret_port = (uint32_t)value;
	return !s->folder || cid == s->cid;
}

static void greeted(struct connection *c)
{
	struct wh_dev_vsock *s = c->vsock;
	if (!s->dev.running || !parse_greeting(s, c->greeting, c->greeting_size, &c->guest_port)) {
		cut(c);
		return;
	}
	do
		c->host_port = s->next_port =
			s->next_port == UINT32_MAX - 1 ? FIRST_HOST_PORT : s->next_port + 1;
	while (find(s, c->guest_port, c->host_port));
	c->state = ASKED;
	c->owed |= OWE_REQUEST;
	update(c);
}

/* Byte by byte: what follows the line belongs to the guest. */
static void read_greeting(struct connection *c)
{
	for (;;) {
		char byte;
		ssize_t n = read(c->watch.fd, &byte, 1);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n > 0 && byte == '\n') {
			greeted(c);
			return;
		}
		if (n <= 0 || c->greeting_size == GREETING_MAX) {
			cut(c);
			return;
		}
		c->greeting[c->greeting_size++] = byte;
	}
}

static void socket_ready(struct wh_loop_fd *watch, uint32_t events)
{
	struct connection *c = watch->ctx;
	uint32_t turns = 16; /* then the others */
	if (c->state == GREETING) {
		read_greeting(c);
		return;
	}
	if (c->buffer_size && !drain_buffer(c)) {
		cut(c);
		return;
	}
	if (events & WH_LOOP_HANGUP && c->write_closed && c->read_ended) {
		cut(c);
		return;
	}
	while (turns-- && c->state == OPEN && !c->read_ended && c->vsock->dev.running && credit(c))
		if (!read_some(c))
			break;
	update(c);
}

static struct connection *connection_new(struct wh_dev_vsock *s, int fd, enum state state)
{
	struct connection *c =
		s->count < WH_DEV_VSOCK_CONNECTIONS_MAX ? calloc(1, sizeof *c) : NULL;
	if (!c) {
		wh_os_close(&fd);
		return NULL;
	}
	c->vsock = s;
	c->state = state;
	c->watch = (struct wh_loop_fd){ .fd = fd, .fn = socket_ready, .ctx = c };
	wh_list_push_back(&s->connections, &c->node);
	s->count++;
	return c;
}

static void somebody_connects(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_dev_vsock *s = watch->ctx;
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *c = fd < 0 ? NULL : connection_new(s, fd, GREETING);
	if (c)
		update(c);
}

/* ---- packets from the guest ---- */

/* Where somebody listens for the guest's connections to this port; false = the name is too long. */
static bool name_port(const struct wh_dev_vsock *s, uint32_t port, char *to, size_t size)
{
	char hex[9] = "";
	for (int i = 0; i < 8; i++)
		hex[i] = "0123456789abcdef"[port >> (28 - 4 * i) & 15];
	size_t n = s->folder ? wh_format(to, size, "%s/00000002.%s", s->path, hex)
			     : wh_format(to, size, "%s_%u", s->path, port);
	return n < size;
}

static void guest_connects(struct wh_dev_vsock *s, const struct packet *p)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = -1;
	if (s->path[0] && name_port(s, p->dst_port, to.sun_path, sizeof to.sun_path))
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to))
		wh_os_close(&fd);
	struct connection *c = fd < 0 ? NULL : connection_new(s, fd, OPEN);
	if (!c) {
		struct packet no = { .src_port = p->dst_port,
				     .dst_port = p->src_port,
				     .op = OP_RST };
		(void)send_packet(s, &no); /* a guest without buffers times out */
		return;
	}
	c->guest_port = p->src_port;
	c->host_port = p->dst_port;
	c->peer_alloc = p->alloc;
	c->peer_forwarded = p->forwarded;
	c->owed |= OWE_RESPONSE;
	update(c);
}

/* Payload of `size` bytes behind the header. */
static void guest_sends(struct connection *c, const struct wh_virtq_chain *chain, uint32_t size)
{
	struct wh_iov part[IOV_MAX_IO];
	uint32_t done = 0;
	if (c->guest_ended || c->watch.fd < 0 || size > WH_DEV_VSOCK_BUFFER - c->buffer_size) {
		cut(c);
		return;
	}
	while (done < size && !c->buffer_size) {
		int n = wh_iov_slice(chain->iov, chain->out_count, HDR_SIZE + done, size - done,
				     part, IOV_MAX_IO);
		if (n <= 0)
			break; /* through the buffer */
		struct msghdr message = { .msg_iov = (struct iovec *)part,
					  .msg_iovlen = (size_t)n };
		ssize_t r = sendmsg(c->watch.fd, &message, MSG_NOSIGNAL);
		if (r < 0 && errno != EAGAIN && errno != EINTR) {
			cut(c);
			return;
		}
		if (r <= 0)
			break;
		done += (uint32_t)r;
		count_forwarded(c, (uint32_t)r);
	}
	if (done < size && !c->buffer) {
		c->buffer = malloc(WH_DEV_VSOCK_BUFFER);
		if (!c->buffer) {
			cut(c);
			return;
		}
	}
	while (done < size) {
		uint32_t at = (c->buffer_start + c->buffer_size) % WH_DEV_VSOCK_BUFFER;
		uint32_t n = WH_DEV_VSOCK_BUFFER - at;
		if (n > size - done)
			n = size - done;
		wh_iov_read(chain->iov, chain->out_count, HDR_SIZE + done, c->buffer + at, n);
		c->buffer_size += n;
		done += n;
	}
	update(c);
}

static void guest_accepts(struct connection *c)
{
	char answer[24];
	if (c->state != ASKED) {
		cut(c);
		return;
	}
	c->state = OPEN;
	size_t n = wh_format(answer, sizeof answer, "OK %u\n", c->host_port);
	if (!c->vsock->folder && send(c->watch.fd, answer, n, MSG_NOSIGNAL) != (ssize_t)n)
		cut(c);
	else
		update(c);
}

static void serve(struct wh_dev_vsock *s, const struct wh_virtq_chain *chain)
{
	uint8_t h[HDR_SIZE];
	if (chain->out_size < HDR_SIZE)
		return;
	wh_iov_read(chain->iov, chain->out_count, 0, h, sizeof h);
	struct packet p = { .src_port = wh_load_le32(h + HDR_SRC_PORT),
			    .dst_port = wh_load_le32(h + HDR_DST_PORT),
			    .op = wh_load_le16(h + HDR_OP),
			    .flags = wh_load_le32(h + HDR_FLAGS),
			    .size = wh_load_le32(h + HDR_LEN),
			    .alloc = wh_load_le32(h + HDR_BUF_ALLOC),
			    .forwarded = wh_load_le32(h + HDR_FWD_CNT) };
	if (wh_load_le64(h + HDR_SRC_CID) != s->cid || wh_load_le64(h + HDR_DST_CID) != CID_HOST)
		return; /* not from here, or not for here */
	struct connection *c = find(s, p.src_port, p.dst_port);
	bool stream = wh_load_le16(h + HDR_TYPE) == TYPE_STREAM;
	if (stream && !c && p.op == OP_REQUEST) {
		guest_connects(s, &p);
		return;
	}
	if (!c || !stream) {
		struct packet no = { .src_port = p.dst_port, .dst_port = p.src_port, .op = OP_RST };
		if (p.op != OP_RST)
			(void)send_packet(s, &no);
		return;
	}
	if (p.op == OP_RST) {
		connection_free(c);
		return;
	}
	c->peer_alloc = p.alloc;
	c->peer_forwarded = p.forwarded;
	switch (p.op) {
	case OP_RESPONSE:
		guest_accepts(c);
		break;
	case OP_RW:
		if (c->state != OPEN || p.size > chain->out_size - HDR_SIZE)
			cut(c);
		else
			guest_sends(c, chain, p.size);
		break;
	case OP_SHUTDOWN:
		c->read_ended |= (p.flags & SHUTDOWN_RECEIVE) != 0;
		c->guest_ended |= (p.flags & SHUTDOWN_SEND) != 0;
		update(c);
		break;
	case OP_CREDIT_REQUEST:
		c->owed |= OWE_CREDIT;
		update(c);
		break;
	case OP_CREDIT_UPDATE:
		update(c);
		break;
	default:
		cut(c);
	}
}

static void receive_buffers(struct wh_dev_vsock *s)
{
	if (!s->starved || !wh_virtq_device_pending(&s->dev.queue[QUEUE_RX]))
		return;
	s->starved = false;
	WH_LIST_FOR_EACH_SAFE(n, &s->connections) {
		struct connection *c = WH_LIST_ENTRY(n, struct connection, node);
		if (c->state != GREETING)
			update(c);
		if (s->starved)
			break;
	}
	/* Who waited longest comes first next time. */
	struct wh_list *first = wh_list_pop_front(&s->connections);
	if (first)
		wh_list_push_back(&s->connections, first);
}

static void notify(void *ctx, uint32_t queue)
{
	struct wh_dev_vsock *s = ctx;
	struct wh_virtq_chain chain = { .iov = s->tx_iov, .iov_max = QUEUE_SIZE };
	uint32_t left = WH_VIRTIO_TURN;
	if (queue == QUEUE_RX)
		receive_buffers(s);
	if (queue != QUEUE_TX)
		return;
	for (; left && wh_virtio_pop(&s->dev, QUEUE_TX, &chain); left--) {
		serve(s, &chain);
		wh_virtio_push(&s->dev, QUEUE_TX, chain.head, 0);
		chain.iov_max = QUEUE_SIZE;
	}
	if (!left)
		wh_virtio_again(&s->dev, QUEUE_TX);
	wh_virtio_raise(&s->dev, QUEUE_TX);
}

static bool reset(void *ctx)
{
	struct wh_dev_vsock *s = ctx;
	while (!wh_list_empty(&s->connections))
		connection_free(WH_LIST_ENTRY(s->connections.next, struct connection, node));
	s->starved = false;
	return true;
}

/* The connections that the guest knows are of another life: a transport reset (5.10.6.7) ends them. */
static void restored(void *ctx)
{
	struct wh_dev_vsock *s = ctx;
	struct wh_virtq_chain chain = { .iov = s->rx_iov, .iov_max = QUEUE_SIZE };
	static const uint8_t event[4];
	if (!wh_virtio_pop(&s->dev, QUEUE_EVENT, &chain))
		return;
	wh_iov_write(chain.iov + chain.out_count, chain.in_count, 0, event, sizeof event);
	wh_virtio_push(&s->dev, QUEUE_EVENT, chain.head, sizeof event);
	wh_virtio_raise(&s->dev, QUEUE_EVENT);
}

/* ---- the socket ---- */

static int bind_socket(struct wh_dev_vsock *s, struct wh_diag *diag)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	wh_format(at.sun_path, sizeof at.sun_path, "%s", s->listen_path);
	s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0)
		return wh_diag_set(diag, -errno, "vsock: no socket (errno %d)", errno);
	mode_t mask = umask(0177);
	int r = bind(s->listen_fd, (struct sockaddr *)&at, sizeof at);
	if (r && errno == EADDRINUSE) {
		int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		bool dead = probe >= 0 && connect(probe, (struct sockaddr *)&at, sizeof at) &&
			    errno == ECONNREFUSED;
		wh_os_close(&probe);
		errno = EADDRINUSE;
		if (dead && !unlink(at.sun_path))
			r = bind(s->listen_fd, (struct sockaddr *)&at, sizeof at);
	}
	int error = r ? errno : 0;
	(void)umask(mask);
	if (error)
		return wh_diag_set(diag, -error,
				   error == EADDRINUSE ? "vsock: %s is in use"
						       : "vsock: cannot make %s",
				   s->listen_path);
	if (listen(s->listen_fd, 64))
		return wh_diag_set(diag, -errno, "vsock: cannot listen (errno %d)", errno);
	s->listen_watch = (struct wh_loop_fd){
		.fd = s->listen_fd, .events = WH_LOOP_READ, .fn = somebody_connects, .ctx = s
	};
	return wh_loop_add(s->loop, &s->listen_watch);
}

static int set_paths(struct wh_dev_vsock *s, const char *path, struct wh_diag *diag)
{
	struct stat st;
	if (!path)
		return 0;
	s->folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	if (wh_format(s->path, sizeof s->path, "%s", path) > PATH_SIZE - 18)
		return wh_diag_set(diag, -WH_ENAMETOOLONG, "vsock: the path is over %u bytes",
				   PATH_SIZE - 18);
	wh_format(s->listen_path, sizeof s->listen_path, s->folder ? "%s/connect" : "%s", path);
	return bind_socket(s, diag);
}

int wh_dev_vsock_new(const struct wh_dev_vsock_config *config, struct wh_vmm_machine *machine,
		     struct wh_loop *loop, struct wh_dev_vsock **ret_vsock, struct wh_diag *diag)
{
	static const struct wh_virtio_ops ops = { .notify = notify,
						  .reset = reset,
						  .restored = restored };
	uint64_t cid = config->cid ? config->cid : WH_DEV_VSOCK_CID_DEFAULT;
	if (cid < 3 || cid >= UINT32_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "vsock: a CID is 3 or more, in 32 bits");
	struct wh_dev_vsock *s = calloc(1, sizeof *s);
	if (!s)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for vsock");
	struct wh_virtio_config v = { .virtio_id = WH_VIRTIO_ID_VSOCK,
				      .queue_count = QUEUE_COUNT,
				      .queue_size_max = QUEUE_SIZE,
				      .ops = &ops,
				      .ctx = s,
				      .log = config->log };
	s->loop = loop;
	s->cid = cid;
	s->listen_fd = -1;
	s->next_port = FIRST_HOST_PORT;
	wh_list_init(&s->connections);
	wh_virtio_init(&s->dev, &v);
	wh_store_le64(s->dev.config, cid);
	int r = set_paths(s, config->path, diag);
	if (r >= 0)
		r = wh_virtio_attach(&s->dev, machine, "", diag);
	if (r < 0) {
		wh_dev_vsock_free(s);
		return r;
	}
	*ret_vsock = s;
	return 0;
}

void wh_dev_vsock_free(struct wh_dev_vsock *s)
{
	if (!s)
		return;
	(void)reset(s);
	if (s->listen_watch.ctx) {
		wh_loop_remove(s->loop, &s->listen_watch);
		(void)unlink(s->listen_path);
	}
	wh_os_close(&s->listen_fd);
	free(s);
}
