/* SPDX-License-Identifier: ISC */
/*
 * Frames in the front end's virtqueues. A chain is a virtio-net header and a frame; towards the guest it is as many
 * of its buffers as the frame takes, which become visible at once. Descriptors are checked by wh_virtq, headers are
 * copied and checked here. A frame that breaks the rules of its header is dropped and counted, as a wire would.
 *
 * Several pairs: each is for a processor of the guest's. Frames of one flow go to one ring, so that they stay in order: to the
 * pair on which the guest sent the flow's last frame (virtio 1.2, 5.1.6.5.6: automatic receive steering), before it has sent any to
 * one by the flow's hash. The hash is the same in both directions; it is no secret, as only the guest is harmed by flows that meet.
 */
#include "vhost_priv.h"

#include <errno.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/net_wire.h>
#include <wherry/os.h>

#define ETHERNET_HEADER 14u
#define MERGE_MAX 128u /* buffers of one frame: 64 KiB in buffers of 512 bytes */
#define TURN_MAX 256u  /* frames until others have their turn */

static bool has(const struct wh_vhost_port *v, uint64_t feature)
{
	return v->features & feature;
}

/* Drivers of before version 1 leave num_buffers out where it says nothing. */
static uint32_t header_size(const struct wh_vhost_port *v)
{
	return has(v, WH_VIRTIO_F_VERSION_1 | WH_VIRTIO_NET_F_MRG_RXBUF)
		       ? WH_VIRTIO_NET_HDR_SIZE
		       : WH_VIRTIO_NET_HDR_NUM_BUFFERS;
}

uint64_t vhost_features(void)
{
	return WH_VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES | WH_VIRTQ_F_INDIRECT |
	       WH_VIRTQ_F_EVENT_IDX | WH_VIRTIO_NET_F_MRG_RXBUF | WH_VIRTIO_NET_F_MTU |
	       WH_VIRTIO_NET_F_MQ | WH_VIRTIO_NET_F_CSUM | WH_VIRTIO_NET_F_HOST_TSO4 |
	       WH_VIRTIO_NET_F_HOST_TSO6 | WH_VIRTIO_NET_F_HOST_USO | WH_VIRTIO_NET_F_GUEST_CSUM |
	       WH_VIRTIO_NET_F_GUEST_TSO4 | WH_VIRTIO_NET_F_GUEST_TSO6 |
	       WH_VIRTIO_NET_F_GUEST_USO4 | WH_VIRTIO_NET_F_GUEST_USO6;
}

void vhost_link_set(struct wh_vhost_port *v)
{
	v->port.link_features = 0;
	/* All segmentation stands on checksums. */
	if (!has(v, WH_VIRTIO_NET_F_GUEST_CSUM))
		return;
	v->port.link_features = WH_NET_LINK_CSUM;
	/* A large segment is for one large buffer, which few drivers have, or for several. */
	if (has(v, WH_VIRTIO_NET_F_GUEST_TSO4))
		v->port.link_features |= WH_NET_LINK_TSO4;
	if (has(v, WH_VIRTIO_NET_F_GUEST_TSO6))
		v->port.link_features |= WH_NET_LINK_TSO6;
	if (has(v, WH_VIRTIO_NET_F_GUEST_USO4) && has(v, WH_VIRTIO_NET_F_GUEST_USO6))
		v->port.link_features |= WH_NET_LINK_USO;
}

/* ---- rings ---- */

static bool running(const struct vhost_ring *r)
{
	return r->started && r->enabled && wh_virtq_device_ready(&r->q);
}

/* The same for both directions of a flow; whatever has no ports is one flow per pair of addresses. */
static uint32_t flow_hash(const struct wh_net_frame *f)
{
	uint8_t h[14 + 60 + 4] = { 0 };
	uint32_t size = (uint32_t)wh_iov_read(f->iov, f->iov_count, 0, h, sizeof h), hash = 0;
	uint32_t addresses = 14 + 12, length = 4, ports = 0;
	uint8_t protocol = 0;
	if (size < 14 + 20)
		return 0;
	if (h[12] == 0x08 && h[13] == 0x00) {
		protocol = h[14 + 9];
		/* Only first fragments have ports. */
		ports = (wh_load_be16(h + 14 + 6) & 0x3fff) ? 0 : 14 + (h[14] & 15) * 4u;
	} else if (h[12] == 0x86 && h[13] == 0xdd) {
		protocol = h[14 + 6];
		addresses = 14 + 8;
		length = 16;
		ports = 14 + 40;
	} else {
		return 0;
	}
	for (uint32_t i = 0; i < 2 * length; i += 4)
		hash += wh_load_be32(h + addresses + i);
	if (ports && (protocol == WH_WIRE_PROTO_TCP || protocol == WH_WIRE_PROTO_UDP))
		hash += (uint32_t)wh_load_be16(h + ports) + wh_load_be16(h + ports + 2);
	hash *= 0x9e3779b1u; /* Fibonacci: neighbouring ports come apart */
	return hash >> 24;
}
_Static_assert(VHOST_STEER_SIZE == 256, "eight bits of hash");

