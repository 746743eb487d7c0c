/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_NET_H
#define WHERRY_NET_H

/*
 * A TCP/IP stack as a passive library: frames and time in, frames and the next
 * deadline out. The same code is the guest's stack and the gateway's far end.
 *
 * Threads: one instance belongs to one thread at a time. No globals, no libc
 * beyond mem*, several instances.
 *
 * Memory: only through config.alloc. At _new: the instance, its tables. Per
 * TCP connection: one struct (under 2 KiB) and, once it is established, a receive
 * and a send buffer that start at tcp_buffer_start and double up to the
 * limits while the application keeps up and the peer can use it. Per UDP
 * socket: one small struct (queues are the application's). Per datagram that
 * arrives in fragments: a buffer, bounded in all. Never per packet.
 *
 * Time is a uint64_t of nanoseconds on a clock that never goes back.
 *
 * The cycle. Whoever drives the instance
 *
 *	1. hands in frames (the port's `receive`, set by wh_net_attach; or
 *	   wh_net_input) and makes calls on sockets, in any number;
 *	2. then calls wh_net_run(net, now): it delivers socket events, sends what is due
 *	   (acknowledgements, data, retransmissions), calls the port's flush once,
 *	   and returns the time by which it must be called again.
 *
 * So a burst of frames costs one acknowledgement and one event per socket. Step
 * 2 is required before the driver sleeps; calls on sockets may come from inside
 * event callbacks (wh_net_run notices and goes on until nothing is due).
 * The port's `send` is called from wh_net_run; from `receive` for answers that keep no state (ARP,
 * echo, RST); and from wh_net_udp_send, wh_net_icmp_*, wh_net_router_advert_send and the calls that
 * reset a connection (refuse, abort, close with unread bytes). From no other function.
 *
 * Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; ports in host order.
 *
 * The gateway is an instance with config.transparent: it accepts packets to any destination
 * address, asks the application about each new flow through struct wh_net_ops,
 * and can be any source address. Example: a TCP flow from the guest:
 *
 *	tcp_request(ctx, s, tuple)       guest's SYN; nothing is answered yet
 *	  -> host connect() begins; wh_net_tcp_set_ops(s, &ops, flow)
 *	host connected                   wh_net_tcp_accept(s)           SYN-ACK goes out
 *	host refused                     wh_net_tcp_refuse(s, WH_ECONNREFUSED)     RST goes out
 *	event(s, WH_NET_READABLE)        wh_net_tcp_peek(s, iov); n = writev(fd, iov);
 *	                                 wh_net_tcp_consume(s, n)       opens the window
 *	host readable                    wh_net_tcp_reserve(s, iov); n = readv(fd, iov);
 *	                                 wh_net_tcp_commit(s, n)
 *	host end of file                 wh_net_tcp_shutdown(s)         FIN after the data
 *	event(s, WH_NET_PEER_CLOSED)     after the last byte: shutdown(fd, SHUT_WR)
 *	both done                        wh_net_tcp_close(s)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/iov.h>
#include <wherry/base/log.h>
#include <wherry/base/mem.h>
#include <wherry/net_frame.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_net;
struct wh_net_tcp;
struct wh_net_udp;
struct wh_net_tcp_cc;

/* ---- Limits (defaults for 0 in the config; reasons beside them) ----------------- */

#define WH_NET_ADDRESSES_MAX 12u /* own addresses: gateway, DNS, host, in both versions, spare */
#define WH_NET_NEIGHBOURS_MAX 32u
#define WH_NET_TCP_SOCKETS_MAX 65536u  /* connections of any state but TIME-WAIT */
#define WH_NET_TCP_TIME_WAIT_MAX 1024u /* oldest goes first; 80 bytes each, when needed */
#define WH_NET_TCP_HALF_OPEN_MAX 1024u /* not yet established, whole instance */
#define WH_NET_TCP_BUFFER_START (16u << 10)
#define WH_NET_TCP_BUFFER_MAX (1u << 20)
#define WH_NET_UDP_SOCKETS_MAX 1024u
#define WH_NET_REASSEMBLIES_MAX 16u /* datagrams in pieces at a time, 64 KiB each at most */

