/* SPDX-License-Identifier: ISC */
/*
 * One frame a datagram. sendmmsg and recvmmsg carry a burst; called by number, since musl's
 * sendmmsg is a loop of sendmsg.
 */
#include "socket_priv.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel does not tell that the peer's socket is gone, and lets nobody else send meanwhile. */
#define PROBE_NS 2000000000ull

int dgram_init(struct wh_socket_port *s)
{
	struct sockaddr_un peer;
	socklen_t size = sizeof peer;
	s->slot_size = (s->port.mtu + 14 + 4 + 63) / 64 * 64;
	s->slot_count = WH_SOCKET_BUFFER_SIZE / s->slot_size;
	if (s->slot_count > SOCKET_BURST_MAX)
		s->slot_count = SOCKET_BURST_MAX;
	s->connected = s->fixed_peer = !getpeername(s->config.fd, (struct sockaddr *)&peer, &size);
	return 0;
}

static void peer_forget(struct wh_socket_port *s)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	s->out_begin = s->out_end = 0;
	s->connected = false;
	if (s->fixed_peer) {
		s->ended = "the client has left";
		wh_loop_timer_start(s->loop, &s->timer, 0); /* `gone` is for the loop to call */
	} else {
		(void)connect(s->config.fd, &none, sizeof none); /* cannot fail */
	}
}

/* ---- user -> guest ---- */

void dgram_write(struct wh_socket_port *s)
{
	struct mmsghdr messages[SOCKET_BURST_MAX];
	struct iovec iov[SOCKET_BURST_MAX];
	while (s->out_begin < s->out_end && !s->ended) {
		uint32_t count = s->out_end - s->out_begin;
		memset(messages, 0, count * sizeof *messages);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t slot = s->out_begin + i;
			iov[i] = (struct iovec){ s->out + (size_t)slot * s->slot_size,
						 s->out_sizes[slot] };
			messages[i].msg_hdr.msg_iov = &iov[i];
			messages[i].msg_hdr.msg_iovlen = 1;
		}
		long n = syscall(SYS_sendmmsg, s->config.fd, messages, count,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			socket_events(s, WH_LOOP_WRITE, 0);
			return;
		}
		s->stats.calls_out++;
		if (n < 0 && (errno == EMSGSIZE || errno == ENOBUFS)) {
			s->stats.lost_out++;
			n = 1; /* that one */
		} else if (n < 0) {
			peer_forget(s);
			break;
		}
		s->out_begin += (uint32_t)n;
	}
	s->out_begin = s->out_end = 0;
	if (!s->blocked) /* else the event wakes who waits for room */
		socket_events(s, 0, WH_LOOP_WRITE);
}

int dgram_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct wh_socket_port *s = port->provider;
	if (!s->connected || s->ended || f->size > s->slot_size) {
		s->stats.lost_out++;
		return -WH_EPIPE;
	}
	if (s->out_end == s->slot_count)
		dgram_write(s);
	if (s->out_end == s->slot_count)
		return socket_no_room(s);
	wh_iov_read(f->iov, f->iov_count, 0, s->out + (size_t)s->out_end * s->slot_size, f->size);
	s->out_sizes[s->out_end++] = f->size;
	s->stats.frames_out++;
	s->stats.bytes_out += f->size;
	return 0;
}

/* ---- guest -> user ---- */

/* Which file its address is; numbers of removed files are used again, so the time tells. 0 = none. */
static uint64_t peer_file(const struct wh_socket_port *s)
{
	struct stat st;
	if (!s->peer.sun_path[0] || lstat(s->peer.sun_path, &st))
		return 0;
	return ((uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec) ^
	       st.st_ino << 32;
}

static void probe_later(struct wh_socket_port *s)
{
	wh_loop_timer_start(s->loop, &s->timer, wh_loop_now(s->loop) + PROBE_NS);
}

void dgram_probe(struct wh_socket_port *s)
{
	if (!s->connected || s->fixed_peer)
		return;
	if (peer_file(s) != s->peer_file ||
	    connect(s->config.fd, (struct sockaddr *)&s->peer, s->peer_size))
		peer_forget(s);
	else
		probe_later(s);
}

/* The first one to send a frame gets the link, if it has an address for answers. */
static bool peer_take(struct wh_socket_port *s, const struct mmsghdr *m)
{
	if (s->connected)
		return true;
	if (m->msg_len < SOCKET_FRAME_MIN || m->msg_hdr.msg_namelen <= sizeof(sa_family_t) ||
	    connect(s->config.fd, m->msg_hdr.msg_name, m->msg_hdr.msg_namelen))
		return false;
	s->connected = true;
	s->peer_size = m->msg_hdr.msg_namelen;
	memset(&s->peer, 0, sizeof s->peer);
	memcpy(&s->peer, m->msg_hdr.msg_name, s->peer_size);
	s->peer_file = peer_file(s);
	probe_later(s);
	if (s->config.changed)
		s->config.changed(s->config.ctx);
	return true;
}

void dgram_frames(struct wh_socket_port *s)
{
	for (; s->in_begin < s->in_end; s->in_begin++)
		if (!socket_deliver(s, s->in + (size_t)s->in_begin * s->slot_size,
				    s->in_sizes[s->in_begin]))
			return;
	s->in_begin = s->in_end = 0;
}

void dgram_read(struct wh_socket_port *s)
{
	struct mmsghdr messages[SOCKET_BURST_MAX] = { 0 };
	struct iovec iov[SOCKET_BURST_MAX];
	struct sockaddr_un from = { 0 };
	/* Until a peer is known one at a time: those of others must not pass for its own. */
	uint32_t count = s->connected ? s->slot_count : 1;
	for (uint32_t i = 0; i < count; i++) {
		iov[i] = (struct iovec){ s->in + (size_t)i * s->slot_size, s->slot_size };
		messages[i].msg_hdr.msg_iov = &iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	messages[0].msg_hdr.msg_name = s->connected ? NULL : &from;
	messages[0].msg_hdr.msg_namelen = s->connected ? 0 : sizeof from;
	long n = syscall(SYS_recvmmsg, s->config.fd, messages, count, MSG_DONTWAIT, NULL);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	s->stats.calls_in++;
	if (n < 0) { /* ECONNRESET: a peer with data unread is gone */
		peer_forget(s);
		return;
	}
	for (uint32_t i = 0; i < (uint32_t)n; i++) {
		bool cut = messages[i].msg_hdr.msg_flags & MSG_TRUNC;
		bool good = peer_take(s, &messages[i]) && !cut;
		s->in_sizes[i] = good ? messages[i].msg_len : 0; /* counted as too short */
	}
	s->in_end = (uint32_t)n;
	dgram_frames(s);
}
