/* SPDX-License-Identifier: ISC */
/*
 * Hostile clients of the gateway's control: the input is what one client sends, in pieces whose sizes it says
 * itself. At the end nothing may be left open, registered or allocated, every complete reply is a
 * line that begins with a brace, and a second client is served.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/gateway_control.h>
#include <wherry/test.h>

#include "../src/host/gateway/gateway_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* No sockets on the host: a port cannot be published. */
static int no_socket(void *ctx, int domain, int type, int protocol)
{
	return -WH_EMFILE;
}

static int no_text(void *ctx, const char *path, uint64_t *stamp, char *to, size_t size)
{
	return -WH_ENOENT;
}

static void no_random(void *ctx, void *to, size_t size)
{
	memset(to, 7, size);
}

static uint32_t descriptors(void *ctx)
{
	return 1000;
}

static void forget(void *ctx, struct wh_loop *loop, struct wh_loop_fd *watch)
{
	wh_assert(watch->fd < 0);
}

static const struct wh_gateway_host host = { .socket = no_socket,
					     .read_text = no_text,
					     .random = no_random,
					     .descriptors_max = descriptors,
					     .watch_forget = forget };

static char last;

static void replies_check(int fd)
{
	static char text[65536];
	ssize_t n;
	while ((n = recv(fd, text, sizeof text, MSG_DONTWAIT)) > 0)
		for (ssize_t i = 0; i < n; i++) {
			wh_assert(last != '\n' || text[i] == '{');
			wh_assert(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));
			last = text[i];
		}
}

static void client(struct wh_gateway_control *control, struct wh_loop *loop, const uint8_t *data,
		   size_t size)
{
	int pair[2];
	wh_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	wh_assert(!wh_gateway_control_add(control, pair[0]));
	last = '\n';
	while (size > 1) {
		size_t n = 1 + data[0];
		data++, size--;
		if (n > size)
			n = size;
		ssize_t sent = send(pair[1], data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0)
			break;
		data += n, size -= n;
		wh_assert(wh_loop_step(loop, 0) >= 0);
		if (n & 1) /* it does not always read */
			replies_check(pair[1]);
	}
	for (int i = 0; i < 100 && wh_loop_step(loop, 0) > 0; i++)
		replies_check(pair[1]);
	replies_check(pair[1]);
	wh_assert(last == '\n');
	close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t last_request[] = "\x05rules\n";
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_gateway_control *control;
	struct wh_gateway *gateway;
	struct wh_loop *loop;
	config.host = &host;
	config.alloc = &test_allocator;
	wh_assert(wh_loop_new(&loop) == 0);
	wh_assert(wh_gateway_new(&config, loop, &gateway, NULL) == 0);
	wh_assert(wh_gateway_control_new(gateway, loop, NULL, &control, NULL) == 0);
	client(control, loop, data, size);
	client(control, loop, last_request, sizeof last_request - 1);
	wh_gateway_control_free(control);
	wh_gateway_free(gateway);
	wh_assert(wh_loop_deadline(loop) == UINT64_MAX);
	wh_loop_free(loop);
	wh_assert(test_alloc_live() == 0);
	return 0;
}
