/* SPDX-License-Identifier: ISC */
/*
 * virtio-net. Transmit: the guest's chain is a 12-byte header and a frame; the header is copied
 * and checked, the frame goes to port->receive where it lies. Receive: port->send copies a frame into as
 * many of the guest's buffers as it takes (mergeable buffers), which become visible at once.
 *
 * A frame that breaks the rules of its header is dropped and counted, as a wire would; a broken
 * ring is the queue's business.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/dev_net.h>
#include <wherry/virtio.h>

#define QUEUE_SIZE 256u
#define QUEUE_RX 0u
#define QUEUE_TX 1u
#define ETHERNET_HEADER 14u
#define MERGE_MAX 128u /* buffers of one frame: 64 KiB in buffers of 512 bytes */

struct wh_dev_net {
	struct wh_virtio_device dev;
	struct wh_net_port port;
	uint32_t offloads;
	bool held;     /* receive said -WH_EAGAIN: the chain is back in the ring until resume */
	bool starved;  /* send said -WH_EAGAIN: tell the user when buffers come */
	bool answered; /* receive buffers were used since the last flush */
	uint64_t dropped_tx, dropped_rx;
	struct wh_iov tx_iov[QUEUE_SIZE], rx_iov[QUEUE_SIZE], frame_iov[WH_NET_FRAME_IOV_MAX];
	uint8_t copy[WH_NET_FRAME_SIZE_MAX]; /* of a frame in too many pieces */
};

/* ---- guest -> user ---- */

/* Takes the header apart; false = it makes no sense for this frame. */
static bool header_decode(const struct wh_dev_net *n, const uint8_t *h, struct wh_net_frame *f)
{
	f->flags = h[WH_VIRTIO_NET_HDR_FLAGS] & WH_NET_NEEDS_CSUM;
	f->gso_type = h[WH_VIRTIO_NET_HDR_GSO_TYPE] & 0x7f; /* bit 7: ECN, no matter to us */
	f->hdr_len = wh_load_le16(h + WH_VIRTIO_NET_HDR_HDR_LEN);
	f->gso_size = wh_load_le16(h + WH_VIRTIO_NET_HDR_GSO_SIZE);
	f->csum_start = wh_load_le16(h + WH_VIRTIO_NET_HDR_CSUM_START);
	f->csum_offset = wh_load_le16(h + WH_VIRTIO_NET_HDR_CSUM_OFFSET);
	if (f->flags & WH_NET_NEEDS_CSUM) {
		if (!wh_virtio_has(&n->dev, WH_VIRTIO_NET_F_CSUM) ||
		    f->csum_start + (uint32_t)f->csum_offset + 2u > f->size)
			return false;
	}
	if (f->hdr_len > f->size)
		f->hdr_len = 0; /* a hint only */
	switch (f->gso_type) {
	case WH_NET_GSO_NONE:
		f->gso_size = 0;
		return true;
	case WH_NET_GSO_TCPV4:
		return f->gso_size && f->flags && wh_virtio_has(&n->dev, WH_VIRTIO_NET_F_HOST_TSO4);
	case WH_NET_GSO_TCPV6:
		return f->gso_size && f->flags && wh_virtio_has(&n->dev, WH_VIRTIO_NET_F_HOST_TSO6);
	case WH_NET_GSO_UDP_L4:
		return f->gso_size && f->flags && wh_virtio_has(&n->dev, WH_VIRTIO_NET_F_HOST_USO);
	default:
		return false;
	}
}

