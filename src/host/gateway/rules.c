/* SPDX-License-Identifier: ISC */
/* Published ports: their text form, their listeners, and accepting under pressure. */
#include "gateway_priv.h"

#include <netinet/tcp.h>
#include <sys/un.h>
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

static const char usage[] =
	"[ADDR:]HOST[-LAST]:GUEST[-LAST][@MACHINE][/tcp|/udp] or unix:PATH:GUEST, e.g. 8080:80";

/* "80" or "80-90" */
static bool parse_ports(const char *text, const char *end, uint16_t *ret_first, uint16_t *ret_count)
{
	const char *dash = find_last(text, end, '-');
	uint16_t last;
	if (!port_parse(text, dash ? dash : end, ret_first))
		return false;
	*ret_count = 1;
	if (!dash)
		return true;
	if (!port_parse(dash + 1, end, &last) || !*ret_first || last < *ret_first ||
	    last - *ret_first >= (int)WH_GATEWAY_RULES_MAX)
		return false;
	*ret_count = (uint16_t)(last - *ret_first + 1);
	return true;
}

/* Takes "/udp" and "@MACHINE" from the end. */
static int parse_tail(const char *text, const char **end, struct wh_gateway_rule *rule,
		      struct wh_diag *diag)
{
	const char *slash = find_last(text, *end, '/');
	const char *colon = find_last(text, *end, ':');
	if (slash && colon && slash > colon) { /* else it is of a path */
		if (wh_streq(slash, "/udp"))
			rule->protocol = WH_GATEWAY_UDP;
		else if (!wh_streq(slash, "/tcp"))
			return wh_diag_set(diag, -WH_EINVAL, "%s: protocol is /tcp or /udp: %s",
					   text, usage);
		*end = slash;
	}
	const char *at = find_last(text, *end, '@');
	if (!at)
		return 0;
	bool ip6 = *end - at > 3 && at[1] == '[' && (*end)[-1] == ']';
	if (!(ip6 ? ip6_parse(at + 2, *end - 1, &rule->guest)
		  : ip4_parse(at + 1, *end, &rule->guest)))
		return wh_diag_set(diag, -WH_EINVAL, "%s: MACHINE is an address: %s", text, usage);
	*end = at;
	return 0;
}

static int parse_host(const char *text, const char *colon, struct wh_gateway_rule *rule,
		      struct wh_diag *diag)
{
	if (colon - text > 5 && !memcmp(text, "unix:", 5)) {
		size_t size = (size_t)(colon - text) - 5;
		if (size >= sizeof rule->path)
			return wh_diag_set(diag, -WH_EINVAL,
					   "%s: the path is longer than a socket's may be (107)",
					   text);
		memcpy(rule->path, text + 5, size);
		return 0;
	}
	uint16_t count;
	const char *bind_end = find_last(text, colon, ':');
	if (!parse_ports(bind_end ? bind_end + 1 : text, colon, &rule->host.port, &count) ||
	    (count > 1 && rule->count > 1 && count != rule->count))
		return wh_diag_set(
			diag, -WH_EINVAL,
			"%s: host port is 0 to 65535, a range as long as the guest's: %s", text,
			usage);
	if (rule->count > 1 && count == 1 && rule->host.port > 65536 - rule->count)
		return wh_diag_set(diag, -WH_EINVAL, "%s: the range ends behind 65535", text);
	if (count > rule->count) { /* all to one port would be a guess */
		if (rule->guest_port > 65536 - count)
			return wh_diag_set(diag, -WH_EINVAL, "%s: the range ends behind 65535",
					   text);
		rule->count = count;
	}
	if (!bind_end)
		return 0;
	rule->bind_given = true;
	if (!parse_bind(text, bind_end, &rule->host.ip))
		return wh_diag_set(diag, -WH_EINVAL,
				   "%s: ADDR is an IPv4 address, an IPv6 address in brackets, or *",
				   text);
	return 0;
}

