/* SPDX-License-Identifier: ISC */
/*
 * wherry net run | attach | serve: a network namespace, or machines of others, behind the
 * gateway.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/net_tap.h>
#include <wherry/os.h>

#include "net.h"

enum {
	OPT_NETNS = 1,
	OPT_MTU,
	OPT_INTERFACE,
	OPT_MAP_ROOT,
	OPT_READY_FD,
	OPT_LISTEN,
	OPT_PROTOCOL,
	OPT_NO_SPLICE,
	OPT_LOOPBACK_PORT,
	OPT_JSON,
	OPT_VERBOSE,
	OPT_LEASE,
};

static const struct cli_option options[] = {
	GATEWAY_OPTIONS,
	{ GATEWAY_NAME, "name", 0, "NAME=ADDRESS", "a name that the gateway's DNS answers itself" },
	{ OPT_NETNS, "netns", 0, "PATH|PID", "attach: the network namespace to serve" },
	{ OPT_LISTEN, "listen", 0, "[PROTOCOL=]ADDRESS", "serve: unix:PATH, fd:N or stdin" },
	{ OPT_PROTOCOL, "protocol", 0, "NAME", "serve: qemu, qemu-dgram, vpnkit or vhost-user" },
	{ OPT_MTU, "mtu", 0, "BYTES", "of the interface, 1280 to 65520 (1500)" },
	{ OPT_INTERFACE, "interface", 'i', "NAME", "name of the interface (eth0)" },
	{ OPT_LEASE, "lease", 0, "MAC=ADDRESS", "the address that this machine gets by DHCP" },
	{ OPT_MAP_ROOT, "map-root", 'r', NULL, "run: be user 0 inside" },
	{ OPT_READY_FD, "ready-fd", 0, "FD", "write a line to FD when the network serves" },
	{ OPT_LOOPBACK_PORT, "loopback-port", 0, "PORT[:HOST]",
	  "127.0.0.1:PORT inside is the host's 127.0.0.1:HOST" },
	{ OPT_NO_SPLICE, "no-splice", 0, NULL, "loopback clients of -p take frames, too" },
	{ OPT_JSON, "json", 0, NULL, "rules, flows...: lines of JSON" },
	{ OPT_VERBOSE, "verbose", 0, NULL, "say what is done" },
};

const struct cli_command cli_command_net = {
	.name = "net",
	.synopsis = "run [OPTIONS] [--] COMMAND [ARGUMENTS] | attach --netns PATH|PID [OPTIONS] | "
		    "serve --listen ADDRESS [OPTIONS] | "
		    "expose|unexpose|rules|flows|stats|pcap|dns|policy|leases|limits|"
		    "forward|unforward|forwards|proxy|events|metrics --control PATH",
	.summary = "give a program, a namespace or machines a network without privileges",
	.details =
		"Inside are 10.0.2.15 and fd77:6865:7272:7900::15; 10.0.2.2 is the gateway,\n"
		"10.0.2.3 a DNS server. -p [ADDR:]HOST:GUEST[/udp] listens on loopback unless\n"
		"ADDR says otherwise. A gateway with --control PATH can be asked and told:\n"
		"expose HOST:GUEST, unexpose ID, rules, flows, stats, pcap start FILE, pcap stop,\n"
		"dns [add NAME ADDRESS | remove NAME | forward DOMAIN SERVER...], policy "
		"[allow|deny RULE | remove ID],\n"
		"leases [fix MAC ADDRESS | remove MAC], limits [out|in BYTES] [connects|flows N],\n"
		"forward PORT=HOST:PORT|unix:PATH, unforward ID, forwards,\n"
		"proxy [all|http|https URL | none | except LIST], events, metrics.",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = cmd_net,
};

/* A question and its answer through a host's loopback take half of it; a halted processor as long to wake. */
#define SPIN_NS 50000u

struct net {
	struct net_options options;
	struct wh_log log;
	struct wh_loop *loop;
	struct wh_gateway *gateway;
	struct wh_net_tap *tap;
	struct net_child child;
	struct wh_loop_fd ended; /* pidfd of command or namespace's process, or inotify */
	struct wh_os_signals signals;
};

