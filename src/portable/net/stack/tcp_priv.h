/* SPDX-License-Identifier: ISC */
#ifndef TCP_PRIV_H
#define TCP_PRIV_H

/*
 * TCP (RFC 9293).
 *
 *	tcp.c        sockets as the application sees them
 *	tcp_table.c  finding a connection; listeners; TIME-WAIT
 *	tcp_in.c     segment arrives: checks of RFC 9293 3.10.7, RFC 5961, RFC 7323
 *	tcp_open.c   SYN handling: listen, request, connect, accept
 *	tcp_cookie.c the same without memory, when there are too many
 *	tcp_ack.c    acknowledgements: window, RTT, SACK, ECN
 *	tcp_sent.c   the scoreboard: what is under way, since when, and what became of it
 *	tcp_loss.c   finding losses and recovering (RFC 8985, 6675, 6582, 6937, 5682, 3522)
 *	tcp_mtu.c    black holes, and the search for what the path takes after all (RFC 4821)
 *	tcp_data.c   payload into the receive ring, FIN
 *	tcp_out.c    what to send now, and the segment itself
 *	tcp_timer.c  retransmission (RFC 6298), zero window, delayed ACK, keep-alive
 *
 * Sequence space. Stream bytes live in two rings. `tx_sequence` is the sequence number of
 * the send ring's first byte (snd_una, but for SYN); the FIN follows the last
 * committed byte. `rx_sequence` is that of the receive ring's first unread byte:
 * rcv_nxt = rx_sequence + rx.used while no FIN came. The ring's end,
 * rx_sequence + rx.size, is the right edge of the window, so it never moves back, and any
 * segment inside it has a place of its own: out-of-order bytes are copied to
 * where they belong and only their ranges are remembered.
 *
 * Time of work. Input only changes state and puts the socket on the work list;
 * tcp_run delivers events and sends. Whatever frees a socket puts it
 * on the dead list, and its memory goes at the end of tcp_run, so that pointers
 * survive callbacks.
 *
 * A socket in use by the application has `held`; close clears it and the connection
 * goes on alone ("orphan") until both FINs are through.
 */

#include "net_priv.h"

#define TCP_OOO_MAX 32u     /* islands out of order; a segment that would make another is dropped */
#define TCP_SENT_MAX 32u    /* records of what is under way; past that neighbours are joined */
#define TCP_SENT_QUANTA 16u /* bursts within this part of a round trip share a record */
#define TCP_RTO_FIRST_NS (1 * NET_S) /* RFC 6298 (2.1) */
#define TCP_RTO_MIN_NS \
	(200 * NET_MS) /* below RFC 6298's 1 s, as everybody: delayed ACKs are faster */
#define TCP_RTO_MAX_NS (60 * NET_S)
#define TCP_SYN_TRIES 6u /* 63 s; RFC 1122 wants 3 minutes at most tried by the user */
#define TCP_SYNACK_TRIES 5u
#define TCP_OPENING_MIN 128u              /* half-open ones of a listener, 2 KiB each */
#define TCP_OPENING_NS (200 * NET_MS)     /* one may be pushed out after that */
#define TCP_RTO_SYN_NS (3 * NET_S)        /* RFC 6298 (5.7): after a SYN that timed out */
#define TCP_PROBE_MIN_NS (10 * NET_MS)    /* RFC 8985 7.2 names none; below that it is jitter */
#define TCP_PROBE_DELAY_NS (200 * NET_MS) /* the longest delayed acknowledgement customary */
#define TCP_REORDER_MIN_US 1000u /* so much disorder is a matter of scheduling, not of loss */
#define TCP_REORDER_STEPS_MAX 20u
#define TCP_REORDER_PERSIST 16u       /* RFC 8985, 6.2 step 4 */
#define TCP_MIN_RTT_NS (10 * NET_S)   /* so long a least round-trip time is believed */
#define TCP_DATA_TRIES 9u             /* 200 ms doubling: 100 s, RFC 1122 4.2.3.5 R2 */
#define TCP_ORPHAN_TRIES 7u           /* nobody waits for it */
#define TCP_FIN_WAIT2_NS (60 * NET_S) /* orphan whose peer never closes */
#define TCP_REQUEST_NS (75 * NET_S)   /* application that never decides */
#define TCP_CORK_NS (200 * NET_MS)
#define TCP_MSS_DEFAULT4 536u /* RFC 9293 3.7.1 */
#define TCP_MSS_DEFAULT6 1220u
#define TCP_MSS_MIN 88u /* smaller announcements are raised: the processor's sake */
#define TCP_GSO_MAX 65535u
/* RFC 5961, 7: for the instance, of which a random half to three halves count in each second, so
 * that nobody can find out by counting them what another connection answered (CVE-2016-5696). */