/* The receive ring for this frame; NULL = none carries frames. */
static struct vhost_ring *ring_rx(struct wh_vhost_port *v, const struct wh_net_frame *f)
{
	struct vhost_ring *rings[WH_VHOST_PAIRS_MAX];
	uint32_t count = 0;
	for (uint32_t pair = 0; pair < WH_VHOST_PAIRS_MAX; pair++)
		if (running(&v->rings[VHOST_RX(pair)]))
			rings[count++] = &v->rings[VHOST_RX(pair)];
	if (count < 2)
		return count ? rings[0] : NULL;
	uint32_t hash = flow_hash(f);
	if (v->steer[hash] && running(&v->rings[VHOST_RX(v->steer[hash] - 1u)]))
		return &v->rings[VHOST_RX(v->steer[hash] - 1u)];
	return rings[hash % count];
}

static bool is_rx(const struct vhost_ring *r)
{
	return !((r - r->vhost->rings) & 1);
}

static const char *ring_set_up(struct vhost_ring *r)
{
	struct wh_vhost_port *v = r->vhost;
	struct wh_virtq_device_config config = { .mem = &v->mem,
						 .size = r->size,
						 .features = v->features };
	if (!vhost_memory_find(v, r->desc, &config.desc) ||
	    !vhost_memory_find(v, r->avail, &config.driver) ||
	    !vhost_memory_find(v, r->used, &config.device))
		return "a ring outside the memory";
	if (wh_virtq_device_init(&r->q, &config))
		return "a ring of wrong size or alignment, or outside the memory";
	wh_virtq_device_seek(&r->q, r->next);
	return NULL;
}

const char *vhost_ring_start(struct vhost_ring *r)
{
	struct wh_vhost_port *v = r->vhost;
	if (r->started || !r->addressed || !r->size || r->kick.fd < 0)
		return NULL;
	const char *why = ring_set_up(r);
	if (why)
		return why;
	r->started = true;
	r->broken = false;
	if (!(v->features & VHOST_F_PROTOCOL_FEATURES))
		r->enabled = true;
	if (r->enabled)
		vhost_ring_enabled(r);
	return NULL;
}

void vhost_ring_stop(struct vhost_ring *r)
{
	struct wh_vhost_port *v = r->vhost;
	if (r->kick.fd >= 0)
		wh_loop_remove(v->loop, &r->kick);
	wh_os_close(&r->kick.fd);
	if (r->started && r->q.size)
		r->next = wh_virtq_device_next(&r->q);
	wh_virtq_device_reset(&r->q);
	r->started = false;
	vhost_ring_silent(r);
}

void vhost_ring_silent(struct vhost_ring *r)
{
	struct wh_vhost_port *v = r->vhost;
	r->answered = false;
	if (!r->starved)
		return;
	r->starved = false;
	v->unblock = true;
	if (!v->ended)
		wh_loop_timer_start(v->loop, &v->again, 0);
}

void vhost_rings_pause(struct wh_vhost_port *v)
{
	for (uint32_t i = 0; i < VHOST_RINGS_MAX; i++) {
		struct vhost_ring *r = &v->rings[i];
		if (!r->started || !r->q.size)
			continue;
		r->next = wh_virtq_device_next(&r->q);
		wh_virtq_device_reset(&r->q);
	}
}

const char *vhost_rings_move(struct wh_vhost_port *v)
{
	for (uint32_t i = 0; i < VHOST_RINGS_MAX; i++) {
		struct vhost_ring *r = &v->rings[i];
		if (!r->started || r->broken)
			continue;
		const char *why = ring_set_up(r);
		if (why)
			return why;
	}
	return NULL;
}

static void notice(int fd)
{
	static const uint64_t one = 1;
	if (fd >= 0)
		(void)!write(fd, &one, sizeof one); /* a full counter has been heard of */
}