int wh_gateway_rule_parse(const char *text, struct wh_gateway_rule *ret_rule, struct wh_diag *diag)
{
	struct wh_gateway_rule rule = { .protocol = WH_GATEWAY_TCP };
	const char *end = text + wh_strlen(text);
	int error = parse_tail(text, &end, &rule, diag);
	if (error)
		return error;
	const char *colon = find_last(text, end, ':');
	if (!colon)
		return wh_diag_set(diag, -WH_EINVAL, "%s: a published port is %s", text, usage);
	if (!parse_ports(colon + 1, end, &rule.guest_port, &rule.count) || !rule.guest_port)
		return wh_diag_set(diag, -WH_EINVAL, "%s: guest port is 1 to 65535: %s", text,
				   usage);
	error = parse_host(text, colon, &rule, diag);
	if (error)
		return error;
	if (rule.path[0] && (rule.count > 1 || rule.protocol != WH_GATEWAY_TCP))
		return wh_diag_set(diag, -WH_EINVAL, "%s: a path leads to one TCP port", text);
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
	rule->wait_end_ns =
		wh_loop_now(rule->gateway->loop) + rule->config.activation_ms * GATEWAY_MS;
	if (events_wanted(rule->gateway))
		event(rule->gateway, "activated", ",\"id\":%u,\"guest_port\":%u", rule->id,
		      rule->config.guest_port);
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
		if (!guests_may_accept(gateway, rule)) {
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

/* The file gets the socket's mode, so that it is its owner's at any moment. One that nobody listens at any
 * more is replaced. */
static int path_open(struct rule *rule)
{
	struct wh_gateway *gateway = rule->gateway;
	struct listener *listener = &rule->listeners[0];
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	const struct sockaddr *address = (const struct sockaddr *)&name;
	int fd = socket_open(gateway, AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return fd;
	memcpy(name.sun_path, rule->config.path, sizeof rule->config.path);
	*listener = (struct listener){ .rule = rule, .accept_batch = 1 };
	listener->watch = (struct wh_loop_fd){ .fd = fd, .fn = accept_event, .ctx = listener };
	int error = gateway->host->path_bind(gateway->host_ctx, fd, address, sizeof name,
					     &rule->device, &rule->inode);
	if (!error)
		error = gateway->host->listen(gateway->host_ctx, fd, LISTEN_BACKLOG);
	if (!error)
		error = socket_watch(gateway, &listener->watch, WH_LOOP_READ);
	if (error)
		socket_close(gateway, &listener->watch);
	else
		rule->listener_count = 1;
	return error;
}

static int rule_open(struct rule *rule, struct wh_net_end *bound)
{
	static const uint8_t loopback4[4] = { 127, 0, 0, 1 }, any4[4];
	static const uint8_t loopback6[16] = { [15] = 1 };
	*bound = rule->config.host;
	if (rule->config.path[0])
		return path_open(rule);
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
	if (rule->inode)
		gateway->host->path_remove(gateway->host_ctx, rule->config.path, rule->device,
					   rule->inode);
	wh_free(gateway->alloc, rule, sizeof *rule);
}

static int explain(int error, const struct rule *rule, struct wh_diag *diag)
{
	const char *kind = rule->config.protocol == WH_GATEWAY_TCP ? "TCP" : "UDP";
	unsigned port = rule->config.host.port;
	if (rule->config.path[0])
		return wh_diag_set(diag, error,
				   error == -WH_EADDRINUSE
					   ? "%s is in use by another program, or is a file"
					   : "%s cannot be listened at: error %d",
				   rule->config.path, -error);
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

static int publish_one(struct wh_gateway *gateway, const struct wh_gateway_rule *config,
		       uint32_t group, struct rule **ret_rule, struct wh_diag *diag)
{
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
	rule->group = group ? group : rule->id;
	rule->bound = bound;
	char text[END_TEXT_SIZE];
	wh_log_write(&gateway->log, WH_LOG_INFO, "net", rule->id, "published %s as guest port %u%s",
		     config->path[0] ? config->path : end_text(&bound, text), config->guest_port,
		     config->protocol == WH_GATEWAY_UDP ? "/udp" : "");
	gateway->rule_count++;
	wh_list_push_back(&gateway->rules, &rule->node);
	*ret_rule = rule;
	return 0;
}

static int rule_check(const struct wh_gateway *gateway, const struct wh_gateway_rule *c,
		      uint32_t count, struct wh_diag *diag)
{
	bool any = wh_net_ip_is_any(&c->guest);
	if ((c->protocol != WH_GATEWAY_TCP && c->protocol != WH_GATEWAY_UDP) || !c->guest_port)
		return wh_diag_set(diag, -WH_EINVAL,
				   "a published port needs a protocol and the "
				   "guest's port");
	if (count > 1 && (!c->host.port || c->path[0] || c->host.port > 65536 - count ||
			  c->guest_port > 65536 - count))
		return wh_diag_set(diag, -WH_EINVAL, "a range needs ports of its own to begin at");
	if (!any && (!gateway_in_subnet(gateway, &c->guest) || gateway_is_own(gateway, &c->guest)))
		return wh_diag_set(diag, -WH_EADDRNOTAVAIL,
				   "the machine to publish is not on the guest's network");
	if (gateway->rule_count + count > WH_GATEWAY_RULES_MAX)
		return wh_diag_set(diag, -WH_ENOSPC, "at most %u ports can be published",
				   WH_GATEWAY_RULES_MAX);
	return 0;
}

int wh_gateway_publish(struct wh_gateway *gateway, const struct wh_gateway_rule *config,
		       uint32_t *ret_rule, struct wh_net_end *ret_bound, struct wh_diag *diag)
{
	uint32_t count = config->count ? config->count : 1;
	struct wh_gateway_rule one = *config;
	struct rule *rule = NULL, *first = NULL;
	int error = rule_check(gateway, config, count, diag);
	for (uint32_t i = 0; !error && i < count; i++) {
		error = publish_one(gateway, &one, first ? first->id : 0, &rule, diag);
		first = first ? first : rule;
		one.host.port = (uint16_t)(one.host.port + !!one.host.port);
		one.guest_port++;
	}
	if (error && first)
		(void)wh_gateway_unpublish(gateway, first->id); /* what was there of the range */
	if (error)
		return error;
	if (ret_rule)
		*ret_rule = first->id;
	if (ret_bound)
		*ret_bound = first->bound;
	return 0;
}

struct wh_net_end rule_guest(const struct wh_gateway *gateway, const struct rule *rule,
			     struct wh_net_ip *shown, bool *kept)
{
	struct wh_net_end guest = { gateway->guest[wh_net_ip_is4(shown) ? 0 : 1],
				    rule->config.guest_port };
	if (wh_net_ip_is_any(&rule->config.guest))
		return guest;
	guest.ip = rule->config.guest;
	if (wh_net_ip_is4(&guest.ip) != wh_net_ip_is4(shown)) {
		*shown = gateway->self[wh_net_ip_is4(&guest.ip) ? 0 : 1];
		*kept = false;
	}
	return guest;
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
	int error = -WH_ENOENT;
	WH_LIST_FOR_EACH_SAFE(node, &gateway->rules) {
		struct rule *rule = WH_LIST_ENTRY(node, struct rule, node);
		if (rule->group == id || rule->id == id) {
			rule_remove(rule);
			error = 0;
		}
	}
	return error;
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
						       .guest = rule->config.guest,
						       .waiting = rule->waiting,
						       .activated = rule->activated };
		memcpy(list[count - 1].path, rule->config.path, sizeof rule->config.path);
	}
	return count;
}

void rules_fini(struct wh_gateway *gateway)
{
	while (!wh_list_empty(&gateway->rules))
		rule_remove(WH_LIST_ENTRY(gateway->rules.next, struct rule, node));
}

int wh_gateway_rule_limits_set(struct wh_gateway *gateway, uint32_t id,
			       const struct wh_gateway_rule_limits *limits)
{
	int error = -WH_ENOENT;
	WH_LIST_FOR_EACH(node, &gateway->rules) {
		struct rule *rule = WH_LIST_ENTRY(node, struct rule, node);
		if (rule->id != id && rule->group != id)
			continue;
		rule->limits = *limits;
		error = 0;
	}
	return error;
}
