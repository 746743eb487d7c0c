/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_GATEWAY_H
#define WHERRY_GATEWAY_H

/*
 * libwherry-net: Ethernet frames of a guest become ordinary host sockets, without
 * privileges. The gateway is the guest's router, DNS and DHCP server; it ends the guest's TCP
 * and UDP in its own stack (wherry/net.h) and carries the bytes with sockets of the
 * calling process. Ports of the host can be published: they lead to the guest.
 *
 * Threads: a gateway, its guest's port and its loop belong to one thread; there are no others.
 * Ownership: strings and arrays of a config are copied; the loop, the port and the
 * callbacks' contexts outlive the gateway. No globals; several gateways per process work.
 * Memory: at _new about 10 KiB; then in blocks as flows come, never per packet, bounded by
 * the limits below. Descriptors: one per flow and per published address; bounded.
 * Errors: what a guest or a peer causes is a counter and an answer in the protocol, never
 * an error of these functions.
 *
 *	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
 *	wh_gateway_new(&config, loop, &gateway, &diag);
 *	wh_gateway_rule_parse("8080:80", &rule, &diag);
 *	wh_gateway_publish(gateway, &rule, &id, &bound, &diag);
 *	wh_gateway_attach(gateway, port);      // the device model's port
 *	wh_loop_run(loop);
 *	wh_gateway_free(gateway);
 *
 * Addresses (defaults): guest 10.0.2.15/24, gateway 10.0.2.2, DNS 10.0.2.3; the same ends ::15, ::2, ::3 in
 * fd77:6865:7272:7900::/64; gateway's MAC 52:55:0a:00:02:02, guest's 52:54:00:12:34:56.
 *
 * What the guest reaches: every address that the process itself reaches, except the host's
 * loopback (127.0.0.0/8, ::1 and unspecified addresses) and multicast. With `host_loopback`
 * the gateway's address stands for the host's loopback: guest 10.0.2.2:5432 is host 127.0.0.1:5432,
 * and [fd77:...::2]:5432 is [::1]:5432. It is off by default because programs that listen on
 * loopback often trust whoever reaches them. Addresses of the host's other
 * interfaces are reachable as from any machine of that network.
 *
 * What reaches the guest: published ports, replies to its flows, nothing else. A client keeps its
 * address as the source that the guest sees, except loopback clients and those of the guest's own
 * subnet: they appear as the gateway.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>
#include <wherry/base/list.h>
#include <wherry/base/log.h>
#include <wherry/loop.h>
#include <wherry/net.h>
#include <wherry/net_frame.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_gateway;
struct wh_gateway_host; /* host system calls behind functions: gateway_host.h, for tests */

/* ---- Limits (defaults for 0 in the config) ------------------------------------------- */

#define WH_GATEWAY_TCP_FLOWS_MAX 4096u  /* 4 MB of flow state; buffers come on top, see net.h */
#define WH_GATEWAY_TCP_PENDING_MAX 512u /* host connects under way: a guest's SYN flood ends here */
#define WH_GATEWAY_UDP_FLOWS_MAX 1024u  /* the least recently used one goes when full */
#define WH_GATEWAY_ECHO_FLOWS_MAX 32u
#define WH_GATEWAY_DNS_QUERIES_MAX 256u /* under way; more are answered SERVFAIL */
#define WH_GATEWAY_RULES_MAX 256u
#define WH_GATEWAY_RESOLVERS_MAX 4u
#define WH_GATEWAY_LEASES_MAX \
	64u /* more than the switch has guests: those that were here before keep theirs */
#define WH_GATEWAY_NTP_MAX 3u
/* Descriptors of the process that the gateway leaves alone, of RLIMIT_NOFILE. */
#define WH_GATEWAY_DESCRIPTORS_RESERVE 64u
/* How long after _attach a published port waits for the guest to listen. */
#define WH_GATEWAY_BOOT_WINDOW_MS 10000u

