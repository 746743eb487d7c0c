/* SPDX-License-Identifier: ISC */
/* Asking the servers: one fresh socket per query and IP version. */
#include "dns_priv.h"

#include <wherry/base/assert.h>

#define ATTEMPTS_MIN 3u
#define TIMEOUT_NS (1500 * GATEWAY_MS)
#define ANSWERS_MAX 16 /* wrong answers read per event */

static void datagram_event(struct wh_loop_fd *watch, uint32_t events);
static void stream_event(struct wh_loop_fd *watch, uint32_t events);

void dns_ask_end(struct dns_query *query)
{
	struct wh_gateway *gateway = query->gateway;
	bool open = query->watch.fd >= 0;
	socket_close(gateway, &query->watch);
	if (!query->stream)
		return;
	if (open)
		gateway->dns->stream_count--;
	wh_free(gateway->alloc, query->stream_answer, DNS_ANSWER_SIZE_MAX + 2);
	query->stream_answer = NULL;
	query->stream_sent = query->stream_received = 0;
}

static void timed_out(struct wh_loop_timer *timer)
{
	struct dns_query *query = timer->ctx;
	query->gateway->stats.dns_retries++;
	if (query->server)
		dns_server_missed(query->gateway,
				  &query->servers[(query->server - 1) % query->server_count]);
	dns_ask(query);
}

static bool was_asked(const struct dns_query *query, const struct wh_net_end *server)
{
	for (uint32_t i = 0; i < query->asked_count; i++)
		if (query->asked[i].port == server->port &&
		    wh_net_ip_equal(&query->asked[i].ip, &server->ip))
			return true;
	return false;
}

static void note_asked(struct dns_query *query, const struct wh_net_end *server)
{
	if (!was_asked(query, server) && query->asked_count < WH_GATEWAY_RESOLVERS_MAX)
		query->asked[query->asked_count++] = *server;
}

/* A datagram to `server`; 0 or -errno. */
static int datagram_ask(struct dns_query *query, const struct wh_net_end *server)
{
	struct wh_gateway *gateway = query->gateway;
	int domain = end_domain(server);
	if (query->watch.fd >= 0 && query->domain != domain)
		socket_close(gateway, &query->watch);
	if (query->watch.fd < 0) {
		int fd = socket_open(gateway, domain, SOCK_DGRAM, IPPROTO_UDP);
		if (fd < 0)
			return fd;
		query->watch = (struct wh_loop_fd){ .fd = fd, .fn = datagram_event, .ctx = query };
		query->domain = domain;
		/* So that "port unreachable" brings on the next server at once. */
		(void)(domain == AF_INET ? socket_set(gateway, fd, IPPROTO_IP, IP_RECVERR, 1)
					 : socket_set(gateway, fd, IPPROTO_IPV6, IPV6_RECVERR, 1));
		int error = socket_watch(gateway, &query->watch, WH_LOOP_READ);
		if (error)
			return error;
	}
	struct wh_iov iov = { query->message + 2, query->size };
	long n = socket_send(gateway, query->watch.fd, server, &iov, 1);
	return n < 0 ? (int)n : 0;
}

static int stream_ask(struct dns_query *query, const struct wh_net_end *server)
{
	struct wh_gateway *gateway = query->gateway;
	union host_address address;
	dns_ask_end(query);
	if (gateway->dns->stream_count >= DNS_STREAMS_MAX)
		return -WH_ENOBUFS;
	int fd = socket_open(gateway, end_domain(server), SOCK_STREAM, IPPROTO_TCP);
	if (fd < 0)
		return fd;
	gateway->dns->stream_count++;
	query->watch = (struct wh_loop_fd){ .fd = fd, .fn = stream_event, .ctx = query };
	query->stream_answer = wh_alloc(gateway->alloc, DNS_ANSWER_SIZE_MAX + 2);
	if (!query->stream_answer)
		return -WH_ENOMEM;
	socklen_t size = address_from_end(server, &address);
	int error = gateway->host->connect(gateway->host_ctx, fd, &address.any, size);
	if (error && error != -WH_EINPROGRESS)
		return error;
	return socket_watch(gateway, &query->watch, WH_LOOP_WRITE);
}

static uint64_t timeout_ns(const struct wh_gateway *gateway)
{
	if (gateway->dns_timeout_ns)
		return gateway->dns_timeout_ns;
	return gateway->dns->timeout_ns ? gateway->dns->timeout_ns : TIMEOUT_NS;
}

/* Asks the next server; the query fails after every one had its turns. */
void dns_ask(struct dns_query *query)
{
	struct wh_gateway *gateway = query->gateway;
	uint32_t attempts_max = 2 * query->server_count;
	if (attempts_max < ATTEMPTS_MIN)
		attempts_max = ATTEMPTS_MIN;
	while (query->attempts < attempts_max && query->server_count) {
		query->attempts++;
		struct wh_net_end server = query->servers[query->server++ % query->server_count];
		note_asked(query, &server);
		int error =
			query->stream ? stream_ask(query, &server) : datagram_ask(query, &server);
		if (error)
			continue;
		wh_loop_timer_init(&query->timer, timed_out, query);
		wh_loop_timer_start(gateway->loop, &query->timer,
				    wh_loop_now(gateway->loop) +
					    timeout_ns(gateway) * (query->stream ? 2 : 1));
		return;
	}
	dns_fail(query);
}

