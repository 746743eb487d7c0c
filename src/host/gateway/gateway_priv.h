/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_GATEWAY_PRIV_H
#define WHERRY_GATEWAY_PRIV_H

/*
 * Inside of the gateway. One writer per structure: tcp.c owns tcp_flow, udp.c udp_flow, echo.c
 * echo_flow, dns*.c the queries, rules.c rules and listeners, gateway.c the instance.
 *
 * Round of the loop: device models hand frames to gateway_receive, host sockets' events call
 * the flows; both only move bytes between sockets and the stack's rings. Before the loop sleeps,
 * gateway_before_sleep calls wh_net_run once, which delivers the stack's events to
 * the flows and sends what is due.
 */

#include <netinet/in.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/list.h>
#include <wherry/gateway.h>
#include <wherry/net.h>
#include <wherry/net_wire.h>

#include "gateway_host.h"

#define GATEWAY_MS 1000000ull
#define GATEWAY_S 1000000000ull

/* Largest datagram there is, and the stack's largest. */
#define GATEWAY_DATAGRAM_MAX 65535u

union host_address {
	struct sockaddr any;
	struct sockaddr_in ip4;
	struct sockaddr_in6 ip6;
};

/* Fixed-size objects in blocks that are kept until the end: memory is bounded by the
 * peak of objects, and neither packet nor flow pays an allocation. */
struct pool {
	struct wh_list blocks;
	void *free_list;
	uint32_t object_size, block_objects;
};
void pool_init(struct pool *pool, uint32_t object_size, uint32_t block_objects);
void pool_fini(struct pool *pool, const struct wh_alloc *alloc);
void *pool_get(struct pool *pool, const struct wh_alloc *alloc); /* zeroed; NULL = no memory */
void pool_put(struct pool *pool, void *object);

/* The stack's memory: what short connections give back is kept for the next ones, because C
 * libraries return buffers of this size to the kernel at once, which costs more than the
 * rest of the connection. */
#define CACHE_SIZE_MIN 64u
#define CACHE_CLASSES 11u          /* 64 bytes to 64 KiB */
#define CACHE_BYTES_MAX (1u << 20) /* of blocks outside slabs */
/* The first buffers of connections (net.h, WH_NET_TCP_BUFFER_START) come from slabs: page-aligned, so that a
 * connection that moves little touches one page of each; a C library's headers and
 * footers double that. */
#define CACHE_SLAB_BLOCK WH_NET_TCP_BUFFER_START
#define CACHE_SLAB_SIZE (1u << 20)
#define CACHE_SLABS_SPARE 1u /* empty ones that are kept: buffers of 31 connections */
struct cache {
	const struct wh_alloc *base;
	struct wh_alloc alloc;
	void *free[CACHE_CLASSES];
	uint32_t bytes;
	struct wh_list slabs; /* that have a free block; empty ones are last */
	uint32_t slabs_empty;
};
void cache_init(struct cache *cache, const struct wh_alloc *base);
void cache_fini(struct cache *cache);

struct bucket {
	int64_t tokens;
	uint64_t filled_ns; /* 0 = never */
};

struct rule;

struct listener {
	struct wh_loop_fd watch;
	struct rule *rule;
	bool ip6;              /* the socket's version; :: takes both */
	uint32_t accept_batch; /* connections asked for per event: grows under load */
	uint32_t accept_singles;
	bool paused;
};

#define RULE_SOCKETS_MAX 2 /* 127.0.0.1 and ::1 */

struct rule {
	struct wh_list node;
	struct wh_gateway *gateway;
	uint32_t id;
	struct wh_gateway_rule config;
	struct listener listeners[RULE_SOCKETS_MAX];
	uint32_t listener_count;
	uint32_t waiting;   /* TCP flows that the guest has not accepted yet */
	bool guest_listens; /* the guest accepted at least once: a RST means what it says */
	bool activated;
	uint64_t wait_end_ns;   /* clients that came by then wait for the guest */
	uint32_t group;         /* id of the range's first rule */
	uint64_t device, inode; /* of the Unix socket's file */
	struct wh_gateway_rule_limits limits;
	struct bucket clients;
	bool wildcard; /* UDP: answers need the local address of the datagram */
	struct wh_net_end bound;
};

struct gateway_udp; /* udp.c */
struct gateway_dns; /* dns_priv.h */

