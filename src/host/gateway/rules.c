/* SPDX-License-Identifier: ISC */
/* Published ports: their text form, their listeners, and accepting under pressure. */
#include "gateway_priv.h"

#include <netinet/tcp.h>
#include <wherry/base/assert.h>

/* Clients that wait for the guest, per rule: more stay in the kernel's backlog. */
#define RULE_WAITING_MAX 64u
#define LISTEN_BACKLOG 4096
#define ACCEPT_BATCH_MAX 64u
#define ACCEPT_SINGLES 8u /* single connections in a row before two are asked for */
/* A paused listener looks again after this, for descriptors that others have given back. */
#define RESUME_NS (100 * GATEWAY_MS)

/* ---- text ---- */

/* "127.0.0.1", "[::1]" or "*" */
static bool parse_bind(const char *text, const char *end, struct wh_net_ip *ret_ip)
{
	if (end - text == 1 && *text == '*') {
		memset(ret_ip, 0, sizeof *ret_ip);
		return true;
	}
	if (end - text > 2 && *text == '[' && end[-1] == ']')
		return ip6_parse(text + 1, end - 1, ret_ip);
	return ip4_parse(text, end, ret_ip);
}

int wh_gateway_rule_parse(const char *text, struct wh_gateway_rule *ret_rule, struct wh_diag *diag)
{
	static const char usage[] = "[ADDR:]HOST:GUEST[/tcp|/udp], e.g. 8080:80";
	struct wh_gateway_rule rule = { .protocol = WH_GATEWAY_TCP };
	const char *end = text + wh_strlen(text);
	const char *slash = find_last(text, end, '/');
	if (slash) {
		if (wh_streq(slash, "/udp"))
			rule.protocol = WH_GATEWAY_UDP;
		else if (!wh_streq(slash, "/tcp"))
			return wh_diag_set(diag, -WH_EINVAL, "%s: protocol is /tcp or /udp: %s",
					   text, usage);
		end = slash;
	}
	const char *colon = find_last(text, end, ':');
	if (!colon)
		return wh_diag_set(diag, -WH_EINVAL, "%s: a published port is %s", text, usage);
	if (!port_parse(colon + 1, end, &rule.guest_port) || !rule.guest_port)
		return wh_diag_set(diag, -WH_EINVAL, "%s: guest port is 1 to 65535: %s", text,
				   usage);
	const char *bind_end = find_last(text, colon, ':');
	const char *port = bind_end ? bind_end + 1 : text;
	if (!port_parse(port, colon, &rule.host.port))
		return wh_diag_set(diag, -WH_EINVAL, "%s: host port is 0 to 65535: %s", text,
				   usage);
	if (bind_end) {
		rule.bind_given = true;
		if (!parse_bind(text, bind_end, &rule.host.ip))
			return wh_diag_set(diag, -WH_EINVAL,
					   "%s: ADDR is an IPv4 address, an IPv6 address in "
					   "brackets, or *",
					   text);
	}
	*ret_rule = rule;
	return 0;
}

/* ---- listeners ---- */

static void accept_event(struct wh_loop_fd *watch, uint32_t events);
static void datagram_event(struct wh_loop_fd *watch, uint32_t events);

static void activate(struct rule *rule)
{
	if (rule->activated)
		return;
	rule->activated = true;
	if (rule->config.activated)
		rule->config.activated(rule->config.ctx, rule->id);
}

static void listener_pause(struct listener *listener)
{
	if (listener->paused)
		return;
	struct wh_gateway *gateway = listener->rule->gateway;
	listener->paused = gateway->listeners_paused = true;
	(void)socket_watch_modify(gateway, &listener->watch, 0);
	if (!wh_loop_timer_running(&gateway->resume_timer))
		wh_loop_timer_start(gateway->loop, &gateway->resume_timer,
				    wh_loop_now(gateway->loop) + RESUME_NS);
}

