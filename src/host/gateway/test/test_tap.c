/* SPDX-License-Identifier: ISC */
/* The tap port on a socket pair, which keeps frames apart as a tap does. */
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/net_tap.h>
#include <wherry/os.h>
#include <wherry/tap.h>
#include <wherry/test.h>

struct header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

struct user {
	uint32_t frames, bytes, writable, gone;
	bool full;
	struct wh_net_frame last;
	uint8_t first;
};

struct fixture {
	struct wh_loop *loop;
	struct wh_net_tap *tap;
	struct wh_net_port *port;
	int guest, ours;
	struct user user;
};

static int receive(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct user *u = port->user;
	if (u->full)
		return -WH_EAGAIN;
	u->frames++;
	u->bytes += frame->size;
	u->last = *frame;
	u->first = ((const uint8_t *)frame->iov[0].base)[0];
	return 0;
}

static void writable(struct wh_net_port *port)
{
	((struct user *)port->user)->writable++;
}

static void gone(void *ctx)
{
	((struct user *)ctx)->gone++;
}

static void setup(struct fixture *f)
{
	int pair[2];
	*f = (struct fixture){ 0 };
	CHECK(!wh_loop_new(&f->loop));
	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	f->ours = pair[0];
	f->guest = pair[1];
	struct wh_net_tap_config config = { .size = sizeof config,
					    .fd = f->ours,
					    .link_features = WH_NET_LINK_CSUM,
					    .gone = gone,
					    .ctx = &f->user };
	CHECK(!wh_net_tap_new(&config, f->loop, &f->tap));
	f->port = wh_net_tap_port(f->tap);
	f->port->receive = receive;
	f->port->writable = writable;
	f->port->user = &f->user;
}

static void teardown(struct fixture *f)
{
	wh_net_tap_free(f->tap);
	wh_os_close(&f->guest);
	wh_os_close(&f->ours);
	wh_loop_free(f->loop);
}

static void guest_send(struct fixture *f, const struct header *h, uint32_t size)
{
	static uint8_t frame[WH_NET_FRAME_SIZE_MAX + sizeof(struct header)];
	memcpy(frame, h, sizeof *h);
	memset(frame + sizeof *h, 0x5a, size);
	CHECK(send(f->guest, frame, sizeof *h + size, 0) == (ssize_t)(sizeof *h + size));
}

static void frames_from_the_guest_keep_their_offload_words(void)
{
	struct fixture f;
	setup(&f);
	CHECK(f.port->mtu == 1500 && f.port->link_features == WH_NET_LINK_CSUM);
	guest_send(&f, &(struct header){ 1, 0x81, 54, 1448, 34, 16 }, 60000);
	guest_send(&f, &(struct header){ 0 }, 60);
	CHECK(wh_loop_step(f.loop, 0) >= 0);
	CHECK(f.user.frames == 2 && f.user.bytes == 60060 && f.user.first == 0x5a);
	guest_send(&f, &(struct header){ 1, 1, 54, 1448, 34, 16 }, 60000);
	CHECK(wh_loop_step(f.loop, 0) >= 0);
	CHECK(f.user.last.flags == WH_NET_NEEDS_CSUM && f.user.last.gso_type == WH_NET_GSO_TCPV4);
	CHECK(f.user.last.gso_size == 1448 && f.user.last.hdr_len == 54);
	CHECK(f.user.last.csum_start == 34 && f.user.last.csum_offset == 16);
	teardown(&f);
}

static void headers_that_make_no_sense_are_dropped(void)
{
	struct fixture f;
	struct wh_net_tap_stats stats;
	setup(&f);
	guest_send(&f, &(struct header){ .flags = 1, .csum_start = 59, .csum_offset = 0 }, 60);
	guest_send(&f, &(struct header){ .flags = 1, .csum_start = 65535, .csum_offset = 65535 },
		   60);
	guest_send(&f, &(struct header){ .gso_type = 1 }, 60);
	CHECK(send(f.guest, "short", 5, 0) == 5);
	guest_send(&f, &(struct header){ .hdr_len = 61 }, 60); /* a hint only */
	CHECK(wh_loop_step(f.loop, 0) >= 0);
	wh_net_tap_stats(f.tap, &stats);
	CHECK(f.user.frames == 1 && stats.bad_in == 3 && !f.user.last.hdr_len);
	teardown(&f);
}