/* ---- The gateway ------------------------------------------------------------------------- */

/* Addresses of the host's version only: the DNS server answers that there are none of the other. */
enum wh_gateway_filter { WH_GATEWAY_FILTER_NONE, WH_GATEWAY_FILTER_AAAA, WH_GATEWAY_FILTER_A };

/* Of one guest, which is a MAC; 0 = no limit. A connection over its rate is not answered, so that the guest tries
 * again; frames over theirs wait. */
struct wh_gateway_limits {
	uint64_t rate_out, rate_in; /* bytes of frames a second, out = from the guest */
	uint32_t connects;          /* TCP connections that it may open in a second */
	uint32_t flows;   /* TCP and UDP flows that it has begun; of UDP the oldest one goes */
	uint32_t clients; /* TCP clients of its published ports in a second; more get RST */
};

struct wh_gateway_config {
	size_t size;
	struct wh_log log;
	uint8_t guest_ip4[4], gateway_ip4[4], dns_ip4[4]; /* all zero = default */
	uint8_t prefix4;                                  /* 0 = 24 */
	uint8_t guest_ip6[16], gateway_ip6[16], dns_ip6[16];
	uint8_t prefix6; /* 0 = 64 */
	bool no_ip6;     /* no IPv6 on the link */
	uint8_t gateway_mac[6], guest_mac[6];
	bool host_loopback;   /* the gateway's address is the host's loopback, see above */
	bool no_outbound;     /* the guest reaches nothing but the gateway and DNS */
	const char *hostname; /* DHCP; NULL = none */
	const char *search;   /* DHCP domain search list, separated by blanks; NULL = the host's */
	/* Servers asked by the DNS forwarder; count 0 = resolv_conf, re-read when it changes. */
	struct wh_net_end resolvers[WH_GATEWAY_RESOLVERS_MAX];
	uint32_t resolver_count;
	struct wh_net_ip ntp[WH_GATEWAY_NTP_MAX]; /* time servers that guests are told of */
	uint32_t ntp_count;
	const char *resolv_conf; /* NULL = /etc/resolv.conf */
	const char *hosts;       /* NULL = /etc/hosts, "" = none */
	uint32_t tcp_flows_max, tcp_pending_max, udp_flows_max, descriptors_reserve;
	uint32_t tcp_buffer_max; /* per flow and direction, power of two; 0 = 1 MiB */
	struct wh_gateway_limits limits;
	uint32_t boot_window_ms;
	uint32_t dns_timeout_ms; /* until the next server is asked; 0 = resolv.conf's, or 1500 */
	enum wh_gateway_filter dns_filter;
	/* For a guest that is a network namespace: makes a TCP socket in it (AF_INET or AF_INET6; non-blocking,
	 * close-on-exec, NODELAY), which is the gateway's from then on, or says -errno. Loopback clients of published
	 * ports are then connected to the namespace's loopback, where its service sees 127.0.0.1, and the kernel moves
	 * their bytes; without a listener there, and during a capture, they take the frames. NULL = always frames. */
	int (*guest_socket)(void *ctx, int domain);
	void *guest_socket_ctx;
	const struct wh_gateway_host *host; /* NULL = Linux */
	void *host_ctx;
	const struct wh_alloc *alloc; /* NULL = malloc; outlives the gateway */
};
#define WH_GATEWAY_CONFIG_INIT                           \
	{                                                \
		.size = sizeof(struct wh_gateway_config) \
	}

/* Makes no descriptors. -WH_EINVAL (diag says which member), -WH_ENOMEM. */
int wh_gateway_new(const struct wh_gateway_config *config, struct wh_loop *loop,
		   struct wh_gateway **ret_gateway, struct wh_diag *diag);
/* Closes every socket; flows end with RST towards the host. NULL is allowed. */
void wh_gateway_free(struct wh_gateway *gateway);

/* Becomes the port's user: sets receive, writable and user. One port for now: -WH_EBUSY.
 * Frames are taken at once and worked on in the loop's before-sleep hook, so that the
 * port's flush is called once per burst. */