static bool may_accept(struct wh_gateway *gateway, const struct rule *rule)
{
	return rule->waiting < RULE_WAITING_MAX &&
	       gateway->tcp_flow_count < gateway->tcp_flows_max &&
	       gateway->descriptors < gateway->descriptors_max;
}

void rules_resume(struct wh_gateway *gateway)
{
	if (!gateway->listeners_paused)
		return;
	gateway->listeners_paused = false;
	WH_LIST_FOR_EACH(node, &gateway->rules) {
		struct rule *rule = WH_LIST_ENTRY(node, struct rule, node);
		for (uint32_t i = 0; i < rule->listener_count; i++) {
			struct listener *listener = &rule->listeners[i];
			if (!listener->paused)
				continue;
			if (!may_accept(gateway, rule)) {
				gateway->listeners_paused = true;
				continue;
			}
			listener->paused = false;
			(void)socket_watch_modify(gateway, &listener->watch, WH_LOOP_READ);
		}
	}
}

void rules_resume_expired(struct wh_loop_timer *timer)
{
	struct wh_gateway *gateway = timer->ctx;
	rules_resume(gateway);
	if (gateway->listeners_paused)
		wh_loop_timer_start(gateway->loop, timer, wh_loop_now(gateway->loop) + RESUME_NS);
}

/* Closing sends RST. */
static void client_refuse(struct wh_gateway *gateway, int fd)
{
	static const struct linger now = { .l_onoff = 1 };
	struct wh_loop_fd watch = { .fd = fd };
	(void)gateway->host->option_set(gateway->host_ctx, fd, SOL_SOCKET, SO_LINGER, &now,
					sizeof now); /* else it is FIN */
	socket_close(gateway, &watch);
}

/* Level-triggered, so that one accept per event is enough while connections come singly;
 * the batch doubles while there are more. */
static void accept_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct listener *listener = watch->ctx;
	struct rule *rule = listener->rule;
	struct wh_gateway *gateway = rule->gateway;
	for (uint32_t i = 0; i < listener->accept_batch; i++) {
		union host_address from = { .any = { .sa_family = AF_UNSPEC } };
		struct wh_net_end client;
		if (!socket_available(gateway) || !may_accept(gateway, rule)) {
			listener_pause(listener);
			return;
		}
		int fd = socket_accept(gateway, watch->fd, &from);
		if (fd == -WH_EAGAIN) {
			listener->accept_batch = 1;
			listener->accept_singles = 0;
			return;
		}
		if (fd == -WH_EMFILE || fd == -WH_ENFILE || fd == -WH_ENOBUFS || fd == -WH_ENOMEM) {
			listener_pause(listener);
			return;
		}
		if (fd < 0)
			continue; /* that client is gone (accept(2), "Error handling") */
		if (!address_to_end(&from, &client))
			client = (struct wh_net_end){ gateway->self[0], 0 };
		if (policy_denies(gateway, true, WH_GATEWAY_TCP, &client.ip,
				  rule->config.guest_port)) {
			client_refuse(gateway, fd);
			continue;
		}
		activate(rule);
		tcp_accepted(gateway, rule, fd, &client);
	}
	if (listener->accept_batch == 1 && ++listener->accept_singles < ACCEPT_SINGLES)
		return;
	if (listener->accept_batch < ACCEPT_BATCH_MAX)
		listener->accept_batch *= 2;
}

static void datagram_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct listener *listener = watch->ctx;
	activate(listener->rule);
	udp_published(listener->rule->gateway, listener);
}