static void ask_again(struct dns_query *query)
{
	struct wh_gateway *gateway = query->gateway;
	wh_loop_timer_stop(gateway->loop, &query->timer);
	gateway->stats.dns_retries++;
	dns_ask(query);
}

/* Is it the answer to our question? *ret_final = false: another server may know better. */
static bool answer_fits(struct dns_query *query, const uint8_t *message, uint32_t size,
			bool *ret_final)
{
	struct wh_gateway *gateway = query->gateway;
	struct wh_wire_dns answer;
	if (wh_wire_dns_parse(message, size, &answer) < 0 || !answer.response ||
	    answer.id != query->upstream_id || answer.questions != 1 ||
	    dns_question_hash(gateway, &answer) != query->question) {
		gateway->stats.dns_bad_answers++;
		return false;
	}
	bool failed = answer.rcode == WH_WIRE_DNS_SERVFAIL || answer.rcode == WH_WIRE_DNS_REFUSED;
	*ret_final = !failed || query->asked_count >= query->server_count;
	return true;
}

/* The datagram was cut (RFC 7766, 5): the same server is asked over TCP, the others after it. */
static void stream_begin(struct dns_query *query, const struct wh_net_end *server)
{
	struct wh_gateway *gateway = query->gateway;
	wh_loop_timer_stop(gateway->loop, &query->timer);
	dns_ask_end(query);
	query->stream = query->truncated = true;
	query->attempts = 0;
	for (uint32_t i = 0; i < query->server_count; i++)
		if (query->servers[i].port == server->port &&
		    wh_net_ip_equal(&query->servers[i].ip, &server->ip))
			query->server = i;
	gateway->stats.dns_retries++;
	dns_ask(query);
}

static void datagram_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct dns_query *query = watch->ctx;
	struct wh_gateway *gateway = query->gateway;
	uint8_t *buffer = gateway->dns->buffer;
	if (events & WH_LOOP_HANGUP) {
		/* The error queue says which server; the one asked last is the likely one, and
		 * asking another costs nothing. */
		char control[128];
		struct msghdr message = { .msg_control = control,
					  .msg_controllen = sizeof control };
		if (gateway->host->receive(gateway->host_ctx, watch->fd, &message, MSG_ERRQUEUE) >=
			    0 &&
		    !(events & WH_LOOP_READ)) {
			ask_again(query);
			return;
		}
	}
	for (int i = 0; i < ANSWERS_MAX; i++) {
		struct wh_iov iov = { buffer, DNS_ANSWER_SIZE_MAX };
		struct wh_net_end from;
		bool final;
		long n = socket_receive(gateway, watch->fd, &iov, 1, &from);
		if (n == -WH_EAGAIN)
			return;
		if (n < 0)
			continue; /* an error report was taken */
		if (!was_asked(query, &from)) {
			gateway->stats.dns_bad_answers++;
			continue;
		}
		if (!answer_fits(query, buffer, (uint32_t)n, &final))
			continue;
		dns_server_answered(gateway, &from);
		if (final && buffer[2] & 2 && query->answer_size_max > DNS_UDP_SIZE_MIN) {
			stream_begin(query, &from);
			return;
		}
		if (final)
			dns_answer(query, buffer, (uint32_t)n);
		else
			ask_again(query);
		return;
	}
}

/* The rest of the question; true when all of it is sent. */
static bool stream_send(struct dns_query *query)
{
	struct wh_gateway *gateway = query->gateway;
	uint32_t left = 2 + query->size - query->stream_sent;
	struct wh_iov iov = { query->message + query->stream_sent, left };
	long n = left ? socket_send(gateway, query->watch.fd, NULL, &iov, 1) : 0;
	if (n < 0)
		return false;
	query->stream_sent += (uint32_t)n;
	return query->stream_sent == 2u + query->size;
}

static void stream_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct dns_query *query = watch->ctx;
	struct wh_gateway *gateway = query->gateway;
	if (events & WH_LOOP_HANGUP && gateway->host->error(gateway->host_ctx, watch->fd)) {
		ask_again(query);
		return;
	}
	if (events & WH_LOOP_WRITE && stream_send(query))
		(void)socket_watch_modify(gateway, watch, WH_LOOP_READ);
	if (!(events & (WH_LOOP_READ | WH_LOOP_HANGUP)))
		return;
	struct wh_iov iov = { query->stream_answer + query->stream_received,
			      DNS_ANSWER_SIZE_MAX + 2 - query->stream_received };
	long n = iov.size ? socket_receive(gateway, watch->fd, &iov, 1, NULL) : 0;
	if (n == -WH_EAGAIN || n == -WH_EINTR)
		return;
	if (n <= 0) {
		ask_again(query);
		return;
	}
	query->stream_received += (uint32_t)n;
	if (query->stream_received < 2)
		return;
	uint32_t size = wh_load_be16(query->stream_answer);
	bool final;
	if (query->stream_received < 2 + size)
		return;
	if (!answer_fits(query, query->stream_answer + 2, size, &final) || !final)
		ask_again(query);
	else
		dns_answer(query, query->stream_answer + 2, size);
}