int wh_gateway_attach(struct wh_gateway *gateway, struct wh_net_port *port);
/* The port is not used afterwards; the guest's flows end. */
void wh_gateway_detach(struct wh_gateway *gateway);

/* The guest has ended: its connections end as they do when a process exits. What it sent and the
 * host's sockets have not taken yet follows for at most timeout_ms, in which the loop runs; then FIN, or
 * RST where bytes are left. Published ports refuse from now on. Not from a callback. Returns the
 * connections that had to be reset. */
int wh_gateway_finish(struct wh_gateway *gateway, uint32_t timeout_ms);

/* Addresses as they are used, for the machine's boot information. */
struct wh_gateway_addresses {
	uint8_t guest_ip4[4], gateway_ip4[4], dns_ip4[4], prefix4;
	uint8_t guest_ip6[16], gateway_ip6[16], dns_ip6[16], prefix6; /* prefix 0 = no IPv6 */
	uint8_t gateway_mac[6], guest_mac[6];
};
void wh_gateway_addresses(const struct wh_gateway *gateway,
			  struct wh_gateway_addresses *ret_addresses);
/* The guest's address is at this MAC from now on: a machine that was not told guest_mac. */
void wh_gateway_guest_mac(struct wh_gateway *gateway, const uint8_t mac[6]);
/* DHCPv6 for guests that are not ours: one address per MAC, which shows the digits of its IPv4 one, DNS server,
 * search list, NTP servers; router advertisements say that it is there. Without the call its code is not
 * linked. Nothing without IPv6. */
void wh_gateway_dhcp6_enable(struct wh_gateway *gateway);

/* The next DHCP lease of this MAC is ip4. -WH_EADDRNOTAVAIL: not of the guest's network, or a service's;
 * -WH_EADDRINUSE: another MAC has it; -WH_ENOSPC. */
int wh_gateway_lease_set(struct wh_gateway *gateway, const uint8_t mac[6], const uint8_t ip4[4]);
/* The same, for good. Takes the address from one who was only offered it. -WH_EINVAL: a group's MAC. */
int wh_gateway_lease_fix(struct wh_gateway *gateway, const uint8_t mac[6], const uint8_t ip4[4]);
int wh_gateway_lease_remove(struct wh_gateway *gateway, const uint8_t mac[6]); /* -WH_ENOENT */
struct wh_gateway_lease {
	uint8_t mac[6], ip4[4], ip6[16]; /* ip6 all zero = none */
	bool fixed;                      /* by _fix */
	bool bound;                      /* the guest has taken it */
	bool declined;                   /* in use by somebody else, said a guest; mac is zero */
	uint64_t left_ns; /* 0 = it has run out; the MAC keeps it until another needs it */
};
/* At most max; WH_GATEWAY_LEASES_MAX takes all. */
uint32_t wh_gateway_lease_list(const struct wh_gateway *gateway, struct wh_gateway_lease *list,
			       uint32_t max);
/* Addresses for a config, before there is a gateway. -WH_EINVAL. */
int wh_gateway_config_addresses(const struct wh_gateway_config *config,
				struct wh_gateway_addresses *ret_addresses, struct wh_diag *diag);

/* ---- Published ports --------------------------------------------------------------------- */

enum wh_gateway_protocol { WH_GATEWAY_TCP = 6, WH_GATEWAY_UDP = 17 };
#define WH_GATEWAY_PATH_SIZE 108u /* of a Unix socket, NUL included */

