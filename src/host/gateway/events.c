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

void event_lease(struct wh_gateway *gateway, const char *kind, const struct lease *lease)
{
	const struct wh_net_end ip4 = { wh_net_ip4(lease->ip4), 0 };
	const struct wh_net_end ip6 = { wh_net_ip6(lease->ip6), 0 };
	char a[END_TEXT_SIZE], b[END_TEXT_SIZE], m[MAC_TEXT_SIZE];
	if (events_wanted(gateway))
		event(gateway, kind, ",\"mac\":\"%s\",\"ip4\":\"%s\",\"ip6\":\"%s\"",
		      mac_text(lease->mac, m), end_text(&ip4, a), end_text(&ip6, b));
}
