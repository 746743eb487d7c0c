/* SPDX-License-Identifier: ISC */
/*
 * Port on a tap. The watch is level-triggered and a wake reads until the queue is empty or the
 * budget is spent: host sockets that became ready meanwhile get their turn, and the stack
 * answers a burst at once.
 */
#include <wherry/net_tap.h>

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>
#include <wherry/tap.h>

/* While frames come singly, only each so-many-th wake looks for a second one: the look costs as much as
 * the frame. */
#define SINGLES 32u
/* Frames per wake: 64 of 64 KiB are 4 MiB, about half a millisecond. */
#define BURST_MAX 64u
#define BUFFER_SIZE (WH_NET_FRAME_SIZE_MAX + 64u)

/* struct virtio_net_hdr without num_buffers, in the machine's byte order as tun has it. */
struct tap_header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
_Static_assert(sizeof(struct tap_header) == WH_TAP_HEADER_SIZE, "as the kernel reads it");

struct wh_net_tap {
	struct wh_net_port port;
	struct wh_loop_fd watch;
	struct wh_loop *loop;
	const struct wh_alloc *alloc;
	void (*gone)(void *ctx);
	void *ctx;
	bool ended;
	bool single;      /* the last look found no second frame */
	uint32_t singles; /* wakes since then */
	bool held;        /* `frame` was not taken: present it again first */
	struct wh_net_frame frame;
	struct wh_iov iov;
	struct wh_net_tap_stats stats;
	uint8_t buffer[BUFFER_SIZE];
};

/* ---- guest -> user ---- */

static bool header_decode(const struct tap_header *h, struct wh_net_frame *f)
{
	f->flags = h->flags & (WH_NET_NEEDS_CSUM | WH_NET_DATA_VALID);
	f->gso_type = h->gso_type & 0x7f; /* bit 7: ECN, no matter to us */
	f->hdr_len = h->hdr_len <= f->size ? h->hdr_len : 0;
	f->gso_size = f->gso_type ? h->gso_size : 0;
	f->csum_start = h->csum_start;
	f->csum_offset = h->csum_offset;
	if ((f->flags & WH_NET_NEEDS_CSUM) &&
	    f->csum_start + (uint32_t)f->csum_offset + 2u > f->size)
		return false;
	return !f->gso_type || f->gso_size;
}

/* false: nothing more now. */
static bool frame_receive(struct wh_net_tap *t)
{
	struct tap_header header;
	struct iovec in[2] = { { &header, sizeof header }, { t->buffer, sizeof t->buffer } };
	ssize_t n = readv(t->watch.fd, in, 2);
	if (n <= 0) {
		/* EIO, EBADFD: the interface was taken away. */
		t->ended = !n || (errno != EAGAIN && errno != EINTR && errno != ENOBUFS);
		return n && errno == EINTR;
	}
	if (n < (ssize_t)sizeof header)
		return true;
	t->frame = (struct wh_net_frame){ .iov = &t->iov, .iov_count = 1 };
	t->frame.size = (uint32_t)((size_t)n - sizeof header);
	t->iov = (struct wh_iov){ t->buffer, t->frame.size };
	t->stats.frames_in++;
	t->stats.bytes_in += t->frame.size;
	if (!header_decode(&header, &t->frame)) {
		t->stats.bad_in++;
		return true;
	}
	t->held = t->port.receive(&t->port, &t->frame) == -WH_EAGAIN;
	return !t->held;
}