struct wh_gateway_rule {
	enum wh_gateway_protocol protocol;
	bool bind_given;        /* else 127.0.0.1 and, where the host has it, ::1 */
	struct wh_net_end host; /* bind address: unspecified IPv6 = all of both versions,
				 * ::ffff:0.0.0.0 = all IPv4; port 0 = the kernel chooses */
	uint16_t guest_port;
	/* Ports in a row, from host.port and guest_port on; 0 = 1. They are one rule to _unpublish. */
	uint16_t count;
	/* TCP: instead of an address, a Unix stream socket's path, made with mode 0600; "" = none. */
	char path[WH_GATEWAY_PATH_SIZE];
	struct wh_net_ip
		guest; /* another machine on the guest's network; unspecified = the guest */
	/* The first connection or datagram came; may be NULL. Called from the loop. */
	void (*activated)(void *ctx, uint32_t rule);
	void *ctx;
	/* Clients wait so long for the guest to listen after that, beside the boot window. */
	uint32_t activation_ms;
};

/* "[ADDR:]HOST[-LAST]:GUEST[-LAST][@MACHINE][/tcp|/udp]", ADDR an IPv4 address, an IPv6 one in brackets, or "*" (all);
 * or "unix:PATH:GUEST". Host port 0 = the kernel chooses. -WH_EINVAL with the reason. */
int wh_gateway_rule_parse(const char *text, struct wh_gateway_rule *ret_rule, struct wh_diag *diag);

/*
 * Listens on the host. Connections are accepted from now on, even before a port is attached
 * and before the guest listens: they wait for it up to the boot window. ret_bound: the
 * address and port in use (of the IPv4 socket when there are two). -WH_EADDRINUSE, -WH_EACCES,
 * -WH_EADDRNOTAVAIL, -WH_ENOSPC (rules), -errno; diag has a sentence.
 */
int wh_gateway_publish(struct wh_gateway *gateway, const struct wh_gateway_rule *rule,
		       uint32_t *ret_rule, struct wh_net_end *ret_bound, struct wh_diag *diag);
/* Stops listening; flows that exist go on (UDP flows end). -WH_ENOENT. */
int wh_gateway_unpublish(struct wh_gateway *gateway, uint32_t rule);

struct wh_gateway_published {
	uint32_t id;
	enum wh_gateway_protocol protocol;
	struct wh_net_end host; /* as bound */
	char path[WH_GATEWAY_PATH_SIZE];
	uint16_t guest_port;
	struct wh_net_ip guest; /* unspecified = the guest */
	uint32_t waiting;       /* TCP: clients that the guest has not accepted yet */
	bool activated;
};
/* The published ports in the order of their ids; at most max (WH_GATEWAY_RULES_MAX takes all). */
uint32_t wh_gateway_published_list(const struct wh_gateway *gateway,
				   struct wh_gateway_published *list, uint32_t max);

/* ---- Forwards -----------------------------------------------------------------------------
 *
 * The other way: what the guest connects to at this address and port is an address or a Unix socket of the host,
 * the host's loopback included.
 */
#define WH_GATEWAY_FORWARDS_MAX 64u

struct wh_gateway_forward {
	enum wh_gateway_protocol protocol;
	struct wh_net_end meant; /* unspecified address = the gateway's, of both versions */
	struct wh_net_end to;
	char path[WH_GATEWAY_PATH_SIZE]; /* instead: a stream socket, TCP only; "" = none */
	uint32_t id;                     /* by _get */
	uint64_t hits;                   /* by _get: connections, datagrams */
};
/* "[ADDR:]PORT=HOST:PORT[/tcp|/udp]" or "[ADDR:]PORT=unix:PATH", an IPv6 address in brackets. -WH_EINVAL with the reason. */
int wh_gateway_forward_parse(const char *text, struct wh_gateway_forward *ret_forward,
			     struct wh_diag *diag);
/* -WH_EINVAL, -WH_EADDRINUSE (this port), -WH_EADDRNOTAVAIL (of the guest's network and not the gateway's),
 * -WH_ENOSPC, -WH_ENOMEM. Ids are not those of published ports. */
int wh_gateway_forward_add(struct wh_gateway *gateway, const struct wh_gateway_forward *forward,
			   uint32_t *ret_id, struct wh_diag *diag);