/* Short, so that the addresses of machines that are gone come back. */
#define LEASE_S 3600u

struct lease {
	uint8_t mac[6];
	uint8_t ip4[4];  /* all zero = free */
	uint8_t ip6[16]; /* all zero = none */
	bool fixed, bound, declined;
	uint64_t expires_ns;
};

#define GUESTS_MAX 32u

/* One guest's share, see guests.c. */
struct account {
	uint8_t mac[6];
	bool held;                              /* its frames wait for tokens */
	uint64_t used_ns;                       /* 0 = this place is free */
	uint32_t tcp_flows, udp_flows, pending; /* pending: of tcp_flows */
	struct bucket out, in, connects, clients;
};

struct wh_gateway {
	struct wh_loop *loop;
	struct wh_net *net;
	struct wh_log log;
	const struct wh_alloc *alloc;
	struct cache cache; /* between alloc and the stack */
	size_t size;        /* of this allocation */
	const struct wh_gateway_host *host;
	void *host_ctx;
	struct wh_gateway_addresses addresses;
	struct wh_net_ip guest[2], self[2], dns_ip[2]; /* [0] IPv4, [1] IPv6 */
	bool ip6, host_loopback, no_outbound;
	uint64_t key[2];
	uint64_t random; /* splitmix64: ports, not secrets */

	/* The link. `inner` is the stack's port; frames pass through to `port`. */
	struct wh_net_port inner, *port;
	struct wh_loop_hook hook;
	struct wh_loop_timer timer; /* the stack's deadline */
	bool touched;               /* frames or events came: run the stack */
	bool guest_spoke;           /* a frame that may mean that the guest is ready now */
	uint64_t boot_end_ns;       /* 0 = not attached yet */
	uint32_t boot_window_ms;
	int pcap_fd;
	struct pcap_ring *pcap_ring; /* NULL = none */
	uint32_t pcap_snaplen;       /* 0 = whole frames */
	bool pcap_has_mac;
	uint8_t pcap_mac[6]; /* of the guest that is captured */

	/* Descriptors. */
	uint32_t descriptors, descriptors_max, descriptors_reserve;
	bool listeners_paused;
	struct wh_loop_timer resume_timer;

	/* TCP flows. */
	struct pool tcp_pool;
	struct wh_list tcp_flows, tcp_refused; /* refused: to be tried again */
	struct wh_loop_timer retry_timer;
	uint64_t retry_delay_ns;
	uint32_t tcp_flow_count, tcp_pending, tcp_flows_max, tcp_pending_max;
	uint32_t flow_id; /* of the last flow */

	/* Connections without frames (splice.c); counted in tcp_flow_count, too. */
	int (*guest_socket)(void *ctx, int domain);
	void *guest_socket_ctx;
	struct pool splice_pool;
	struct wh_list splices, splices_again, inside_listeners;
	uint8_t *splice_buffer; /* NULL until the first one */

	/* Published ports. */
	struct wh_list rules;
	uint32_t rule_count, rule_next;

	struct wh_list forwards; /* forwards.c */
	uint32_t forward_count;

	struct gateway_proxy *proxy; /* NULL = none was ever set */

	struct wh_list policies; /* policy.c */
	uint32_t policy_count, policy_next;
	struct wh_list names; /* names.c */
	uint32_t name_count;
	struct wh_list records; /* dns_records.c */
	uint32_t record_count, record_next;
	struct wh_list zones; /* dns_zones.c */
	uint32_t zone_count;
	enum wh_gateway_filter dns_filter;
	uint32_t policy_name_count; /* rules that have a name */

	struct gateway_udp *udp; /* NULL until the first datagram */
	uint32_t udp_flows_max, udp_flow_count;
	struct wh_list echo_flows;
	uint32_t echo_flow_count;
	struct gateway_dns *dns; /* NULL until the first query */
	const char *resolv_conf, *hosts, *hostname, *search;
	struct wh_net_end resolvers[WH_GATEWAY_RESOLVERS_MAX];
	uint32_t resolver_count;
	uint64_t dns_timeout_ns;
	struct lease leases[WH_GATEWAY_LEASES_MAX];
	struct wh_net_ip ntp[WH_GATEWAY_NTP_MAX];
	uint32_t ntp_count;
	struct wh_loop_timer advert_timer;
	/* DHCPv6, when it was enabled. */
	void (*dhcp6)(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
		      const struct wh_iov *iov, uint32_t count, uint32_t size);
	const struct wh_net_frame *frame; /* that is being handed in */
	struct wh_list watchers;          /* events.c */

