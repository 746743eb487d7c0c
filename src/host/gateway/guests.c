/* SPDX-License-Identifier: ISC */
/*
 * What one guest may use: bytes in each direction, new connections, flows. A guest is a MAC, which the switch
 * holds it to; those that come after GUESTS_MAX share one account, so that MACs that are made up gain nothing.
 *
 * Rates are token buckets of a tenth of a second (16 KiB at least, a segment of full size may overdraw them). When one
 * is empty, the guest's port is asked to hold its frames, so nothing is lost on the way out; on the way in the stack waits
 * while the guest is alone, and among others its frames are dropped, as the stack has one queue for all.
 *
 * Flows: while there is room everyone takes what it likes. From three quarters on, no guest of several may have more
 * than half.
 */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

#define BURST_MIN 16384

static void bucket_fill(struct bucket *b, uint64_t rate, uint64_t now)
{
	int64_t burst = (int64_t)(rate / 10) > BURST_MIN ? (int64_t)(rate / 10) : BURST_MIN;
	uint64_t elapsed = now - b->filled_ns;
	if (!b->filled_ns || elapsed > GATEWAY_S) {
		b->tokens = burst;
		b->filled_ns = now;
		return;
	}
	uint64_t more = (uint64_t)((unsigned __int128)elapsed * rate / GATEWAY_S);
	if (!more)
		return;
	b->tokens += (int64_t)more;
	if (b->tokens > burst)
		b->tokens = burst;
	b->filled_ns = now;
}

/* 0 = taken, else how long to wait. */
static uint64_t bucket_take(struct bucket *b, uint64_t rate, uint64_t now, uint32_t size)
{
	bucket_fill(b, rate, now);
	if (b->tokens > 0) {
		b->tokens -= size;
		return 0;
	}
	return (uint64_t)(1 - b->tokens) * GATEWAY_S / rate + GATEWAY_MS;
}

struct account *account_of(struct wh_gateway *gateway, const uint8_t mac[6])
{
	struct account *unused = NULL;
	for (uint32_t i = 0; i < GUESTS_MAX; i++) {
		struct account *a = &gateway->accounts[i];
		if (a->used_ns && !memcmp(a->mac, mac, 6)) {
			a->used_ns = wh_loop_now(gateway->loop) | 1;
			return a;
		}
		if (!a->tcp_flows && !a->udp_flows && (!unused || a->used_ns < unused->used_ns))
			unused = a;
	}
	if (!unused)
		return &gateway->accounts[GUESTS_MAX];
	*unused = (struct account){ .used_ns = wh_loop_now(gateway->loop) | 1 };
	memcpy(unused->mac, mac, 6);
	return unused;
}

struct account *account_now(struct wh_gateway *gateway)
{
	uint8_t mac[6];
	if (!gateway_source_mac(gateway, mac))
		memcpy(mac, gateway->addresses.guest_mac, 6);
	return account_of(gateway, mac);
}

static const struct wh_gateway_limits *limits_of(const struct wh_gateway *gateway,
						 const struct account *a)
{
	for (uint32_t i = 0; i < WH_GATEWAY_GUEST_LIMITS_MAX; i++)
		if (gateway->guest_limits[i].used &&
		    !memcmp(gateway->guest_limits[i].mac, a->mac, 6))
			return &gateway->guest_limits[i].limits;
	return &gateway->limits;
}

static bool is_alone(const struct wh_gateway *gateway)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i <= GUESTS_MAX; i++)
		count += gateway->accounts[i].used_ns &&
			 (gateway->accounts[i].tcp_flows || gateway->accounts[i].udp_flows);
	return count <= 1;
}

static bool has_share(const struct wh_gateway *gateway, const struct account *a, uint32_t own,
		      uint32_t all, uint32_t max)
{
	const struct wh_gateway_limits *l = limits_of(gateway, a);
	if (l->flows && a->tcp_flows + a->udp_flows >= l->flows)
		return false;
	return all < max - max / 4 || own < max / 2 || is_alone(gateway);
}

/* A bucket of one second, in thousandths of a connection. */
static bool connection_take(struct bucket *b, uint64_t rate, uint64_t now)
{
	if (!rate)
		return true;
	if (!b->filled_ns || now - b->filled_ns > GATEWAY_S) {
		*b = (struct bucket){ (int64_t)rate * 1000, now };
	} else {
		uint64_t more = (now - b->filled_ns) / 1000 * rate / 1000;
		if (more) {
			b->tokens += (int64_t)more;
			b->filled_ns = now;
		}
		if (b->tokens > (int64_t)rate * 1000)
			b->tokens = (int64_t)rate * 1000;
	}
	if (b->tokens < 1000)
		return false;
	b->tokens -= 1000;
	return true;
}

bool account_connect(struct wh_gateway *gateway, struct account *a)
{
	uint64_t rate = limits_of(gateway, a)->connects, now = wh_loop_now(gateway->loop);
	if (has_share(gateway, a, a->tcp_flows, gateway->tcp_flow_count, gateway->tcp_flows_max) &&
	    connection_take(&a->connects, rate, now))
		return true;
	gateway->stats.limit_refused++;
	return false;
}

/* Who is behind the rule: by its lease, else the guest. */
static struct account *account_behind(struct wh_gateway *gateway, const struct rule *rule)
{
	const struct wh_net_ip *ip = &rule->config.guest;
	for (uint32_t i = 0; i < WH_GATEWAY_LEASES_MAX && !wh_net_ip_is_any(ip); i++) {
		const struct lease *l = &gateway->leases[i];
		const struct wh_net_ip ip4 = wh_net_ip4(l->ip4), ip6 = wh_net_ip6(l->ip6);
		if (wh_net_ip_equal(ip, &ip4) || wh_net_ip_equal(ip, &ip6))
			return account_of(gateway, l->mac);
	}
	return account_of(gateway, gateway->addresses.guest_mac);
}