static struct net_control_request request; /* verbs that talk to a running gateway */

/* ---- options ---- */

static int number_take(const char *name, const char *text, uint64_t min, uint64_t max,
		       uint64_t *ret_value)
{
	uint64_t value;
	if (cli_parse_number(text, strlen(text), max, &value) || value < min) {
		cli_error("net: --%s %s is not in %llu to %llu", name, text,
			  (unsigned long long)min, (unsigned long long)max);
		return CLI_BAD;
	}
	*ret_value = value;
	return 0;
}

static int loopback_port_take(struct net_options *o, const char *text)
{
	uint64_t inside, host;
	const char *colon = strchr(text, ':');
	size_t size = colon ? (size_t)(colon - text) : strlen(text);
	if (o->loopback_port_count == NET_INSIDE_MAX) {
		cli_error("net: at most %u loopback ports", NET_INSIDE_MAX);
		return CLI_BAD;
	}
	if (cli_parse_number(text, size, UINT16_MAX, &inside) || !inside ||
	    cli_parse_number(colon ? colon + 1 : text, colon ? strlen(colon + 1) : size, UINT16_MAX,
			     &host) ||
	    !host) {
		cli_error("net: --loopback-port is PORT[:HOST], ports from 1 to 65535, not %s",
			  text);
		return CLI_BAD;
	}
	o->loopback_ports[o->loopback_port_count].inside = (uint16_t)inside;
	o->loopback_ports[o->loopback_port_count++].host = (uint16_t)host;
	return 0;
}

static int list_take(const char *what, const char **list, unsigned *count, unsigned max,
		     const char *value)
{
	if (*count == max) {
		cli_error("net: at most %u %s", max, what);
		return CLI_BAD;
	}
	list[(*count)++] = value;
	return 0;
}

static int option_take(struct net_options *o, int id, const char *value)
{
	uint64_t number = 0;
	int bad = 0;
	if (id == GATEWAY_CONTROL)
		request.path = value;
	if (id >= GATEWAY_PUBLISH)
		return gateway_option_take(&o->gateway, id, value);
	switch (id) {
	case OPT_NETNS:
		o->netns = value;
		return 0;
	case OPT_INTERFACE:
		o->interface = value;
		return 0;
	case OPT_MTU:
		bad = number_take("mtu", value, 1280, WH_TAP_MTU_MAX, &number);
		o->mtu = (uint32_t)number;
		return bad;
	case OPT_LISTEN:
		return list_take("addresses to listen on", o->listen, &o->listen_count,
				 NET_LISTEN_MAX, value);
	case OPT_PROTOCOL:
		return net_protocol_take(o, value);
	case OPT_LEASE:
		return net_command_take(&o->gateway.control, "leases fix", value, '=');
	case OPT_LOOPBACK_PORT:
		return loopback_port_take(o, value);
	case OPT_NO_SPLICE:
		o->no_splice = true;
		return 0;
	case OPT_JSON:
		request.json = true;
		return 0;
	case OPT_MAP_ROOT:
		o->map_root = true;
		return 0;
	case OPT_READY_FD:
		bad = number_take("ready-fd", value, 0, 1u << 20, &number);
		o->ready_fd = (int)number;
		return bad;
	default:
		o->verbose = true;
		return 0;
	}
}

static int options_check(const struct net_options *o, const char *verb)
{
	if (request.verb) {
		return CLI_END;
	} else if (request.json) {
		cli_error("net: --json is for rules, flows and others that print");
	} else if (!verb) {
		cli_error("net: run, attach or serve must follow (see: wherry net --help)");
	} else if (o->serve &&
		   (!o->listen_count || o->netns || o->argv[0] || o->map_root || o->interface)) {
		cli_error("net serve: --listen must be given; no command, namespace or interface");
	} else if (o->loopback_port_count && (o->serve || o->no_splice)) {
		cli_error("net: --loopback-port needs a namespace, and no --no-splice");
	} else if (o->serve) {
		return CLI_END;
	} else if (o->listen_count) {
		cli_error("net %s: only serve takes --listen", verb);
	} else if (!o->attach && strcmp(verb, "run")) {
		cli_error("net: what is %s? (see: wherry net --help)", verb);
	} else if (o->attach && !o->netns) {
		cli_error("net attach: --netns PATH or PID must be given");
	} else if (o->attach && (o->argv[0] || o->map_root)) {
		cli_error("net attach: takes no command and no --map-root");
	} else if (!o->attach && o->netns) {
		cli_error("net run: makes its own namespace; attach takes --netns");
	} else if (!o->attach && !o->argv[0]) {
		cli_error("net run: a command must follow");
	} else {
		return CLI_END;
	}
	return CLI_BAD;
}