/* ---- Addresses --------------------------------------------------------------------- */

struct wh_net_ip {
	uint8_t bytes[16]; /* all zero = unspecified, both versions */
};

struct wh_net_end {
	struct wh_net_ip ip;
	uint16_t port;
};

struct wh_net_tuple {
	struct wh_net_end local, remote; /* local = this instance's side */
};

static inline struct wh_net_ip wh_net_ip4(const uint8_t ip[4])
{
	struct wh_net_ip r = { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ip[0], ip[1], ip[2],
				 ip[3] } };
	return r;
}

static inline struct wh_net_ip wh_net_ip6(const uint8_t ip[16])
{
	struct wh_net_ip r;
	memcpy(r.bytes, ip, 16);
	return r;
}

static inline bool wh_net_ip_is4(const struct wh_net_ip *ip)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	return !memcmp(ip->bytes, mapped, 12);
}

static inline bool wh_net_ip_equal(const struct wh_net_ip *a, const struct wh_net_ip *b)
{
	return !memcmp(a->bytes, b->bytes, 16);
}

/* :: or ::ffff:0.0.0.0 */
static inline bool wh_net_ip_is_any(const struct wh_net_ip *ip)
{
	static const uint8_t zero[4] = { 0 };
	uint8_t high = 0;
	for (int i = 0; i < 10; i++)
		high |= ip->bytes[i];
	return !high && !memcmp(ip->bytes + 12, zero, 4) &&
	       ((!ip->bytes[10] && !ip->bytes[11]) ||
		(ip->bytes[10] == 0xff && ip->bytes[11] == 0xff));
}

/* ---- The instance -------------------------------------------------------------------- */

/*
 * Questions to the application. Any member may be NULL: then the stack answers
 * as a host would (unknown TCP: RST, unknown UDP: port unreachable, echo to an own
 * address: reply). Called from inside `receive`; payload is borrowed until
 * return and may be shared with a hostile guest. New members come at the end.
 */
struct wh_net_ops {
	/* A SYN that no listener takes. `s` is held without an answer to the peer, its repeats are
	 * swallowed, until the application calls one of wh_net_tcp_accept, wh_net_tcp_refuse,
	 * now or later. false = not wanted: RST (an `s` that was returned false is gone). */
	bool (*tcp_request)(void *ctx, struct wh_net_tcp *s, const struct wh_net_tuple *tuple);
	/* A datagram that no UDP socket takes. true = taken. false = port unreachable. */
	bool (*udp_datagram)(void *ctx, const struct wh_net_tuple *tuple, const struct wh_iov *iov,
			     uint32_t count, uint32_t size);
	/* Echo request to `to`. true = taken: the application answers with
	 * wh_net_icmp_echo_reply, or never. false = the stack replies. When NULL, only own
	 * addresses are answered. */
	bool (*icmp_echo)(void *ctx, const struct wh_net_ip *from, const struct wh_net_ip *to,
			  uint16_t id, uint16_t sequence, const struct wh_iov *iov, uint32_t count,
			  uint32_t size);
	/* Peer reports an error about a UDP datagram that was sent by wh_net_udp_send without a
	 * socket. error: WH_ECONNREFUSED, WH_EHOSTUNREACH, WH_EMSGSIZE... */
	void (*udp_error)(void *ctx, const struct wh_net_tuple *tuple, int error);
	/* Sees every frame (pcap): out = true for sent ones. */
	void (*tap)(void *ctx, bool out, const struct wh_net_frame *frame);
	/* The configuration unit (DHCP, SLAAC) has set or changed addresses. */
	void (*configured)(void *ctx);
	/* As udp_datagram, for several datagrams that came in one frame (USO): each of `segment` bytes,
	 * the last one of what is left. NULL = each is handed over by itself. */
	bool (*udp_segments)(void *ctx, const struct wh_net_tuple *tuple, const struct wh_iov *iov,
			     uint32_t count, uint32_t size, uint32_t segment);
};

