/* SPDX-License-Identifier: ISC */
/*
 * DNS forwarder: what the guest asks at the DNS address, by UDP or TCP.
 *
 * A question is answered from here (dns_local.c: gateway.internal, host.internal, localhost, names added at run
 * time, the host's hosts file, the names of those addresses), or passed on unchanged but for its id: EDNS sizes,
 * cookies and DNSSEC bits are between the guest and the server. By UDP it is asked over UDP from a fresh socket with a random
 * port and id (RFC 5452), by TCP over TCP. A datagram with TC set is asked again over TCP from here when the guest
 * takes more than 512 bytes; when that does not fit either, the guest is told TC. Answers must come from a server that was asked, with our id and
 * the same question. Servers are asked in order, the next one after a time-out, an error, SERVFAIL or
 * REFUSED; without any server, or when all failed, the guest gets SERVFAIL.
 *
 * No cache: the host's resolver has one, and the guest may; a third one here would answer from before the
 * host changed networks. No mixed case (0x20): id and port are 32 bits to guess already, and
 * there are servers that answer in a case of their own.
 */
#include "dns_priv.h"

#include <wherry/base/assert.h>
#include <wherry/base/hash.h>

uint64_t dns_question_hash(const struct wh_gateway *gateway, const struct wh_wire_dns *dns)
{
	uint8_t bytes[WH_WIRE_DNS_NAME_SIZE + 4];
	size_t size = wh_strnlen(dns->name, sizeof dns->name);
	memcpy(bytes, dns->name, size);
	wh_store_be16(bytes + size, dns->type);
	wh_store_be16(bytes + size + 2, dns->class_);
	return wh_siphash(gateway->key, bytes, size + 4);
}

void dns_query_free(struct dns_query *query)
{
	struct wh_gateway *gateway = query->gateway;
	struct gateway_dns *dns = gateway->dns;
	dns_ask_end(query);
	wh_list_remove(&query->node);
	wh_loop_timer_stop(gateway->loop, &query->timer);
	wh_assert(dns->query_count > 0);
	dns->query_count--;
	pool_put(&dns->queries_pool, query);
}

static void reply(struct wh_gateway *gateway, struct dns_client *client,
		  const struct wh_net_tuple *tuple, const uint8_t *message, uint32_t size)
{
	gateway->touched = true;
	if (client) {
		if (client->tcp)
			(void)dns_client_reply(client, message, size);
		return;
	}
	struct wh_iov iov = { (void *)(uintptr_t)message, size };
	(void)wh_net_udp_send(gateway->net, NULL, tuple, &iov, 1, NULL); /* lost: it asks again */
}

/* An answer without records. */
static void reply_code(struct wh_gateway *gateway, struct dns_client *client,
		       const struct wh_net_tuple *tuple, const struct wh_wire_dns *question,
		       uint8_t rcode)
{
	uint8_t bytes[WH_WIRE_DNS_HEADER_SIZE + WH_WIRE_DNS_NAME_SIZE + 8];
	struct wh_wire_dns answer = *question;
	answer.response = answer.recursion_available = true;
	answer.authoritative = answer.truncated = false;
	answer.rcode = rcode;
	answer.answers = answer.authorities = answer.additionals = 0;
	answer.udp_size = 0;
	int n = wh_wire_dns_emit(bytes, sizeof bytes, &answer);
	if (n > 0)
		reply(gateway, client, tuple, bytes, (uint32_t)n);
}

/* From half of the queries on, no guest has more than a quarter of them: what one asks of a server that
 * never answers does not end the others' names. */
static bool query_allowed(const struct gateway_dns *dns, const struct wh_net_ip *guest)
{
	uint32_t own = 0;
	if (dns->query_count < WH_GATEWAY_DNS_QUERIES_MAX / 2)
		return true;
	WH_LIST_FOR_EACH(node, &dns->queries)
		own += wh_net_ip_equal(
			&WH_LIST_ENTRY(node, struct dns_query, node)->tuple.remote.ip, guest);
	return dns->query_count < WH_GATEWAY_DNS_QUERIES_MAX &&
	       own < WH_GATEWAY_DNS_QUERIES_MAX / 4;
}