/* 0 = done with the chain, -WH_EAGAIN = the user has no room. */
static int transmit(struct wh_dev_net *n, const struct wh_virtq_chain *c)
{
	uint8_t header[WH_VIRTIO_NET_HDR_SIZE];
	struct wh_net_frame f = { .iov = n->frame_iov };
	if (c->out_size < sizeof header + ETHERNET_HEADER ||
	    c->out_size - sizeof header > WH_NET_FRAME_SIZE_MAX || !n->port.receive) {
		n->dropped_tx++;
		return 0;
	}
	f.size = (uint32_t)(c->out_size - sizeof header);
	wh_iov_read(c->iov, c->out_count, 0, header, sizeof header);
	if (!header_decode(n, header, &f)) {
		n->dropped_tx++;
		return 0;
	}
	int count = wh_iov_slice(c->iov, c->out_count, sizeof header, f.size, n->frame_iov,
				 WH_NET_FRAME_IOV_MAX);
	if (count < 0) {
		wh_iov_read(c->iov, c->out_count, sizeof header, n->copy, f.size);
		n->frame_iov[0] = (struct wh_iov){ n->copy, f.size };
		count = 1;
	}
	f.iov_count = (uint32_t)count;
	return n->port.receive(&n->port, &f) == -WH_EAGAIN ? -WH_EAGAIN : 0;
}

static void notify_tx(struct wh_dev_net *n)
{
	struct wh_virtq_chain c = { .iov = n->tx_iov, .iov_max = QUEUE_SIZE };
	uint32_t left = WH_VIRTIO_TURN;
	for (; left && !n->held && wh_virtio_pop(&n->dev, QUEUE_TX, &c); left--) {
		if (transmit(n, &c) == -WH_EAGAIN) {
			wh_virtq_device_unpop(&n->dev.queue[QUEUE_TX], 1);
			n->held = true;
			break;
		}
		wh_virtio_push(&n->dev, QUEUE_TX, c.head, 0);
	}
	if (n->port.receive_done)
		n->port.receive_done(&n->port);
	if (!left)
		wh_virtio_again(&n->dev, QUEUE_TX);
	wh_virtio_raise(&n->dev, QUEUE_TX);
}

static void port_resume(struct wh_net_port *port)
{
	struct wh_dev_net *n = port->provider;
	if (!n->held)
		return;
	n->held = false;
	wh_virtio_notify(&n->dev, QUEUE_TX);
}

/* ---- user -> guest ---- */

