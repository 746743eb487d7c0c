/* SPDX-License-Identifier: ISC */
/* Connections without frames: real sockets, with this process's own loopback as the namespace's. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/gateway.h>
#include <wherry/os.h>
#include <wherry/test.h>

static struct {
	struct wh_loop *loop;
	struct wh_gateway *gateway;
	int listener, client, server;
	uint16_t port;
	uint32_t asked;
	int error; /* of guest_socket */
} t;

static uint8_t bytes[1 << 20], got[1 << 20];

static int guest_socket(void *ctx, int domain)
{
	t.asked++;
	return t.error ? t.error : socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void settle(void)
{
	while (wh_loop_step(t.loop, 0) > 0)
		;
}

/* listen: somebody is there inside. */
static void begin(bool listen_inside)
{
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct sockaddr_in a = loopback(0);
	socklen_t size = sizeof a;
	memset(&t, 0, sizeof t);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 31 + (i >> 12));
	t.client = t.server = -1;
	config.guest_socket = guest_socket;
	config.alloc = &test_allocator;
	CHECK_EQ(wh_loop_new(&t.loop), 0);
	CHECK_EQ(wh_gateway_new(&config, t.loop, &t.gateway, NULL), 0);
	t.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(!bind(t.listener, (struct sockaddr *)&a, sizeof a));
	CHECK(!getsockname(t.listener, (struct sockaddr *)&a, &size));
	if (listen_inside)
		CHECK(!listen(t.listener, 8));
	struct wh_gateway_rule rule = { .protocol = WH_GATEWAY_TCP,
					.bind_given = true,
					.guest_port = ntohs(a.sin_port) };
	struct wh_net_end bound;
	static const uint8_t ip[4] = { 127, 0, 0, 1 };
	uint32_t id;
	rule.host.ip = wh_net_ip4(ip);
	CHECK_EQ(wh_gateway_publish(t.gateway, &rule, &id, &bound, NULL), 0);
	t.port = bound.port;
}

static void end(void)
{
	wh_os_close(&t.client);
	wh_os_close(&t.server);
	wh_os_close(&t.listener);
	wh_gateway_free(t.gateway);
	wh_loop_free(t.loop);
}

static void client_connect(void)
{
	struct sockaddr_in a = loopback(t.port);
	t.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(!connect(t.client, (struct sockaddr *)&a, sizeof a));
	settle();
}

static void connected(void)
{
	begin(true);
	client_connect();
	t.server = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(t.server >= 0);
	CHECK_EQ(t.asked, 1);
}

static struct wh_gateway_stats stats(void)
{
	struct wh_gateway_stats s;
	wh_gateway_stats(t.gateway, &s);
	return s;
}