static void readable(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_net_tap *t = watch->ctx;
	if (events & WH_LOOP_WRITE) {
		(void)wh_loop_modify(t->loop, watch,
				     watch->events & ~WH_LOOP_WRITE); /* at worst woken again */
		if (t->port.writable)
			t->port.writable(&t->port);
	}
	if (!t->port.receive || t->held)
		return;
	uint32_t limit = t->single && ++t->singles < SINGLES ? 1 : BURST_MAX, count = 0;
	while (count < limit && frame_receive(t))
		count++;
	if (limit > 1) {
		t->single = count < 2;
		t->singles = 0;
	}
	if (t->held)
		(void)wh_loop_modify(t->loop, watch, watch->events & ~WH_LOOP_READ);
	if (t->port.receive_done)
		t->port.receive_done(&t->port);
	if (!t->ended)
		return;
	wh_loop_remove(t->loop, watch);
	if (t->gone)
		t->gone(t->ctx);
}

static void port_resume(struct wh_net_port *port)
{
	struct wh_net_tap *t = port->provider;
	if (!t->held || t->ended)
		return;
	t->held = port->receive(port, &t->frame) == -WH_EAGAIN;
	if (!t->held)
		(void)wh_loop_modify(t->loop, &t->watch, t->watch.events | WH_LOOP_READ);
}

/* ---- user -> guest ---- */

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct wh_net_tap *t = port->provider;
	struct tap_header header = { .flags = f->flags,
				     .gso_type = f->gso_type,
				     .hdr_len = f->hdr_len,
				     .gso_size = f->gso_size,
				     .csum_start = f->csum_start,
				     .csum_offset = f->csum_offset };
	struct iovec out[WH_NET_FRAME_IOV_MAX + 1] = { { &header, sizeof header } };
	wh_assert(f->iov_count <= WH_NET_FRAME_IOV_MAX);
	for (uint32_t i = 0; i < f->iov_count; i++)
		out[i + 1] = (struct iovec){ f->iov[i].base, f->iov[i].size };
	ssize_t n;
	do
		n = writev(t->watch.fd, out, (int)f->iov_count + 1);
	while (n < 0 && errno == EINTR);
	if (n >= 0) {
		t->stats.frames_out++;
		t->stats.bytes_out += f->size;
		return 0;
	}
	if (errno == EAGAIN) {
		t->stats.blocked_out++;
		(void)wh_loop_modify(t->loop, &t->watch, t->watch.events | WH_LOOP_WRITE);
		return -WH_EAGAIN;
	}
	t->stats.lost_out++;
	return -errno;
}

/* ---- life ---- */

int wh_net_tap_new(const struct wh_net_tap_config *config, struct wh_loop *loop,
		   struct wh_net_tap **ret_tap)
{
	if (config->size != sizeof *config)
		return -WH_EINVAL;
	const struct wh_alloc *alloc = config->alloc ? config->alloc : &wh_os_allocator;
	struct wh_net_tap *t = wh_alloc(alloc, sizeof *t);
	if (!t)
		return -WH_ENOMEM;
	memset(t, 0, offsetof(struct wh_net_tap, buffer));
	t->loop = loop;
	t->alloc = alloc;
	t->gone = config->gone;
	t->ctx = config->ctx;
	t->watch = (struct wh_loop_fd){
		.fd = config->fd, .events = WH_LOOP_READ, .fn = readable, .ctx = t
	};
	t->port = (struct wh_net_port){ .send = port_send,
					.resume = port_resume,
					.link_features = config->link_features,
					.mtu = config->mtu ? config->mtu : 1500,
					.provider = t };
	int error = wh_loop_add(loop, &t->watch);
	if (error) {
		wh_free(alloc, t, sizeof *t);
		return error;
	}
	*ret_tap = t;
	return 0;
}

void wh_net_tap_free(struct wh_net_tap *tap)
{
	if (!tap)
		return;
	if (!tap->ended)
		wh_loop_remove(tap->loop, &tap->watch);
	wh_free(tap->alloc, tap, sizeof *tap);
}

struct wh_net_port *wh_net_tap_port(struct wh_net_tap *tap)
{
	return &tap->port;
}

void wh_net_tap_stats(const struct wh_net_tap *tap, struct wh_net_tap_stats *ret_stats)
{
	*ret_stats = tap->stats;
}
