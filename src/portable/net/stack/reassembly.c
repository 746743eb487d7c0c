/* SPDX-License-Identifier: ISC */
/*
 * Fragments (RFC 815 by ranges, RFC 8200 4.5, RFC 5722: a datagram with pieces
 * that overlap is thrown away, in both versions). Bounded: so many datagrams at a
 * time, of so many holes, for thirty seconds; the oldest makes room.
 */
#include "net_priv.h"

#define RANGES_MAX 16u   /* islands at a time; in-order senders need one */
#define SIZE_START 4096u /* buffer's first size; doubles up to 64 KiB */
#define DATAGRAM_MAX 65535u

struct range {
	uint32_t start, end;
};

struct datagram {
	bool used;
	struct net_fragment key;
	uint8_t *buffer;
	uint32_t size;  /* of the buffer */
	uint32_t total; /* 0 = last fragment not seen */
	uint32_t range_count;
	struct range range[RANGES_MAX];
	uint64_t expires;
	uint8_t ip_head[WH_WIRE_IP4_SIZE_MAX];
	uint8_t ip_head_size;
};

struct net_reassembly {
	uint32_t count;
	struct datagram datagram[];
};

static size_t table_size(const struct wh_net *net)
{
	return sizeof(struct net_reassembly) +
	       net->config.reassemblies_max * sizeof(struct datagram);
}

static void drop(struct wh_net *net, struct datagram *d)
{
	wh_free(net->config.alloc, d->buffer, d->size);
	memset(d, 0, sizeof *d);
}

/* RFC 792 and 4443, 3.3: told when the first fragment came, which names the ports. */
static void late(struct wh_net *net, const struct datagram *d)
{
	struct net_packet p = { .from = d->key.from,
				.to = d->key.to,
				.ip_head = d->ip_head,
				.ip_head_size = d->ip_head_size,
				.head = d->buffer };
	if (!d->ip_head_size || !d->range_count || d->range[0].start)
		return;
	p.head_size = d->range[0].end;
	net_icmp_late(net, &p);
}

static void on_timer(struct wh_net *net, struct net_timer *timer)
{
	uint64_t next = WH_NET_NEVER;
	for (uint32_t i = 0; i < net->reassembly->count; i++) {
		struct datagram *d = &net->reassembly->datagram[i];
		if (!d->used)
			continue;
		if (d->expires <= net->now) {
			net->stats.reassembly_failed++;
			late(net, d);
			drop(net, d);
		} else if (d->expires < next) {
			next = d->expires;
		}
	}
	net_timer_start(net, timer, next);
}

static struct datagram *find(struct wh_net *net, const struct net_fragment *f)
{
	struct datagram *best = 0;
	if (!net->reassembly) {
		net->reassembly = wh_alloc_zero(net->config.alloc, table_size(net));
		if (!net->reassembly)
			return 0;
		net->reassembly->count = net->config.reassemblies_max;
		net_timer_init(&net->reassembly_timer, on_timer);
	}
	for (uint32_t i = 0; i < net->reassembly->count; i++) {
		struct datagram *d = &net->reassembly->datagram[i];
		if (d->used && d->key.id == f->id && d->key.protocol == f->protocol &&
		    wh_net_ip_equal(&d->key.from, &f->from) && wh_net_ip_equal(&d->key.to, &f->to))
			return d;
		if (!best || (best->used && (!d->used || d->expires < best->expires)))
			best = d;
	}
	if (best->used) {
		net->stats.reassembly_failed++;
		drop(net, best);
	}
	best->used = true;
	best->key = *f;
	best->expires = net->now + NET_REASSEMBLY_NS;
	if (net->reassembly_timer.deadline > best->expires)
		net_timer_start(net, &net->reassembly_timer, best->expires);
	return best;
}

static bool grow(struct wh_net *net, struct datagram *d, uint32_t end)
{
	uint32_t size = d->size ? d->size : SIZE_START;
	while (size < end)
		size *= 2;
	if (size == d->size)
		return true;
	uint8_t *buffer = wh_alloc(net->config.alloc, size);
	if (!buffer)
		return false;
	if (d->buffer)
		memcpy(buffer, d->buffer, d->size);
	wh_free(net->config.alloc, d->buffer, d->size);
	d->buffer = buffer;
	d->size = size;
	return true;
}

