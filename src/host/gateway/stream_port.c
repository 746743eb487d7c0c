/* SPDX-License-Identifier: ISC */
/*
 * Frames in a stream. One read takes what is there and hands out all whole frames; sends
 * gather in a buffer that one write empties.
 */
#include "socket_priv.h"

#include <errno.h>
#include <sys/socket.h>

/* ---- user -> guest ---- */

void stream_write(struct wh_socket_port *s)
{
	while (s->out_begin < s->out_end && !s->ended) {
		ssize_t n = send(s->config.fd, s->out + s->out_begin, s->out_end - s->out_begin,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			socket_events(s, WH_LOOP_WRITE, 0);
			return;
		}
		s->stats.calls_out++;
		if (n < 0) { /* the loop reports the hang-up */
			s->out_begin = s->out_end = 0;
			break;
		}
		s->out_begin += (uint32_t)n;
	}
	s->out_begin = s->out_end = 0;
	if (!s->blocked) /* else the event wakes who waits for room */
		socket_events(s, 0, WH_LOOP_WRITE);
}

static bool room_make(struct wh_socket_port *s, uint32_t size)
{
	if (size <= sizeof s->out - s->out_end)
		return true;
	stream_write(s);
	uint32_t left = s->out_end - s->out_begin;
	if (size > sizeof s->out - left)
		return false;
	memmove(s->out, s->out + s->out_begin, left);
	s->out_begin = 0;
	s->out_end = left;
	return true;
}

int stream_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct wh_socket_port *s = port->provider;
	uint32_t header = socket_header_size(s->config.protocol);
	if (s->ended || s->state != SOCKET_OPEN ||
	    f->size > (header == 2 ? UINT16_MAX : WH_NET_FRAME_SIZE_MAX)) {
		s->stats.lost_out++;
		return -WH_EPIPE;
	}
	if (!room_make(s, header + f->size))
		return socket_no_room(s);
	socket_header_emit(s->config.protocol, s->out + s->out_end, f->size);
	wh_iov_read(f->iov, f->iov_count, 0, s->out + s->out_end + header, f->size);
	s->out_end += header + f->size;
	s->stats.frames_out++;
	s->stats.bytes_out += f->size;
	return 0;
}

/* ---- handshake: the buffer is empty but for it, so that it has room ---- */

static void refuse(struct wh_socket_port *s, const char *reason)
{
	vpnkit_disconnect_emit(s->out + s->out_end, reason);
	s->out_end += VPNKIT_ANSWER_SIZE;
	stream_write(s);
	s->ended = reason;
}

static void hello(struct wh_socket_port *s)
{
	const char *why = vpnkit_hello_check(s->in + s->in_begin);
	s->in_begin += VPNKIT_HELLO_SIZE;
	vpnkit_hello_emit(s->out + s->out_end);
	s->out_end += VPNKIT_HELLO_SIZE;
	if (why)
		refuse(s, why);
	s->state = SOCKET_COMMAND;
}

static void command(struct wh_socket_port *s)
{
	struct wh_socket_request request;
	uint8_t mac[6];
	const char *why = vpnkit_command_parse(s->in + s->in_begin, &request);
	s->in_begin += VPNKIT_COMMAND_SIZE;
	if (!why)
		why = s->config.request(s->config.ctx, &request, mac);
	if (why) {
		refuse(s, why);
		return;
	}
	vpnkit_vif_emit(s->out + s->out_end, s->port.mtu, mac);
	s->out_end += VPNKIT_ANSWER_SIZE;
	s->state = SOCKET_OPEN;
	wh_loop_timer_stop(s->loop, &s->timer);
}

/* ---- guest -> user ---- */

/* false: nothing more now. */
static bool step(struct wh_socket_port *s)
{
	uint32_t have = s->in_end - s->in_begin, size;
	if (s->state == SOCKET_HELLO && have >= VPNKIT_HELLO_SIZE) {
		hello(s);
	} else if (s->state == SOCKET_COMMAND && have >= VPNKIT_COMMAND_SIZE) {
		command(s);
	} else if (s->state == SOCKET_OPEN) {
		uint32_t header = socket_header_size(s->config.protocol);
		int error =
			socket_frame_parse(s->config.protocol, s->in + s->in_begin, have, &size);
		if (error == -WH_EMSGSIZE)
			s->ended = "a frame is too long";
		if (error || !socket_deliver(s, s->in + s->in_begin + header, size))
			return false;
		s->in_begin += header + size;
	} else {
		return false;
	}
	return !s->ended;
}

void stream_frames(struct wh_socket_port *s)
{
	while (step(s))
		;
	if (s->in_begin == s->in_end) {
		s->in_begin = s->in_end = 0;
	} else if (s->in_begin && !s->held) {
		memmove(s->in, s->in + s->in_begin, s->in_end - s->in_begin);
		s->in_end -= s->in_begin;
		s->in_begin = 0;
	}
}

void stream_read(struct wh_socket_port *s)
{
	ssize_t n = recv(s->config.fd, s->in + s->in_end, sizeof s->in - s->in_end, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	s->stats.calls_in++;
	if (n <= 0) {
		s->ended = n ? "the connection broke" : "the client has left";
		return;
	}
	s->in_end += (uint32_t)n;
	stream_frames(s);
}