struct wh_net_config {
	uint32_t size; /* of this struct: WH_NET_CONFIG_INIT */
	const struct wh_alloc *alloc;
	const struct wh_log *log; /* may be NULL */
	const struct wh_net_ops *ops;
	void *ctx;       /* for ops */
	uint64_t key[2]; /* secret and random: sequence numbers, ports, tables */
	uint8_t mac[6];
	bool transparent; /* accept packets to any unicast destination */
	/* Link between this instance and its peer never loses frames (a queue in
	 * memory): no congestion window, the peer's window alone counts. */
	bool lossless;
	const struct wh_net_tcp_cc *cc; /* e.g. &wh_net_cc_cubic; NULL = none, as lossless */
	uint32_t tcp_sockets_max, tcp_time_wait_max, tcp_half_open_max, udp_sockets_max;
	uint32_t reassemblies_max;
	uint32_t tcp_buffer_start;              /* power of two, >= 2048 */
	uint32_t tcp_receive_max, tcp_send_max; /* powers of two, <= 1 GiB */
	uint64_t time_wait_ns;                  /* 0 = 60 s (RFC 9293's 2 MSL with MSL 30 s) */
	uint64_t delayed_ack_ns;                /* 0 = 2 ms when lossless, else 20 ms */
	uint8_t hop_limit;                      /* 0 = 64 */
	bool no_loopback;                       /* own addresses are not looped (transparent) */
	/* Ask peers for ECN (RFC 3168). It is granted to those who ask in any case, where there is
	 * congestion control. */
	bool ecn;
};
#define WH_NET_CONFIG_INIT                           \
	{                                            \
		.size = sizeof(struct wh_net_config) \
	}

/* -WH_EINVAL (config), -WH_ENOMEM. */
int wh_net_new(const struct wh_net_config *config, uint64_t now, struct wh_net **ret_net);
void wh_net_free(struct wh_net *net); /* sockets too, without a word to peers; NULL allowed */

/* Sockets of this type of protocol exist; without the call their code is not
 * linked and their packets are answered with "protocol unreachable". 0 or -WH_ENOMEM. */
int wh_net_tcp_enable(struct wh_net *net);
int wh_net_udp_enable(struct wh_net *net);

/* Becomes the port's user: sets receive, writable and user. One port. */
void wh_net_attach(struct wh_net *net, struct wh_net_port *port);
void wh_net_detach(struct wh_net *net);

/* One frame in. Same as port->receive. Always takes the frame. */
void wh_net_input(struct wh_net *net, const struct wh_net_frame *frame);

/* Sets the clock before a burst of frames after a sleep (round-trip times need
 * it); wh_net_run does it too. */
void wh_net_time(struct wh_net *net, uint64_t now);

#define WH_NET_NEVER UINT64_MAX
/* See "The cycle". Returns the next deadline or WH_NET_NEVER. */
uint64_t wh_net_run(struct wh_net *net, uint64_t now);
/* true when wh_net_run has something to do before the deadline that it returned last. */
bool wh_net_pending(const struct wh_net *net);
/* Own addresses and routes. Prefix 32/128 = not on a shared link. */
int wh_net_address_add(struct wh_net *net, const struct wh_net_ip *ip,
		       uint8_t prefix); /* -WH_ENOSPC, -WH_EEXIST */
int wh_net_address_remove(struct wh_net *net, const struct wh_net_ip *ip);     /* -WH_ENOENT */
bool wh_net_address_own(const struct wh_net *net, const struct wh_net_ip *ip); /* loopback too */
uint32_t wh_net_address_list(const struct wh_net *net, struct wh_net_ip *ips, uint8_t *prefixes,
			     uint32_t max);
