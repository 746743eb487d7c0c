/* SPDX-License-Identifier: ISC */
/* A network for virtual machines: QEMU machines (-netdev stream) connect to PATH. Lines on standard input
 * publish a port of the first one ("8080:80"), take the last one back ("-"), show counters ("?").
 *	cc -o netkit netkit.c $(pkg-config --cflags --libs libwherry-net); ./netkit PATH */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <wherry/net_switch.h>
#include <wherry/os.h>

static void command(struct wh_gateway *gateway, const char *line)
{
	static uint32_t last;
	struct wh_gateway_rule rule;
	struct wh_gateway_stats stats;
	struct wh_net_end bound;
	struct wh_diag diag = { "" };
	wh_gateway_stats(gateway, &stats);
	if (*line == '?')
		printf("%u TCP connections, %u rules\n", stats.tcp_flows, stats.rules);
	else if (*line == '-')
		puts(wh_gateway_unpublish(gateway, last) ? "there is none" : "taken back");
	else if (wh_gateway_rule_parse(line, &rule, &diag) ||
		 wh_gateway_publish(gateway, &rule, &last, &bound, &diag))
		puts(diag.text);
	else
		printf("listens on port %u\n", bound.port);
}

int main(int argc, char **argv)
{
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_diag diag = { "no memory" };
	struct wh_loop *loop;
	struct wh_gateway *gateway;
	struct wh_net_switch *guests;
	struct wh_net_listener *listener;
	char line[128] = "";
	if (wh_loop_new(&loop) || wh_gateway_new(&config, loop, &gateway, &diag) ||
	    wh_net_switch_new(gateway, loop, NULL, &guests) ||
	    wh_net_switch_listen(guests, loop, argc > 1 ? argv[1] : "netkit.sock", &listener,
				 &diag))
		return fprintf(stderr, "netkit: %s\n", diag.text), 1;
	setlinebuf(stdout);
	struct pollfd p[2] = { { 0, POLLIN, 0 }, { wh_loop_fd(loop), POLLIN, 0 } };
	while (!p[0].revents || fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (p[0].revents)
			command(gateway, line);
		wh_loop_step(loop, 0); /* the gateway's part of a loop that is ours */
		uint64_t due = wh_loop_deadline(loop), now = wh_os_now();
		uint64_t wait = due > now ? (due - now + 999999) / 1000000 : 0;
		poll(p, 2, due == UINT64_MAX ? -1 : wait > 60000 ? 60000 : (int)wait);
	}
	wh_net_listener_free(listener);
	wh_net_switch_free(guests);
	wh_gateway_free(gateway);
	wh_loop_free(loop);
	return 0;
}