	struct wh_gateway_limits limits;
	struct {
		bool used;
		uint8_t mac[6];
		struct wh_gateway_limits limits;
	} guest_limits[WH_GATEWAY_GUEST_LIMITS_MAX];
	bool rates_limited;                      /* of anybody */
	struct account accounts[GUESTS_MAX + 1]; /* the last one is for all others */
	struct wh_loop_timer rate_timer;
	bool rate_blocked; /* the stack waits for tokens */

	struct wh_gateway_stats stats;
	char text[]; /* the config's strings */
};

/* ---- gateway.c ---- */

/* What an address that the guest sends to stands for. */
enum destination {
	DESTINATION_HOST,        /* *ret_end: where the host socket goes */
	DESTINATION_DNS,         /* the DNS service, any port */
	DESTINATION_REFUSED,     /* nothing listens: RST, port unreachable */
	DESTINATION_UNREACHABLE, /* no such host */
	DESTINATION_FORBIDDEN    /* by configuration */
};
enum destination gateway_destination(const struct wh_gateway *gateway,
				     const struct wh_net_end *meant, struct wh_net_end *ret_end);
/* The address under which the guest sees a peer of the host. false = not representable
 * (shown as the gateway, the port may have to be another one). */
bool gateway_shown(const struct wh_gateway *gateway, const struct wh_net_end *peer,
		   struct wh_net_end *ret_shown);
bool gateway_is_loopback(const struct wh_net_ip *ip);
bool gateway_is_multicast(const struct wh_net_ip *ip); /* broadcast too */
bool gateway_in_subnet(const struct wh_gateway *gateway, const struct wh_net_ip *ip);
static inline bool gateway_is_own(const struct wh_gateway *gateway, const struct wh_net_ip *ip)
{
	return wh_net_ip_equal(ip, &gateway->self[0]) || wh_net_ip_equal(ip, &gateway->self[1]);
}
uint16_t gateway_random_port(struct wh_gateway *gateway);
/* Who has sent the frame that is being handed in; false: none is. */
bool gateway_source_mac(const struct wh_gateway *gateway, uint8_t ret_mac[6]);

void gateway_writable(struct wh_net_port *port);

/* ---- guests.c ---- */

struct account *account_of(struct wh_gateway *gateway, const uint8_t mac[6]);
struct account *account_now(struct wh_gateway *gateway); /* of the frame that is being handed in */
/* May it open a connection? Counts. */
bool account_connect(struct wh_gateway *gateway, struct account *account);
/* May a client of this rule come in? Counts. */
bool guests_may_accept(struct wh_gateway *gateway, struct rule *rule);
/* May it have one more UDP flow? Else it gives up one of its own. */
bool account_may_udp(struct wh_gateway *gateway, const struct account *account);
/* false: the frame is to be held; the port's resume follows. */
bool guests_may_send(struct wh_gateway *gateway, const struct wh_net_frame *frame);
enum guests_verdict { GUESTS_PASS, GUESTS_WAIT, GUESTS_DROP };
enum guests_verdict guests_may_get(struct wh_gateway *gateway, const struct wh_net_frame *frame);
void guests_resume(struct wh_loop_timer *timer);

/* ---- text.c ---- */

#define END_TEXT_SIZE 64 /* "[1111:2222:...:8888]:65535" and NUL */
/* "10.0.2.15:80" or "[fd77::15]:80", without the :port when it is 0. Returns to. */
const char *end_text(const struct wh_net_end *end, char to[END_TEXT_SIZE]);
#define MAC_TEXT_SIZE 18
const char *mac_text(const uint8_t mac[6], char to[MAC_TEXT_SIZE]);
bool mac_parse(const char *text, uint8_t ret_mac[6]);
/* Text [text, end) of an address; false when it is none. */
bool ip4_parse(const char *text, const char *end, struct wh_net_ip *ret_ip);
bool ip6_parse(const char *text, const char *end, struct wh_net_ip *ret_ip);
/* Text [text, end) of a port, digits only. */
bool port_parse(const char *text, const char *end, uint16_t *ret_port);
const char *find_last(const char *text, const char *end, char c);

/* Debug lines of flows; costs a test when nobody listens. */
void log_flow(const struct wh_gateway *gateway, uint32_t id, const char *what,
	      const struct wh_net_end *from, const struct wh_net_end *to, int error);

