/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/net_link.h>
#include <wherry/os.h>

#define SECOND_NS 1000000000ull

/* ---- link ---- */

struct wh_net_link {
	struct wh_net_port *end[2];
	bool waiting[2]; /* frames from end[i] wait for room at the other */
};

static unsigned side_of(const struct wh_net_link *l, const struct wh_net_port *port)
{
	return port == l->end[1];
}

static int link_receive(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct wh_net_link *l = port->user;
	unsigned from = side_of(l, port);
	struct wh_net_port *to = l->end[!from];
	int r = to->send(to, frame);
	if (r == -WH_EAGAIN)
		l->waiting[from] = true;
	return r == -WH_EAGAIN ? r : 0; /* other errors drop it */
}

static void link_receive_done(struct wh_net_port *port)
{
	struct wh_net_link *l = port->user;
	struct wh_net_port *to = l->end[!side_of(l, port)];
	if (to->flush)
		to->flush(to);
}

static void link_writable(struct wh_net_port *port)
{
	struct wh_net_link *l = port->user;
	unsigned from = !side_of(l, port);
	if (!l->waiting[from])
		return;
	l->waiting[from] = false;
	l->end[from]->resume(l->end[from]);
	if (port->flush)
		port->flush(port);
}

int wh_net_link_new(struct wh_net_port *a, struct wh_net_port *b, struct wh_net_link **ret_link)
{
	struct wh_net_link *l = calloc(1, sizeof *l);
	if (!l)
		return -WH_ENOMEM;
	l->end[0] = a;
	l->end[1] = b;
	for (int i = 0; i < 2; i++) {
		l->end[i]->user = l;
		l->end[i]->receive = link_receive;
		l->end[i]->receive_done = link_receive_done;
		l->end[i]->writable = link_writable;
	}
	*ret_link = l;
	return 0;
}

void wh_net_link_free(struct wh_net_link *l)
{
	for (int i = 0; l && i < 2; i++) {
		l->end[i]->receive = NULL;
		l->end[i]->receive_done = NULL;
		l->end[i]->writable = NULL;
		l->end[i]->user = NULL;
	}
	free(l);
}

/* ---- limit ---- */

struct bucket {
	uint64_t rate, burst; /* rate 0 = no limit */
	int64_t tokens;       /* bytes; below 0: debts */
	uint64_t filled_ns;
	bool waiting;
	struct wh_loop_timer timer;
};

struct wh_net_limit {
	struct wh_net_port outer; /* what the user sees */
	struct wh_net_port *inner;
	struct wh_loop *loop;
	struct bucket in, out;
};

/* true = one may pass. Else a timer runs until it may. */
static bool bucket_pass(struct wh_net_limit *l, struct bucket *b)
{
	if (!b->rate)
		return true;
	uint64_t now = wh_os_now(), gone = now - b->filled_ns;
	uint64_t full = b->burst * SECOND_NS / b->rate; /* ns to fill it */
	uint64_t more = gone > 2 * full + SECOND_NS
				? 2 * b->burst + b->rate
				: (uint64_t)((unsigned __int128)gone * b->rate / SECOND_NS);
	if (more) {
		b->tokens += (int64_t)more;
		b->filled_ns = now;
	}
	if (b->tokens > (int64_t)b->burst)
		b->tokens = (int64_t)b->burst;
	if (b->tokens > 0)
		return true;
	b->waiting = true;
	uint64_t wait = (uint64_t)(1 - b->tokens) * SECOND_NS / b->rate + 1;
	wh_loop_timer_start(l->loop, &b->timer, now + wait);
	return false;
}

static int limit_send(struct wh_net_port *outer, const struct wh_net_frame *frame)
{
	struct wh_net_limit *l = outer->provider;
	if (!bucket_pass(l, &l->out))
		return -WH_EAGAIN;
	int r = l->inner->send(l->inner, frame);
	if (r >= 0)
		l->out.tokens -= frame->size;
	return r;
}

static void limit_flush(struct wh_net_port *outer)
{
	struct wh_net_limit *l = outer->provider;
	if (l->inner->flush)
		l->inner->flush(l->inner);
}

static void limit_resume(struct wh_net_port *outer)
{
	struct wh_net_limit *l = outer->provider;
	l->inner->resume(l->inner);
}

static int limit_receive(struct wh_net_port *inner, const struct wh_net_frame *frame)
{
	struct wh_net_limit *l = inner->user;
	if (!l->outer.receive)
		return 0;
	if (!bucket_pass(l, &l->in))
		return -WH_EAGAIN;
	l->outer.link_features = inner->link_features;
	int r = l->outer.receive(&l->outer, frame);
	if (r >= 0)
		l->in.tokens -= frame->size;
	return r;
}

static void limit_receive_done(struct wh_net_port *inner)
{
	struct wh_net_limit *l = inner->user;
	if (l->outer.receive_done)
		l->outer.receive_done(&l->outer);
}

static void limit_writable(struct wh_net_port *inner)
{
	struct wh_net_limit *l = inner->user;
	l->outer.link_features = inner->link_features;
	if (l->outer.writable)
		l->outer.writable(&l->outer);
}

static void in_paid(struct wh_loop_timer *timer)
{
	struct wh_net_limit *l = timer->ctx;
	if (l->in.waiting) {
		l->in.waiting = false;
		l->inner->resume(l->inner);
	}
}

static void out_paid(struct wh_loop_timer *timer)
{
	struct wh_net_limit *l = timer->ctx;
	if (!l->out.waiting)
		return;
	l->out.waiting = false;
	if (l->outer.writable)
		l->outer.writable(&l->outer);
}

static void bucket_init(struct bucket *b, const struct wh_net_rate *rate,
			void (*paid)(struct wh_loop_timer *), void *ctx)
{
	b->rate = rate ? rate->bytes_per_second : 0;
	b->burst = rate && rate->burst ? rate->burst : b->rate / 10;
	if (b->burst < WH_NET_FRAME_SIZE_MAX)
		b->burst = WH_NET_FRAME_SIZE_MAX;
	b->tokens = (int64_t)b->burst;
	b->filled_ns = wh_os_now();
	wh_loop_timer_init(&b->timer, paid, ctx);
}

int wh_net_limit_new(struct wh_net_port *port, const struct wh_net_rate *in,
		     const struct wh_net_rate *out, struct wh_loop *loop,
		     struct wh_net_limit **ret_limit)
{
	struct wh_net_limit *l = calloc(1, sizeof *l);
	if (!l)
		return -WH_ENOMEM;
	l->inner = port;
	l->loop = loop;
	bucket_init(&l->in, in, in_paid, l);
	bucket_init(&l->out, out, out_paid, l);
	l->outer = (struct wh_net_port){ .send = limit_send,
					 .flush = limit_flush,
					 .resume = limit_resume,
					 .link_features = port->link_features,
					 .mtu = port->mtu,
					 .provider = l };
	port->user = l;
	port->receive = limit_receive;
	port->receive_done = limit_receive_done;
	port->writable = limit_writable;
	*ret_limit = l;
	return 0;
}

void wh_net_limit_free(struct wh_net_limit *l)
{
	if (!l)
		return;
	wh_loop_timer_stop(l->loop, &l->in.timer);
	wh_loop_timer_stop(l->loop, &l->out.timer);
	l->inner->receive = NULL;
	l->inner->receive_done = NULL;
	l->inner->writable = NULL;
	l->inner->user = NULL;
	free(l);
}

struct wh_net_port *wh_net_limit_port(struct wh_net_limit *l)
{
	return &l->outer;
}