/* Default router of the address's version; unspecified IPv4 or IPv6 address removes it. */
void wh_net_gateway_set(struct wh_net *net, const struct wh_net_ip *gateway);
/* Permanent neighbour: no ARP or NDP for it. -WH_ENOSPC. */
int wh_net_neighbour_set(struct wh_net *net, const struct wh_net_ip *ip, const uint8_t mac[6]);
/* MAC of a neighbour that is known now; -WH_ENOENT. */
int wh_net_neighbour_get(const struct wh_net *net, const struct wh_net_ip *ip, uint8_t ret_mac[6]);
/* The own address that packets to `remote` come from; -WH_ENETUNREACH. */
int wh_net_source(const struct wh_net *net, const struct wh_net_ip *remote,
		  struct wh_net_ip *ret_local);

/* ---- TCP --------------------------------------------------------------------------------- */

#define WH_NET_CONNECTED (1u << 0)   /* connect or accept finished */
#define WH_NET_READABLE (1u << 1)    /* new bytes; level: ask wh_net_tcp_peek */
#define WH_NET_WRITABLE (1u << 2)    /* room again after reserve or commit found too little */
#define WH_NET_PEER_CLOSED (1u << 3) /* FIN: no bytes follow those that are readable */
#define WH_NET_FAILED (1u << 4)      /* reset, timed out, refused: wh_net_tcp_error */
#define WH_NET_DRAINED (1u << 5)     /* everything sent, FIN included, is acknowledged */
#define WH_NET_ACCEPTABLE (1u << 6)  /* listener: a connection waits */

/* Called from wh_net_run, or (data) from `receive`. New members come at the end. */
struct wh_net_tcp_ops {
	/* What happened since the last call. The socket may be used, closed included. */
	void (*event)(struct wh_net_tcp *s, uint32_t events);
	/* Optional fast path: in-order payload that may be taken straight out of the frame
	 * (the guest's memory) when nothing is queued before it. Returns the bytes taken
	 * (0..size); the stack buffers the rest. Must not call the stack. */
	uint32_t (*data)(struct wh_net_tcp *s, const struct wh_iov *iov, uint32_t count,
			 uint32_t size);
};

/* Listens on an address (unspecified IPv6 address with v6only = false: both
 * versions; ::ffff:0.0.0.0: IPv4) and port; port 0 picks one. While `backlog` connections wait for
 * take, SYNs are not answered. As many (128 at least) may be half open; further SYNs are answered
 * by cookies, of which nothing is kept. -WH_EADDRINUSE, -WH_EADDRNOTAVAIL, -WH_ENOMEM. */
int wh_net_tcp_listen(struct wh_net *net, const struct wh_net_end *local, bool v6only,
		      uint32_t backlog, const struct wh_net_tcp_ops *ops, void *ctx,
		      struct wh_net_tcp **ret_listener);
/* Next established connection of a listener; -WH_EAGAIN. Set its ops before wh_net_run. */
int wh_net_tcp_take(struct wh_net_tcp *listener, struct wh_net_tcp **ret_s);

/* Connections that wait for take. */
uint32_t wh_net_tcp_waiting(const struct wh_net_tcp *listener);
/* May this address be listened at? Port 0: picks one into local->port. For bind(2), which says so
 * before listen. -WH_EADDRINUSE, -WH_EADDRNOTAVAIL. */
int wh_net_tcp_bindable(struct wh_net *net, struct wh_net_end *local, bool v6only);

/* Opens a connection. Unspecified local address and port 0 are chosen; a transparent
 * instance may name any local address. WH_NET_CONNECTED or WH_NET_FAILED follows.
 * -WH_EADDRINUSE (this tuple is taken), -WH_EADDRNOTAVAIL, -WH_ENETUNREACH, -WH_ENOMEM, -WH_ENOBUFS (limit). */