#define TCP_CHALLENGE_PER_S 200u
/* Answers of one connection to what does not fit, or two confused ends would answer each other
 * for ever. */
#define TCP_ANSWERS_PER_S 10u
#define TCP_DUP_ACKS 3u
#define TCP_PAWS_IDLE_NS (24ull * 24 * 3600 * NET_S) /* RFC 7323, 5.5 */
#define TCP_SPARE_MAX 8u /* rings kept for the next connections: four of them */
#define TCP_BUCKETS_START 64u
#define TCP_PORT_FIRST 32768u
#define TCP_PORT_COUNT 28232u

static inline int32_t tcp_diff(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b);
}
static inline bool tcp_before(uint32_t a, uint32_t b)
{
	return tcp_diff(a, b) < 0;
}
static inline uint32_t tcp_max(uint32_t a, uint32_t b)
{
	return tcp_before(a, b) ? b : a;
}

struct tcp_range {
	uint32_t start, end;
};

/*
 * A piece of the sequence space between snd_una and snd_nxt; each begins where the one before
 * ends. No flag: under way for the first time.
 */
#define TCP_SACKED 1u /* the peer has it, or says so */
#define TCP_LOST 2u   /* taken for lost and not sent again since */
#define TCP_AGAIN 4u  /* was sent more than once: who knows which copy is acknowledged */
struct tcp_sent {
	uint32_t end;
	uint32_t sent_us, first_us; /* its bytes' last transmission, from the latest to the first */
	uint8_t flags;
};

/* What an acknowledgement told. */
struct tcp_delivery {
	uint32_t bytes; /* newly known to have arrived */
	bool original;  /* among them some that were sent once and before `recover` */
	bool has_rtt;
	uint32_t rtt_us;
	bool dsack;
	struct tcp_range dsack_range;
};

struct tcp_ring {
	uint8_t *base;
	uint32_t size; /* power of two, 0 = none */
	uint32_t head; /* offset of the first byte */
	uint32_t used;
};

/* What connections, listeners and TIME-WAIT have in common: a place in the table. */
struct tcp_entry {
	struct tcp_entry *next;
	struct wh_net_tuple tuple; /* listeners: remote is zero */
	uint32_t hash;
	uint8_t state; /* enum wh_net_tcp_state */
	bool hashed;
};

struct tcp_time_wait {
	struct tcp_entry entry;
	struct wh_list node; /* in order of expiry */
	uint64_t expires;
	uint32_t snd_nxt, rcv_nxt, ts_recent, ts_offset;
	uint32_t window; /* as it goes into a header */
	bool timestamps;
};

/* In the order in which those that are due at the same time act. */
enum tcp_timer {
	TCP_TIMER_REORDER, /* RFC 8985's reordering timer */
	TCP_TIMER_PROBE,   /* and its PTO, which comes instead of a time-out */
	TCP_TIMER_RETRANSMIT,
	TCP_TIMER_PERSIST,
	TCP_TIMER_ACK,
	TCP_TIMER_KEEP,
	TCP_TIMER_CLOSE,
	TCP_TIMER_CORK,
	TCP_TIMER_COUNT
};