/* Binds one socket of the rule; *end gets the port that was chosen. */
static int listener_open(struct rule *rule, struct wh_net_end *end)
{
	struct wh_gateway *gateway = rule->gateway;
	bool tcp = rule->config.protocol == WH_GATEWAY_TCP;
	struct listener *listener = &rule->listeners[rule->listener_count];
	bool any6 = !wh_net_ip_is4(&end->ip) && wh_net_ip_is_any(&end->ip);
	int fd = socket_open(gateway, end_domain(end), tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	if (fd < 0)
		return fd;
	*listener = (struct listener){ .rule = rule, .accept_batch = 1 };
	listener->ip6 = !wh_net_ip_is4(&end->ip);
	listener->watch = (struct wh_loop_fd){ .fd = fd,
					       .fn = tcp ? accept_event : datagram_event,
					       .ctx = listener };
	int error = 0;
	if (tcp) /* accepted sockets inherit NODELAY */
		error = socket_set(gateway, fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (!error && tcp)
		error = socket_set(gateway, fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (!error && any6) /* a specific address needs no word about versions */
		error = socket_set(gateway, fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (!error && !tcp && wh_net_ip_is_any(&end->ip)) {
		rule->wildcard = true;
		error = socket_set(gateway, fd, IPPROTO_IP, IP_PKTINFO, 1);
		if (!error && any6)
			error = socket_set(gateway, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	}
	union host_address address;
	socklen_t size = address_from_end(end, &address);
	if (!error)
		error = gateway->host->bind(gateway->host_ctx, fd, &address.any, size);
	if (!error && tcp)
		error = gateway->host->listen(gateway->host_ctx, fd, LISTEN_BACKLOG);
	if (!error && !end->port) {
		error = gateway->host->name(gateway->host_ctx, fd, &address.any, &size);
		if (!error && !address_to_end(&address, end))
			error = -WH_EAFNOSUPPORT;
	}
	if (!error)
		error = socket_watch(gateway, &listener->watch, WH_LOOP_READ);
	if (error)
		socket_close(gateway, &listener->watch);
	else
		rule->listener_count++;
	return error;
}

/* The host has no IPv6, or none on its loopback. */
static bool no_ip6(int error)
{
	return error == -WH_EAFNOSUPPORT || error == -WH_EADDRNOTAVAIL ||
	       error == -WH_EPROTONOSUPPORT;
}

static int rule_open(struct rule *rule, struct wh_net_end *bound)
{
	static const uint8_t loopback4[4] = { 127, 0, 0, 1 }, any4[4];
	static const uint8_t loopback6[16] = { [15] = 1 };
	*bound = rule->config.host;
	if (rule->config.bind_given) {
		int error = listener_open(rule, bound);
		if (no_ip6(error) && !wh_net_ip_is4(&bound->ip) && wh_net_ip_is_any(&bound->ip)) {
			bound->ip = wh_net_ip4(any4);
			error = listener_open(rule, bound);
		}
		return error;
	}
	bound->ip = wh_net_ip4(loopback4);
	int error = listener_open(rule, bound);
	if (error)
		return error;
	struct wh_net_end second = { wh_net_ip6(loopback6), bound->port };
	error = listener_open(rule, &second);
	/* A port that the kernel chose is free on IPv4; elsewhere it is a bonus. */
	return no_ip6(error) || (error && !rule->config.host.port) ? 0 : error;
}

static void rule_close(struct rule *rule)
{
	struct wh_gateway *gateway = rule->gateway;
	for (uint32_t i = 0; i < rule->listener_count; i++)
		socket_close(gateway, &rule->listeners[i].watch);
	rule->listener_count = 0;
	wh_free(gateway->alloc, rule, sizeof *rule);
}

static int explain(int error, const struct rule *rule, struct wh_diag *diag)
{
	const char *kind = rule->config.protocol == WH_GATEWAY_TCP ? "TCP" : "UDP";
	unsigned port = rule->config.host.port;
	switch (-error) {
	case WH_EADDRINUSE:
		return wh_diag_set(diag, error,
				   "%s port %u is in use by another program; choose another host "
				   "port, or 0 for any",
				   kind, port);
	case WH_EACCES:
		return wh_diag_set(diag, error,
				   "%s port %u is reserved for root (net.ipv4.ip_unprivileged_port_"
				   "start); choose a port from 1024 on",
				   kind, port);
	case WH_EADDRNOTAVAIL:
		return wh_diag_set(diag, error,
				   "the address to publish %s port %u on is not one "
				   "of this host",
				   kind, port);
	case WH_EMFILE:
		return wh_diag_set(diag, error, "no descriptor is left for %s port %u (ulimit -n)",
				   kind, port);
	default:
		return wh_diag_set(diag, error, "cannot publish %s port %u: error %d", kind, port,
				   -error);
	}
}

int wh_gateway_publish(struct wh_gateway *gateway, const struct wh_gateway_rule *config,
		       uint32_t *ret_rule, struct wh_net_end *ret_bound, struct wh_diag *diag)
{
	if ((config->protocol != WH_GATEWAY_TCP && config->protocol != WH_GATEWAY_UDP) ||
	    !config->guest_port)
		return wh_diag_set(diag, -WH_EINVAL,
				   "a published port needs a protocol and the "
				   "guest's port");
	if (gateway->rule_count >= WH_GATEWAY_RULES_MAX)
		return wh_diag_set(diag, -WH_ENOSPC, "at most %u ports can be published",
				   WH_GATEWAY_RULES_MAX);
	struct rule *rule = wh_alloc_zero(gateway->alloc, sizeof *rule);
	if (!rule)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a published port");
	wh_list_init(&rule->node);
	rule->gateway = gateway;
	rule->config = *config;
	struct wh_net_end bound;
	int error = config->protocol == WH_GATEWAY_UDP ? udp_init(gateway) : 0;
	if (!error)
		error = rule_open(rule, &bound);
	if (error) {
		explain(error, rule, diag);
		rule_close(rule);
		return error;
	}
	rule->id = ++gateway->rule_next;
	rule->bound = bound;
	char text[END_TEXT_SIZE];
	wh_log_write(&gateway->log, WH_LOG_INFO, "net", rule->id, "published %s as guest port %u%s",
		     end_text(&bound, text), config->guest_port,
		     config->protocol == WH_GATEWAY_UDP ? "/udp" : "");
	gateway->rule_count++;
	wh_list_push_back(&gateway->rules, &rule->node);
	if (ret_rule)
		*ret_rule = rule->id;
	if (ret_bound)
		*ret_bound = bound;
	return 0;
}

static void rule_remove(struct rule *rule)
{
	struct wh_gateway *gateway = rule->gateway;
	wh_list_remove(&rule->node);
	wh_assert(gateway->rule_count > 0);
	gateway->rule_count--;
	tcp_rule_gone(gateway, rule);
	udp_rule_gone(gateway, rule);
	rule_close(rule);
}

int wh_gateway_unpublish(struct wh_gateway *gateway, uint32_t id)
{
	WH_LIST_FOR_EACH(node, &gateway->rules) {
		struct rule *rule = WH_LIST_ENTRY(node, struct rule, node);
		if (rule->id == id) {
			rule_remove(rule);
			return 0;
		}
	}
	return -WH_ENOENT;
}

uint32_t wh_gateway_published_list(const struct wh_gateway *gateway,
				   struct wh_gateway_published *list, uint32_t max)
{
	uint32_t count = 0;
	WH_LIST_FOR_EACH(node, &gateway->rules) {
		const struct rule *rule = WH_LIST_ENTRY(node, struct rule, node);
		if (count == max)
			break;
		list[count++] =
			(struct wh_gateway_published){ .id = rule->id,
						       .protocol = rule->config.protocol,
						       .host = rule->bound,
						       .guest_port = rule->config.guest_port,
						       .waiting = rule->waiting,
						       .activated = rule->activated };
	}
	return count;
}

void rules_fini(struct wh_gateway *gateway)
{
	while (!wh_list_empty(&gateway->rules))
		rule_remove(WH_LIST_ENTRY(gateway->rules.next, struct rule, node));
}