static void header_encode(const struct wh_dev_net *n, const struct wh_net_frame *f,
			  uint16_t buffers, uint8_t *h)
{
	memset(h, 0, WH_VIRTIO_NET_HDR_SIZE);
	if (wh_virtio_has(&n->dev, WH_VIRTIO_NET_F_GUEST_CSUM))
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
static uint32_t fill(const struct wh_net_frame *f, uint64_t offset, const struct wh_virtq_chain *c)
{
	uint64_t total = (uint64_t)f->size + WH_VIRTIO_NET_HDR_SIZE;
	uint32_t done = 0;
	for (uint32_t i = 0; i < c->in_count && offset < total; i++) {
		const struct wh_iov *v = &c->iov[c->out_count + i];
		uint64_t n = v->size < total - offset ? v->size : total - offset;
		uint64_t skip =
			offset < WH_VIRTIO_NET_HDR_SIZE ? WH_VIRTIO_NET_HDR_SIZE - offset : 0;
		if (n > skip)
			wh_iov_read(f->iov, f->iov_count, offset + skip - WH_VIRTIO_NET_HDR_SIZE,
				    (uint8_t *)v->base + skip, n - skip);
		offset += n;
		done += (uint32_t)n;
	}
	return done;
}

/* Does the guest take this frame? */
static bool acceptable(const struct wh_dev_net *n, const struct wh_net_frame *f)
{
	uint32_t need = 0;
	if (f->flags & WH_NET_NEEDS_CSUM)
		need |= WH_NET_LINK_CSUM;
	if (f->gso_type == WH_NET_GSO_TCPV4)
		need |= WH_NET_LINK_TSO4;
	else if (f->gso_type == WH_NET_GSO_TCPV6)
		need |= WH_NET_LINK_TSO6;
	else if (f->gso_type == WH_NET_GSO_UDP_L4)
		need |= WH_NET_LINK_USO;
	else if (f->gso_type != WH_NET_GSO_NONE)
		return false;
	return f->size <= WH_NET_FRAME_SIZE_MAX && !(need & ~n->port.link_features);
}

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct wh_dev_net *n = port->provider;
	struct wh_iov first[WH_VIRTIO_NET_HDR_SIZE]; /* where the header goes */
	struct wh_virtq_chain c = { .iov = n->rx_iov, .iov_max = QUEUE_SIZE };
	struct {
		uint16_t head;
		uint32_t size;
	} used[MERGE_MAX];
	uint64_t total = (uint64_t)f->size + WH_VIRTIO_NET_HDR_SIZE, done = 0;
	uint16_t count = 0;
	int first_count = 0;
	if (!n->dev.running) /* writable follows when the driver starts, unless it broke the device */
		return n->dev.broken ? -WH_ENETDOWN : -WH_EAGAIN;
	if (!wh_virtq_device_ready(&n->dev.queue[QUEUE_RX]))
		return -WH_ENETDOWN;
	uint32_t limit = wh_virtio_has(&n->dev, WH_VIRTIO_NET_F_MRG_RXBUF) ? MERGE_MAX : 1;
	if (!acceptable(n, f)) {
		n->dropped_rx++;
		return -WH_EMSGSIZE;
	}
	while (done < total && count < limit) {
		if (!wh_virtio_pop(&n->dev, QUEUE_RX, &c)) {
			if (!n->dev.running)
				return -WH_ENETDOWN;
			wh_virtq_device_unpop(&n->dev.queue[QUEUE_RX], count);
			n->starved = true;
			return -WH_EAGAIN;
		}
		if (!count)
			first_count =
				wh_iov_slice(c.iov + c.out_count, c.in_count, 0,
					     WH_VIRTIO_NET_HDR_SIZE, first, WH_VIRTIO_NET_HDR_SIZE);
		used[count].head = c.head;
		used[count].size = fill(f, done, &c);
		done += used[count++].size;
	}
	bool fits = done == total && used[0].size >= WH_VIRTIO_NET_HDR_SIZE;
	if (fits) {
		uint8_t header[WH_VIRTIO_NET_HDR_SIZE];
		header_encode(n, f, count, header);
		wh_iov_write(first, (size_t)first_count, 0, header, sizeof header);
	}
	/* A frame too large for the guest's buffers is lost; the buffers come back empty. */
	struct wh_virtq_device *q = &n->dev.queue[QUEUE_RX];
	if (!fits) {
		wh_virtq_device_unpop(q, count);
		n->dropped_rx++;
		return -WH_EMSGSIZE;
	}
	for (uint16_t i = 0; i < count; i++)
		wh_virtq_device_fill(q, used[i].head, used[i].size);
	wh_virtq_device_publish(q);
	n->answered = true;
	return 0;
}

static void port_flush(struct wh_net_port *port)
{
	struct wh_dev_net *n = port->provider;
	if (n->answered)
		wh_virtio_raise(&n->dev, QUEUE_RX);
	n->answered = false;
}

static void notify(void *ctx, uint32_t queue)
{
	struct wh_dev_net *n = ctx;
	if (queue == QUEUE_TX) {
		notify_tx(n);
	} else if (n->starved && wh_virtq_device_pending(&n->dev.queue[QUEUE_RX])) {
		n->starved = false;
		if (n->port.writable)
			n->port.writable(&n->port);
	}
}