int wh_net_tcp_connect(struct wh_net *net, const struct wh_net_tuple *tuple,
		       const struct wh_net_tcp_ops *ops, void *ctx, struct wh_net_tcp **ret_s);

/* Answers to wh_net_ops.tcp_request. accept: SYN-ACK, then WH_NET_CONNECTED.
 * -WH_ENOMEM (no buffer; the request stays). refuse: WH_ECONNREFUSED, WH_ECONNRESET = RST; WH_EHOSTUNREACH,
 * WH_ENETUNREACH, WH_EACCES, WH_ETIMEDOUT = the ICMP message and RST; 0 = silence. Frees s. */
int wh_net_tcp_accept(struct wh_net_tcp *s);
void wh_net_tcp_refuse(struct wh_net_tcp *s, int error);

void wh_net_tcp_set_ops(struct wh_net_tcp *s, const struct wh_net_tcp_ops *ops, void *ctx);
void *wh_net_tcp_ctx(const struct wh_net_tcp *s);
const struct wh_net_tuple *wh_net_tcp_tuple(const struct wh_net_tcp *s);

/*
 * Bytes. Pointers are valid until the next call on the same socket or wh_net_run or `receive`.
 * peek: what can be read, in up to two pieces (unused ones get size 0); returns
 * its size. consume: that many bytes are done with; the window opens.
 * reserve: room in the send buffer in up to two pieces; returns its size; when
 * it is 0 (or less than wanted), WH_NET_WRITABLE comes later. commit: that many are to be sent.
 */
uint32_t wh_net_tcp_peek(struct wh_net_tcp *s, struct wh_iov iov[2]);
void wh_net_tcp_consume(struct wh_net_tcp *s, uint32_t size);
uint32_t wh_net_tcp_reserve(struct wh_net_tcp *s, struct wh_iov iov[2]);
void wh_net_tcp_commit(struct wh_net_tcp *s, uint32_t size);

/* Is a quarter of the send buffer free? If not, WH_NET_WRITABLE comes when it is. */
bool wh_net_tcp_writable(struct wh_net_tcp *s);

/* Copying forms: bytes moved (0 = nothing there now or no room). */
uint32_t wh_net_tcp_read(struct wh_net_tcp *s, void *to, uint32_t size);
uint32_t wh_net_tcp_write(struct wh_net_tcp *s, const void *from, uint32_t size);

/* True when the peer's FIN came and every byte before it was consumed. */
bool wh_net_tcp_at_end(const struct wh_net_tcp *s);
uint32_t wh_net_tcp_unsent(const struct wh_net_tcp *s); /* bytes not yet acknowledged */

/* Half-close: FIN after what is committed. Reading goes on. */
void wh_net_tcp_shutdown(struct wh_net_tcp *s);
/* The application is done; s is invalid afterwards and no event follows. Sent bytes and FIN
 * are delivered in the background; bytes that were not consumed, or come later,
 * cause RST (RFC 9293, 3.6.1). A listener resets what waits. */
void wh_net_tcp_close(struct wh_net_tcp *s);
/* RST to the peer at once, then as close. */
void wh_net_tcp_abort(struct wh_net_tcp *s);

/* For the end of a program: closes every connection and listener as wh_net_tcp_close does;
 * then: is anything not yet acknowledged? */
void wh_net_tcp_close_all(struct wh_net *net);
bool wh_net_tcp_busy(const struct wh_net *net);

/* Why WH_NET_FAILED: a positive WH_E* (ECONNRESET, ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH...). 0 = fine. */
int wh_net_tcp_error(const struct wh_net_tcp *s);