static void call(struct vhost_ring *r)
{
	if (!wh_virtq_device_interrupt_needed(&r->q))
		return;
	r->vhost->stats.calls++;
	notice(r->call);
}

/* The ring broke its contract: it stays so until it is set up again. */
static void ring_broken(struct vhost_ring *r)
{
	if (r->broken)
		return;
	r->broken = true;
	r->vhost->stats.bad_rings++;
	notice(r->err);
}

/* 1 = a chain, 0 = none */
static int ring_pop(struct vhost_ring *r, struct wh_virtq_chain *c)
{
	c->iov = r->vhost->iov;
	c->iov_max = WH_VHOST_RING_SIZE_MAX;
	int n = wh_virtq_device_pop(&r->q, c);
	if (n < 0)
		ring_broken(r);
	return n > 0;
}

/* ---- guest -> user ---- */

/* Takes the header apart; false = it makes no sense for this frame. */
static bool header_decode(const struct wh_vhost_port *v, const uint8_t *h, struct wh_net_frame *f)
{
	f->flags = h[WH_VIRTIO_NET_HDR_FLAGS] & WH_NET_NEEDS_CSUM;
	f->gso_type = h[WH_VIRTIO_NET_HDR_GSO_TYPE] & 0x7f; /* bit 7: ECN, no matter to us */
	f->hdr_len = wh_load_le16(h + WH_VIRTIO_NET_HDR_HDR_LEN);
	f->gso_size = wh_load_le16(h + WH_VIRTIO_NET_HDR_GSO_SIZE);
	f->csum_start = wh_load_le16(h + WH_VIRTIO_NET_HDR_CSUM_START);
	f->csum_offset = wh_load_le16(h + WH_VIRTIO_NET_HDR_CSUM_OFFSET);
	if (f->flags && (!has(v, WH_VIRTIO_NET_F_CSUM) ||
			 f->csum_start + (uint32_t)f->csum_offset + 2u > f->size))
		return false;
	if (f->hdr_len > f->size)
		f->hdr_len = 0; /* a hint only */
	if (f->gso_type == WH_NET_GSO_NONE) {
		f->gso_size = 0;
		return true;
	}
	return f->gso_size && f->flags &&
	       ((f->gso_type == WH_NET_GSO_TCPV4 && has(v, WH_VIRTIO_NET_F_HOST_TSO4)) ||
		(f->gso_type == WH_NET_GSO_TCPV6 && has(v, WH_VIRTIO_NET_F_HOST_TSO6)) ||
		(f->gso_type == WH_NET_GSO_UDP_L4 && has(v, WH_VIRTIO_NET_F_HOST_USO)));
}

/* false: the user has no room. */
static bool transmit(struct vhost_ring *r, const struct wh_virtq_chain *c)
{
	struct wh_vhost_port *v = r->vhost;
	uint8_t header[WH_VIRTIO_NET_HDR_SIZE];
	uint32_t skip = header_size(v);
	struct wh_net_frame f = { .iov = v->frame_iov };
	f.size = (uint32_t)(c->out_size - skip);
	if (c->out_size < skip + ETHERNET_HEADER || c->out_size - skip > WH_NET_FRAME_SIZE_MAX ||
	    c->in_count) {
		v->stats.bad_in++;
		return true;
	}
	wh_iov_read(c->iov, c->out_count, 0, header, skip);
	if (!header_decode(v, header, &f)) {
		v->stats.bad_in++;
		return true;
	}
	int count = wh_iov_slice(c->iov, c->out_count, skip, f.size, v->frame_iov,
				 WH_NET_FRAME_IOV_MAX);
	if (count < 0) {
		wh_iov_read(c->iov, c->out_count, skip, v->copy, f.size);
		v->frame_iov[0] = (struct wh_iov){ v->copy, f.size };
		count = 1;
	}
	f.iov_count = (uint32_t)count;
	if (v->port.receive(&v->port, &f) == -WH_EAGAIN)
		return false;
	if (v->rings[VHOST_RX(1)].started)
		v->steer[flow_hash(&f)] = (uint8_t)(1 + (r - v->rings) / 2);
	v->stats.frames_in++;
	v->stats.bytes_in += f.size;
	return true;
}