static void a_frame_that_is_not_taken_is_held(void)
{
	struct fixture f;
	setup(&f);
	f.user.full = true;
	guest_send(&f, &(struct header){ 0 }, 60);
	guest_send(&f, &(struct header){ 0 }, 61);
	for (int i = 0; i < 3; i++)
		CHECK(wh_loop_step(f.loop, 0) >= 0);
	CHECK(f.user.frames == 0);
	f.user.full = false;
	f.port->resume(f.port);
	CHECK(f.user.frames == 1 && f.user.bytes == 60);
	CHECK(wh_loop_step(f.loop, 0) >= 0);
	CHECK(f.user.frames == 2 && f.user.bytes == 121);
	teardown(&f);
}

static void frames_to_the_guest_and_a_full_link(void)
{
	struct fixture f;
	uint8_t payload[1000] = { 7 }, got[2000];
	struct wh_iov iov[2] = { { payload, 14 }, { payload + 14, 986 } };
	struct wh_net_frame frame = { .iov = iov, .iov_count = 2, .size = 1000 };
	struct header h;
	int error = 0, sent = 0;
	setup(&f);
	frame.flags = WH_NET_NEEDS_CSUM;
	frame.gso_type = WH_NET_GSO_TCPV6;
	frame.gso_size = 900;
	CHECK(!f.port->send(f.port, &frame));
	CHECK(recv(f.guest, got, sizeof got, 0) == 1010);
	memcpy(&h, got, sizeof h);
	CHECK(h.flags == 1 && h.gso_type == 4 && h.gso_size == 900 && got[10] == 7);
	while (!(error = f.port->send(f.port, &frame)) && sent < 100000)
		sent++;
	CHECK(error == -WH_EAGAIN && sent > 0);
	CHECK(wh_loop_step(f.loop, 0) >= 0);
	CHECK(f.user.writable == 0);
	while (recv(f.guest, got, sizeof got, 0) > 0)
		;
	CHECK(wh_loop_step(f.loop, 0) >= 0);
	CHECK(f.user.writable == 1);
	CHECK(!f.port->send(f.port, &frame));
	teardown(&f);
}

static void configs_are_checked_before_anything_is_made(void)
{
	struct wh_tap_config config = { .size = sizeof config, .mtu = 1279 };
	struct wh_diag diag;
	int fd = -1;
	uint32_t offloads;
	CHECK(wh_tap_open(&config, &fd, &offloads, &diag) == -WH_EINVAL);
	config.mtu = WH_TAP_MTU_MAX + 1;
	CHECK(wh_tap_open(&config, &fd, &offloads, &diag) == -WH_EINVAL);
	config.mtu = 0;
	static const char *const names[] = { "", "a/b", "%d", "sixteen-letters-" };
	for (size_t i = 0; i < WH_ARRAY_COUNT(names); i++) {
		config.name = names[i];
		CHECK(wh_tap_open(&config, &fd, &offloads, &diag) == -WH_EINVAL);
	}
	config.size--;
	CHECK(wh_tap_open(&config, &fd, &offloads, &diag) == -WH_EINVAL && fd == -1);
}

static void the_end_is_told_once(void)
{
	struct fixture f;
	setup(&f);
	wh_os_close(&f.guest);
	for (int i = 0; i < 3; i++)
		CHECK(wh_loop_step(f.loop, 0) >= 0);
	CHECK(f.user.gone == 1 && f.user.frames == 0);
	teardown(&f);
}

int main(void)
{
	RUN(frames_from_the_guest_keep_their_offload_words);
	RUN(headers_that_make_no_sense_are_dropped);
	RUN(a_frame_that_is_not_taken_is_held);
	RUN(frames_to_the_guest_and_a_full_link);
	RUN(configs_are_checked_before_anything_is_made);
	RUN(the_end_is_told_once);
	return test_end();
}
