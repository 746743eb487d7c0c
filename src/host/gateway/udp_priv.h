/* SPDX-License-Identifier: ISC */
#ifndef GATEWAY_UDP_PRIV_H
#define GATEWAY_UDP_PRIV_H

/* What udp.c (flows, and what the guest sends) and udp_receive.c (what comes for it) have in common. */

#include "gateway_priv.h"

#include <sys/socket.h>

#define UDP_BUCKETS 256u
#define UDP_FILTER_WORDS 8u
/* RFC 4787 REQ-5: at least two minutes; less until there was a reply. */
#define UDP_TIMEOUT_ONE_WAY_NS (30 * GATEWAY_S)
#define UDP_TIMEOUT_NS (120 * GATEWAY_S)
/* More segments in a call save little, and a receiver's default buffer holds few bursts of 64. The size
 * is that of the largest IP packet. */
#define UDP_BATCH_SEGMENTS_MAX 16u
#define UDP_BATCH_SIZE_MAX 65000u
/* Datagrams per read, and bytes that are expected of one at most: those of larger ones lie elsewhere. */
#define UDP_READ_MAX 32u
#define UDP_GUESS_MAX 2048u
/* Smaller datagrams than that go to the guest one by one. */
#define UDP_GUESS_MIN 64u

struct udp_flow {
	struct udp_flow *next; /* in the bucket */
	struct wh_list used;   /* gateway_udp.flows: front = least recently used */
	struct wh_gateway *gateway;
	struct wh_loop_timer timer;
	struct wh_net_end guest;
	uint64_t used_ns, timeout_ns, begun_ns, bytes_out, bytes_in;
	struct account *account; /* OUT */
	uint32_t id;
	/* OUT */
	struct wh_net_end peer; /* that was sent to last */
	struct wh_loop_fd watch;
	uint64_t filter[UDP_FILTER_WORDS];
	/* IN; rule NULL = OUT */
	struct rule *rule;
	struct listener *listener;       /* whose socket the client talks to */
	struct wh_net_end client, shown; /* shown = what the guest sees */
	struct wh_net_ip local;          /* which address of the host the client used */
	struct udp_flow *client_next;    /* in the bucket by client */
	bool is4;
	uint8_t hops;   /* that the socket was told, 0 = none */
	uint16_t guess; /* size of its datagrams, as the last ones were; 0 = not known */
	bool large;     /* bursts come: a larger buffer and UDP_GRO were asked for */
	bool no_batch;  /* the kernel does not cut for this way: old, or a small MTU */
};

/* Datagrams of one flow to one peer, all of `segment` bytes but perhaps the last. */
struct udp_batch {
	struct udp_flow *flow; /* NULL = nothing was sent in this round */
	struct wh_net_tuple tuple;
	struct wh_net_end to;
	uint32_t segment, used, count;
	uint8_t buffer[UDP_BATCH_SIZE_MAX];
};

/* Datagrams of one peer that go to the guest together: all of `segment` bytes but perhaps the last; 0 = one. */
struct udp_run {
	struct wh_net_tuple tuple;
	struct wh_iov iov[2];
	uint32_t iov_count, size, segment;
};

/* One read of many datagrams. Where all are as long as expected, they lie one behind the other. */
struct udp_many {
	struct mmsghdr headers[UDP_READ_MAX];
	struct iovec iov[UDP_READ_MAX][2];
	union host_address from[UDP_READ_MAX];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control[UDP_READ_MAX];
	uint8_t expected[UDP_READ_MAX * UDP_GUESS_MAX];
	uint8_t rest[UDP_READ_MAX]
		    [GATEWAY_DATAGRAM_MAX]; /* untouched, so no memory, while nothing is larger */
};

struct gateway_udp {
	struct pool pool;
	struct wh_list flows;
	struct udp_flow *buckets[UDP_BUCKETS]; /* by guest end (OUT), guest and shown (IN) */
	struct udp_flow *clients[UDP_BUCKETS]; /* IN: by rule and client */
	bool held, paused; /* runs wait for the link; sockets are not read meanwhile */
	uint32_t run_count, run_at,
		run_offset; /* runs, the one at hand, bytes of it that are gone */
	struct udp_run runs[UDP_READ_MAX];
	struct udp_many *many; /* NULL until the first datagram comes in */
	uint8_t buffer[GATEWAY_DATAGRAM_MAX];
	struct udp_batch batch;
};

/* udp.c */
void udp_flow_touch(struct udp_flow *flow); /* it was used now */

/* udp_receive.c */
void udp_flow_readable(struct wh_loop_fd *watch, uint32_t events);
void udp_flow_errors(struct udp_flow *flow);
/* Replies of this address are let in. */
void udp_filter_add(struct udp_flow *flow, const struct wh_net_ip *ip);
/* The datagram in udp->buffer goes to the guest. false: the link is full, it is held. */
bool udp_deliver(struct wh_gateway *gateway, const struct wh_net_tuple *tuple, uint32_t size);
void udp_read_pause(struct wh_gateway *gateway, struct wh_loop_fd *watch);
void udp_receive_fini(struct wh_gateway *gateway);

#endif
