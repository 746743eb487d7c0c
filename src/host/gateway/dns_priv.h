/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DNS_PRIV_H
#define WHERRY_DNS_PRIV_H

/* Inside of the DNS forwarder: dns.c decides, dns_files.c reads the host's files, dns_ask.c
 * talks to servers, dns_tcp.c serves clients over TCP. */

#include "gateway_priv.h"

/* Questions are about 60 bytes, with EDNS cookies and padding (RFC 7830, 8467) up to 468. */
#define DNS_QUERY_SIZE_MAX 512u
#define DNS_ANSWER_SIZE_MAX 65535u
#define DNS_UDP_SIZE_MIN 512u      /* RFC 1035: what every client takes */
#define DNS_UDP_SIZE_MAX 4096u     /* larger offers are cut to this (RFC 9715 asks for less) */
#define DNS_CLIENTS_MAX 32u        /* TCP connections of guests */
#define DNS_CLIENT_QUERIES_MAX 16u /* under way per connection; the rest waits unread */
#define DNS_STREAMS_MAX 32u        /* TCP connections to servers */
#define DNS_CLIENT_IDLE_NS (30 * GATEWAY_S)
#define DNS_HOSTS_SIZE_MAX 65536u
#define DNS_RESOLV_SIZE_MAX 4096u
#define DNS_SEARCH_SIZE 256u

struct dns_client {
	struct wh_list node;
	struct wh_gateway *gateway;
	struct wh_net_tcp *tcp;
	struct wh_loop_timer idle;
	uint32_t queries; /* under way */
	bool serving;     /* in client_serve */
	bool peer_closed;
};

struct dns_query {
	struct wh_list node;
	struct wh_gateway *gateway;
	struct wh_loop_fd watch;
	struct wh_loop_timer timer;
	struct dns_client *client; /* NULL = came by UDP */
	struct wh_net_tuple tuple;
	uint16_t id, upstream_id;
	uint16_t answer_size_max; /* what the client takes */
	char alias
		[WH_WIRE_DNS_NAME_SIZE]; /* what the client asked for, when it is another name for it; "" = no */
	uint64_t question;               /* hash of name, type and class */
	struct wh_net_end asked[WH_GATEWAY_RESOLVERS_MAX];
	struct wh_net_end servers[WH_GATEWAY_RESOLVERS_MAX]; /* to be asked, the best first */
	uint32_t asked_count, server_count, server, attempts;
	int domain;     /* of the socket */
	bool stream;    /* asks over TCP */
	bool truncated; /* the datagram was; so it is asked over TCP */
	uint32_t stream_sent;
	uint8_t *stream_answer; /* DNS_ANSWER_SIZE_MAX + 2 bytes, or NULL */
	uint32_t stream_received;
	uint16_t size;
	uint8_t message[2 + DNS_QUERY_SIZE_MAX]; /* length as TCP wants it, then the question */
};

#define DNS_HEALTH_MAX 16u
struct dns_health {
	struct wh_net_end server;
	uint32_t misses; /* time-outs since the last answer; 0 = this place is free */
	uint64_t missed_ns;
};

struct gateway_dns {
	struct pool queries_pool;
	struct wh_list queries, clients;
	uint32_t query_count, client_count, stream_count;
	/* The host's files. */
	uint64_t checked_ns, resolv_stamp, hosts_stamp;
	struct wh_net_end servers[WH_GATEWAY_RESOLVERS_MAX];
	uint32_t server_count;
	struct dns_health health[DNS_HEALTH_MAX];
	uint64_t timeout_ns; /* by resolv.conf, 0 = not said */
	char search[DNS_SEARCH_SIZE];
	char *hosts; /* text, DNS_HOSTS_SIZE_MAX; NULL = not read */
	uint8_t buffer[DNS_ANSWER_SIZE_MAX];
};

/* ---- dns.c ---- */
uint64_t dns_question_hash(const struct wh_gateway *gateway, const struct wh_wire_dns *dns);
/* One question: client NULL = by UDP from tuple. */
void dns_question(struct wh_gateway *gateway, struct dns_client *client,
		  const struct wh_net_tuple *tuple, const uint8_t *message, uint16_t size);
/* Hands the server's answer to who asked and ends the query. message may be changed. */
void dns_answer(struct dns_query *query, uint8_t *message, uint32_t size);
void dns_fail(struct dns_query *query); /* SERVFAIL, and ends the query */
void dns_query_free(struct dns_query *query);

/* ---- dns_local.c ---- */

#define DNS_TTL_LOCAL_S 5u       /* local names change with the host's file */
#define DNS_LOCAL_SIZE_MAX 1232u /* RFC 9715 */
/* The answer that is given from here, or <= 0. */
int dns_answer_local(struct wh_gateway *gateway, const struct wh_wire_dns *question, bool stream,
		     uint8_t bytes[DNS_LOCAL_SIZE_MAX]);
/* What rules with names want to know of an answer. */
void dns_note_addresses(struct wh_gateway *gateway, const uint8_t *message, uint32_t size);

/* ---- dns_records.c ---- */

/* Is there one of any type? */
bool dns_records_has(const struct wh_gateway *gateway, const char *name);
/* The name's alias, if it has one. */
bool dns_alias(const struct wh_gateway *gateway, const char *name,
	       char ret_target[WH_WIRE_DNS_NAME_SIZE]);
/* Records of the question's name and type, and its alias; TC when not all fit. Returns the new size. */
int dns_records_append(const struct wh_gateway *gateway, const struct wh_wire_dns *question,
		       uint8_t *message, int size, size_t size_max);
/* What a server has answered for the target, as an answer for `name`, which is its alias. Returns the size, or < 0. */
int dns_alias_answer(const struct wh_gateway *gateway, const char *name, const uint8_t *message,
		     uint32_t size, uint8_t *to, size_t to_size);

/* ---- dns_zones.c ---- */

/* In the order in which they are to be asked; returns how many. */
uint32_t dns_servers_choose(struct wh_gateway *gateway, const char *name,
			    struct wh_net_end list[WH_GATEWAY_RESOLVERS_MAX]);
void dns_server_missed(struct wh_gateway *gateway, const struct wh_net_end *server);
void dns_server_answered(struct wh_gateway *gateway, const struct wh_net_end *server);

/* ---- dns_ask.c ---- */
void dns_ask(struct dns_query *query);
void dns_ask_end(struct dns_query *query);

/* ---- dns_files.c ---- */
int dns_init(struct wh_gateway *gateway);
void dns_files_refresh(struct wh_gateway *gateway);
/* Address of a name that this host knows: 1 = *ret_ip set, 0 = the name exists without an
 * address of that version, -WH_ENOENT = ask the servers. */
int dns_local_name(struct wh_gateway *gateway, const char *name, bool ip6,
		   struct wh_net_ip *ret_ip);
/* The first name that the hosts file has for an address. */
bool dns_hosts_reverse(struct wh_gateway *gateway, const struct wh_net_ip *ip,
		       char ret_name[WH_WIRE_DNS_NAME_SIZE]);

/* ---- dns_tcp.c ---- */
/* false: the client is not reading; it is gone. */
bool dns_client_reply(struct dns_client *client, const uint8_t *message, uint32_t size);
void dns_client_query_done(struct dns_client *client);
void dns_client_free(struct dns_client *client);

#endif