/* Connections that exist go on. -WH_ENOENT. */
int wh_gateway_forward_remove(struct wh_gateway *gateway, uint32_t id);
/* -WH_ENOENT: there are not so many. */
int wh_gateway_forward_get(const struct wh_gateway *gateway, uint32_t index,
			   struct wh_gateway_forward *ret_forward);

/* With guest_socket: connections to 127.0.0.1:port inside the namespace lead to `to` on the host, without frames, as
 * long as the gateway lives; they end when it does. The outbound policy is asked with `to`. -WH_EINVAL (no guest_socket, port 0),
 * -WH_EADDRINUSE, -WH_EACCES, -errno; diag has a sentence. */
int wh_gateway_inside_listen(struct wh_gateway *gateway, uint16_t port, const struct wh_net_end *to,
			     struct wh_diag *diag);

/* ---- HTTP proxy ---------------------------------------------------------------------------
 *
 * What the guest opens to port 80 or 443 outside goes through the host's proxy, without the guest knowing: port 443 by
 * CONNECT; on port 80 a plain HTTP/1 request in the proxy's form, one per connection, and everything else
 * (HTTP/2, WebSocket, other protocols) by CONNECT, too. UDP to port 443 is refused, so that clients of QUIC turn to TCP.
 * The proxy is told the name that the gateway's DNS server gave for the address, or the address. Programs that know of
 * proxies find it at the gateway's port 3128, unless host_loopback makes that the host's; its user and password are then theirs to say.
 */
#define WH_GATEWAY_PROXY_PORT 3128u
#define WH_GATEWAY_PROXY_EXCLUDE_SIZE 1024u
enum wh_gateway_proxy_kind {
	WH_GATEWAY_PROXY_BOTH,
	WH_GATEWAY_PROXY_HTTP, /* port 80 */
	WH_GATEWAY_PROXY_HTTPS /* port 443 */
};
/* "http://[USER:PASSWORD@]ADDRESS[:PORT]", ADDRESS no name; NULL = none. -WH_EINVAL, -WH_EPROTONOSUPPORT (https), -WH_ENOMEM. */
int wh_gateway_proxy_set(struct wh_gateway *gateway, enum wh_gateway_proxy_kind kind,
			 const char *url, struct wh_diag *diag);
/* What goes past it, separated by commas or blanks: example.com (and what is under it), .example.com (what is under
 * it), names with * parts, addresses, networks, * for all. -WH_E2BIG, -WH_ENOMEM. */
int wh_gateway_proxy_exclude(struct wh_gateway *gateway, const char *list, struct wh_diag *diag);
struct wh_gateway_proxy {
	struct wh_net_end http, https; /* port 0 = none */
	char exclude[WH_GATEWAY_PROXY_EXCLUDE_SIZE];
};
void wh_gateway_proxy_get(const struct wh_gateway *gateway, struct wh_gateway_proxy *ret_proxy);

/* ---- Policy ------------------------------------------------------------------------------ */

/*
 * What may go through: the first rule that fits decides, and what none fits is allowed. Asked for each
 * TCP connection, each datagram and ping from the guest, and each new client of a published port; TCP
 * connections that exist go on. From the guest, a denied TCP connection gets RST, a datagram
 * ICMP port unreachable, a ping nothing; a denied client gets RST, its datagrams nothing. The gateway's own
 * services (DNS, DHCP) ask no rule, and no rule opens what the config closes.
 */
#define WH_GATEWAY_POLICIES_MAX 64u /* each is looked at for each datagram */
#define WH_GATEWAY_POLICY_TEXT_SIZE 340
#define WH_GATEWAY_NAME_SIZE 254u /* longest name and NUL */
/* Addresses that a rule with a name knows at a time; the one that ends first goes. */
#define WH_GATEWAY_POLICY_ADDRESSES_MAX 64u

