/* SPDX-License-Identifier: ISC */
#ifndef NET_PRIV_H
#define NET_PRIV_H

/*
 * Inside the stack. Layers, from the wire up:
 *
 *	net.c         instance, cycle (run), addresses, routes
 *	ip_in.c       Ethernet and IP in; reassembly.c puts fragments together
 *	ip_out.c      IP and Ethernet out, fragments, loopback
 *	neighbour.c   who has which MAC; arp.c and ndp.c ask and answer
 *	icmp.c        echo, errors both ways
 *	udp.c         sockets without queues
 *	tcp*.c        see tcp_priv.h
 *	autoconf.c    DHCPv4 client and SLAAC
 *
 * Headers are always copied out of a frame before they are looked at, because the
 * frame may be shared memory that its sender still writes.
 */

#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/base/list.h>
#include <wherry/net.h>
#include <wherry/net_wire.h>

#define NET_MS 1000000ull
#define NET_S (1000 * NET_MS)

/* First bytes of a frame that are copied: Ethernet 14, IPv6 40 with 136 of extension
 * headers (or IPv4 60), TCP 60. What needs more than that is dropped. */
#define NET_HEAD_SIZE 256u
/* In front of a transport header: Ethernet, IPv6, fragment header; kept 4-aligned. */
#define NET_HEADROOM 64u
/* ICMP messages are handled in one copy on the stack: larger ones are cut, and
 * errors quote at most this much (RFC 4443 allows up to 1280, RFC 792 needs 28). */
#define NET_ICMP_COPY 576u
#define NET_LOOP_MTU 16384u
#define NET_LOOP_SIZE (64u << 10)      /* four full segments; senders wait when it is full */
#define NET_REASSEMBLY_NS (30 * NET_S) /* RFC 791 and 8200: 15..60 s */
#define NET_ICMP_BURST 50u             /* RFC 4443, 2.4 (f): token bucket */
#define NET_ICMP_PER_S 1000u
#define NET_PMTU_MAX 8u
#define NET_PMTU_NS (600 * NET_S) /* RFC 8201, 4: not below 5 minutes */
#define NET_DNS_MAX 4u

/* ---- Timers: a pairing heap; starting later than what is set costs nothing ----------- */

struct net_timer {
	uint64_t deadline; /* WH_NET_NEVER = not in the heap */
	struct net_timer *child, *next, *previous;
	void (*fn)(struct wh_net *net, struct net_timer *timer);
};

void net_timer_init(struct net_timer *t, void (*fn)(struct wh_net *, struct net_timer *));
void net_timer_start(struct wh_net *net, struct net_timer *t, uint64_t deadline); /* re-arms */
void net_timer_stop(struct wh_net *net, struct net_timer *t);
struct net_timer *net_timer_due(struct wh_net *net, uint64_t now); /* takes it out */

/* ---- Packets in --------------------------------------------------------------------- */

struct net_packet {
	const struct wh_iov *iov;
	uint32_t iov_count;
	uint32_t offset;     /* of the layer at hand from the start of iov */
	uint32_t size;       /* its bytes, trimmed to what IP says */
	const uint8_t *head; /* private copy of the layer's first bytes */
	uint32_t head_size;
	struct wh_net_ip from, to;
	const uint8_t *ip_head; /* private copy of the IP header, for ICMP errors */
	uint32_t ip_head_size;
	uint8_t from_mac[6];
	uint8_t protocol, tos, hop_limit;
	bool checked;    /* checksums need no look */
	bool group;      /* destination is broadcast or multicast */
	bool loop;       /* came through the loopback */
	bool own;        /* destination is an own address */
	bool fragmented; /* put together by us */
	bool has_mac;    /* from_mac is known */
	uint8_t gso_type;
	uint16_t gso_size;
};

void net_eth_input(struct wh_net *net, const struct wh_net_frame *frame);
/* offset: of the IP header in the frame's bytes. */
void net_ip_input(struct wh_net *net, const struct wh_net_frame *frame, uint32_t offset,
		  const uint8_t *head, uint32_t head_size, bool loop, const uint8_t *mac);
void net_transport_input(struct wh_net *net, struct net_packet *p);
/* Verifies the checksum of a TCP, UDP or ICMPv6 packet over pseudo header and payload. */
bool net_checksum_good(const struct net_packet *p);

/* ---- Packets out ------------------------------------------------------------------ */

struct net_out {
	uint8_t *head; /* transport header, with NET_HEADROOM bytes before it */
	uint32_t head_size;
	const struct wh_iov *payload;
	uint32_t payload_count, payload_size;
	struct wh_net_ip from, to;
	uint8_t protocol, tos, hop_limit; /* hop_limit 0 = default */
	bool dont_fragment;
	bool probe; /* goes out in one piece if the link takes it, whatever is known of the path */
	uint8_t checksum_at; /* in head; 0xff = none (it is done already) */
	uint8_t gso_type;
	uint16_t gso_size;
	const uint8_t *mac; /* known next hop, else resolved */
	bool unresolved;    /* set with -WH_EAGAIN: waits for a neighbour, not for the link */
};