#define TCP_WORK_OUTPUT 1u /* look whether something is to be sent */
#define TCP_WORK_ACK 2u    /* an acknowledgement is due now */

enum tcp_recovery { TCP_OPEN, TCP_RECOVERY, TCP_LOSS };

struct wh_net_tcp {
	struct tcp_entry entry;
	struct wh_net *net;
	const struct wh_net_tcp_ops *ops;
	void *ctx;
	struct wh_list work;         /* node in the work, blocked or dead list */
	struct wh_list all;          /* node in state's list of all */
	struct wh_list sibling;      /* connection: node in its listener's lists */
	struct wh_net_tcp *listener; /* connection not yet taken */
	struct net_timer timer;
	uint64_t deadline[TCP_TIMER_COUNT];
	uint32_t events; /* to be delivered */
	uint8_t work_flags;
	bool held, dead, half_open, blocked;
	int error;
	int soft_error; /* by ICMP: told if the connection times out (RFC 1122, 4.2.3.9) */

	/* Listener */
	struct wh_list opening, ready; /* connections by `sibling` */
	uint32_t opening_count, ready_count, backlog;
	uint64_t cookies_until; /* acknowledgements may be of cookies */
	bool v6only;

	/* Options negotiated and set */
	bool sack_ok, timestamps_ok, scale_ok;
	bool nodelay, cork, keepalive, want_write;
	uint8_t snd_scale, rcv_scale, tos, hop_limit;
	uint16_t mss;         /* payload bytes of a full segment sent, options taken off */
	uint16_t mss_peer;    /* what the peer announced */
	uint16_t mss_limit;   /* option, 0 = none */
	uint16_t mss_receive; /* greatest seen coming in */
	bool mss_lowered;     /* by the path: looked at again each round, as paths change */
	uint32_t mtu_probe;   /* bytes of IP packet that are being tried; 0 = none under way */
	uint32_t mtu_start, mtu_end; /* its stream bytes */
	uint32_t receive_max, send_max;
	uint32_t keep_idle_s, keep_interval_s, keep_count, keep_sent, user_timeout_ms;

	/* Sending */
	struct tcp_ring tx;
	uint32_t tx_sequence;
	uint32_t iss, snd_una, snd_nxt, snd_wnd, snd_wl1, snd_wl2, snd_wnd_max;
	uint32_t small_end; /* end of the last segment below the MSS (Minshall's Nagle) */
	bool syn_due, fin_wanted, fin_sent, fin_acked, syn_acked;
	/* What is under way */
	struct tcp_sent sent[TCP_SENT_MAX];
	uint32_t sent_count;
	uint32_t sacked_bytes, lost_bytes;
	uint32_t fack; /* highest end that was acknowledged or SACKed */
	/* Loss */
	uint8_t recovery; /* enum tcp_recovery */
	uint8_t tries;    /* time-outs since the last progress */
	uint8_t backoff;  /* the RTO is doubled so often until a round trip is measured */
	uint8_t dup_acks;
	uint8_t frto;                         /* RFC 5682: 0 = not in use, else its step */
	bool retransmit_now;                  /* one segment regardless of the congestion window */
	uint32_t recover;                     /* snd_nxt when recovery began */
	struct wh_net_cc_state cc, cc_before; /* before: as it was when recovery began */
	bool undo_armed;
	uint32_t undo_bytes, undo_end; /* sent again and not known to be needless; good until */
	uint32_t again_ts;             /* timestamp of the first segment sent again */
	uint32_t prr_delivered, prr_out, prr_flight; /* RFC 6937 */
	uint32_t rack_sent_us, rack_end, rack_rtt_us, dsack_round;
	bool rack_valid, reordering, dsack_seen;
	uint8_t reorder_steps, reorder_persist;
	bool probe_out, probe_again; /* tail loss probe */
	uint32_t probe_end;
	/* ECN */
	bool ecn_ok, ecn_echo, ecn_cwr;
	uint32_t ecn_recover;
	/* Round-trip time */
	uint64_t srtt, rttvar, rto, progress_at, sent_at, received_at, min_rtt_at;
	uint32_t min_rtt_us, round_end;

