/* SPDX-License-Identifier: ISC */
#ifndef NET_TEST_SIM_H
#define NET_TEST_SIM_H

/*
 * Two stacks (or one and a script) on a simulated wire: the clock stands still
 * but for sim_run; frames are copied, delayed, lost, doubled and swapped by a seeded
 * generator. Everything is deterministic.
 */

#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/net.h>
#include <wherry/net_wire.h>
#include <wherry/test.h>

#define MS 1000000ull
#define SEC (1000 * MS)
#define SIM_FRAMES_MAX 4096

struct sim_frame {
	uint64_t at;
	uint32_t size;
	uint8_t flags, gso_type;
	uint16_t gso_size, csum_start, csum_offset;
	uint8_t *bytes;
};

struct sim;

struct sim_side {
	struct wh_net *net;
	struct wh_net_port port;
	struct sim *sim;
	struct sim_side *other;
	struct wh_net_ip ip4, ip6;
	uint8_t mac[6];
	uint64_t deadline;
	struct sim_frame queue[SIM_FRAMES_MAX]; /* towards this side */
	uint32_t queued;
	bool blocked;       /* its sends are refused */
	uint64_t line_free; /* when the bottleneck towards this side has sent all */
	uint32_t sent, dropped, marked;
	/* sees and may drop (false) each frame that this side sends */
	bool (*filter)(struct sim_side *side, const uint8_t *frame, uint32_t size);
};

struct sim {
	uint64_t now, random;
	struct sim_side a, b;
	uint64_t delay, jitter;
	uint32_t loss_percent, duplicate_percent, capacity;
	/* A bottleneck in each direction: bytes per second (0 = none), and how much may wait. */
	uint64_t rate, backlog_bytes;
	uint32_t mark_bytes; /* ECN: marks what finds so much waiting (0 = never) */
};

/* Options that are changed before sim_start. */
void sim_config(struct wh_net_config *c);
void sim_init(struct sim *s, const struct wh_net_config *a, const struct wh_net_config *b,
	      uint32_t features, uint32_t mtu);
void sim_fini(struct sim *s);
/* Until `until` (relative) has passed, or done() says so; returns whether it did. */
bool sim_run(struct sim *s, uint64_t time, bool (*done)(void *), void *ctx);
struct wh_net_tuple sim_tuple(const struct sim_side *from, const struct sim_side *to, uint16_t port,
			      bool six);

#endif
