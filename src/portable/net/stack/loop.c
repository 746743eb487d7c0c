/* SPDX-License-Identifier: ISC */
/*
 * Loopback: a byte ring of copied packets, allocated when the first one is sent,
 * emptied by wh_net_run. When it is full the sender waits, as on any link.
 * Records never wrap: `wrap` marks the end of the last one before the start.
 */
#include "net_priv.h"

#define RECORD_HEAD 8u

int net_loop_output(struct wh_net *net, const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	struct net_loop *l = &net->loop;
	uint32_t need = (uint32_t)wh_align_up(RECORD_HEAD + size, 8);
	if (need > NET_LOOP_SIZE)
		return -WH_EMSGSIZE;
	if (!l->buffer)
		l->buffer = wh_alloc(net->config.alloc, NET_LOOP_SIZE);
	if (!l->buffer)
		return -WH_EAGAIN;
	if (!l->used)
		l->head = l->tail = l->wrap = 0;
	/* Free space is [tail, size) and [0, head), or [tail, head) after the wrap. */
	bool wrapped = l->used && l->tail <= l->head;
	uint32_t room = wrapped ? l->head - l->tail : NET_LOOP_SIZE - l->tail;
	if (need > room && !wrapped && l->head >= need) {
		l->wrap = l->tail;
		l->tail = 0;
	} else if (need > room) {
		return -WH_EAGAIN;
	}
	memcpy(l->buffer + l->tail, &size, sizeof size);
	size_t copied = wh_iov_read(iov, count, 0, l->buffer + l->tail + RECORD_HEAD, size);
	wh_assert(copied == size);
	l->tail += need;
	l->used += need;
	return 0;
}

bool net_loop_run(struct wh_net *net)
{
	struct net_loop *l = &net->loop;
	if (!l->used)
		return false;
	for (int burst = 0; l->used && burst < 16; burst++) {
		if (l->head == l->wrap && l->wrap)
			l->head = l->wrap = 0;
		uint32_t size;
		memcpy(&size, l->buffer + l->head, sizeof size);
		uint8_t *packet = l->buffer + l->head + RECORD_HEAD;
		wh_assert(l->head + RECORD_HEAD + size <= NET_LOOP_SIZE);
		struct wh_iov iov = { packet, size };
		struct wh_net_frame frame = {
			.iov = &iov, .iov_count = 1, .size = size, .flags = WH_NET_DATA_VALID
		};
		uint32_t head_size = size < NET_HEAD_SIZE ? size : NET_HEAD_SIZE;
		/* Answers are appended behind, so the packet stays valid meanwhile. */
		net_ip_input(net, &frame, 0, packet, head_size, true, 0);
		uint32_t used = (uint32_t)wh_align_up(RECORD_HEAD + size, 8);
		l->head += used;
		l->used -= used;
	}
	if (net->tcp)
		net->tcp->unblock(net);
	if (net->udp)
		net->udp->unblock(net);
	return true;
}
