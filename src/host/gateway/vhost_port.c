/* SPDX-License-Identifier: ISC */
/*
 * The vhost-user session: messages of the front end, one after the other. A message is read whole, with its
 * descriptors, and checked; then it is acted on; then it is answered, where it asks for that. Not one byte of the next
 * one is read before, so that descriptors cannot get to another's message.
 */
#include "vhost_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/os.h>

#define PROTOCOL_FEATURES                                                        \
	(VHOST_PROTOCOL_MQ | VHOST_PROTOCOL_REPLY_ACK | VHOST_PROTOCOL_NET_MTU | \
	 VHOST_PROTOCOL_MEM_SLOTS)
#define MESSAGES_PER_WAKE 32u

/* One message taken apart. `answer` is set by requests that have one of their own. */
struct message {
	uint32_t request, flags, size;
	const uint8_t *payload;
	bool answered;
	uint32_t answer_size;
	uint8_t answer[VHOST_STATE_SIZE];
};

static void end(struct wh_vhost_port *v)
{
	wh_loop_remove(v->loop, &v->watch);
	wh_loop_timer_stop(v->loop, &v->again);
	v->watch.fd = -1;
	if (v->config.gone)
		v->config.gone(v->config.ctx, v->ended);
}

static void fds_drop(struct wh_vhost_port *v)
{
	while (v->fd_count)
		wh_os_close(&v->fds[--v->fd_count]);
}

/* The first descriptor of the message; -1 = there is none. The caller's from now on. */
static int fd_take(struct wh_vhost_port *v)
{
	if (!v->fd_count)
		return -1;
	int fd = v->fds[0];
	v->fd_count--;
	memmove(v->fds, v->fds + 1, v->fd_count * sizeof v->fds[0]);
	return fd;
}

/* ---- rings ---- */

static struct vhost_ring *ring_of(struct wh_vhost_port *v, uint32_t index)
{
	return index < VHOST_RINGS_MAX ? &v->rings[index] : NULL;
}