bool guests_may_accept(struct wh_gateway *gateway, struct rule *rule)
{
	uint64_t now = wh_loop_now(gateway->loop);
	const struct wh_gateway_rule_limits *own = &rule->limits;
	struct account *a = account_behind(gateway, rule);
	if ((!own->connections || tcp_rule_flows(gateway, rule->id) < own->connections) &&
	    connection_take(&rule->clients, own->clients, now) &&
	    connection_take(&a->clients, limits_of(gateway, a)->clients, now))
		return true;
	gateway->stats.limit_refused++;
	return false;
}

bool account_may_udp(struct wh_gateway *gateway, const struct account *a)
{
	return has_share(gateway, a, a->udp_flows, gateway->udp_flow_count, gateway->udp_flows_max);
}

bool guests_may_send(struct wh_gateway *gateway, const struct wh_net_frame *frame)
{
	uint8_t mac[6];
	if (!gateway->rates_limited || wh_iov_read(frame->iov, frame->iov_count, 6, mac, 6) < 6)
		return true;
	uint64_t now = wh_loop_now(gateway->loop);
	struct account *a = account_of(gateway, mac);
	uint64_t rate = limits_of(gateway, a)->rate_out;
	uint64_t wait = rate ? bucket_take(&a->out, rate, now, frame->size) : 0;
	if (!wait)
		return true;
	if (!a->held)
		gateway->stats.rate_waits++;
	a->held = true;
	if (!wh_loop_timer_running(&gateway->rate_timer))
		wh_loop_timer_start(gateway->loop, &gateway->rate_timer, now + wait);
	return false;
}

enum guests_verdict guests_may_get(struct wh_gateway *gateway, const struct wh_net_frame *frame)
{
	uint8_t mac[6];
	if (!gateway->rates_limited || wh_iov_read(frame->iov, frame->iov_count, 0, mac, 6) < 6 ||
	    mac[0] & 1)
		return GUESTS_PASS;
	uint64_t now = wh_loop_now(gateway->loop);
	struct account *a = account_of(gateway, mac);
	uint64_t rate = limits_of(gateway, a)->rate_in;
	uint64_t wait = rate ? bucket_take(&a->in, rate, now, frame->size) : 0;
	if (!wait)
		return GUESTS_PASS;
	if (!is_alone(gateway)) {
		gateway->stats.rate_dropped++;
		return GUESTS_DROP;
	}
	gateway->rate_blocked = true;
	gateway->stats.rate_waits++;
	if (!wh_loop_timer_running(&gateway->rate_timer))
		wh_loop_timer_start(gateway->loop, &gateway->rate_timer, now + wait);
	return GUESTS_WAIT;
}

void guests_resume(struct wh_loop_timer *timer)
{
	struct wh_gateway *gateway = timer->ctx;
	bool held = false;
	for (uint32_t i = 0; i <= GUESTS_MAX; i++) {
		held |= gateway->accounts[i].held;
		gateway->accounts[i].held = false;
	}
	if (gateway->rate_blocked) {
		gateway->rate_blocked = false;
		gateway_writable(gateway->port);
	}
	if (held && gateway->port && gateway->port->resume)
		gateway->port->resume(gateway->port);
}

static void rates_look(struct wh_gateway *gateway)
{
	gateway->rates_limited = gateway->limits.rate_in || gateway->limits.rate_out;
	for (uint32_t i = 0; i < WH_GATEWAY_GUEST_LIMITS_MAX; i++)
		gateway->rates_limited |=
			gateway->guest_limits[i].used && (gateway->guest_limits[i].limits.rate_in ||
							  gateway->guest_limits[i].limits.rate_out);
}

void wh_gateway_limits_set(struct wh_gateway *gateway, const struct wh_gateway_limits *limits)
{
	gateway->limits = *limits;
	rates_look(gateway);
}

void wh_gateway_limits_get(const struct wh_gateway *gateway, struct wh_gateway_limits *ret_limits)
{
	*ret_limits = gateway->limits;
}

int wh_gateway_guest_limits_set(struct wh_gateway *gateway, const uint8_t mac[6],
				const struct wh_gateway_limits *limits)
{
	uint32_t place = WH_GATEWAY_GUEST_LIMITS_MAX;
	for (uint32_t i = WH_GATEWAY_GUEST_LIMITS_MAX; i-- > 0;)
		if (!gateway->guest_limits[i].used)
			place = i;
	for (uint32_t i = 0; i < WH_GATEWAY_GUEST_LIMITS_MAX; i++)
		if (gateway->guest_limits[i].used && !memcmp(gateway->guest_limits[i].mac, mac, 6))
			place = i;
	if (place == WH_GATEWAY_GUEST_LIMITS_MAX)
		return limits ? -WH_ENOSPC : 0;
	gateway->guest_limits[place].used = limits != NULL;
	if (limits) {
		memcpy(gateway->guest_limits[place].mac, mac, 6);
		gateway->guest_limits[place].limits = *limits;
	}
	rates_look(gateway);
	return 0;
}

int wh_gateway_guest_limits_get(const struct wh_gateway *gateway, uint32_t index,
				uint8_t ret_mac[6], struct wh_gateway_limits *ret_limits)
{
	for (uint32_t i = 0; i < WH_GATEWAY_GUEST_LIMITS_MAX; i++) {
		if (!gateway->guest_limits[i].used || index--)
			continue;
		memcpy(ret_mac, gateway->guest_limits[i].mac, 6);
		*ret_limits = gateway->guest_limits[i].limits;
		return 0;
	}
	return -WH_ENOENT;
}