enum wh_net_tcp_option {
	WH_NET_TCP_NODELAY,         /* 0/1: Nagle off */
	WH_NET_TCP_CORK,            /* 0/1: only full segments until cleared or 200 ms */
	WH_NET_TCP_KEEPALIVE,       /* 0/1 */
	WH_NET_TCP_KEEP_IDLE_S,     /* 7200 */
	WH_NET_TCP_KEEP_INTERVAL_S, /* 75 */
	WH_NET_TCP_KEEP_COUNT,      /* 9 */
	WH_NET_TCP_USER_TIMEOUT_MS, /* 0 = by retransmission count (about 100 s) */
	WH_NET_TCP_TOS,             /* traffic class byte */
	WH_NET_TCP_HOP_LIMIT,
	WH_NET_TCP_RECEIVE_MAX, /* this socket's buffer limits; power of two is taken */
	WH_NET_TCP_SEND_MAX,
	WH_NET_TCP_MSS /* lower only, before connect has sent */
};
int wh_net_tcp_set(struct wh_net_tcp *s, enum wh_net_tcp_option option, uint32_t value);
int wh_net_tcp_get(const struct wh_net_tcp *s, enum wh_net_tcp_option option, uint32_t *ret_value);

enum wh_net_tcp_state { /* RFC 9293 3.3.2, Linux's numbers */
			WH_NET_TCP_ESTABLISHED = 1,
			WH_NET_TCP_SYN_SENT,
			WH_NET_TCP_SYN_RECEIVED,
			WH_NET_TCP_FIN_WAIT1,
			WH_NET_TCP_FIN_WAIT2,
			WH_NET_TCP_TIME_WAIT,
			WH_NET_TCP_CLOSED,
			WH_NET_TCP_CLOSE_WAIT,
			WH_NET_TCP_LAST_ACK,
			WH_NET_TCP_LISTEN,
			WH_NET_TCP_CLOSING,
			WH_NET_TCP_REQUESTED /* SYN held for the application's decision */
};

struct wh_net_tcp_info {
	enum wh_net_tcp_state state;
	uint32_t mss_send, mss_receive;
	uint64_t rtt_ns, rtt_variance_ns, rto_ns;
	uint32_t window_send, window_receive;             /* bytes */
	uint32_t congestion_window, slow_start_threshold; /* bytes; UINT32_MAX = none */
	uint32_t in_flight, unsent, unread;
	uint32_t receive_size, send_size; /* buffers */
	uint64_t bytes_received, bytes_acked;
	uint32_t segments_in, segments_out, retransmits, out_of_order;
	bool sack, timestamps, scale;
	uint8_t scale_send, scale_receive;
};
void wh_net_tcp_info(const struct wh_net_tcp *s, struct wh_net_tcp_info *ret_info);
const char *wh_net_tcp_state_name(enum wh_net_tcp_state state);

/* ---- Congestion control (replaceable) ----------------------------------------------------- */

struct wh_net_cc_state {
	uint32_t cwnd, ssthresh, mss; /* bytes */
	uint64_t private_[12];
};

/* What an acknowledgement of new bytes says. New members come at the end. */
struct wh_net_cc_ack {
	uint32_t bytes;
	uint64_t now, rtt_ns, srtt_ns; /* rtt_ns: measured just now; 0 = not */
	bool limited;                  /* the congestion window was in use */
	bool round;                    /* first one of a round trip */
};

struct wh_net_tcp_cc {
	const char *name;
	void (*init)(struct wh_net_cc_state *c, uint32_t mss);
	/* Not called in recovery. */
	void (*acked)(struct wh_net_cc_state *c, const struct wh_net_cc_ack *ack);
	/* Loss was found: sets ssthresh and cwnd. */
	void (*lost)(struct wh_net_cc_state *c, uint32_t in_flight, uint64_t now);
	void (*timeout)(struct wh_net_cc_state *c, uint32_t in_flight, uint64_t now);
	void (*idle)(struct wh_net_cc_state *c); /* restart after idle, RFC 5681 4.1 */
};
extern const struct wh_net_tcp_cc wh_net_cc_reno;  /* RFC 5681 */
extern const struct wh_net_tcp_cc wh_net_cc_cubic; /* RFC 9438 */

/* ---- UDP -------------------------------------------------------------------------------------- */

