/* SPDX-License-Identifier: ISC */
/* Links and limits between ports: nothing is lost when one side is full, and a limit holds on the average. */
#include <wherry/base/errors.h>
#include <wherry/net_link.h>
#include <wherry/os.h>
#include <wherry/test.h>

/* A provider that takes `room` frames, then none. */
struct end {
	struct wh_net_port port;
	unsigned room, taken, flushed, resumed;
	uint64_t bytes;
};

static int take(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct end *e = port->provider;
	if (!e->room)
		return -WH_EAGAIN;
	e->room--;
	e->taken++;
	e->bytes += frame->size;
	return 0;
}

static void flush(struct wh_net_port *port)
{
	((struct end *)port->provider)->flushed++;
}

static void resume(struct wh_net_port *port)
{
	((struct end *)port->provider)->resumed++;
}

static void end_init(struct end *e, unsigned room)
{
	*e = (struct end){ .port = { .send = take,
				     .flush = flush,
				     .resume = resume,
				     .mtu = 1500,
				     .provider = e },
			   .room = room };
}

static uint8_t bytes[1000];
static const struct wh_iov iov = { bytes, sizeof bytes };
static const struct wh_net_frame frame = { .iov = &iov, .iov_count = 1, .size = sizeof bytes };

static void link_waits(void)
{
	struct end a, b;
	struct wh_net_link *l;
	end_init(&a, 10);
	end_init(&b, 2);
	CHECK_EQ(wh_net_link_new(&a.port, &b.port, &l), 0);
	CHECK_EQ(a.port.receive(&a.port, &frame), 0);
	CHECK_EQ(a.port.receive(&a.port, &frame), 0);
	CHECK_EQ(a.port.receive(&a.port, &frame), -WH_EAGAIN);
	a.port.receive_done(&a.port);
	CHECK_EQ(b.taken, 2);
	CHECK_EQ(b.flushed, 1);
	a.port.writable(&a.port); /* nobody waits for a */
	CHECK_EQ(b.resumed, 0);
	b.room = 1;
	b.port.writable(&b.port);
	CHECK_EQ(a.resumed, 1);
	CHECK_EQ(a.port.receive(&a.port, &frame), 0);
	CHECK_EQ(b.port.receive(&b.port, &frame), 0);
	CHECK_EQ(a.taken, 1);
	wh_net_link_free(l);
	CHECK(!a.port.receive && !b.port.receive);
}

struct user {
	struct wh_net_port *port;
	struct wh_loop *loop;
	unsigned writable;
};

static void writable(struct wh_net_port *port)
{
	struct user *u = port->user;
	u->writable++;
	while (port->send(port, &frame) >= 0)
		;
	wh_loop_stop(u->loop, 0);
}

/* The burst goes at once; then 1 MB/s: what is sent later is never more than time allows. */
static void limit_holds(void)
{
	struct end a;
	struct wh_net_limit *l;
	struct wh_loop *loop;
	struct wh_net_rate rate = { .bytes_per_second = 1000000, .burst = 70000 };
	end_init(&a, 1000000);
	CHECK_EQ(wh_loop_new(&loop), 0);
	uint64_t start = wh_os_now();
	CHECK_EQ(wh_net_limit_new(&a.port, &rate, &rate, loop, &l), 0);
	struct wh_net_port *p = wh_net_limit_port(l);
	struct user u = { p, loop, 0 };
	p->user = &u;
	p->writable = writable;
	while (p->send(p, &frame) >= 0)
		;
	CHECK(a.bytes >= 70000);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(wh_loop_run(loop), 0);
	CHECK_EQ(u.writable, 5);
	CHECK(a.bytes > 70000);
	uint64_t allowed = 70000 + (wh_os_now() - start) / 1000 + 1000;
	CHECK(a.bytes <= allowed);
	/* what the port delivers is limited in the same way, and resumed */
	CHECK_EQ(a.port.receive(&a.port, &frame), 0); /* nobody there: dropped */
	wh_net_limit_free(l);
	CHECK(!a.port.receive);
	wh_loop_free(loop);
}

int main(void)
{
	link_waits();
	limit_holds();
	return 0;
}
