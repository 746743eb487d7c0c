/* SPDX-License-Identifier: ISC */
/*
 * Capture of the guest's link in pcap's nanosecond format (link type Ethernet), to a file or into a ring in memory that
 * holds the last frames until somebody wants them. Segments are written as they cross the link: up to
 * 64 KiB, checksums of offloaded ones unfinished; a snap length cuts them.
 */
#include "gateway_priv.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/os.h>

#define PCAP_MAGIC_NS 0xa1b23c4du
#define PCAP_ETHERNET 1u
#define PCAP_SNAPLEN 262144u

/* Records one behind the other, with their headers; when the next one does not fit behind the last, it begins at
 * the start again, and `end` is where the older ones end. */
struct pcap_ring {
	uint32_t size, first, next, end; /* first == next and !end = empty */
	uint64_t dropped;
	uint8_t bytes[];
};

static int header_write(int fd, uint32_t snaplen)
{
	const struct {
		uint32_t magic;
		uint16_t major, minor;
		uint32_t zone, accuracy, snaplen, type;
	} header = { PCAP_MAGIC_NS, 2, 4, 0, 0, snaplen ? snaplen : PCAP_SNAPLEN, PCAP_ETHERNET };
	return wh_os_write_all(fd, &header, sizeof header);
}

int wh_gateway_pcap(struct wh_gateway *gateway, int fd)
{
	gateway->pcap_fd = -1;
	if (fd < 0)
		return 0;
	int error = header_write(fd, gateway->pcap_snaplen);
	if (!error)
		gateway->pcap_fd = fd;
	return error;
}

bool wh_gateway_capturing(const struct wh_gateway *gateway)
{
	return gateway->pcap_fd >= 0 || gateway->pcap_ring;
}

void wh_gateway_pcap_select(struct wh_gateway *gateway, uint32_t snaplen, const uint8_t *mac)
{
	gateway->pcap_snaplen = snaplen;
	gateway->pcap_has_mac = mac != NULL;
	if (mac)
		memcpy(gateway->pcap_mac, mac, 6);
}

int wh_gateway_pcap_ring(struct wh_gateway *gateway, uint32_t size)
{
	struct pcap_ring *ring = NULL;
	if (size && (size < WH_GATEWAY_PCAP_RING_MIN || size > WH_GATEWAY_PCAP_RING_MAX))
		return -WH_EINVAL;
	if (size) {
		ring = wh_alloc(gateway->alloc, sizeof *ring + size);
		if (!ring)
			return -WH_ENOMEM;
		*ring = (struct pcap_ring){ .size = size };
	}
	pcap_fini(gateway);
	gateway->pcap_ring = ring;
	return 0;
}

void pcap_fini(struct wh_gateway *gateway)
{
	struct pcap_ring *ring = gateway->pcap_ring;
	if (ring)
		wh_free(gateway->alloc, ring, sizeof *ring + ring->size);
	gateway->pcap_ring = NULL;
}

int wh_gateway_pcap_dump(struct wh_gateway *gateway, int fd)
{
	const struct pcap_ring *r = gateway->pcap_ring;
	if (!r)
		return -WH_ENOENT;
	int error = header_write(fd, gateway->pcap_snaplen);
	uint32_t end = r->end ? r->end : r->next;
	if (!error)
		error = wh_os_write_all(fd, r->bytes + r->first, end - r->first);
	if (!error && r->end)
		error = wh_os_write_all(fd, r->bytes, r->next);
	return error;
}

static uint32_t record_size(const struct pcap_ring *r, uint32_t at)
{
	uint32_t header[4];
	memcpy(header, r->bytes + at, sizeof header);
	return (uint32_t)sizeof header + header[2];
}

/* The oldest record goes. */
static void ring_drop(struct pcap_ring *r)
{
	r->first += record_size(r, r->first);
	r->dropped++;
	if (r->end && r->first == r->end)
		r->first = r->end = 0;
	else if (!r->end && r->first == r->next)
		r->first = r->next = 0;
}

/* Room for `size` bytes in a row; such a record fits the ring. */
static uint8_t *ring_room(struct pcap_ring *r, uint32_t size)
{
	wh_assert(size <= r->size);
	for (;;) {
		if (!r->end && r->next + size <= r->size)
			break;
		if (!r->end && r->first >= size) { /* around */
			r->end = r->next;
			r->next = 0;
			break;
		}
		if (r->end && r->next + size <= r->first)
			break;
		ring_drop(r);
	}
	uint8_t *room = r->bytes + r->next;
	r->next += size;
	return room;
}

static bool wanted(const struct wh_gateway *gateway, const struct wh_net_frame *frame)
{
	uint8_t macs[12];
	return !gateway->pcap_has_mac ||
	       (wh_iov_read(frame->iov, frame->iov_count, 0, macs, 12) == 12 &&
		(!memcmp(macs, gateway->pcap_mac, 6) || !memcmp(macs + 6, gateway->pcap_mac, 6)));
}

void pcap_frame(struct wh_gateway *gateway, const struct wh_net_frame *frame)
{
	uint64_t now = wh_os_wall_clock();
	uint32_t size = frame->size, count = 0, left;
	if (!wanted(gateway, frame) || frame->iov_count > WH_NET_FRAME_IOV_MAX)
		return;
	if (gateway->pcap_snaplen && size > gateway->pcap_snaplen)
		size = gateway->pcap_snaplen;
	uint32_t header[4] = { (uint32_t)(now / GATEWAY_S), (uint32_t)(now % GATEWAY_S), size,
			       frame->size };
	if (gateway->pcap_ring && sizeof header + size <= gateway->pcap_ring->size) {
		uint8_t *to = ring_room(gateway->pcap_ring, (uint32_t)sizeof header + size);
		memcpy(to, header, sizeof header);
		size_t n = wh_iov_read(frame->iov, frame->iov_count, 0, to + sizeof header, size);
		memset(to + sizeof header + n, 0, size - n); /* a frame says its size itself */
	}
	if (gateway->pcap_fd < 0)
		return;
	struct iovec iov[WH_NET_FRAME_IOV_MAX + 1] = { { header, sizeof header } };
	for (left = size; count < frame->iov_count && left; count++) {
		size_t n = frame->iov[count].size < left ? frame->iov[count].size : left;
		iov[count + 1] = (struct iovec){ frame->iov[count].base, n };
		left -= (uint32_t)n;
	}
	ssize_t whole = (ssize_t)(sizeof header + size);
	if (writev(gateway->pcap_fd, iov, (int)count + 1) != whole)
		gateway->pcap_fd = -1; /* a torn record would make the rest unreadable */
}
