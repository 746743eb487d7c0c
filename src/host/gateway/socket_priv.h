/* SPDX-License-Identifier: ISC */
#ifndef GATEWAY_SOCKET_PRIV_H
#define GATEWAY_SOCKET_PRIV_H

#include "socket_wire.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <wherry/base/errors.h>

#define SOCKET_BURST_MAX 64u /* datagrams per system call */

enum socket_state { SOCKET_HELLO, SOCKET_COMMAND, SOCKET_OPEN };

struct wh_socket_port {
	struct wh_net_port port;
	struct wh_loop_fd watch;
	struct wh_loop_timer timer; /* of the handshake, or the next probe */
	struct wh_loop *loop;
	struct wh_socket_config config;
	const struct wh_alloc *alloc;
	enum socket_state state;
	const char *ended; /* why, or NULL */
	bool held;         /* the frame at in_begin was not taken: present it again first */
	bool blocked;      /* a send found no room */
	struct wh_socket_stats stats;

	/* Streams: bytes. Datagrams: slot_size bytes each, sizes beside. */
	uint32_t in_begin, in_end, out_begin, out_end;
	uint32_t slot_size, slot_count;
	uint32_t in_sizes[SOCKET_BURST_MAX], out_sizes[SOCKET_BURST_MAX];
	bool connected;  /* somebody is there: answers go to them */
	bool fixed_peer; /* by whoever made the socket */
	struct sockaddr_un peer;
	socklen_t peer_size;
	uint64_t peer_file;
	uint8_t in[WH_SOCKET_BUFFER_SIZE], out[WH_SOCKET_BUFFER_SIZE];
};

/* socket_port.c */
void socket_events(struct wh_socket_port *s, uint32_t set, uint32_t clear);
/* Hands a frame to the user. false: it is to be held. */
bool socket_deliver(struct wh_socket_port *s, uint8_t *bytes, uint32_t size);
/* Room again: tells the user. */
void socket_unblock(struct wh_socket_port *s);
int socket_no_room(struct wh_socket_port *s);

/* stream_port.c, dgram_port.c */
int stream_send(struct wh_net_port *port, const struct wh_net_frame *frame);
void stream_write(struct wh_socket_port *s);
void stream_read(struct wh_socket_port *s);
void stream_frames(struct wh_socket_port *s);
int dgram_init(struct wh_socket_port *s);
int dgram_send(struct wh_net_port *port, const struct wh_net_frame *frame);
void dgram_write(struct wh_socket_port *s);
void dgram_read(struct wh_socket_port *s);
/* Is the peer still there? */
void dgram_probe(struct wh_socket_port *s);
void dgram_frames(struct wh_socket_port *s);

#endif