struct wh_gateway_policy {
	bool deny;
	bool inbound;         /* clients of published ports; else what the guest begins */
	uint8_t protocol;     /* 6 TCP, 17 UDP, 1 ping, 0 = all */
	bool any_address;     /* of both versions */
	struct wh_net_ip ip;  /* peer: the address as the guest or the client's socket has it */
	uint8_t prefix;       /* bits of its own version, 0 to 32 or 128 */
	uint16_t first, last; /* ports, of the peer or (inbound) of the guest; 0, 0 = all */
	/* Instead of an address, outbound: a name in lower case, or "*.domain" for all under it. The addresses
	 * are those that the gateway's DNS server has told guests for it, while their TTL lasts and a minute
	 * more. A name that is denied for all ports is not found (NXDOMAIN), either. "" = none. */
	char name[WH_GATEWAY_NAME_SIZE];
};

/* "[in:|out:]ADDR[/PREFIX][:PORT[-PORT]][/tcp|/udp|/icmp]"; ADDR is an IPv4 address, an IPv6 one in brackets
 * (its prefix inside, too), "*", a name or "*.domain". "out:" unless said. -WH_EINVAL with the reason. */
int wh_gateway_policy_parse(const char *text, bool deny, struct wh_gateway_policy *ret_policy,
			    struct wh_diag *diag);
/* Its text again, without "out:". Returns to. */
const char *wh_gateway_policy_text(const struct wh_gateway_policy *policy,
				   char to[WH_GATEWAY_POLICY_TEXT_SIZE]);
/* Behind all others, or before the one with id `before` (0 = none). -WH_ENOENT (before), -WH_ENOSPC,
 * -WH_EINVAL, -WH_ENOMEM. */
int wh_gateway_policy_add(struct wh_gateway *gateway, const struct wh_gateway_policy *policy,
			  uint32_t before, uint32_t *ret_id);
int wh_gateway_policy_remove(struct wh_gateway *gateway, uint32_t id); /* -WH_ENOENT */

struct wh_gateway_policy_entry {
	uint32_t id;
	struct wh_gateway_policy policy;
	uint64_t hits; /* connections, datagrams, pings that it decided */
};
/* In the order in which they are asked; at most max (WH_GATEWAY_POLICIES_MAX takes all). */
uint32_t wh_gateway_policy_list(const struct wh_gateway *gateway,
				struct wh_gateway_policy_entry *list, uint32_t max);

void wh_gateway_limits_set(struct wh_gateway *gateway, const struct wh_gateway_limits *limits);
void wh_gateway_limits_get(const struct wh_gateway *gateway, struct wh_gateway_limits *ret_limits);

/* Limits of one guest instead; NULL = as the others again. -WH_ENOSPC. _get: entry `index`, -WH_ENOENT: not so many. */
#define WH_GATEWAY_GUEST_LIMITS_MAX 16u
int wh_gateway_guest_limits_set(struct wh_gateway *gateway, const uint8_t mac[6],
				const struct wh_gateway_limits *limits);
int wh_gateway_guest_limits_get(const struct wh_gateway *gateway, uint32_t index,
				uint8_t ret_mac[6], struct wh_gateway_limits *ret_limits);
/* Of a published TCP port, of a range each port: connections at a time, and clients in a second; more get RST. 0 = no limit.
 * -WH_ENOENT. */
struct wh_gateway_rule_limits {
	uint32_t connections, clients;
};
int wh_gateway_rule_limits_set(struct wh_gateway *gateway, uint32_t rule,
			       const struct wh_gateway_rule_limits *limits);

/* ---- Names ------------------------------------------------------------------------------- */

#define WH_GATEWAY_NAMES_MAX 64u

struct wh_gateway_name {
	char name[WH_GATEWAY_NAME_SIZE]; /* lower case, no dot at the end */
	struct wh_net_ip ip4, ip6;       /* unspecified IPv6 address = none of that version */
};
/* The DNS server answers for `name` ("*.domain": for all names under it that have no entry) itself: with this address and, after a second call, one of the other
 * version; a second one of the same version replaces the first. Before the host's hosts file.
 * -WH_EINVAL (no name), -WH_ENOSPC, -WH_ENOMEM. */