/* Sends all of `bytes` while the reader takes only `piece` now and then: little sockets, full pipes. */
static void move(int from, int to, size_t piece)
{
	size_t sent = 0, taken = 0;
	while (taken < sizeof bytes) {
		ssize_t n =
			send(from, bytes + sent, sizeof bytes - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		CHECK(n >= 0 || errno == EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
		settle();
		if (sent < sizeof bytes && n > 0)
			continue; /* until nothing moves any more */
		n = recv(to, got + taken, piece < sizeof got - taken ? piece : sizeof got - taken,
			 MSG_DONTWAIT);
		CHECK(n > 0 || (n < 0 && errno == EAGAIN));
		taken += n > 0 ? (size_t)n : 0;
		settle();
		/* The kernel may have all of it, and wait for a timer of TCP's own. */
		struct pollfd p[2] = { { to, POLLIN, 0 }, { wh_loop_fd(t.loop), POLLIN, 0 } };
		CHECK(n > 0 || poll(p, 2, 20000) > 0);
	}
	CHECK_MEM(got, bytes, sizeof bytes);
}

static void both_ways(void)
{
	struct wh_gateway_flow flow;
	int little = 65536;
	connected();
	(void)setsockopt(t.server, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
	CHECK_EQ(write(t.client, "ask", 3), 3);
	settle();
	CHECK_EQ(recv(t.server, got, 10, MSG_DONTWAIT), 3);
	move(t.client, t.server, 7000);
	move(t.server, t.client, 100000);
	CHECK_EQ(stats().tcp_spliced, 1);
	CHECK_EQ(stats().tcp_bytes_in, sizeof bytes + 3);
	CHECK_EQ(stats().tcp_bytes_out, sizeof bytes);
	CHECK_EQ(wh_gateway_flow_list(t.gateway, 0, &flow, 1), 1);
	CHECK_STR(flow.state, "SPLICED");
	CHECK(flow.inbound);
	CHECK_EQ(flow.bytes_in, sizeof bytes + 3);
	CHECK_EQ(flow.host.port, t.port);
	/* one half ends, the other goes on */
	CHECK(!shutdown(t.client, SHUT_WR));
	settle();
	CHECK_EQ(recv(t.server, got, 10, MSG_DONTWAIT), 0);
	CHECK_EQ(write(t.server, "last", 4), 4);
	wh_os_close(&t.server);
	settle();
	CHECK_EQ(recv(t.client, got, 10, MSG_DONTWAIT), 4);
	CHECK_EQ(recv(t.client, got, 10, MSG_DONTWAIT), 0);
	CHECK_EQ(stats().tcp_flows, 0);
	end();
}

static void resets(void)
{
	struct linger now = { .l_onoff = 1 };
	for (int side = 0; side < 2; side++) {
		connected();
		int *ends[2] = { &t.client, &t.server };
		CHECK(!setsockopt(*ends[side], SOL_SOCKET, SO_LINGER, &now, sizeof now));
		wh_os_close(ends[side]);
		settle();
		CHECK_EQ(recv(*ends[!side], got, 10, MSG_DONTWAIT), -1);
		CHECK_EQ(errno, ECONNRESET);
		CHECK_EQ(stats().tcp_flows, 0);
		end();
	}
	/* and when the gateway ends */
	connected();
	wh_gateway_free(t.gateway);
	t.gateway = NULL;
	CHECK_EQ(recv(t.server, got, 10, MSG_DONTWAIT), -1);
	CHECK_EQ(errno, ECONNRESET);
	end();
}

/* What takes the frames: nobody listens inside, no socket can be made, frames are captured. */
static void frames_instead(void)
{
	begin(false);
	client_connect();
	CHECK_EQ(t.asked, 1);
	CHECK_EQ(stats().tcp_spliced, 0);
	CHECK_EQ(stats().tcp_in_accepted, 1);
	end();
	begin(true);
	t.error = -WH_ENETDOWN;
	client_connect();
	CHECK_EQ(t.asked, 1);
	CHECK_EQ(stats().tcp_spliced, 0);
	wh_os_close(&t.client);
	t.error = 0;
	int fds[2];
	CHECK(!pipe(fds));
	CHECK_EQ(wh_gateway_pcap(t.gateway, fds[1]), 0);
	client_connect();
	CHECK_EQ(t.asked, 1);
	CHECK_EQ(wh_gateway_pcap(t.gateway, -1), 0);
	wh_os_close(&t.client);
	client_connect();
	CHECK_EQ(t.asked, 2);
	CHECK_EQ(stats().tcp_spliced, 1);
	wh_os_close(&fds[0]);
	wh_os_close(&fds[1]);
	end();
}

/* A port of the namespace's loopback: here another port of ours. */
static void from_inside(void)
{
	struct wh_net_end to = { { { 0 } }, 0 };
	struct wh_gateway_flow flow;
	struct wh_diag diag;
	struct sockaddr_in a = loopback(0);
	socklen_t size = sizeof a;
	static const uint8_t ip[4] = { 127, 0, 0, 1 };
	begin(true);
	CHECK(!getsockname(t.listener, (struct sockaddr *)&a, &size));
	to = (struct wh_net_end){ wh_net_ip4(ip), ntohs(a.sin_port) };
	CHECK_EQ(wh_gateway_inside_listen(t.gateway, 0, &to, &diag), -WH_EINVAL);
	CHECK_EQ(wh_gateway_inside_listen(t.gateway, to.port, &to, &diag), -WH_EADDRINUSE);
	/* a port that the kernel has just given and taken back */
	int fd = socket(AF_INET, SOCK_STREAM, 0), error;
	do {
		a = loopback(0);
		CHECK(!bind(fd, (struct sockaddr *)&a, sizeof a));
		CHECK(!getsockname(fd, (struct sockaddr *)&a, &size));
		close(fd);
		error = wh_gateway_inside_listen(t.gateway, ntohs(a.sin_port), &to, &diag);
		fd = socket(AF_INET, SOCK_STREAM, 0);
	} while (error == -WH_EADDRINUSE);
	close(fd);
	CHECK_EQ(error, 0);
	t.port = ntohs(a.sin_port);
	client_connect();
	t.server = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(t.server >= 0);
	CHECK_EQ(wh_gateway_flow_list(t.gateway, 0, &flow, 1), 1);
	CHECK(!flow.inbound);
	CHECK_EQ(flow.peer.port, to.port);
	move(t.client, t.server, 50000);
	CHECK_EQ(stats().tcp_bytes_out, sizeof bytes);
	wh_os_close(&t.server);
	wh_os_close(&t.listener); /* now nobody listens: reset */
	settle();
	wh_os_close(&t.client);
	settle();
	CHECK_EQ(stats().tcp_flows, 0);
	client_connect();
	CHECK_EQ(recv(t.client, got, 10, MSG_DONTWAIT), -1);
	CHECK_EQ(errno, ECONNRESET);
	CHECK_EQ(stats().tcp_out_failed, 1);
	end();
}

int main(void)
{
	RUN(both_ways);
	RUN(resets);
	RUN(frames_instead);
	RUN(from_inside);
	return test_end();
}