/* ---- sockets.c ---- */

socklen_t address_from_end(const struct wh_net_end *end, union host_address *ret_address);
bool address_to_end(const union host_address *address, struct wh_net_end *ret_end);
static inline int end_domain(const struct wh_net_end *end)
{
	return wh_net_ip_is4(&end->ip) ? AF_INET : AF_INET6;
}

/* All descriptors of the library come and go through these. socket: -WH_EMFILE at the limit. */
int socket_open(struct wh_gateway *gateway, int domain, int type, int protocol);
int socket_accept(struct wh_gateway *gateway, int fd, union host_address *ret_from);
bool socket_available(struct wh_gateway *gateway); /* below the limit? */
void socket_close(struct wh_gateway *gateway, struct wh_loop_fd *watch);
int socket_set(struct wh_gateway *gateway, int fd, int level, int name, int value);
int socket_watch(struct wh_gateway *gateway, struct wh_loop_fd *watch, uint32_t events);
int socket_watch_modify(struct wh_gateway *gateway, struct wh_loop_fd *watch, uint32_t events);
long socket_send(struct wh_gateway *gateway, int fd, const struct wh_net_end *to,
		 const struct wh_iov *iov, uint32_t count);
long socket_receive(struct wh_gateway *gateway, int fd, const struct wh_iov *iov, uint32_t count,
		    struct wh_net_end *ret_from);
/* Up to count messages of a socket at once; how many there were, or -errno. */
struct mmsghdr;
long socket_receive_many(struct wh_gateway *gateway, int fd, struct mmsghdr *messages,
			 uint32_t count);

/* ---- tcp.c ---- */

uint32_t tcp_rule_flows(const struct wh_gateway *gateway, uint32_t rule);
bool tcp_request(void *ctx, struct wh_net_tcp *s, const struct wh_net_tuple *tuple);
uint32_t tcp_flow_size(void);
void tcp_accepted(struct wh_gateway *gateway, struct rule *rule, int fd,
		  const struct wh_net_end *client);
void tcp_retry_refused(struct wh_gateway *gateway);
void tcp_rule_gone(struct wh_gateway *gateway, struct rule *rule);
void tcp_retry_expired(struct wh_loop_timer *timer);
/* Ends the flows whose bytes are out; returns how many are left. */
uint32_t tcp_finish(struct wh_gateway *gateway);
void tcp_fini(struct wh_gateway *gateway);

/* ---- splice.c ---- */

void splice_init(struct wh_gateway *gateway);
/* A client of a published port: true = it is joined to a socket inside; false = fd is still the caller's, and the
 * connection takes the frames. */
bool splice_accepted(struct wh_gateway *gateway, const struct rule *rule, int fd,
		     const struct wh_net_end *client);
bool splice_continue(struct wh_gateway *gateway);
void splices_end(struct wh_gateway *gateway);
void splice_fini(struct wh_gateway *gateway);

/* ---- udp.c, udp_receive.c ---- */

bool udp_datagram(void *ctx, const struct wh_net_tuple *tuple, const struct wh_iov *iov,
		  uint32_t count, uint32_t size);
bool udp_segments(void *ctx, const struct wh_net_tuple *tuple, const struct wh_iov *iov,
		  uint32_t count, uint32_t size, uint32_t segment);
void udp_error(void *ctx, const struct wh_net_tuple *tuple, int error);
int udp_init(struct wh_gateway *gateway); /* idempotent */
void udp_published(struct wh_gateway *gateway, struct listener *listener);
void udp_rule_gone(struct wh_gateway *gateway, struct rule *rule);
void udp_writable(struct wh_gateway *gateway);
void udp_flush(struct wh_gateway *gateway); /* what was gathered in this round */
void udp_flows_end(struct wh_gateway *gateway);
void udp_fini(struct wh_gateway *gateway);

/* ---- hops.c ---- */

#define HOPS_PAYLOAD_MAX 128u /* of a packet that an error is about: tools look for marks in it */
struct hops_echo {
	uint16_t id, sequence;
};
/* Does the packet that is being handed in end at the gateway, as its hop limit is used up? Then the guest is told.
 * echo NULL = a datagram. */
bool hops_end_here(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
		   const struct hops_echo *echo, const struct wh_iov *iov, uint32_t count);
