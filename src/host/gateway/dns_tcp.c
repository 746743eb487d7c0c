/* SPDX-License-Identifier: ISC */
/* DNS over TCP towards the guest (RFC 7766): length-prefixed questions, answered in the order in
 * which the answers come. */
#include "dns_priv.h"

#include <wherry/base/assert.h>

void dns_client_free(struct dns_client *client)
{
	struct wh_gateway *gateway = client->gateway;
	struct gateway_dns *dns = gateway->dns;
	WH_LIST_FOR_EACH_SAFE(node, &dns->queries) {
		struct dns_query *query = WH_LIST_ENTRY(node, struct dns_query, node);
		if (query->client == client)
			dns_query_free(query);
	}
	client->queries = 0;
	if (client->tcp)
		wh_net_tcp_close(client->tcp);
	client->tcp = NULL;
	wh_loop_timer_stop(gateway->loop, &client->idle);
	if (client->serving)
		return; /* client_serve does the rest */
	wh_list_remove(&client->node);
	wh_assert(dns->client_count > 0);
	dns->client_count--;
	wh_free(gateway->alloc, client, sizeof *client);
}

static void client_abort(struct dns_client *client)
{
	wh_net_tcp_abort(client->tcp);
	client->tcp = NULL;
	dns_client_free(client);
}

static void client_expired(struct wh_loop_timer *timer)
{
	dns_client_free(timer->ctx);
}

static void client_touch(struct dns_client *client)
{
	wh_loop_timer_start(client->gateway->loop, &client->idle,
			    wh_loop_now(client->gateway->loop) + DNS_CLIENT_IDLE_NS);
}

bool dns_client_reply(struct dns_client *client, const uint8_t *message, uint32_t size)
{
	struct wh_iov room[2];
	uint8_t length[2];
	if (wh_net_tcp_reserve(client->tcp, room) < size + 2) {
		client_abort(client);
		return false;
	}
	wh_store_be16(length, (uint16_t)size);
	uint32_t sent = wh_net_tcp_write(client->tcp, length, 2);
	sent += wh_net_tcp_write(client->tcp, message, size);
	wh_assert(sent == size + 2);
	client->gateway->touched = true;
	return true;
}

/* Takes one question when it is there in full. */
static bool client_step(struct dns_client *client)
{
	uint8_t message[2 + DNS_QUERY_SIZE_MAX];
	struct wh_iov iov[2];
	if (client->queries >= DNS_CLIENT_QUERIES_MAX || wh_net_tcp_peek(client->tcp, iov) < 2)
		return false;
	size_t n = wh_iov_read(iov, 2, 0, message, sizeof message);
	uint16_t size = wh_load_be16(message);
	if (size < WH_WIRE_DNS_HEADER_SIZE || size > DNS_QUERY_SIZE_MAX) {
		client_abort(client);
		return false;
	}
	if (n < 2u + size)
		return false;
	wh_net_tcp_consume(client->tcp, 2u + size);
	client_touch(client);
	dns_question(client->gateway, client, NULL, message + 2, size);
	return true;
}

/* Answers may end queries, and with them the client, while questions are being taken:
 * `serving` keeps this from nesting and the client from going away. */
static void client_serve(struct dns_client *client)
{
	if (client->serving)
		return;
	client->serving = true;
	while (client->tcp && client_step(client)) {
	}
	client->serving = false;
	/* What is left behind the guest's FIN is no whole question. */
	if (!client->tcp || (!client->queries && client->peer_closed))
		dns_client_free(client);
}

void dns_client_query_done(struct dns_client *client)
{
	wh_assert(client->queries > 0 || !client->tcp);
	if (client->queries)
		client->queries--;
	client_serve(client);
}

static void client_event(struct wh_net_tcp *s, uint32_t events)
{
	struct dns_client *client = wh_net_tcp_ctx(s);
	if (events & WH_NET_PEER_CLOSED)
		client->peer_closed = true;
	if (events & WH_NET_FAILED)
		dns_client_free(client);
	else
		client_serve(client);
}

bool dns_request(struct wh_gateway *gateway, struct wh_net_tcp *s)
{
	static const struct wh_net_tcp_ops ops = { .event = client_event };
	if (dns_init(gateway) || gateway->dns->client_count >= DNS_CLIENTS_MAX)
		return false;
	struct dns_client *client = wh_alloc_zero(gateway->alloc, sizeof *client);
	if (!client)
		return false;
	client->gateway = gateway;
	client->tcp = s;
	wh_loop_timer_init(&client->idle, client_expired, client);
	wh_list_push_back(&gateway->dns->clients, &client->node);
	gateway->dns->client_count++;
	wh_net_tcp_set_ops(s, &ops, client);
	client_touch(client);
	if (wh_net_tcp_accept(s)) {
		client->tcp = NULL;
		dns_client_free(client);
		return false;
	}
	return true;
}
