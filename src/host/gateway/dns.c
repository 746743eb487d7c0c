/* SPDX-License-Identifier: ISC */
/*
 * DNS forwarder: what the guest asks at the DNS address, by UDP or TCP.
 *
 * A question is answered from here (gateway.internal, host.internal, localhost, names added at run
 * time, the host's hosts file), or passed on unchanged but for its id: EDNS sizes, cookies and DNSSEC bits are
 * between the guest and the server. By UDP it is asked over UDP from a fresh socket with a random
 * port and id (RFC 5452), by TCP over TCP, so that an answer with TC set is asked again by the
 * guest itself. Answers must come from a server that was asked, with our id and
 * the same question. Servers are asked in order, the next one after a time-out, an error, SERVFAIL or
 * REFUSED; without any server, or when all failed, the guest gets SERVFAIL.
 */
#include "dns_priv.h"

#include <wherry/base/assert.h>
#include <wherry/base/hash.h>

#define TTL_LOCAL_S 5u /* local names change with the host's file */

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

/* Answers from here when it can. */
static bool answer_local(struct wh_gateway *gateway, struct dns_client *client,
			 const struct wh_net_tuple *tuple, const struct wh_wire_dns *question)
{
	uint8_t bytes[WH_WIRE_DNS_HEADER_SIZE + WH_WIRE_DNS_NAME_SIZE + 48];
	bool ip6 = question->type == WH_WIRE_DNS_AAAA;
	struct wh_net_ip ip;
	if (question->class_ != WH_WIRE_DNS_IN)
		return false;
	int found = dns_local_name(gateway, question->name, ip6, &ip);
	if (found < 0)
		return false;
	gateway->stats.dns_local++;
	if (!found || (!ip6 && question->type != WH_WIRE_DNS_A)) {
		reply_code(gateway, client, tuple, question, WH_WIRE_DNS_NOERROR);
		return true;
	}
	struct wh_wire_dns answer = *question;
	answer.response = answer.recursion_available = true;
	answer.answers = answer.authorities = answer.additionals = answer.udp_size = 0;
	int n = wh_wire_dns_emit(bytes, sizeof bytes, &answer);
	if (n > 0)
		n = wh_wire_dns_append(bytes, (size_t)n, sizeof bytes, question->type, TTL_LOCAL_S,
				       ip6 ? ip.bytes : ip.bytes + 12, ip6 ? 16 : 4);
	if (n > 0)
		reply(gateway, client, tuple, bytes, (uint32_t)n);
	return true;
}

static struct dns_query *query_new(struct wh_gateway *gateway)
{
	struct gateway_dns *dns = gateway->dns;
	if (dns->query_count >= WH_GATEWAY_DNS_QUERIES_MAX)
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
	if (answer_local(gateway, client, tuple, &question))
		return;
	struct dns_query *query = NULL;
	if (gateway->dns->server_count && size <= DNS_QUERY_SIZE_MAX)
		query = query_new(gateway);
	if (!query) {
		gateway->stats.dns_failed++;
		reply_code(gateway, client, tuple, &question, WH_WIRE_DNS_SERVFAIL);
		return;
	}
	query->client = client;
	query->stream = client != NULL;
	if (client)
		client->queries++;
	else
		query->tuple = *tuple;
	query->id = question.id;
	query->question = dns_question_hash(gateway, &question);
	query->answer_size_max = DNS_UDP_SIZE_MIN;
	if (question.udp_size > DNS_UDP_SIZE_MIN)
		query->answer_size_max =
			question.udp_size < DNS_UDP_SIZE_MAX ? question.udp_size : DNS_UDP_SIZE_MAX;
	gateway->host->random(gateway->host_ctx, &query->upstream_id, sizeof query->upstream_id);
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
	query->gateway->stats.dns_answers++;
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
	answer.id = query->id;
	answer.response = answer.recursion_available = true;
	answer.rcode = WH_WIRE_DNS_SERVFAIL;
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