	/* Receiving */
	struct tcp_ring rx;
	uint32_t rx_sequence;
	uint32_t irs, rcv_nxt, rcv_advertised; /* right edge last told */
	uint32_t ack_sent;                     /* rcv_nxt of the last segment sent */
	uint32_t unacked;                      /* bytes received since */
	uint8_t persist_tries;
	uint32_t fin_sequence;
	bool fin_seen, fin_received;
	struct tcp_range ooo[TCP_OOO_MAX];
	uint32_t ooo_count, ooo_last; /* index of the island that grew last: first SACK block */
	struct tcp_range dsack;
	bool dsack_pending;
	uint32_t ts_recent, ts_offset;
	uint64_t ts_recent_at;
	uint64_t answers_at; /* second in which answers_count were given */
	uint32_t answers_count;
	uint64_t grow_at; /* receive ring: start of the measured interval */
	uint32_t grow_received;

	uint64_t bytes_received, bytes_acked;
	uint32_t segments_in, segments_out, retransmits, out_of_order;
};

struct tcp_state {
	struct tcp_entry **bucket;
	uint32_t bucket_count, entry_count;
	struct tcp_entry *last; /* found last; NULL = none */
	struct wh_list all, work, blocked, dead;
	struct wh_list time_wait;
	struct net_timer time_wait_timer;
	uint8_t *spare[TCP_SPARE_MAX]; /* rings of tcp_buffer_start bytes */
	uint32_t spare_count;
	uint32_t challenge_count, challenge_limit;
	uint64_t challenge_at;
	uint32_t port_next;
	bool running;
};

static inline struct tcp_state *tcp_state(const struct wh_net *net)
{
	return net->tcp_state;
}

/* A segment that came in. */
struct tcp_segment {
	struct wh_wire_tcp t;
	const struct net_packet *p;
	uint32_t sequence; /* of the first payload byte (SYN taken off) */
	uint32_t offset;   /* of the payload in p->iov */
	uint32_t size;     /* payload */
	bool fin;
};

/* tcp_ring.c */
int tcp_ring_init(struct wh_net *net, struct tcp_ring *r); /* of tcp_buffer_start bytes */
void tcp_ring_fini(struct wh_net *net, struct tcp_ring *r);
void tcp_rings_spare_free(struct wh_net *net);
bool tcp_ring_grow(const struct wh_alloc *a, struct tcp_ring *r, uint32_t size, uint32_t keep);
/* [offset, offset+size) from head as up to two pieces; returns pieces used. */
uint32_t tcp_ring_slice(const struct tcp_ring *r, uint32_t offset, uint32_t size,
			struct wh_iov iov[2]);
void tcp_ring_skip(struct tcp_ring *r, uint32_t size);
/* Inserts; false = full and not coverable. */
bool tcp_range_insert(struct tcp_range *r, uint32_t *count, uint32_t max, uint32_t start,
		      uint32_t end, uint32_t *ret_index);
void tcp_range_cut(struct tcp_range *r, uint32_t *count, uint32_t below);

/* tcp_table.c */
uint32_t tcp_hash(const struct wh_net *net, const struct wh_net_tuple *t);
struct tcp_entry *tcp_find(const struct wh_net *net, const struct wh_net_tuple *t);
struct wh_net_tcp *tcp_find_listener(const struct wh_net *net, const struct wh_net_end *local);
void tcp_insert(struct wh_net *net, struct tcp_entry *e);
void tcp_remove(struct wh_net *net, struct tcp_entry *e);
bool tcp_port_used(const struct wh_net *net, const struct wh_net_end *local, bool v6only);
void tcp_time_wait_enter(struct wh_net_tcp *s);
void tcp_time_wait_drop(struct wh_net *net, struct tcp_time_wait *w);
/* true = the segment was dealt with; false = reuse: look again for a listener. */
bool tcp_time_wait_input(struct wh_net *net, struct tcp_time_wait *w,
			 const struct tcp_segment *seg);