/* Takes what is there, up to a turn. true: there is more. */
static bool ring_transmit(struct vhost_ring *r)
{
	struct wh_vhost_port *v = r->vhost;
	struct wh_virtq_chain c;
	uint32_t left = TURN_MAX;
	wh_virtq_device_kicks_off(&r->q);
	do {
		while (left && ring_pop(r, &c)) {
			left--;
			if (!transmit(r, &c)) {
				wh_virtq_device_unpop(&r->q, 1);
				v->held = true;
				break;
			}
			wh_virtq_device_fill(&r->q, c.head, 0);
		}
		wh_virtq_device_publish(&r->q);
	} while (left && !v->held && wh_virtq_device_kicks_on(&r->q));
	call(r);
	return !left && wh_virtq_device_ready(&r->q);
}

void vhost_rings_run(struct wh_vhost_port *v)
{
	bool more = false, worked = false;
	if (v->unblock && v->port.writable) {
		v->unblock = false;
		v->port.writable(&v->port);
	}
	for (uint32_t i = 1; i < VHOST_RINGS_MAX && !v->held && v->port.receive; i += 2) {
		if (!running(&v->rings[i]))
			continue;
		worked = true;
		more |= ring_transmit(&v->rings[i]);
	}
	if (worked && v->port.receive_done)
		v->port.receive_done(&v->port);
	if ((more && !v->held) || v->faulted)
		wh_loop_timer_start(v->loop, &v->again, 0);
}

static void buffers_came(struct vhost_ring *r)
{
	struct wh_vhost_port *v = r->vhost;
	if (!r->starved || !wh_virtq_device_pending(&r->q))
		return;
	r->starved = false;
	wh_virtq_device_kicks_off(&r->q);
	if (v->port.writable)
		v->port.writable(&v->port);
}

void vhost_ring_kicked(struct wh_loop_fd *watch, uint32_t events)
{
	struct vhost_ring *r = watch->ctx;
	struct wh_vhost_port *v = r->vhost;
	uint64_t count;
	ssize_t n = read(watch->fd, &count, sizeof count);
	if (n != sizeof count && (!n || errno != EAGAIN)) {
		wh_loop_remove(v->loop, watch); /* no counter, or one that fails for ever */
		wh_os_close(&watch->fd);
		return;
	}
	v->stats.kicks++;
	if (v->ended || !running(r))
		return;
	if (is_rx(r))
		buffers_came(r);
	else
		vhost_rings_run(v);
}

void vhost_ring_enabled(struct vhost_ring *r)
{
	struct wh_vhost_port *v = r->vhost;
	if (!running(r))
		return;
	if (!is_rx(r)) {
		wh_loop_timer_start(v->loop, &v->again, 0); /* what lies there already */
		return;
	}
	wh_virtq_device_kicks_off(&r->q);
	if (v->port.writable) {
		r->starved = false;
		v->port.writable(&v->port);
	}
}

void vhost_resume(struct wh_net_port *port)
{
	struct wh_vhost_port *v = port->provider;
	if (!v->held)
		return;
	v->held = false;
	wh_loop_timer_start(v->loop, &v->again, 0);
}

/* ---- user -> guest ---- */

static void header_encode(const struct wh_vhost_port *v, const struct wh_net_frame *f,
			  uint16_t buffers, uint8_t *h)
{
	memset(h, 0, WH_VIRTIO_NET_HDR_SIZE);
	if (has(v, WH_VIRTIO_NET_F_GUEST_CSUM))
		h[WH_VIRTIO_NET_HDR_FLAGS] = f->flags;
	h[WH_VIRTIO_NET_HDR_GSO_TYPE] = f->gso_type;
	wh_store_le16(h + WH_VIRTIO_NET_HDR_HDR_LEN, f->hdr_len);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_GSO_SIZE, f->gso_size);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_CSUM_START, f->csum_start);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_CSUM_OFFSET, f->csum_offset);
	wh_store_le16(h + WH_VIRTIO_NET_HDR_NUM_BUFFERS, buffers);
}

/* Copies [offset, ...) of header and frame, as one run of bytes, into the in buffers of c; returns how
 * many. The header's bytes are left as they are: they are written last. */
static uint32_t fill(const struct wh_net_frame *f, uint32_t header, uint64_t offset,
		     const struct wh_virtq_chain *c)
{
	uint64_t total = (uint64_t)f->size + header;
	uint32_t done = 0;
	for (uint32_t i = 0; i < c->in_count && offset < total; i++) {
		const struct wh_iov *to = &c->iov[c->out_count + i];
		uint64_t n = to->size < total - offset ? to->size : total - offset;
		uint64_t skip = offset < header ? header - offset : 0;
		if (n > skip)
			wh_iov_read(f->iov, f->iov_count, offset + skip - header,
				    (uint8_t *)to->base + skip, n - skip);
		offset += n;
		done += (uint32_t)n;
	}
	return done;
}