static struct dns_query *query_new(struct wh_gateway *gateway, const struct wh_net_ip *guest)
{
	struct gateway_dns *dns = gateway->dns;
	if (!query_allowed(dns, guest))
		return NULL;
	struct dns_query *query = pool_get(&dns->queries_pool, gateway->alloc);
	if (!query)
		return NULL;
	query->gateway = gateway;
	query->watch.fd = -1;
	wh_list_push_back(&dns->queries, &query->node);
	dns->query_count++;
	return query;
}

/* The guest repeats a question that is under way: the answer to the first one will do. */
static bool is_repeated(const struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
			uint16_t id, uint64_t question)
{
	WH_LIST_FOR_EACH(node, &gateway->dns->queries) {
		const struct dns_query *query = WH_LIST_ENTRY(node, struct dns_query, node);
		if (!query->client && query->id == id && query->question == question &&
		    query->tuple.remote.port == tuple->remote.port &&
		    wh_net_ip_equal(&query->tuple.remote.ip, &tuple->remote.ip))
			return true;
	}
	return false;
}

static void query_fill(struct dns_query *query, struct dns_client *client,
		       const struct wh_net_tuple *tuple, const struct wh_wire_dns *question)
{
	struct wh_gateway *gateway = query->gateway;
	query->client = client;
	query->stream = client != NULL;
	query->tuple = *tuple;
	if (client)
		client->queries++;
	query->id = question->id;
	query->question = dns_question_hash(gateway, question);
	query->answer_size_max = DNS_UDP_SIZE_MIN;
	if (question->udp_size > DNS_UDP_SIZE_MIN)
		query->answer_size_max = question->udp_size < DNS_UDP_SIZE_MAX ? question->udp_size
									       : DNS_UDP_SIZE_MAX;
	gateway->host->random(gateway->host_ctx, &query->upstream_id, sizeof query->upstream_id);
}

void dns_question(struct wh_gateway *gateway, struct dns_client *client,
		  const struct wh_net_tuple *tuple, const uint8_t *message, uint16_t size)
{
	struct wh_wire_dns question;
	gateway->stats.dns_queries++;
	if (wh_wire_dns_parse(message, size, &question) < 0) {
		if (size < WH_WIRE_DNS_HEADER_SIZE || message[2] & 0x80)
			return;
		question = (struct wh_wire_dns){ .id = wh_load_be16(message) };
		reply_code(gateway, client, tuple, &question, WH_WIRE_DNS_FORMERR);
		return;
	}
	if (question.response)
		return;
	if (question.opcode != 0) {
		reply_code(gateway, client, tuple, &question, WH_WIRE_DNS_NOTIMP);
		return;
	}
	dns_files_refresh(gateway);
	if (policy_name_denies(gateway, question.name)) {
		reply_code(gateway, client, tuple, &question, WH_WIRE_DNS_NXDOMAIN);
		return;
	}
	uint8_t local[DNS_LOCAL_SIZE_MAX];
	int n = dns_answer_local(gateway, &question, client != NULL, local);
	if (n > 0) {
		reply(gateway, client, tuple, local, (uint32_t)n);
		return;
	}
	struct wh_wire_dns asked = question;
	uint8_t rewritten[DNS_QUERY_SIZE_MAX];
	bool alias = false;
	if ((question.type == WH_WIRE_DNS_A || question.type == WH_WIRE_DNS_AAAA) &&
	    dns_alias(gateway, question.name, asked.name)) {
		alias = true;
		asked.additionals = asked.udp_size = 0;
		n = wh_wire_dns_emit(rewritten, sizeof rewritten, &asked);
		wh_assert(n > 0); /* header, and a name that is one */
		message = rewritten;
		size = (uint16_t)n;
	}
	if (alias && policy_name_denies(gateway, asked.name)) {
		reply_code(gateway, client, tuple, &question, WH_WIRE_DNS_NXDOMAIN);
		return;
	}
	if (client)
		tuple = wh_net_tcp_tuple(client->tcp);
	else if (is_repeated(gateway, tuple, question.id, dns_question_hash(gateway, &asked)))
		return;
	struct dns_query *query = NULL;
	struct wh_net_end servers[WH_GATEWAY_RESOLVERS_MAX];
	uint32_t count = dns_servers_choose(gateway, asked.name, servers);
	if (count && size <= DNS_QUERY_SIZE_MAX)
		query = query_new(gateway, &tuple->remote.ip);
	if (!query) {
		gateway->stats.dns_failed++;
		reply_code(gateway, client, tuple, &question, WH_WIRE_DNS_SERVFAIL);
		return;
	}
	asked.udp_size = question.udp_size;
	query_fill(query, client, tuple, &asked);
	if (alias)
		memcpy(query->alias, question.name, sizeof query->alias);
	memcpy(query->servers, servers, sizeof servers);
	query->server_count = count;
	query->size = size;
	wh_store_be16(query->message, size);
	memcpy(query->message + 2, message, size);
	wh_store_be16(query->message + 2, query->upstream_id);
	dns_ask(query);
}