int wh_gateway_name_add(struct wh_gateway *gateway, const char *name, const struct wh_net_ip *ip);
int wh_gateway_name_remove(struct wh_gateway *gateway, const char *name); /* -WH_ENOENT */
/* Entry `index` of the table. -WH_ENOENT: there are not so many. */
int wh_gateway_name_get(const struct wh_gateway *gateway, uint32_t index,
			struct wh_gateway_name *ret_name);
/* Records beside addresses that the DNS server answers for itself. An alias is followed, to names that are known here and
 * to those of servers. */
#define WH_GATEWAY_RECORDS_MAX 64u
#define WH_GATEWAY_RECORD_DATA_SIZE 280u
struct wh_gateway_record {
	uint32_t id;
	char name[WH_GATEWAY_NAME_SIZE]; /* lower case */
	char type[6];                    /* cname, txt, srv, mx or ptr */
	/* "TARGET", "any text", "PRIORITY WEIGHT PORT TARGET", "PREFERENCE TARGET", "NAME" */
	char data[WH_GATEWAY_RECORD_DATA_SIZE];
};
/* name: an address for its name under in-addr.arpa or ip6.arpa. -WH_EINVAL, -WH_EEXIST (an alias is alone with its name),
 * -WH_ENOSPC, -WH_ENOMEM. */
int wh_gateway_record_add(struct wh_gateway *gateway, const char *name, const char *type,
			  const char *data, uint32_t *ret_id);
int wh_gateway_record_remove(struct wh_gateway *gateway, uint32_t id); /* -WH_ENOENT */
/* -WH_ENOENT: there are not so many. */
int wh_gateway_record_get(const struct wh_gateway *gateway, uint32_t index,
			  struct wh_gateway_record *ret_record);
/* Names in `domain` are asked of this server (port given) and others that are added, at most
 * WH_GATEWAY_RESOLVERS_MAX, and of no others; the longest domain that fits counts. -WH_EINVAL, -WH_ENOSPC, -WH_ENOMEM. */
int wh_gateway_zone_add(struct wh_gateway *gateway, const char *domain,
			const struct wh_net_end *server);
int wh_gateway_zone_remove(struct wh_gateway *gateway, const char *domain); /* -WH_ENOENT */
#define WH_GATEWAY_ZONES_MAX 16u
struct wh_gateway_zone {
	char domain[WH_GATEWAY_NAME_SIZE];
	uint32_t server_count;
	struct wh_net_end servers[WH_GATEWAY_RESOLVERS_MAX];
};
/* -WH_ENOENT: there are not so many. */
int wh_gateway_zone_get(const struct wh_gateway *gateway, uint32_t index,
			struct wh_gateway_zone *ret_zone);
/* Instead of the config's; count 0 = those of resolv_conf. */
void wh_gateway_resolvers_set(struct wh_gateway *gateway, const struct wh_net_end *list,
			      uint32_t count);
void wh_gateway_filter_set(struct wh_gateway *gateway, enum wh_gateway_filter filter);
/* The servers that are asked now. Returns their count, at most WH_GATEWAY_RESOLVERS_MAX. */
uint32_t wh_gateway_resolvers(struct wh_gateway *gateway,
			      struct wh_net_end list[WH_GATEWAY_RESOLVERS_MAX]);

/* ---- Seeing inside ------------------------------------------------------------------------- */

/* Writes every frame of the guest's link to fd as a pcap stream (nanosecond format), starting
 * with the file header; -1 ends it. fd stays the caller's and must not block for
 * long; after a failed write the capture ends. 0 or -errno. */