/* CLI_END, or what the command returns at once. */
static int options_read(struct net_options *o, int argc, char **argv)
{
	struct cli_parser parser;
	const char *value = NULL, *verb = NULL;
	int id;
	o->ready_fd = -1;
	cli_parser_init(&parser, &cli_command_net, argc, argv);
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		if (id == CLI_BAD || id == CLI_HELP)
			return id;
		if (id == CLI_OPERAND && request.verb) {
			if (request.operand_count == NET_CONTROL_OPERANDS_MAX) {
				cli_error("net %s: too many words", verb);
				return CLI_BAD;
			}
			request.operands[request.operand_count++] = value;
			continue;
		}
		if (id == CLI_OPERAND && verb) { /* the command, even without -- */
			parser.index--;
			break;
		}
		if (id == CLI_OPERAND) {
			verb = value;
			if (net_control_verb(verb))
				request.verb = verb;
		} else if (option_take(o, id, value)) {
			return CLI_BAD;
		}
	}
	o->argv = argv + parser.index;
	o->attach = verb && !strcmp(verb, "attach");
	o->serve = verb && !strcmp(verb, "serve");
	return options_check(o, verb);
}

/* ---- the gateway ---- */

static void log_line(void *ctx, enum wh_log_level level, const char *subsystem,
		     unsigned long long id, const char *text)
{
	cli_error("%s: %s", subsystem, text);
}

static struct wh_gateway_config gateway_config(const struct net *n)
{
	struct wh_gateway_config c = WH_GATEWAY_CONFIG_INIT;
	c.log = n->log;
	gateway_options_config(&n->options.gateway, &c);
	return c;
}

static int loopback_ports(struct net *n)
{
	static const uint8_t loopback4[4] = { 127, 0, 0, 1 };
	struct wh_diag diag = { "" };
	for (unsigned i = 0; i < n->options.loopback_port_count; i++) {
		uint16_t port = n->options.loopback_ports[i].inside;
		struct wh_net_end to = { wh_net_ip4(loopback4), n->options.loopback_ports[i].host };
		if (!wh_gateway_inside_listen(n->gateway, port, &to, &diag))
			continue;
		cli_error("net: --loopback-port %u: %s", port, diag.text);
		return CLI_ERROR;
	}
	return CLI_OK;
}

static void tap_gone(void *ctx)
{
	struct net *n = ctx;
	if (n->options.verbose)
		cli_error("net: the interface is gone");
	if (n->options.attach)
		wh_loop_stop(n->loop, CLI_OK);
}

static int child_start(struct net *n, const struct wh_gateway_addresses *a)
{
	struct wh_tap_config tap = { .size = sizeof tap,
				     .name = n->options.interface,
				     .mtu = n->options.mtu,
				     .prefix4 = a->prefix4,
				     .prefix6 = a->prefix6 };
	memcpy(tap.mac, a->guest_mac, 6);
	memcpy(tap.gateway_mac, a->gateway_mac, 6);
	memcpy(tap.ip4, a->guest_ip4, 4);
	memcpy(tap.gateway4, a->gateway_ip4, 4);
	memcpy(tap.ip6, a->guest_ip6, 16);
	memcpy(tap.gateway6, a->gateway_ip6, 16);
	return net_child_start(&n->options, &tap, a->dns_ip4, &n->child);
}

