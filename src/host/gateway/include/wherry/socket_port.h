/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_SOCKET_PORT_H
#define WHERRY_SOCKET_PORT_H

/*
 * A port (wherry/net_frame.h) on a Unix socket with somebody else's virtual machine behind it:
 *
 *   WH_SOCKET_QEMU        stream; each frame behind its length, 32 bits big-endian
 *			   (QEMU -netdev stream, passt, libkrun)
 *   WH_SOCKET_QEMU_DGRAM  datagrams; one frame each (QEMU -netdev dgram, vfkit)
 *   WH_SOCKET_VPNKIT      stream; VPNKit's handshake (version 22), then each frame behind its
 *			   length, 16 bits little-endian (HyperKit and others)
 *
 * These links have no offload: frames are as large as the MTU says, complete with checksums. To
 * make up for it one system call carries many of them in either direction.
 *
 * A datagram socket that is bound but not connected belongs to whoever sends first, until that
 * one is gone. A client that stops reading costs one buffer: `send` says -WH_EAGAIN.
 * Lengths over WH_NET_FRAME_SIZE_MAX and broken handshakes end the client; short frames are dropped.
 *
 * Threads: the loop's. Memory: two buffers of WH_SOCKET_BUFFER_SIZE, touched as they are used.
 */

#include <stddef.h>
#include <stdint.h>
#include <wherry/base/mem.h>
#include <wherry/loop.h>
#include <wherry/net_frame.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_SOCKET_BUFFER_SIZE (256u * 1024)
/* A VPNKit client that has not said what it wants by then is sent away. */
#define WH_SOCKET_HANDSHAKE_MS 5000u

struct wh_socket_port;

enum wh_socket_protocol { WH_SOCKET_QEMU, WH_SOCKET_QEMU_DGRAM, WH_SOCKET_VPNKIT };

/* What a VPNKit client asks for. */
struct wh_socket_request {
	char uuid[36];
	uint8_t ip4[4]; /* preferred address, or zero */
};

struct wh_socket_config {
	size_t size; /* sizeof(struct wh_socket_config) */
	int fd;      /* non-blocking; stays the caller's, who closes it after _free */
	enum wh_socket_protocol protocol;
	uint32_t mtu; /* 0 = 1500 */
	/* VPNKit: a client asks to be let in. Fills its MAC and returns NULL, or returns the
	 * reason that it is told. Never NULL with that protocol. */
	const char *(*request)(void *ctx, const struct wh_socket_request *request,
			       uint8_t ret_mac[6]);
	/* Somebody else is behind a datagram socket now. May be NULL. */
	void (*changed)(void *ctx);
	/* The client has left or was sent away. Called last: the port may be freed in it. */
	void (*gone)(void *ctx, const char *why);
	void *ctx;
	const struct wh_alloc *alloc; /* NULL = malloc */
};

struct wh_socket_stats {
	uint64_t frames_in, bytes_in, frames_out, bytes_out; /* in = from the guest */
	uint64_t calls_in, calls_out;                        /* system calls for them */
	uint64_t bad_in;      /* frames that are too short or were cut */
	uint64_t blocked_out; /* sends that found no room */
	uint64_t lost_out;    /* nobody was there, or larger than the link takes */
};

/* -WH_EINVAL, -WH_ENOMEM, -errno of epoll. Attach a user to the port before the loop runs. */
int wh_socket_port_new(const struct wh_socket_config *config, struct wh_loop *loop,
		       struct wh_socket_port **ret_socket);
/* After the user was detached; NULL is allowed. */
void wh_socket_port_free(struct wh_socket_port *socket);
struct wh_net_port *wh_socket_port_port(struct wh_socket_port *socket);
void wh_socket_port_stats(const struct wh_socket_port *socket, struct wh_socket_stats *ret_stats);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