int wh_gateway_pcap(struct wh_gateway *gateway, int fd);
bool wh_gateway_capturing(const struct wh_gateway *gateway);
/* Of captures from now on: so many bytes of each frame (0 = all), and frames of one guest (mac NULL = of all). */
void wh_gateway_pcap_select(struct wh_gateway *gateway, uint32_t snaplen, const uint8_t *mac);
/* Keeps the last frames in `size` bytes of memory, beside a capture to a file or without one; 0 ends it. _dump writes what
 * is there as a pcap file. -WH_EINVAL (size), -WH_ENOMEM; _dump: -WH_ENOENT (no ring), -errno. */
#define WH_GATEWAY_PCAP_RING_MIN (64u << 10)
#define WH_GATEWAY_PCAP_RING_MAX (64u << 20)
int wh_gateway_pcap_ring(struct wh_gateway *gateway, uint32_t size);
int wh_gateway_pcap_dump(struct wh_gateway *gateway, int fd);

struct wh_gateway_flow {
	uint32_t id;
	enum wh_gateway_protocol protocol;
	bool inbound;            /* a client of a published port */
	struct wh_net_end guest; /* the guest's end */
	struct wh_net_end peer;  /* whom the guest sees; UDP out: the last one it sent to */
	struct wh_net_end host, host_peer; /* the host socket's ends; port 0 = not known */
	const char *state;                 /* of the guest's side, "" for UDP; static text */
	uint64_t rtt_ns;                   /* to the guest; 0 = not measured */
	uint64_t bytes_out, bytes_in;      /* out = from the guest */
	uint64_t age_ns, idle_ns;          /* idle: UDP only */
};
/* TCP connections and UDP flows with ids over `after`, in the order of their ids, at most max (0 = none
 * left): call again with the last id. One system call per flow; the search is as long as there are
 * flows. */
uint32_t wh_gateway_flow_list(struct wh_gateway *gateway, uint32_t after,
			      struct wh_gateway_flow *list, uint32_t max);

/* Events as they happen: one line of JSON each, line feed included, as docs/spec/gateway-control.md says. Nothing
 * is formatted while nobody watches. fn must not call the gateway. The watcher is the caller's. */
struct wh_gateway_watcher {
	struct wh_list node;
	void (*fn)(void *ctx, const char *line, size_t size);
	void *ctx;
};
void wh_gateway_watch(struct wh_gateway *gateway, struct wh_gateway_watcher *watcher);
void wh_gateway_unwatch(struct wh_gateway_watcher *watcher);

struct wh_gateway_stats {
	uint64_t tcp_out_opened, tcp_out_failed, tcp_out_refused; /* refused: by rule or limit */
	uint64_t tcp_in_accepted, tcp_in_failed, tcp_in_retries;
	uint64_t tcp_bytes_out, tcp_bytes_in; /* out = guest to host */
	uint64_t udp_flows_opened, udp_out, udp_in, udp_dropped, udp_evicted;
	uint64_t echo_out, echo_in, echo_dropped;
	uint64_t dns_queries, dns_local, dns_answers, dns_failed, dns_retries, dns_bad_answers,
		dns_filtered;
	uint64_t dhcp_in, dhcp_out, dhcp_exhausted, dhcp_refused, dhcp_declined;
	uint64_t descriptors_refused; /* flows not made for want of descriptors */
	uint64_t tcp_spliced;         /* of tcp_in_accepted: without frames */
	uint64_t policy_denied;       /* connections, datagrams and pings */
	uint64_t hops_ended,
		hops_told; /* time exceeded: by the gateway; ICMP errors from outside */
	uint64_t proxied, proxy_failed; /* connections through the HTTP proxy */
	uint64_t limit_refused;         /* connections and flows over a guest's limit */
	uint64_t rate_waits;            /* times that a guest's frames had to wait */
	uint64_t rate_dropped;          /* frames to a guest over its rate, among several */
	uint32_t tcp_flows, tcp_pending, udp_flows, echo_flows, rules, descriptors; /* now */
	struct wh_net_stats stack;
};
void wh_gateway_stats(const struct wh_gateway *gateway, struct wh_gateway_stats *ret_stats);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
