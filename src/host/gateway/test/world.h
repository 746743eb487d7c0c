/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_GATEWAY_TEST_WORLD_H
#define WHERRY_GATEWAY_TEST_WORLD_H

/*
 * A whole network in one process: a guest (a stack of ours) on a link of two frame queues, the
 * gateway on the other end, and programs on the host's loopback (ephemeral ports). All run on
 * one loop, nothing sleeps for a fixed time: UNTIL steps the loop until a condition holds.
 */

#include <sys/socket.h>
#include <wherry/base/errors.h>
#include <wherry/base/list.h>
#include <wherry/gateway.h>
#include <wherry/net_wire.h>
#include <wherry/test.h>

#define LINK_FRAMES_MAX 512

struct link_frame {
	struct wh_net_frame frame;
	struct wh_iov iov;
	uint8_t *bytes;
};

struct link_end {
	struct wh_net_port port;
	struct link_end *other;
	struct link_frame queue[LINK_FRAMES_MAX]; /* towards this end's user */
	uint32_t first, count;
	uint32_t capacity; /* of the queue: small = a guest that posts few buffers */
	bool refused;      /* said -WH_EAGAIN to the other end */
	uint64_t frames, kicks;
};

struct world {
	struct wh_loop *loop;
	struct wh_gateway_config config;
	struct wh_gateway *gateway;
	struct link_end host_end, guest_end;
	struct wh_net *guest;
	struct wh_loop_hook hook;
	struct wh_loop_timer timer;
	struct wh_net_ops guest_ops;
	bool guest_stopped; /* takes no frames and sends none */
	bool (*filter)(struct world *world, const struct wh_net_frame *frame, bool to_guest);
	uint64_t udp_errors;
	int last_udp_error;
};

/* Defaults: host_loopback on, no resolvers, no hosts file. Change world.config in between. */
void world_init(struct world *world);
void world_start(struct world *world); /* gateway, link and guest */
void world_start_gateway(struct world *world);
void world_start_guest(struct world *world);
void world_stop(struct world *world); /* checks that nothing is left */

/* Steps the loop; fails the test after 20 s without the condition. */
#define UNTIL(world, condition)                                                                  \
	do {                                                                                     \
		uint64_t end_ = world_clock() + 20000000000ull;                                  \
		while (!(condition)) {                                                           \
			wh_loop_step((world)->loop, 50);                                         \
			if (world_clock() > end_)                                                \
				test_fail(__FILE__, __LINE__, "never happened: %s", #condition); \
		}                                                                                \
	} while (0)
/* Steps while there is anything to do at once. */
void world_settle(struct world *world);
uint64_t world_clock(void);

/* The byte at an offset of a test's stream. */
void pattern_fill(uint64_t offset, void *to, size_t size);
bool pattern_check(uint64_t offset, const void *from, size_t size);

/* ---- programs on the host ---- */

struct program {
	struct world *world;
	struct wh_loop_fd watch; /* fd -1 = closed */
	uint64_t to_send, sent, received;
	bool shut_after; /* shut the sending side after to_send bytes */
	bool close_after;
	bool lazy; /* does not read */
	bool at_end, shut;
	int error;
	bool mismatch;
	struct sockaddr_storage peer;
};
int host_listen(int family, uint16_t *ret_port); /* a blocking listener */
void program_accept(struct program *program, struct world *world, int listener);
void program_connect(struct program *program, struct world *world, int family, uint16_t port);
void program_update(struct program *program); /* after changing its members */
void program_close(struct program *program);
void program_reset(struct program *program); /* close with RST */
int host_udp(int family, uint16_t *ret_port);

/* ---- programs in the guest ---- */

struct app {
	struct world *world;
	struct wh_net_tcp *tcp; /* NULL = closed */
	uint64_t to_send, sent, received;
	bool shut_after, lazy, shut;
	bool connected, at_end, failed, drained;
	int error;
	bool mismatch;
	struct wh_net_tuple tuple;
};
struct app_listener {
	struct world *world;
	struct wh_net_tcp *tcp;
	struct app *next; /* gets the next connection */
	uint32_t waiting;
};
/* To the gateway's address (host loopback) on `port`. */
void app_connect(struct app *app, struct world *world, bool ip6, uint16_t port);
void app_connect_to(struct app *app, struct world *world, const struct wh_net_end *to);
void app_listen(struct app_listener *listener, struct world *world, uint16_t port);
void app_unlisten(struct app_listener *listener);
void app_pump(struct app *app);
void app_close(struct app *app);
void app_abort(struct app *app);

struct wh_net_end end4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port);

#endif