void tcp_time_wait_init(struct wh_net *net);
void tcp_time_wait_fini(struct wh_net *net);

/* tcp.c */
struct wh_net_tcp *tcp_new(struct wh_net *net, const struct wh_net_tuple *tuple, int *ret_error);
void tcp_destroy(struct wh_net_tcp *s); /* connection is over and nobody holds it */
void tcp_free(struct wh_net_tcp *s);    /* memory; only from the dead list or at the end */
void tcp_work(struct wh_net_tcp *s, uint8_t flags);
void tcp_event(struct wh_net_tcp *s, uint32_t events);
/* The connection ended: error 0 = in order. Tells the application, or frees. */
void tcp_ended(struct wh_net_tcp *s, int error);
int tcp_buffers(struct wh_net_tcp *s); /* rings for a connection that is established */
void tcp_set_mss(struct wh_net_tcp *s);
uint32_t tcp_receive_room(const struct wh_net_tcp *s);
/* Bytes left the receive buffer, or never went in: grows it, tells the peer. */
void tcp_window_opened(struct wh_net_tcp *s);

/* tcp_open.c */
void tcp_listen_input(struct wh_net *net, struct wh_net_tcp *listener,
		      const struct tcp_segment *seg, const struct wh_net_tuple *tuple);
void tcp_request_input(struct wh_net *net, const struct tcp_segment *seg,
		       const struct wh_net_tuple *tuple);
void tcp_syn_sent_input(struct wh_net_tcp *s, struct tcp_segment *seg);
void tcp_established(struct wh_net_tcp *s);
void tcp_half_open_done(struct wh_net_tcp *s);
uint32_t tcp_initial_sequence(const struct wh_net *net, const struct wh_net_tuple *t);
uint32_t tcp_clock_ms(const struct wh_net_tcp *s);
uint32_t tcp_clock_of(const struct wh_net *net, const struct wh_net_tuple *t);
uint8_t tcp_scale(uint32_t window_max);
/* A connection in SYN-RECEIVED on its listener; NULL = limits or memory. */
struct wh_net_tcp *tcp_half_open(struct wh_net *net, struct wh_net_tcp *l,
				 const struct tcp_segment *seg, const struct wh_net_tuple *tuple);

/* tcp_cookie.c */
void tcp_cookie_send(struct wh_net *net, struct wh_net_tcp *l, const struct tcp_segment *seg,
		     const struct wh_net_tuple *tuple);
/* An ACK for a listener: the connection that it completes, or NULL; drop = it is one, but there is no
 * room just now. */
struct wh_net_tcp *tcp_cookie_input(struct wh_net *net, struct wh_net_tcp *l,
				    const struct tcp_segment *seg, const struct wh_net_tuple *tuple,
				    bool *ret_drop);

/* tcp_in.c */
void tcp_input(struct wh_net *net, struct net_packet *p);
void tcp_challenge(struct wh_net_tcp *s);
void tcp_error_input(struct wh_net *net, const struct net_icmp_error *e);

/* tcp_ack.c */
/* false = the segment is not to be looked at further. */
bool tcp_ack_input(struct wh_net_tcp *s, const struct tcp_segment *seg);
void tcp_rtt_first(struct wh_net_tcp *s, uint64_t rtt);
void tcp_rtt_sample(struct wh_net_tcp *s, uint64_t rtt);