static void query_done(struct dns_query *query, const uint8_t *message, uint32_t size)
{
	struct dns_client *client = query->client;
	struct wh_gateway *gateway = query->gateway;
	struct wh_net_tuple tuple = query->tuple;
	/* A stream's answer lives in the query, so it goes out first; a client that fails takes its
	 * queries with it. */
	if (client && !dns_client_reply(client, message, size))
		return;
	if (!client)
		reply(gateway, NULL, &tuple, message, size);
	dns_query_free(query);
	if (client)
		dns_client_query_done(client);
}

void dns_answer(struct dns_query *query, uint8_t *message, uint32_t size)
{
	uint8_t whole[DNS_UDP_SIZE_MAX];
	query->gateway->stats.dns_answers++;
	if (query->alias[0]) {
		int n = dns_alias_answer(query->gateway, query->alias, message, size, whole,
					 sizeof whole);
		if (n < 0) {
			dns_fail(query);
			return;
		}
		message = whole;
		size = (uint32_t)n;
	}
	dns_note_addresses(query->gateway, message, size);
	wh_store_be16(message, query->id);
	if (!query->client && size > query->answer_size_max) {
		/* Header and question with TC: the guest asks again by TCP. */
		struct wh_wire_dns answer;
		int parsed = wh_wire_dns_parse(message, size, &answer);
		wh_assert(parsed >= 0); /* the caller compared the question */
		answer.truncated = true;
		answer.answers = answer.authorities = answer.additionals = answer.udp_size = 0;
		int n = wh_wire_dns_emit(message, query->answer_size_max, &answer);
		if (n < 0) {
			dns_fail(query);
			return;
		}
		size = (uint32_t)n;
	}
	query_done(query, message, size);
}

void dns_fail(struct dns_query *query)
{
	uint8_t bytes[WH_WIRE_DNS_HEADER_SIZE + WH_WIRE_DNS_NAME_SIZE + 8];
	struct wh_wire_dns answer;
	query->gateway->stats.dns_failed++;
	int parsed = wh_wire_dns_parse(query->message + 2, query->size, &answer);
	wh_assert(parsed >= 0 && !answer.response); /* it was parsed when it came */
	if (query->alias[0])
		memcpy(answer.name, query->alias, sizeof answer.name);
	answer.id = query->id;
	answer.response = answer.recursion_available = true;
	answer.truncated = query->truncated; /* TCP is worth a try of its own */
	answer.rcode = query->truncated ? WH_WIRE_DNS_NOERROR : WH_WIRE_DNS_SERVFAIL;
	answer.answers = answer.authorities = answer.additionals = answer.udp_size = 0;
	int n = wh_wire_dns_emit(bytes, sizeof bytes, &answer);
	query_done(query, bytes, n > 0 ? (uint32_t)n : 0);
}

void dns_datagram(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
		  const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	uint8_t message[DNS_QUERY_SIZE_MAX];
	if (size > sizeof message || dns_init(gateway)) {
		gateway->stats.udp_dropped++;
		return;
	}
	size_t n = wh_iov_read(iov, count, 0, message, size);
	dns_question(gateway, NULL, tuple, message, (uint16_t)n);
}

void dns_fini(struct wh_gateway *gateway)
{
	struct gateway_dns *dns = gateway->dns;
	if (!dns)
		return;
	while (!wh_list_empty(&dns->clients))
		dns_client_free(WH_LIST_ENTRY(dns->clients.next, struct dns_client, node));
	while (!wh_list_empty(&dns->queries))
		dns_query_free(WH_LIST_ENTRY(dns->queries.next, struct dns_query, node));
	pool_fini(&dns->queries_pool, gateway->alloc);
	wh_free(gateway->alloc, dns->hosts, DNS_HOSTS_SIZE_MAX);
	gateway->dns = NULL;
	wh_free(gateway->alloc, dns, sizeof *dns);
}