/* Loopback clients of published ports need no frames. */
static void splice_start(struct net *n, struct wh_gateway_config *config)
{
	struct net_inside *inside = NULL;
	if (n->options.serve || n->child.net < 0)
		return;
	if (!n->options.no_splice)
		inside = net_inside_start(n->child.net);
	wh_os_close(&n->child.net); /* a namespace that is held open does not end */
	if (!inside)
		return;
	config->guest_socket = net_inside_socket;
	config->guest_socket_ctx = inside;
}

static int gateway_start(struct net *n)
{
	struct wh_gateway_config config = gateway_config(n);
	struct wh_net_tap_config tap = { .size = sizeof tap,
					 .fd = n->child.fd,
					 .mtu = n->options.mtu,
					 .link_features = WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 |
							  WH_NET_LINK_TSO6,
					 .gone = tap_gone,
					 .ctx = n };
	if (n->child.offloads & WH_TAP_USO)
		tap.link_features |= WH_NET_LINK_USO;
	struct wh_diag diag = { "" };
	splice_start(n, &config);
	int error = wh_loop_new(&n->loop);
	if (!error)
		wh_loop_spin(n->loop, SPIN_NS);
	if (!error)
		error = wh_gateway_new(&config, n->loop, &n->gateway, &diag);
	if (!error && !n->options.serve)
		error = wh_net_tap_new(&tap, n->loop, &n->tap);
	if (!error && !n->options.serve)
		error = wh_gateway_attach(n->gateway, wh_net_tap_port(n->tap));
	if (error) {
		cli_error("net: %s", *diag.text ? diag.text : strerror(-error));
		return CLI_ERROR;
	}
	wh_gateway_dhcp6_enable(n->gateway);
	int status = loopback_ports(n);
	if (!status && n->options.serve)
		status = net_serve_start(&n->options, n->loop, n->gateway);
	if (status)
		return status;
	return gateway_options_start(&n->options.gateway, n->gateway, n->loop, n->options.verbose);
}

/* Each flow is a descriptor: what we may have, we take. */
static void descriptors_raise(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* the former limit does as well */
}

/* ---- until the end ---- */

static int status_of(int status)
{
	return WIFSIGNALED(status) ? CLI_SIGNAL_BASE + WTERMSIG(status) : WEXITSTATUS(status);
}

static void ended(struct wh_loop_fd *watch, uint32_t events)
{
	struct net *n = watch->ctx;
	int status = 0;
	if (n->options.attach) {
		wh_loop_stop(n->loop, CLI_OK);
		return;
	}
	if (waitpid(n->child.pid, &status, WNOHANG) != n->child.pid)
		return;
	n->child.pid = 0;
	wh_loop_stop(n->loop, status_of(status));
}

/* An entry of the folder went: was it ours? */
static void folder_changed(struct wh_loop_fd *watch, uint32_t events)
{
	struct net *n = watch->ctx;
	char buffer[4096];
	while (read(watch->fd, buffer, sizeof buffer) > 0)
		;
	if (access(n->options.netns, F_OK))
		wh_loop_stop(n->loop, CLI_OK);
}

/* A namespace with a tap that somebody holds open never ends: its name or its process is
 * what we follow. */
static int end_watch_path(struct net *n)
{
	char folder[1024];
	const char *path = n->options.netns, *slash = strrchr(path, '/');
	size_t size = slash ? (size_t)(slash - path) + (slash == path) : 0;
	if (size >= sizeof folder)
		return -WH_ENAMETOOLONG;
	memcpy(folder, path, size);
	folder[size] = 0;
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return -errno;
	/* /proc and the like tell nothing: then only a signal ends us. */
	(void)inotify_add_watch(fd, size ? folder : ".", IN_DELETE | IN_MOVED_FROM);
	n->ended.fd = fd;
	n->ended.fn = folder_changed;
	return 0;
}

static int end_watch(struct net *n)
{
	uint64_t pid = (uint64_t)n->child.pid;
	int error = 0;
	n->ended = (struct wh_loop_fd){ .fd = -1, .events = WH_LOOP_READ, .fn = ended, .ctx = n };
	if (n->options.attach &&
	    cli_parse_number(n->options.netns, strlen(n->options.netns), INT32_MAX, &pid))
		error = end_watch_path(n);
	else
		n->ended.fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (!error && n->ended.fd < 0)
		error = -errno;
	if (!error)
		error = wh_loop_add(n->loop, &n->ended);
	if (!error)
		return CLI_OK;
	cli_error("net: cannot wait for the end of the %s: %s",
		  n->options.attach ? "namespace" : "command", strerror(-error));
	return CLI_ERROR;
}