int net_ip_output(struct wh_net *net, struct net_out *o);
/* Ethernet frame with a payload that begins with `head` (room for 14 bytes before it). */
int net_eth_output(struct wh_net *net, const uint8_t to[6], uint16_t type, uint8_t *head,
		   uint32_t head_size, const struct wh_iov *payload, uint32_t count,
		   struct wh_net_frame *offload);

/* Where packets to an address go. */
struct net_route {
	bool loop;
	struct wh_net_ip hop; /* next hop on the link */
	uint32_t mtu;
	uint32_t features; /* WH_NET_LINK_* */
};
int net_route(const struct wh_net *net, const struct wh_net_ip *to, struct net_route *ret);
bool net_ip_loopback(const struct wh_net_ip *ip);
bool net_ip_multicast(const struct wh_net_ip *ip);
bool net_ip_broadcast(const struct wh_net *net, const struct wh_net_ip *ip);
bool net_ip_on_link(const struct wh_net *net, const struct wh_net_ip *ip);
void net_multicast_mac(const struct wh_net_ip *ip, uint8_t mac[6]);
uint32_t net_pmtu(const struct wh_net *net, const struct wh_net_ip *to, uint32_t mtu);
struct net_pmtu_entry *net_pmtu_set(struct wh_net *net, const struct wh_net_ip *to, uint32_t mtu);
/* What is known and has not expired, or NULL. */
struct net_pmtu_entry *net_pmtu_find(struct wh_net *net, const struct wh_net_ip *to);
void net_pmtu_keep(struct wh_net *net, struct net_pmtu_entry *entry, uint64_t ns);

bool net_loop_run(struct wh_net *net); /* true = there was a packet */
int net_loop_output(struct wh_net *net, const struct wh_iov *iov, uint32_t count, uint32_t size);

/* ---- Neighbours --------------------------------------------------------------------- */

enum { NET_NEIGHBOUR_FREE, NET_NEIGHBOUR_INCOMPLETE, NET_NEIGHBOUR_KNOWN, NET_NEIGHBOUR_PERMANENT };

struct net_neighbour {
	struct wh_net_ip ip;
	uint8_t mac[6];
	uint8_t state, tries;
	uint64_t confirmed; /* time of the last answer, or of the first question */
	uint64_t asked;     /* time of the last question */
	uint64_t used;
	uint8_t *waiting; /* one copied IP packet */
	uint32_t waiting_size;
};

/* 0 and the MAC, -WH_EAGAIN (asked), -WH_EHOSTUNREACH (nobody answered). */
int net_neighbour_resolve(struct wh_net *net, const struct wh_net_ip *ip, uint8_t mac[6]);
void net_neighbour_learn(struct wh_net *net, const struct wh_net_ip *ip, const uint8_t mac[6],
			 bool create);
/* Keeps one packet until the address is known. */
void net_neighbour_keep(struct wh_net *net, const struct wh_net_ip *ip, const struct wh_iov *iov,
			uint32_t count, uint32_t size);
void net_neighbours_fini(struct wh_net *net);
void net_arp_input(struct wh_net *net, const uint8_t *p, uint32_t size);
/* mac NULL = asks all. */
void net_arp_ask(struct wh_net *net, const struct wh_net_ip *ip, const uint8_t *mac);
void net_arp_announce(struct wh_net *net, const struct wh_net_ip *ip);
void net_ndp_ask(struct wh_net *net, const struct wh_net_ip *ip, const uint8_t *mac);
void net_ndp_probe(struct wh_net *net, const struct wh_net_ip *ip); /* RFC 4862, 5.4.2 */
void net_ndp_input(struct wh_net *net, const struct net_packet *p, const uint8_t *data,
		   uint32_t size);
int net_icmp6_send(struct wh_net *net, uint8_t *head, uint32_t size, const struct wh_net_ip *from,
		   const struct wh_net_ip *to, const uint8_t *mac);
struct wh_net_ip net_link_local(const struct wh_net *net);

/* ---- Multicast listeners (RFC 3810): what neighbour discovery needs, behind snooping switches ---- */

bool net_mld_member(const struct wh_net *net, const struct wh_net_ip *group);
void net_mld_input(struct wh_net *net, const struct net_packet *p, const uint8_t *data,
		   uint32_t size);
void net_mld_report(struct wh_net *net); /* all groups of own addresses */
struct wh_net_ip net_solicited_node(const struct wh_net_ip *ip);
/* An application's group begins or ends. */
void net_mld_changed(struct wh_net *net, const struct wh_net_ip *group, bool joined);

struct net_group {
	struct wh_net_ip ip;
	uint32_t users; /* 0 = the place is free */
};

/* ---- ICMP ---------------------------------------------------------------------------- */

/* "Reassembly time exceeded" (RFC 792, 4443); "parameter problem" (RFC 4443, 3.4), in some cases about
 * packets to a group too (RFC 8200, 4.2). */
void net_icmp_late(struct wh_net *net, const struct net_packet *p);
void net_icmp6_parameter(struct wh_net *net, const struct net_packet *p, uint8_t code,
			 uint32_t pointer, bool group_too);