/* Does the guest take this frame? */
static bool acceptable(const struct wh_vhost_port *v, const struct wh_net_frame *f)
{
	uint32_t need = f->flags & WH_NET_NEEDS_CSUM ? WH_NET_LINK_CSUM : 0;
	if (f->gso_type == WH_NET_GSO_TCPV4)
		need |= WH_NET_LINK_TSO4;
	else if (f->gso_type == WH_NET_GSO_TCPV6)
		need |= WH_NET_LINK_TSO6;
	else if (f->gso_type == WH_NET_GSO_UDP_L4)
		need |= WH_NET_LINK_USO;
	else if (f->gso_type != WH_NET_GSO_NONE)
		return false;
	return f->size <= WH_NET_FRAME_SIZE_MAX && !(need & ~v->port.link_features);
}

struct used {
	uint16_t head;
	uint32_t size;
};

/* Fills buffers; returns how many, or -WH_EAGAIN (too few are there), -WH_EMSGSIZE. */
static int merge(struct vhost_ring *r, const struct wh_net_frame *f, struct used *used)
{
	struct wh_vhost_port *v = r->vhost;
	struct wh_iov first[WH_VIRTIO_NET_HDR_SIZE]; /* where the header goes */
	uint32_t size = header_size(v), limit = has(v, WH_VIRTIO_NET_F_MRG_RXBUF) ? MERGE_MAX : 1;
	uint64_t total = (uint64_t)f->size + size, done = 0;
	uint8_t header[WH_VIRTIO_NET_HDR_SIZE];
	struct wh_virtq_chain c;
	int count = 0, first_count = 0;
	while (done < total && count < (int)limit) {
		if (!ring_pop(r, &c)) {
			wh_virtq_device_unpop(&r->q, (uint16_t)count);
			return -WH_EAGAIN;
		}
		if (!count)
			first_count = wh_iov_slice(c.iov + c.out_count, c.in_count, 0, size, first,
						   WH_VIRTIO_NET_HDR_SIZE);
		used[count].head = c.head;
		used[count].size = fill(f, size, done, &c);
		done += used[count++].size;
	}
	/* A frame too large for the guest's buffers is lost; the buffers come back empty. */
	if (done < total || used[0].size < size || first_count < 0) {
		wh_virtq_device_unpop(&r->q, (uint16_t)count);
		return -WH_EMSGSIZE;
	}
	header_encode(v, f, (uint16_t)count, header);
	wh_iov_write(first, (size_t)first_count, 0, header, size);
	return count;
}

int vhost_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct wh_vhost_port *v = port->provider;
	struct vhost_ring *r = v->ended ? NULL : ring_rx(v, f);
	struct used used[MERGE_MAX];
	if (!r || !acceptable(v, f)) {
		v->stats.lost_out++;
		return r ? -WH_EMSGSIZE : -WH_ENETDOWN;
	}
	int count = merge(r, f, used);
	if (v->faulted)
		wh_loop_timer_start(v->loop, &v->again, 0);
	/* The driver's buffers may have come while we asked to hear of them. */
	if (count == -WH_EAGAIN && wh_virtq_device_kicks_on(&r->q))
		count = merge(r, f, used);
	if (count == -WH_EAGAIN && wh_virtq_device_ready(&r->q)) {
		v->stats.blocked_out++;
		r->starved = true;
		return -WH_EAGAIN;
	}
	if (count < 0) {
		v->stats.lost_out++;
		return count;
	}
	for (int i = 0; i < count; i++)
		wh_virtq_device_fill(&r->q, used[i].head, used[i].size);
	wh_virtq_device_publish(&r->q);
	r->answered = true;
	v->stats.frames_out++;
	v->stats.bytes_out += f->size;
	return 0;
}

void vhost_flush(struct wh_net_port *port)
{
	struct wh_vhost_port *v = port->provider;
	for (uint32_t i = 0; i < VHOST_RINGS_MAX; i += 2) {
		struct vhost_ring *r = &v->rings[i];
		if (r->answered && wh_virtq_device_ready(&r->q))
			call(r);
		r->answered = false;
	}
}