struct wh_net_udp_ops {
	/* From `receive`; payload is borrowed. tuple->local is the address it was sent to. */
	void (*datagram)(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			 const struct wh_iov *iov, uint32_t count, uint32_t size);
	/* ICMP error about a datagram of this socket. */
	void (*error)(struct wh_net_udp *u, const struct wh_net_tuple *tuple, int error);
	/* The link takes frames again after wh_net_udp_send said -WH_EAGAIN. */
	void (*writable)(struct wh_net_udp *u);
};

/* The group's datagrams are wanted: routers and switches are told (IGMP, MLD) when the first one joins and the last one
 * leaves. Sockets that are bound to the port get them all, each. -WH_EINVAL (no group), -WH_ENOBUFS; _leave:
 * -WH_EADDRNOTAVAIL. */
#define WH_NET_GROUPS_MAX 16u
int wh_net_group_join(struct wh_net *net, const struct wh_net_ip *ip);
int wh_net_group_leave(struct wh_net *net, const struct wh_net_ip *ip);

#define WH_NET_UDP_V6ONLY 1u
#define WH_NET_UDP_REUSE 2u /* others may share the port; the last bound gets the datagrams */

/* Port 0 picks one. tuple->remote with port != 0: connected, takes only that peer's. -WH_EADDRINUSE,
 * -WH_EADDRNOTAVAIL, -WH_ENOMEM, -WH_ENOBUFS. */
int wh_net_udp_open(struct wh_net *net, const struct wh_net_tuple *tuple, uint32_t flags,
		    const struct wh_net_udp_ops *ops, void *ctx, struct wh_net_udp **ret_u);
/* Changes the peer; remote port 0 = none. An unspecified local address is chosen. */
int wh_net_udp_connect(struct wh_net_udp *u, const struct wh_net_end *remote);
void wh_net_udp_close(struct wh_net_udp *u);
void *wh_net_udp_ctx(const struct wh_net_udp *u);
const struct wh_net_tuple *wh_net_udp_tuple(const struct wh_net_udp *u);

struct wh_net_send_options { /* all zero = default */
	uint8_t hop_limit, tos;
	bool dont_fragment; /* then -WH_EMSGSIZE over the MTU */
	/* Several datagrams at once: each of so many bytes, the last one of what is left. They go in one frame
	 * where the link takes that (WH_NET_LINK_USO), else one by one. */
	uint16_t segment;
};
#define WH_NET_UDP_SEGMENTS_MAX 128u /* in one call, and in a frame that comes in */

/* Sends one datagram of up to 65507 bytes, in fragments where it must. Unspecified local address is
 * chosen. u may be NULL: nothing is bound, any source is allowed when transparent.
 * A send to 255.255.255.255 or multicast goes to the link. Bytes or -WH_EMSGSIZE,
 * -WH_EAGAIN (link is full), -WH_ENETUNREACH, -WH_EHOSTUNREACH. A datagram that waits for address resolution
 * counts as sent (one per neighbour is kept). With options->segment the link may be full after some of the datagrams: the
 * bytes of those that were taken, or -WH_EAGAIN when none was. */
int wh_net_udp_send(struct wh_net *net, struct wh_net_udp *u, const struct wh_net_tuple *tuple,
		    const struct wh_iov *iov, uint32_t count,
		    const struct wh_net_send_options *options);

/* ---- ICMP ------------------------------------------------------------------------------------- */

/* Reply to an echo request that wh_net_ops.icmp_echo took; from/to as the reply's. */
int wh_net_icmp_echo_reply(struct wh_net *net, const struct wh_net_ip *from,
			   const struct wh_net_ip *to, uint16_t id, uint16_t sequence,
			   const struct wh_iov *iov, uint32_t count);
/* Tells the peer that its datagram (tuple as seen by udp_datagram) failed: WH_ECONNREFUSED, WH_EHOSTUNREACH,
 * WH_ENETUNREACH, WH_EACCES, WH_EMSGSIZE (mtu). Rate-limited. */
