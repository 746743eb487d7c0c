/* SPDX-License-Identifier: ISC */
/* Ports on sockets: what streams and datagrams share. */
#include "socket_priv.h"

#include <wherry/os.h>

void socket_events(struct wh_socket_port *s, uint32_t set, uint32_t clear)
{
	uint32_t events = (s->watch.events | set) & ~clear;
	if (events != s->watch.events)
		(void)wh_loop_modify(s->loop, &s->watch, events); /* at worst woken again */
}

bool socket_deliver(struct wh_socket_port *s, uint8_t *bytes, uint32_t size)
{
	if (size < SOCKET_FRAME_MIN || !s->port.receive) {
		s->stats.bad_in += size < SOCKET_FRAME_MIN;
		return true;
	}
	struct wh_iov iov = { bytes, size };
	struct wh_net_frame frame = { .iov = &iov, .iov_count = 1, .size = size };
	s->held = s->port.receive(&s->port, &frame) == -WH_EAGAIN;
	if (s->held) {
		socket_events(s, 0, WH_LOOP_READ);
		return false;
	}
	s->stats.frames_in++;
	s->stats.bytes_in += size;
	return true;
}

int socket_no_room(struct wh_socket_port *s)
{
	s->blocked = true;
	s->stats.blocked_out++;
	socket_events(s, WH_LOOP_WRITE, 0);
	return -WH_EAGAIN;
}

void socket_unblock(struct wh_socket_port *s)
{
	if (!s->blocked)
		return;
	s->blocked = false;
	if (s->port.writable)
		s->port.writable(&s->port);
}

static bool is_dgram(const struct wh_socket_port *s)
{
	return s->config.protocol == WH_SOCKET_QEMU_DGRAM;
}

static void socket_write(struct wh_socket_port *s)
{
	if (is_dgram(s))
		dgram_write(s);
	else
		stream_write(s);
}

static void port_flush(struct wh_net_port *port)
{
	socket_write(port->provider);
}

static void end(struct wh_socket_port *s)
{
	wh_loop_remove(s->loop, &s->watch);
	wh_loop_timer_stop(s->loop, &s->timer);
	s->watch.fd = -1;
	if (s->config.gone)
		s->config.gone(s->config.ctx, s->ended);
}

static void ready(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_socket_port *s = watch->ctx;
	if (events & WH_LOOP_WRITE) {
		socket_write(s);
		socket_unblock(s);
		if (s->out_begin == s->out_end && !s->blocked)
			socket_events(s, 0, WH_LOOP_WRITE);
	}
	if ((events & WH_LOOP_HANGUP) && s->held && !is_dgram(s))
		s->ended = "the client has left"; /* what is held goes with it */
	if (!s->ended && !s->held && (events & (WH_LOOP_READ | WH_LOOP_HANGUP))) {
		if (is_dgram(s))
			dgram_read(s);
		else
			stream_read(s);
		if (s->port.receive_done)
			s->port.receive_done(&s->port);
		socket_write(s);
	}
	if (s->ended)
		end(s);
}

static void port_resume(struct wh_net_port *port)
{
	struct wh_socket_port *s = port->provider;
	if (!s->held || s->ended)
		return;
	s->held = false;
	if (is_dgram(s))
		dgram_frames(s);
	else
		stream_frames(s);
	if (!s->held)
		socket_events(s, WH_LOOP_READ, 0);
	if (s->ended) /* `gone` is for the loop to call */
		wh_loop_timer_start(s->loop, &s->timer, 0);
}

static void timer_due(struct wh_loop_timer *timer)
{
	struct wh_socket_port *s = timer->ctx;
	if (!s->ended && is_dgram(s)) {
		dgram_probe(s);
		return;
	}
	if (!s->ended)
		s->ended = "no handshake";
	end(s);
}

int wh_socket_port_new(const struct wh_socket_config *config, struct wh_loop *loop,
		       struct wh_socket_port **ret_socket)
{
	bool vpnkit = config->protocol == WH_SOCKET_VPNKIT;
	if (config->size != sizeof *config || (vpnkit && !config->request) || config->mtu > 65535)
		return -WH_EINVAL;
	const struct wh_alloc *alloc = config->alloc ? config->alloc : &wh_os_allocator;
	struct wh_socket_port *s = wh_alloc(alloc, sizeof *s);
	if (!s)
		return -WH_ENOMEM;
	memset(s, 0, offsetof(struct wh_socket_port, in));
	s->loop = loop;
	s->alloc = alloc;
	s->config = *config;
	s->state = vpnkit ? SOCKET_HELLO : SOCKET_OPEN;
	s->watch = (struct wh_loop_fd){
		.fd = config->fd, .events = WH_LOOP_READ, .fn = ready, .ctx = s
	};
	s->port = (struct wh_net_port){ .send = is_dgram(s) ? dgram_send : stream_send,
					.flush = port_flush,
					.resume = port_resume,
					.mtu = config->mtu ? config->mtu : 1500,
					.provider = s };
	wh_loop_timer_init(&s->timer, timer_due, s);
	int error = is_dgram(s) ? dgram_init(s) : 0;
	if (!error)
		error = wh_loop_add(loop, &s->watch);
	if (error) {
		wh_free(alloc, s, sizeof *s);
		return error;
	}
	if (vpnkit)
		wh_loop_timer_start(loop, &s->timer,
				    wh_loop_now(loop) + WH_SOCKET_HANDSHAKE_MS * 1000000ull);
	*ret_socket = s;
	return 0;
}

void wh_socket_port_free(struct wh_socket_port *socket)
{
	if (!socket)
		return;
	if (socket->watch.fd >= 0)
		wh_loop_remove(socket->loop, &socket->watch);
	wh_loop_timer_stop(socket->loop, &socket->timer);
	wh_free(socket->alloc, socket, sizeof *socket);
}

struct wh_net_port *wh_socket_port_port(struct wh_socket_port *socket)
{
	return &socket->port;
}

void wh_socket_port_stats(const struct wh_socket_port *socket, struct wh_socket_stats *ret_stats)
{
	*ret_stats = socket->stats;
}
