/* SPDX-License-Identifier: ISC */
/* The event stream: lines of JSON to whoever watches. */
#include "gateway_priv.h"

#include <stdarg.h>
#include <wherry/os.h>

#define LINE_SIZE 1024u

void wh_gateway_watch(struct wh_gateway *gateway, struct wh_gateway_watcher *watcher)
{
	wh_list_push_back(&gateway->watchers, &watcher->node);
}

void wh_gateway_unwatch(struct wh_gateway_watcher *watcher)
{
	wh_list_remove(&watcher->node);
}

void event(struct wh_gateway *gateway, const char *kind, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list args;
	if (!events_wanted(gateway))
		return;
	size_t n = wh_format(line, sizeof line, "{\"event\":\"%s\",\"time_ms\":%llu", kind,
			     (unsigned long long)(wh_os_wall_clock() / GATEWAY_MS));
	va_start(args, format);
	n += wh_vformat(line + n, sizeof line - n, format, args);
	va_end(args);
	if (n + 2 >= sizeof line)
		return; /* none of ours is that long */
	memcpy(line + n, "}\n", 2);
	WH_LIST_FOR_EACH_SAFE(node, &gateway->watchers) {
		struct wh_gateway_watcher *watcher =
			WH_LIST_ENTRY(node, struct wh_gateway_watcher, node);
		watcher->fn(watcher->ctx, line, n + 2);
	}
}

void event_flow(struct wh_gateway *gateway, uint32_t id, enum wh_gateway_protocol protocol,
		bool inbound, const struct wh_net_tuple *tuple)
{
	char guest[END_TEXT_SIZE], peer[END_TEXT_SIZE];
	event(gateway, "open",
	      ",\"id\":%u,\"protocol\":\"%s\",\"direction\":\"%s\",\"guest\":\"%s\","
	      "\"peer\":\"%s\"",
	      id, protocol == WH_GATEWAY_TCP ? "tcp" : "udp", inbound ? "in" : "out",
	      end_text(&tuple->remote, guest), end_text(&tuple->local, peer));
}

void event_flow_closed(struct wh_gateway *gateway, uint32_t id, uint64_t begun_ns,
		       uint64_t bytes_out, uint64_t bytes_in)
{
	uint64_t age_ms = (wh_loop_now(gateway->loop) - begun_ns) / GATEWAY_MS;
	event(gateway, "close", ",\"id\":%u,\"age_ms\":%llu,\"bytes_out\":%llu,\"bytes_in\":%llu",
	      id, (unsigned long long)age_ms, (unsigned long long)bytes_out,
	      (unsigned long long)bytes_in);
}

void event_lease(struct wh_gateway *gateway, const char *kind, const struct lease *lease)
{
	const struct wh_net_end ip4 = { wh_net_ip4(lease->ip4), 0 };
	const struct wh_net_end ip6 = { wh_net_ip6(lease->ip6), 0 };
	char a[END_TEXT_SIZE], b[END_TEXT_SIZE], m[MAC_TEXT_SIZE];
	if (events_wanted(gateway))
		event(gateway, kind, ",\"mac\":\"%s\",\"ip4\":\"%s\",\"ip6\":\"%s\"",
		      mac_text(lease->mac, m), end_text(&ip4, a), end_text(&ip6, b));
}