int wh_net_icmp_udp_error(struct wh_net *net, const struct wh_net_tuple *tuple, int error,
			  uint32_t mtu);

/* Inside the callbacks udp_datagram and icmp_echo: hop limit (TTL) of the packet. */
uint8_t wh_net_hop_limit(const struct wh_net *net);
/* An error that some router or host has sent about the peer's datagram or echo request, told to the peer with its
 * sender, type and code. Whoever calls it limits the rate. -WH_EINVAL (versions differ), as wh_net_udp_send. */
struct wh_net_icmp_report {
	struct wh_net_ip from; /* who says it */
	uint8_t type, code;
	uint32_t info;             /* the four bytes behind the checksum, such as the MTU */
	struct wh_net_tuple tuple; /* remote = the peer; ports of a datagram */
	bool echo;                 /* about an echo request: */
	uint16_t id, sequence;
	const void *payload;   /* the beginning of what the peer has sent, which is told back */
	uint32_t payload_size; /* at most WH_NET_REPORT_PAYLOAD_MAX of it are used */
};
#define WH_NET_REPORT_PAYLOAD_MAX 512u
int wh_net_icmp_report(struct wh_net *net, const struct wh_net_icmp_report *report);

/* Router advertisement of the gateway: sent to whoever solicits, and on call. The
 * bytes (an ICMPv6 message by wh_wire_router_advert_emit) are copied; size 0 = none. */
int wh_net_router_advert_set(struct wh_net *net, const void *advert, uint32_t size);
int wh_net_router_advert_send(struct wh_net *net);

/* ---- Configuration of a guest without static addresses ---------------------------------------- */

/* Starts the DHCPv4 client and router solicitation; ops.configured reports. Its
 * own linkable unit. Advertised addresses, routers and name servers last as long as
 * they were promised for; an address that somebody has already (RFC 4862, 5.4) is given up. wh_net_dns_servers lists what they (or _add) said. */
int wh_net_autoconf_start(struct wh_net *net, const char *hostname);
uint32_t wh_net_dns_servers(const struct wh_net *net, struct wh_net_ip *ips, uint32_t max);

/* ---- Statistics ---------------------------------------------------------------------------------- */

struct wh_net_stats {
	uint64_t frames_in, frames_out, bytes_in, bytes_out;
	uint64_t in_malformed, in_checksum, in_not_ours, in_no_protocol, in_martian;
	uint64_t out_blocked, out_no_route, out_unresolved, out_errors;
	uint64_t fragments_in, reassembled, reassembly_failed, fragments_out;
	uint64_t address_conflicts, address_duplicates; /* claims of others; own ones given up */
	uint64_t icmp_in, icmp_out, icmp_limited, igmp_in, igmp_out, arp_in, ndp_in;
	uint64_t udp_in, udp_out, udp_no_port;
	uint64_t tcp_in, tcp_out, tcp_retransmits, tcp_timeouts, tcp_resets_in, tcp_resets_out;
	uint64_t tcp_opened, tcp_accepted, tcp_failed, tcp_backlog_dropped, tcp_limit_refused;
	uint64_t tcp_out_of_order, tcp_out_of_order_dropped, tcp_window_dropped, tcp_challenge_acks;
	uint64_t tcp_paws_dropped;
	uint64_t tcp_recoveries, tcp_undone, tcp_probes, tcp_reneged, tcp_ecn_reduced;
	uint64_t tcp_black_holes, tcp_mtu_probes, tcp_cookies_sent, tcp_cookies_taken,
		tcp_cookies_bad;
	uint32_t tcp_sockets, tcp_time_wait, tcp_half_open, udp_sockets; /* now */
	uint64_t tcp_buffer_bytes;                                       /* now */
};
void wh_net_stats_get(const struct wh_net *net, struct wh_net_stats *ret_stats);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