/* Adds [start, end) to the sorted islands. false: overlap or too many. An exact
 * repeat is harmless: *ret_repeat. */
static bool range_add(struct datagram *d, uint32_t start, uint32_t end, bool *ret_repeat)
{
	uint32_t i = 0;
	while (i < d->range_count && d->range[i].end < start)
		i++;
	*ret_repeat = i < d->range_count && d->range[i].start <= start && end <= d->range[i].end;
	if (*ret_repeat)
		return true;
	bool joins_left = i < d->range_count && d->range[i].end == start;
	uint32_t right = joins_left ? i + 1 : i;
	if (right < d->range_count && d->range[right].start < end)
		return false;
	bool joins_right = right < d->range_count && d->range[right].start == end;
	if (joins_left && joins_right) {
		d->range[i].end = d->range[right].end;
		memmove(&d->range[right], &d->range[right + 1],
			(d->range_count - right - 1) * sizeof d->range[0]);
		d->range_count--;
	} else if (joins_left) {
		d->range[i].end = end;
	} else if (joins_right) {
		d->range[right].start = start;
	} else {
		if (d->range_count == RANGES_MAX)
			return false;
		memmove(&d->range[i + 1], &d->range[i], (d->range_count - i) * sizeof d->range[0]);
		d->range[i] = (struct range){ start, end };
		d->range_count++;
	}
	return true;
}

static void deliver(struct wh_net *net, struct datagram *d, struct net_packet *p)
{
	struct wh_iov iov = { d->buffer, d->total };
	struct net_packet whole = *p;
	whole.iov = &iov;
	whole.iov_count = 1;
	whole.offset = 0;
	whole.size = d->total;
	whole.head = d->buffer;
	whole.head_size = d->total < NET_HEAD_SIZE ? d->total : NET_HEAD_SIZE;
	whole.ip_head = d->ip_head;
	whole.ip_head_size = d->ip_head_size;
	whole.protocol = d->key.protocol;
	whole.fragmented = true;
	whole.checked = p->loop;
	whole.gso_size = 0;
	net->stats.reassembled++;
	net_transport_input(net, &whole);
	drop(net, d);
}

void net_reassembly_input(struct wh_net *net, const struct net_fragment *f, struct net_packet *p)
{
	bool repeat;
	uint32_t end = f->offset + p->size;
	net->stats.fragments_in++;
	if (!p->size || (f->more && p->size % 8) || end > DATAGRAM_MAX || p->group) {
		net->stats.in_malformed++;
		return;
	}
	struct datagram *d = find(net, f);
	if (!d)
		return;
	if ((d->total && (end > d->total || (!f->more && end != d->total))) ||
	    (!f->more && d->range_count && d->range[d->range_count - 1].end > end) ||
	    !grow(net, d, end) || !range_add(d, f->offset, end, &repeat)) {
		net->stats.reassembly_failed++;
		drop(net, d);
		return;
	}
	if (repeat)
		return;
	size_t copied =
		wh_iov_read(p->iov, p->iov_count, p->offset, d->buffer + f->offset, p->size);
	wh_assert(copied == p->size);
	if (!f->more)
		d->total = end;
	if (!f->offset) {
		d->ip_head_size =
			(uint8_t)(p->ip_head_size <= sizeof d->ip_head ? p->ip_head_size : 0);
		memcpy(d->ip_head, p->ip_head, d->ip_head_size);
	}
	if (d->total && d->range_count == 1 && !d->range[0].start && d->range[0].end == d->total)
		deliver(net, d, p);
}

void net_reassembly_fini(struct wh_net *net)
{
	if (!net->reassembly)
		return;
	for (uint32_t i = 0; i < net->reassembly->count; i++)
		drop(net, &net->reassembly->datagram[i]);
	wh_free(net->config.alloc, net->reassembly, table_size(net));
	net->reassembly = 0;
}