/* Descriptors must be eventfds or of their kind: others can make us wait. */
static bool is_counter(int fd)
{
	struct stat st;
	return !fstat(fd, &st) && !(st.st_mode & S_IFMT) &&
	       !fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static const char *kick_set(struct wh_vhost_port *v, struct vhost_ring *r, int fd)
{
	if (fd < 0)
		return "a ring without a kick descriptor: polling is not offered";
	if (r->kick.fd >= 0)
		wh_loop_remove(v->loop, &r->kick);
	wh_os_close(&r->kick.fd);
	r->kick = (struct wh_loop_fd){
		.fd = fd, .events = WH_LOOP_READ, .fn = vhost_ring_kicked, .ctx = r
	};
	if (wh_loop_add(v->loop, &r->kick)) {
		wh_os_close(&r->kick.fd);
		return "a kick descriptor that cannot be waited for";
	}
	return vhost_ring_start(r);
}

static const char *ring_fd(struct wh_vhost_port *v, const struct message *m)
{
	uint64_t word = vhost_u64(m->payload);
	struct vhost_ring *r = ring_of(v, (uint32_t)(word & VHOST_VRING_INDEX_MASK));
	int fd = fd_take(v);
	const char *why = NULL;
	if (!r)
		why = "a ring of no such number";
	else if ((word & VHOST_VRING_NO_FD) ? fd >= 0 : fd < 0)
		why = "a descriptor is missing or too many";
	else if (fd >= 0 && !is_counter(fd))
		why = "a notification that is no eventfd";
	if (why) {
		wh_os_close(&fd);
		return why;
	}
	if (m->request == VHOST_SET_VRING_KICK)
		return kick_set(v, r, fd);
	int *at = m->request == VHOST_SET_VRING_CALL ? &r->call : &r->err;
	wh_os_close(at);
	*at = fd;
	return NULL;
}

static const char *ring_state(struct wh_vhost_port *v, struct message *m)
{
	uint32_t number = vhost_u32(m->payload + 4);
	struct vhost_ring *r = ring_of(v, vhost_u32(m->payload));
	if (!r)
		return "a ring of no such number";
	switch (m->request) {
	case VHOST_SET_VRING_NUM:
		if (r->started || !number || number > WH_VHOST_RING_SIZE_MAX)
			return "a ring of wrong size";
		r->size = number;
		return NULL;
	case VHOST_SET_VRING_BASE:
		if (r->started || number > UINT16_MAX)
			return "a ring's place at a wrong time";
		r->next = (uint16_t)number;
		return NULL;
	case VHOST_SET_VRING_ENABLE:
		r->enabled = number != 0;
		if (r->enabled)
			vhost_ring_enabled(r);
		else
			vhost_ring_silent(r);
		return NULL;
	default: /* VHOST_GET_VRING_BASE */
		vhost_ring_stop(r);
		memcpy(m->answer, m->payload, 4);
		number = r->next;
		memcpy(m->answer + 4, &number, 4);
		m->answer_size = VHOST_STATE_SIZE;
		return NULL;
	}
}

static const char *ring_addresses(struct wh_vhost_port *v, const struct message *m)
{
	struct vhost_ring *r = ring_of(v, vhost_u32(m->payload));
	if (!r)
		return "a ring of no such number";
	if (vhost_u32(m->payload + 4) & VHOST_ADDR_LOG)
		return "dirty logging (live migration) is not offered";
	vhost_rings_pause(v);
	r->desc = vhost_u64(m->payload + 8);
	r->used = vhost_u64(m->payload + 16);
	r->avail = vhost_u64(m->payload + 24);
	r->addressed = true;
	const char *why = vhost_rings_move(v);
	return why ? why : vhost_ring_start(r);
}

/* ---- memory ---- */

static const char *memory_table(struct wh_vhost_port *v, const struct message *m)
{
	uint32_t count = vhost_u32(m->payload);
	const char *why = NULL;
	if (count > VHOST_FDS_MAX || count != v->fd_count ||
	    m->size < VHOST_TABLE_HEAD + count * VHOST_REGION_SIZE)
		return "a memory table of wrong size";
	vhost_rings_pause(v);
	vhost_memory_clear(v);
	for (uint32_t i = 0; i < count; i++)
		if (vhost_memory_add(v, m->payload + VHOST_TABLE_HEAD + i * VHOST_REGION_SIZE,
				     fd_take(v), &why))
			return why;
	return vhost_rings_move(v);
}

static const char *memory_slot(struct wh_vhost_port *v, const struct message *m)
{
	const uint8_t *region = m->payload + VHOST_REGION_HEAD;
	const char *why = NULL;
	if (m->request == VHOST_REM_MEM_REG) {
		vhost_rings_pause(v);
		return vhost_memory_remove(v, region) ? "there is no such memory region"
						      : vhost_rings_move(v);
	}
	if (v->fd_count != 1)
		return "a memory region without its descriptor";
	return vhost_memory_add(v, region, fd_take(v), &why) ? why : NULL;
}

/* ---- the session ---- */

static const char *features_set(struct wh_vhost_port *v, uint64_t features)
{
	if (features & VHOST_F_LOG_ALL)
		return "dirty logging (live migration) is not offered";
	if (features & ~vhost_features())
		return "features that were not offered";
	for (uint32_t i = 0; i < VHOST_RINGS_MAX; i++)
		if (v->rings[i].started && features != v->features)
			return "features that change while rings run";
	v->features = features;
	vhost_link_set(v);
	return NULL;
}

static const char *mtu_set(struct wh_vhost_port *v, uint64_t mtu)
{
	if (mtu < 68 || mtu > v->config.mtu)
		return "an MTU larger than ours";
	v->port.mtu = (uint32_t)mtu;
	return NULL;
}

static void answer_u64(struct message *m, uint64_t value)
{
	memcpy(m->answer, &value, sizeof value);
	m->answer_size = sizeof value;
}

/* Payloads are as long as their requests say, at least. */
static uint32_t payload_min(uint32_t request)
{
	switch (request) {
	case VHOST_SET_FEATURES:
	case VHOST_SET_PROTOCOL_FEATURES:
	case VHOST_SET_VRING_KICK:
	case VHOST_SET_VRING_CALL:
	case VHOST_SET_VRING_ERR:
	case VHOST_NET_SET_MTU:
		return 8;
	case VHOST_SET_VRING_NUM:
	case VHOST_SET_VRING_BASE:
	case VHOST_SET_VRING_ENABLE:
	case VHOST_GET_VRING_BASE:
		return VHOST_STATE_SIZE;
	case VHOST_SET_VRING_ADDR:
		return VHOST_ADDR_SIZE;
	case VHOST_SET_MEM_TABLE:
		return VHOST_TABLE_HEAD;
	case VHOST_ADD_MEM_REG:
	case VHOST_REM_MEM_REG:
		return VHOST_REGION_HEAD + VHOST_REGION_SIZE;
	default:
		return 0;
	}
}

/* NULL, or why the front end is wrong. */
static const char *act(struct wh_vhost_port *v, struct message *m)
{
	if (m->size < payload_min(m->request))
		return "a message that is too short";
	switch (m->request) {
	case VHOST_GET_FEATURES:
		answer_u64(m, vhost_features());
		return NULL;
	case VHOST_GET_PROTOCOL_FEATURES:
		answer_u64(m, PROTOCOL_FEATURES);
		return NULL;
	case VHOST_GET_QUEUE_NUM:
		answer_u64(m, WH_VHOST_PAIRS_MAX);
		return NULL;
	case VHOST_GET_MAX_MEM_SLOTS:
		answer_u64(m, VHOST_REGIONS_MAX);
		return NULL;
	case VHOST_SET_FEATURES:
		return features_set(v, vhost_u64(m->payload));
	case VHOST_SET_PROTOCOL_FEATURES:
		v->protocol = vhost_u64(m->payload);
		return v->protocol & ~PROTOCOL_FEATURES ? "features that were not offered" : NULL;
	case VHOST_SET_OWNER:
	case VHOST_SEND_RARP: /* the switch learns from any frame */
		return NULL;
	case VHOST_RESET_OWNER:
		for (uint32_t i = 0; i < VHOST_RINGS_MAX; i++)
			vhost_ring_stop(&v->rings[i]);
		return NULL;
	case VHOST_SET_MEM_TABLE:
		return memory_table(v, m);
	case VHOST_ADD_MEM_REG:
	case VHOST_REM_MEM_REG:
		return memory_slot(v, m);
	case VHOST_SET_VRING_ADDR:
		return ring_addresses(v, m);
	case VHOST_SET_VRING_NUM:
	case VHOST_SET_VRING_BASE:
	case VHOST_GET_VRING_BASE:
	case VHOST_SET_VRING_ENABLE:
		return ring_state(v, m);
	case VHOST_SET_VRING_KICK:
	case VHOST_SET_VRING_CALL:
	case VHOST_SET_VRING_ERR:
		return ring_fd(v, m);
	case VHOST_NET_SET_MTU:
		return mtu_set(v, vhost_u64(m->payload));
	case VHOST_SET_LOG_BASE:
	case VHOST_SET_LOG_FD:
		return "dirty logging (live migration) is not offered";
	default:
		return "a request that was not offered";
	}
}

static void answer_send(struct wh_vhost_port *v, const struct message *m)
{
	uint8_t bytes[VHOST_HEADER_SIZE + sizeof m->answer];
	uint32_t flags = VHOST_VERSION | VHOST_REPLY;
	memcpy(bytes, &m->request, 4);
	memcpy(bytes + 4, &flags, 4);
	memcpy(bytes + 8, &m->answer_size, 4);
	memcpy(bytes + VHOST_HEADER_SIZE, m->answer, m->answer_size);
	size_t size = VHOST_HEADER_SIZE + m->answer_size;
	/* A front end waits for each answer: one that leaves no room for it is none. */
	if (send(v->config.fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
		v->ended = "answers are not read";
}

static void message_take(struct wh_vhost_port *v)
{
	struct message m = { .request = vhost_u32(v->message),
			     .flags = vhost_u32(v->message + 4),
			     .size = vhost_u32(v->message + 8),
			     .payload = v->message + VHOST_HEADER_SIZE };
	v->have = 0;
	v->stats.messages++;
	if ((m.flags & VHOST_VERSION_MASK) != VHOST_VERSION || m.flags & VHOST_REPLY) {
		v->ended = "not vhost-user of version 1";
		return;
	}
	const char *why = act(v, &m);
	fds_drop(v);
	if (!m.answer_size && m.flags & VHOST_NEED_REPLY && v->protocol & VHOST_PROTOCOL_REPLY_ACK)
		answer_u64(&m, why != NULL);
	if (m.answer_size)
		answer_send(v, &m);
	if (why)
		v->ended = why;
}

/* Keeps the descriptors of a control message. */
static bool fds_keep(struct wh_vhost_port *v, struct msghdr *message)
{
	bool good = !(message->msg_flags & MSG_CTRUNC);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (v->fd_count < VHOST_FDS_MAX) {
				v->fds[v->fd_count++] = fd;
			} else {
				wh_os_close(&fd);
				good = false;
			}
		}
	}
	return good;
}

/* Bytes of the message under way, as many as it still lacks. false: nothing more now. */
static bool message_read(struct wh_vhost_port *v)
{
	uint32_t whole = VHOST_HEADER_SIZE;
	if (v->have >= VHOST_HEADER_SIZE)
		whole += vhost_u32(v->message + 8);
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(VHOST_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { v->message + v->have, whole - v->have };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof control };
	ssize_t n = recvmsg(v->config.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		v->ended = n ? "the connection broke" : "the client has left";
		return false;
	}
	if (!fds_keep(v, &message)) {
		v->ended = "too many descriptors";
		return false;
	}
	v->have += (uint32_t)n;
	if (v->have == VHOST_HEADER_SIZE && vhost_u32(v->message + 8) > VHOST_PAYLOAD_MAX)
		v->ended = "a message that is too long";
	else if (v->have >= VHOST_HEADER_SIZE &&
		 v->have == VHOST_HEADER_SIZE + vhost_u32(v->message + 8))
		message_take(v);
	return !v->ended;
}

static void ready(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_vhost_port *v = watch->ctx;
	for (uint32_t i = 0; i < 2 * MESSAGES_PER_WAKE && !v->ended && message_read(v); i++)
		;
	if (v->ended)
		end(v);
}

static void again(struct wh_loop_timer *timer)
{
	struct wh_vhost_port *v = timer->ctx;
	if (v->faulted)
		v->ended = "its memory went away";
	if (v->ended)
		end(v);
	else
		vhost_rings_run(v);
}

/* ---- life ---- */

int wh_vhost_port_new(const struct wh_vhost_config *config, struct wh_loop *loop,
		      struct wh_vhost_port **ret_vhost)
{
	if (config->size != sizeof *config || config->mtu > 65535)
		return -WH_EINVAL;
	const struct wh_alloc *alloc = config->alloc ? config->alloc : &wh_os_allocator;
	struct wh_vhost_port *v = wh_alloc(alloc, sizeof *v);
	if (!v)
		return -WH_ENOMEM;
	memset(v, 0, offsetof(struct wh_vhost_port, copy));
	v->loop = loop;
	v->alloc = alloc;
	v->config = *config;
	v->config.mtu = config->mtu ? config->mtu : 1500;
	v->watch = (struct wh_loop_fd){
		.fd = config->fd, .events = WH_LOOP_READ, .fn = ready, .ctx = v
	};
	v->port = (struct wh_net_port){ .send = vhost_send,
					.flush = vhost_flush,
					.resume = vhost_resume,
					.mtu = v->config.mtu,
					.provider = v };
	for (uint32_t i = 0; i < VHOST_RINGS_MAX; i++)
		v->rings[i] =
			(struct vhost_ring){ .vhost = v, .kick.fd = -1, .call = -1, .err = -1 };
	wh_loop_timer_init(&v->again, again, v);
	int error = wh_loop_add(loop, &v->watch);
	if (error) {
		wh_free(alloc, v, sizeof *v);
		return error;
	}
	*ret_vhost = v;
	return 0;
}

void wh_vhost_port_free(struct wh_vhost_port *v)
{
	if (!v)
		return;
	if (v->watch.fd >= 0)
		wh_loop_remove(v->loop, &v->watch);
	wh_loop_timer_stop(v->loop, &v->again);
	for (uint32_t i = 0; i < VHOST_RINGS_MAX; i++) {
		vhost_ring_stop(&v->rings[i]);
		wh_os_close(&v->rings[i].call);
		wh_os_close(&v->rings[i].err);
	}
	vhost_memory_clear(v);
	fds_drop(v);
	wh_free(v->alloc, v, sizeof *v);
}

struct wh_net_port *wh_vhost_port_port(struct wh_vhost_port *vhost)
{
	return &vhost->port;
}

void wh_vhost_port_stats(const struct wh_vhost_port *vhost, struct wh_vhost_stats *ret_stats)
{
	*ret_stats = vhost->stats;
}