/* The hop limit of what is sent next; *set = what was set last, 0 = nothing. */
void hops_set(struct wh_gateway *gateway, int fd, bool is4, uint8_t *set);
/* IP_RECVERR or IPV6_RECVERR: tells the guest. false: it is no message of the way, such as an error of the host's. */
bool hops_error(struct wh_gateway *gateway, const struct cmsghdr *message,
		struct wh_net_icmp_report *report);

/* ---- echo.c ---- */

bool echo_request(void *ctx, const struct wh_net_ip *from, const struct wh_net_ip *to, uint16_t id,
		  uint16_t sequence, const struct wh_iov *iov, uint32_t count, uint32_t size);
void echo_fini(struct wh_gateway *gateway);

/* ---- dhcp.c ---- */

void dhcp_datagram(struct wh_gateway *gateway, const struct wh_iov *iov, uint32_t count,
		   uint32_t size);
/* The search list that guests get, separated by blanks, borrowed. */
const char *search_text(struct wh_gateway *gateway);
/* In RFC 1035's encoding, as many names as there is room for; *ret_first (may be NULL) is the first one. */
size_t search_emit(const char *search, uint8_t *to, size_t size, char *ret_first,
		   size_t first_size);

#define DHCP6_SERVER_PORT 547u

/* ---- leases.c ---- */

struct lease *lease_find(struct wh_gateway *gateway, const uint8_t mac[6]);
/* The MAC's lease or a new one, of the address `wanted` (may be NULL) if that is free. NULL = the pool is
 * exhausted. */
struct lease *lease_offer(struct wh_gateway *gateway, const uint8_t mac[6], const uint8_t *wanted);
void lease_bind(struct wh_gateway *gateway, struct lease *lease); /* the guest has taken it */
void lease_release(struct wh_gateway *gateway, struct lease *lease);
void lease_decline(struct wh_gateway *gateway, struct lease *lease);

/* ---- advert.c ---- */

int advert_update(struct wh_gateway *gateway);
void advert_send(struct wh_gateway *gateway); /* the current one, to all */
void advert_expired(struct wh_loop_timer *timer);

/* ---- events.c ---- */