/* The terminal has sent it to the command, too. */
static bool from_terminal(int signal)
{
	int fd = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
	bool foreground = fd >= 0 && tcgetpgrp(fd) == getpgrp();
	wh_os_close(&fd);
	return foreground && (signal == SIGINT || signal == SIGQUIT);
}

static void signal_came(struct wh_os_signals *signals, int signal)
{
	struct net *n = signals->ctx;
	if (n->options.attach || n->options.serve)
		wh_loop_stop(n->loop, CLI_OK);
	else if (n->child.pid > 0 && !from_terminal(signal))
		(void)kill(n->child.pid, signal); /* it may have ended meanwhile */
}

static int signals_take(struct net *n)
{
	static const int list[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigaction(SIGPIPE, &ignore, NULL);
	n->signals.fn = signal_came;
	n->signals.ctx = n;
	if (wh_os_signals_attach(&n->signals, n->loop, list, WH_ARRAY_COUNT(list)) >= 0)
		return CLI_OK;
	cli_error("net: cannot take signals");
	return CLI_ERROR;
}

static int serve(struct net *n)
{
	int status = n->options.serve ? CLI_OK : end_watch(n);
	if (!status)
		status = signals_take(n);
	if (!status && !n->options.attach && !n->options.serve)
		status = net_child_go(&n->options, &n->child);
	if (status)
		return status;
	if (n->options.ready_fd >= 0)
		(void)wh_os_write_all(n->options.ready_fd, "ready\n", 6); /* nobody listens */
	int result = wh_loop_run(n->loop);
	if (result < 0)
		cli_error("net: cannot wait for frames: %s", strerror(-result));
	return result < 0 ? CLI_ERROR : result;
}

static void stats_show(const struct net *n)
{
	struct wh_gateway_stats s;
	struct wh_net_tap_stats t;
	wh_gateway_stats(n->gateway, &s);
	wh_net_tap_stats(n->tap, &t);
	cli_error("net: %llu frames and %llu bytes out, %llu and %llu in; %llu connections out, "
		  "%llu in; %llu UDP flows; %llu retransmissions",
		  (unsigned long long)t.frames_in, (unsigned long long)t.bytes_in,
		  (unsigned long long)t.frames_out, (unsigned long long)t.bytes_out,
		  (unsigned long long)s.tcp_out_opened, (unsigned long long)s.tcp_in_accepted,
		  (unsigned long long)s.udp_flows_opened,
		  (unsigned long long)s.stack.tcp_retransmits);
}

int cmd_net(int argc, char **argv)
{
	static struct net net; /* one per process */
	struct net *n = &net;
	struct wh_gateway_addresses addresses;
	struct wh_diag diag = { "" };
	int result = options_read(&n->options, argc, argv);
	if (result != CLI_END)
		return result == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (request.verb)
		return net_control_ask(&request);
	n->log = (struct wh_log){ .fn = log_line,
				  .level = n->options.verbose ? WH_LOG_INFO : WH_LOG_ERROR };
	struct wh_gateway_config config = gateway_config(n);
	if (wh_gateway_config_addresses(&config, &addresses, &diag) < 0) {
		cli_error("net: %s", diag.text);
		return CLI_ERROR;
	}
	int status = n->options.serve ? CLI_OK : child_start(n, &addresses);
	if (status)
		return status;
	descriptors_raise();
	status = gateway_start(n);
	if (!status)
		status = serve(n);
	gateway_options_end(n->gateway);
	if (n->options.serve && n->gateway)
		net_serve_end(n->options.verbose);
	if (n->child.pid > 0 && !n->options.attach)
		(void)kill(n->child.pid, SIGKILL); /* only after an error of ours */
	if (n->options.verbose && n->tap)
		stats_show(n);
	return status;
}