void net_icmp4_input(struct wh_net *net, const struct net_packet *p);
void net_icmp6_input(struct wh_net *net, const struct net_packet *p);
/* Answers packet `p` with an error of the kind `error` (a WH_E*, see icmp.c); rate-limited. */
void net_icmp_error(struct wh_net *net, const struct net_packet *p, int error, uint32_t mtu);

/* The same about a packet that is gone: quotes made-up headers of it. */
int net_icmp_quote(struct wh_net *net, uint8_t protocol, const struct wh_net_tuple *tuple,
		   uint32_t sequence, int error, uint32_t mtu);

/* An error message that quotes a packet of ours. */
struct net_icmp_error {
	struct wh_net_tuple tuple;
	int error;         /* WH_E* */
	bool hard;         /* RFC 1122 4.2.3.9: protocol or port unreachable */
	uint32_t mtu;      /* with WH_EMSGSIZE */
	uint32_t sequence; /* TCP */
};

/* ---- Reassembly ---------------------------------------------------------------------- */

struct net_fragment {
	struct wh_net_ip from, to;
	uint32_t id;
	uint8_t protocol;
	uint16_t offset;
	bool more;
};
void net_reassembly_input(struct wh_net *net, const struct net_fragment *f, struct net_packet *p);
void net_reassembly_fini(struct wh_net *net);
struct net_reassembly;

/* ---- Protocols above IP: entered through pointers, so that linking selects -------------- */

struct net_protocol {
	void (*input)(struct wh_net *net, struct net_packet *p);
	void (*error)(struct wh_net *net, const struct net_icmp_error *e);
	bool (*run)(struct wh_net *net);           /* true = worked; may be NULL */
	bool (*pending)(const struct wh_net *net); /* run would work; may be NULL */
	void (*unblock)(struct wh_net *net);       /* link or neighbour is ready */
	void (*fini)(struct wh_net *net);
};

struct net_address {
	struct wh_net_ip ip;
	uint8_t prefix;
	bool autoconf;
};

struct net_pmtu_entry {
	struct wh_net_ip ip;
	uint32_t mtu;
	uint64_t expires;
	/* Found by a black hole, not told: TCP searches upwards (tcp_mtu.c). */
	uint32_t high; /* no more than that; 0 = there is no search */
	uint8_t tries; /* of the size at hand that were lost */
	bool rest;     /* the search is over: it begins anew at probe_at */
	uint64_t probe_at;
};

struct net_loop {
	uint8_t *buffer;
	uint32_t head, tail, used; /* records of u32 size + packet, 8-aligned */
	uint32_t wrap;             /* end of the records before the wrap */
};

struct net_autoconf;

struct wh_net {
	struct wh_net_config config; /* with defaults filled in */
	struct wh_net_port *port;
	uint64_t now;
	uint64_t random;
	bool sent;    /* frames went out since the last flush */
	bool running; /* in wh_net_run */
	struct net_timer *timers;
	struct net_address address[WH_NET_ADDRESSES_MAX];
	uint32_t address_count;
	struct wh_net_ip gateway4, gateway6;
	bool has_gateway4, has_gateway6;
	struct net_neighbour neighbour[WH_NET_NEIGHBOURS_MAX];
	struct net_timer neighbour_timer;
	struct net_pmtu_entry pmtu[NET_PMTU_MAX];
	uint64_t pmtu_expires; /* the last of them */
	struct net_loop loop;
	struct net_reassembly *reassembly; /* table, when the first fragment came */
	struct net_timer reassembly_timer;
	uint16_t ip4_id;
	uint32_t ip6_id;
	uint8_t hop_limit_in; /* of the packet that is being handed to a protocol */
	uint32_t icmp_tokens;
	uint64_t icmp_time;
	const struct net_protocol *tcp, *udp, *autoconf_ops;
	void *tcp_state, *udp_state;
	struct net_autoconf *autoconf;
	void (*router_advert_input)(struct wh_net *net, const struct wh_net_ip *from,
				    const uint8_t *p, uint32_t size);
	/* Somebody else has, or wants, this own address: duplicate address detection's business. */
	bool (*address_claimed)(struct wh_net *net, const struct wh_net_ip *ip);
	uint64_t defended; /* last answer to such a claim by ARP */
	uint8_t *router_advert;
	uint32_t router_advert_size;
	struct net_group group[WH_NET_GROUPS_MAX]; /* groups.c, which sets igmp_input */
	uint32_t group_count;
	void (*igmp_input)(struct wh_net *net, const struct net_packet *p);
	uint64_t igmp2_until; /* a router of the older version was heard */
	struct wh_net_ip dns[NET_DNS_MAX];
	uint64_t dns_expires[NET_DNS_MAX];
	uint32_t dns_count;
	uint32_t
		link_mtu; /* 0 = the port's; else what a router said (RFC 4861, 4.6.4), IPv6 only */
	struct wh_net_stats stats;
};

static inline uint64_t net_random(struct wh_net *net)
{
	uint64_t v = wh_random_next(&net->random);
	return wh_siphash(net->config.key, &v, sizeof v);
}

#endif