static void start(void *ctx)
{
	struct wh_dev_net *n = ctx;
	static const struct {
		uint64_t feature;
		uint32_t link;
	} map[] = { { WH_VIRTIO_NET_F_GUEST_CSUM, WH_NET_LINK_CSUM },
		    { WH_VIRTIO_NET_F_GUEST_TSO4, WH_NET_LINK_TSO4 },
		    { WH_VIRTIO_NET_F_GUEST_TSO6, WH_NET_LINK_TSO6 },
		    { WH_VIRTIO_NET_F_GUEST_USO4 | WH_VIRTIO_NET_F_GUEST_USO6, WH_NET_LINK_USO } };
	n->port.link_features = 0;
	for (size_t i = 0; i < WH_ARRAY_COUNT(map); i++)
		if (wh_virtio_has(&n->dev, map[i].feature))
			n->port.link_features |= map[i].link;
	/* All segmentation stands on checksums. */
	if (!(n->port.link_features & WH_NET_LINK_CSUM))
		n->port.link_features = 0;
	if (n->port.writable)
		n->port.writable(&n->port);
}

/* The guest has ended; a datagram that it sent last is still to go. */
static void drain(void *ctx)
{
	notify_tx(ctx);
}

static bool reset(void *ctx)
{
	struct wh_dev_net *n = ctx;
	n->held = n->starved = n->answered = false;
	n->port.link_features = 0;
	return true;
}

static uint64_t features_of(uint32_t offloads)
{
	uint64_t f = WH_VIRTIO_NET_F_MAC | WH_VIRTIO_NET_F_MTU | WH_VIRTIO_NET_F_STATUS |
		     WH_VIRTIO_NET_F_MRG_RXBUF | WH_VIRTIO_NET_F_GUEST_CSUM |
		     WH_VIRTIO_NET_F_GUEST_TSO4 | WH_VIRTIO_NET_F_GUEST_TSO6 |
		     WH_VIRTIO_NET_F_GUEST_USO4 | WH_VIRTIO_NET_F_GUEST_USO6;
	if (!(offloads & WH_NET_LINK_CSUM))
		return f;
	f |= WH_VIRTIO_NET_F_CSUM;
	if (offloads & WH_NET_LINK_TSO4)
		f |= WH_VIRTIO_NET_F_HOST_TSO4;
	if (offloads & WH_NET_LINK_TSO6)
		f |= WH_VIRTIO_NET_F_HOST_TSO6;
	if (offloads & WH_NET_LINK_USO)
		f |= WH_VIRTIO_NET_F_HOST_USO;
	return f;
}

int wh_dev_net_new(const struct wh_dev_net_config *config, struct wh_vmm_machine *machine,
		   struct wh_dev_net **ret_net, struct wh_diag *diag)
{
	static const struct wh_virtio_ops ops = {
		.start = start, .notify = notify, .reset = reset, .drain = drain
	};
	struct wh_dev_net *n = calloc(1, sizeof *n);
	if (!n)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the network device");
	struct wh_virtio_config v = { .virtio_id = WH_VIRTIO_ID_NET,
				      .queue_count = 2,
				      .queue_size_max = QUEUE_SIZE,
				      .features = features_of(config->offloads),
				      .ops = &ops,
				      .ctx = n,
				      .log = config->log };
	n->port = (struct wh_net_port){ .send = port_send,
					.flush = port_flush,
					.resume = port_resume,
					.mtu = config->mtu ? config->mtu : 1500,
					.provider = n };
	wh_virtio_init(&n->dev, &v);
	memcpy(n->dev.config + WH_VIRTIO_NET_CONFIG_MAC, config->mac, 6);
	wh_store_le16(n->dev.config + WH_VIRTIO_NET_CONFIG_STATUS, 1); /* link up */
	wh_store_le16(n->dev.config + WH_VIRTIO_NET_CONFIG_MTU, (uint16_t)n->port.mtu);
	int r = wh_virtio_attach(&n->dev, machine, "", diag);
	if (r < 0) {
		free(n);
		return r;
	}
	*ret_net = n;
	return 0;
}

struct wh_net_port *wh_dev_net_port(struct wh_dev_net *net)
{
	return &net->port;
}

void wh_dev_net_free(struct wh_dev_net *net)
{
	free(net);
}
