/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_NET_FRAME_H
#define WHERRY_NET_FRAME_H

/*
 * Frames and ports: where devices, stacks and the gateway meet. A frame is an
 * Ethernet frame in scattered memory with the virtio-net header's offload words
 * (virtio 1.2, 5.1.6), so that segments of up to 64 KiB cross a link with
 * checksum and segmentation left undone.
 */

#include <stdint.h>
#include <wherry/base/iov.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WH_NET_FRAME_SIZE_MAX (65535u + 14u + 4u)
#define WH_NET_FRAME_IOV_MAX 20u

#define WH_NET_NEEDS_CSUM \
	1u /* checksum from csum_start on is to be put at csum_start+csum_offset */
#define WH_NET_DATA_VALID 2u /* checksums were checked, or never needed */

enum wh_net_gso {
	WH_NET_GSO_NONE = 0,
	WH_NET_GSO_TCPV4 = 1,
	WH_NET_GSO_UDP = 3,
	WH_NET_GSO_TCPV6 = 4,
	WH_NET_GSO_UDP_L4 = 5
};

struct wh_net_frame {
	const struct wh_iov *iov; /* Ethernet header first; borrowed for the call */
	uint32_t iov_count;
	uint32_t size;        /* bytes in iov */
	uint8_t flags;        /* WH_NET_NEEDS_CSUM | WH_NET_DATA_VALID */
	uint8_t gso_type;     /* enum wh_net_gso */
	uint16_t gso_size;    /* payload bytes per segment */
	uint16_t hdr_len;     /* hint: bytes of headers */
	uint16_t csum_start;  /* from the frame's first byte */
	uint16_t csum_offset; /* from csum_start */
};

#define WH_NET_LINK_CSUM (1u << 0) /* the other side takes NEEDS_CSUM */
#define WH_NET_LINK_TSO4 (1u << 1)
#define WH_NET_LINK_TSO6 (1u << 2)
#define WH_NET_LINK_USO (1u << 3)

/*
 * A port: one end of a link. Who provides the link fills `send`; who uses it
 * (a stack, the gateway's switch) sets `receive` and `writable`. All calls are made in
 * the owner's thread. `send` may be called from inside `receive` (answers that
 * keep no state); otherwise none may re-enter the port that is calling.
 */
struct wh_net_port {
	/* Provider. Copies or sends the frame before it returns. 0, or -WH_EAGAIN
	 * when the other side has no room: nothing was taken, and `writable` is called
	 * later; other errors drop the frame. */
	int (*send)(struct wh_net_port *port, const struct wh_net_frame *frame);
	/* Optional: called after a burst of sends, so that the provider can kick once. */
	void (*flush)(struct wh_net_port *port);
	uint32_t link_features; /* WH_NET_LINK_*: what `send` accepts; set before the first frame */
	uint32_t mtu;           /* bytes of IP packet; segments of offloaded frames obey it */

	/* User. Memory of the frame is borrowed until return and may be shared with
	 * a hostile guest: copy headers before checking them. Returns 0 = taken, or -WH_EAGAIN
	 * = hold it and present it again after wh_net_port.resume. */
	int (*receive)(struct wh_net_port *port, const struct wh_net_frame *frame);
	void (*writable)(struct wh_net_port *port);
	/* Optional: called by the provider after a burst of receives. */
	void (*receive_done)(struct wh_net_port *port);
	/* Provider: user has room again after a receive that said -WH_EAGAIN. */
	void (*resume)(struct wh_net_port *port);

	void *provider; /* private to each side */
	void *user;
};

#ifdef __cplusplus
}
#endif
#endif