static inline bool events_wanted(const struct wh_gateway *gateway)
{
	return !wh_list_empty(&gateway->watchers);
}
/* A line of JSON to those who watch: the kind, and members that begin with a comma. */
void event(struct wh_gateway *gateway, const char *kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The tuple is the guest's view, local = its peer. */
void event_flow(struct wh_gateway *gateway, uint32_t id, enum wh_gateway_protocol protocol,
		bool inbound, const struct wh_net_tuple *tuple);
void event_flow_closed(struct wh_gateway *gateway, uint32_t id, uint64_t begun_ns,
		       uint64_t bytes_out, uint64_t bytes_in);
void event_lease(struct wh_gateway *gateway, const char *kind, const struct lease *lease);

/* ---- dns.c ---- */

void dns_datagram(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
		  const struct wh_iov *iov, uint32_t count, uint32_t size);
bool dns_request(struct wh_gateway *gateway, struct wh_net_tcp *s);
/* The host's domain search list, separated by blanks, borrowed; "" = none. */
const char *dns_search(struct wh_gateway *gateway);
void dns_fini(struct wh_gateway *gateway);

/* ---- rules.c ---- */

/* Text [text, end) of an address; false when it is none. */
bool ip4_parse(const char *text, const char *end, struct wh_net_ip *ret_ip);
bool ip6_parse(const char *text, const char *end, struct wh_net_ip *ret_ip);

/* Where clients of the rule are led, when the guest sees them at *shown, which becomes the gateway's address, and
 * *kept false, when its version is not the machine's. */
struct wh_net_end rule_guest(const struct wh_gateway *gateway, const struct rule *rule,
			     struct wh_net_ip *shown, bool *kept);
void rules_resume(struct wh_gateway *gateway);
void rules_resume_expired(struct wh_loop_timer *timer);
void rules_fini(struct wh_gateway *gateway);

/* ---- forwards.c ---- */

bool end_parse(const char *text, const char *end, struct wh_net_end *ret_end); /* ADDR:PORT */
/* Counts. */
const struct wh_gateway_forward *forward_find(struct wh_gateway *gateway, uint8_t protocol,
					      const struct wh_net_end *meant);
/* How the guest knows the end of a UDP forward on the host; false: it is none. */
bool forward_shown(const struct wh_gateway *gateway, const struct wh_net_end *peer, bool is4,
		   struct wh_net_end *ret_shown);
void forwards_fini(struct wh_gateway *gateway);

/* ---- proxy.c, proxy_flow.c ---- */

struct proxy_flow;
/* Does what the guest begins there go through the proxy? */
bool proxy_carries(const struct wh_gateway *gateway, const struct wh_net_end *meant);
/* Is this the gateway's port for programs that know of the proxy? */
bool proxy_explicit(const struct wh_gateway *gateway, const struct wh_net_end *meant,
		    struct wh_net_end *ret_to);
/* The DNS server has told this name for the address. */
void proxy_note(struct wh_gateway *gateway, const char *name, const struct wh_net_ip *ip);
void proxy_fini(struct wh_gateway *gateway);
void pages_fini(struct wh_gateway *gateway);
/* NULL = no memory. *ret_to = the proxy. */
struct proxy_flow *proxy_begin(struct wh_gateway *gateway, const struct wh_net_end *meant,
			       struct wh_net_end *ret_to);
/* Must it have answered before the guest's SYN is? */
bool proxy_wants_connect(const struct proxy_flow *flow);
/* Goes on as far as it can. 1 = bytes flow now, 0 = wait for either side, < 0 = it failed. */
int proxy_step(struct proxy_flow *flow, struct wh_net_tcp *s, int fd);
/* The guest is told of the failure, if it speaks HTTP: then s is taken. */
bool proxy_page(struct proxy_flow *flow, struct wh_net_tcp *s, bool accepted);
void proxy_end(struct proxy_flow *flow); /* NULL is allowed */

/* ---- policy.c ---- */

/* Counts, too. Outbound: peer is what the guest means; inbound: the client, and port is the guest's. */
bool policy_denies(struct wh_gateway *gateway, bool inbound, uint8_t protocol,
		   const struct wh_net_ip *peer, uint16_t port);
/* Of rules with a name: is the name denied? */
bool policy_name_denies(struct wh_gateway *gateway, const char *name);
/* The DNS server has told a guest that `name` is there. */
void policy_name_answer(struct wh_gateway *gateway, const char *name, const struct wh_net_ip *ip,
			uint32_t ttl_s);
void policy_fini(struct wh_gateway *gateway);

/* ---- names.c ---- */

/* As dns_local_name; name is in lower case. */
int names_find(const struct wh_gateway *gateway, const char *name, bool ip6,
	       struct wh_net_ip *ret_ip);
/* A name that has this address, or NULL. */
const char *names_reverse(const struct wh_gateway *gateway, const struct wh_net_ip *ip);
/* Letters, digits, - and _ in labels; lower case, without a dot at the end. wild: "*.domain", too. */
bool name_take(const char *text, bool wild, char to[WH_GATEWAY_NAME_SIZE]);
/* pattern = the name, or "*.domain" for all under the domain. */
bool name_fits(const char *name, const char *pattern);
void names_fini(struct wh_gateway *gateway);

/* ---- dns_records.c ---- */

void records_fini(struct wh_gateway *gateway);

/* ---- dns_zones.c ---- */

/* Is it the domain, or a name under it? */
bool name_in(const char *name, const char *domain);
void zones_fini(struct wh_gateway *gateway);

/* ---- flows.c ---- */

/* The `max` flows with the smallest ids over `after`, sorted. */
struct flow_list {
	struct wh_gateway_flow *flows;
	uint32_t after, count, max;
};
/* Where to fill in a flow, or NULL when the list does not want it. */
struct wh_gateway_flow *flow_list_add(struct flow_list *list, uint32_t id);
/* The ends of a host socket. */
void flow_socket_ends(struct wh_gateway *gateway, int fd, struct wh_gateway_flow *flow);
void tcp_flows_list(struct wh_gateway *gateway, struct flow_list *list);
void splices_list(struct wh_gateway *gateway, struct flow_list *list);
void udp_flows_list(struct wh_gateway *gateway, struct flow_list *list);

/* ---- pcap.c ---- */

static inline bool pcap_wanted(const struct wh_gateway *gateway)
{
	return gateway->pcap_fd >= 0 || gateway->pcap_ring;
}
void pcap_fini(struct wh_gateway *gateway);
void pcap_frame(struct wh_gateway *gateway, const struct wh_net_frame *frame);

#endif