/* tcp_sent.c */
static inline uint32_t tcp_now_us(const struct wh_net_tcp *s)
{
	return (uint32_t)(s->net->now / 1000);
}
static inline uint32_t tcp_sent_start(const struct wh_net_tcp *s, uint32_t i)
{
	return i ? s->sent[i - 1].end : s->snd_una;
}
void tcp_sent_add(struct wh_net_tcp *s, uint32_t end); /* new bytes [snd_nxt, end) went out */
void tcp_sent_again(struct wh_net_tcp *s, uint32_t start, uint32_t end);
void tcp_sent_lost(struct wh_net_tcp *s, uint32_t start, uint32_t end);
/* Everything that the peer is not known to have; reneged: nor what it claimed to have. */
void tcp_sent_lost_all(struct wh_net_tcp *s, bool reneged);
void tcp_sent_found(struct wh_net_tcp *s); /* nothing is taken for lost any more */
/* Before snd_una moves to `ack`. */
void tcp_sent_ack(struct wh_net_tcp *s, uint32_t ack, struct tcp_delivery *d);
void tcp_sent_sack(struct wh_net_tcp *s, uint32_t start, uint32_t end, struct tcp_delivery *d);

/* tcp_mtu.c */
/* A time-out: is the segments' size to blame? */
void tcp_black_hole(struct wh_net_tcp *s);
/* Payload of a probe that may go now; 0 = none is due, or there is not enough to send. */
uint32_t tcp_mtu_due(struct wh_net_tcp *s, uint32_t available, uint32_t window);
void tcp_mtu_sent(struct wh_net_tcp *s, uint32_t size); /* it is out, the last one */
void tcp_mtu_acked(struct wh_net_tcp *s);               /* snd_una has moved */
/* Bytes were found lost. true: only the probe, which says nothing about congestion (RFC 4821, 7.6.1). */
bool tcp_mtu_lost(struct wh_net_tcp *s);
void tcp_mtu_forget(struct wh_net_tcp *s); /* a time-out: nothing is known of it */

/* tcp_loss.c */
uint32_t tcp_pipe(const struct wh_net_tcp *s);
uint32_t tcp_congestion_room(const struct wh_net_tcp *s);
/* Acknowledgement `ack` was taken; snd_una was `before`. */
void tcp_loss_ack(struct wh_net_tcp *s, const struct tcp_segment *seg, uint32_t before,
		  const struct tcp_delivery *d);
void tcp_duplicate_ack(struct wh_net_tcp *s);
void tcp_enter_loss(struct wh_net_tcp *s);
void tcp_rack_detect(struct wh_net_tcp *s);
void tcp_probe_arm(struct wh_net_tcp *s);
void tcp_probe_send(struct wh_net_tcp *s);

/* tcp_data.c */
void tcp_data_input(struct wh_net_tcp *s, struct tcp_segment *seg);

/* tcp_out.c */
void tcp_output(struct wh_net_tcp *s);
int tcp_send_ack(struct wh_net_tcp *s);
int tcp_send_probe(struct wh_net_tcp *s);
int tcp_send_syn(struct wh_net_tcp *s);
/* Sends [start, start+size) again, with the FIN if that follows and was sent. 0 or -WH_EAGAIN. */
int tcp_send_again(struct wh_net_tcp *s, uint32_t start, uint32_t size);
bool tcp_send_new(struct wh_net_tcp *s, uint32_t size_max); /* one segment whatever cwnd says */
uint64_t tcp_rto_deadline(const struct wh_net_tcp *s);
int tcp_send_reset(struct wh_net_tcp *s);
/* RST in answer to a segment without a connection (RFC 9293, 3.10.7.1). */
void tcp_reply_reset(struct wh_net *net, const struct tcp_segment *seg);
/* A bare segment; used where there is no socket. */
int tcp_send_bare(struct wh_net *net, const struct wh_net_tuple *tuple, const struct wh_wire_tcp *t,
		  const uint8_t *mac, uint8_t tos);
uint32_t tcp_window_field(struct wh_net_tcp *s);

/* tcp_timer.c */
void tcp_timer_set(struct wh_net_tcp *s, enum tcp_timer which, uint64_t deadline);
static inline void tcp_timer_clear(struct wh_net_tcp *s, enum tcp_timer which)
{
	s->deadline[which] = WH_NET_NEVER;
}
void tcp_timers_init(struct wh_net_tcp *s);
void tcp_keep_restart(struct wh_net_tcp *s);

#endif
