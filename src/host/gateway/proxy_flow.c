/* SPDX-License-Identifier: ISC */
/*
 * One connection through the host's HTTP proxy.
 *
 * Port 443: CONNECT, before the guest's SYN is answered, so that a refusal is one; then bytes.
 *
 * Port 80: many proxies take no CONNECT there, so a plain HTTP/1 request is given to them in their form: its target
 * made absolute, "Connection: close" put in, and nothing else of the connection is ever looked at. So no body is
 * parsed, and each request has a connection of its own. What is no such request - HTTP/2 without TLS
 * (gRPC), a change of protocol (WebSocket), other protocols on port 80, heads that are too long - goes through
 * CONNECT untouched. When the proxy fails, a guest that speaks HTTP/1 gets a page with status 503.
 */
#include "proxy_priv.h"

#include <wherry/base/assert.h>

struct head {
	const char *method_end, *target, *target_end, *version; /* of the request line */
	const char *host, *host_end;                            /* NULL = no Host */
	const char *headers, *end;                              /* end = behind the empty line */
	bool upgrade;
};

enum kind { INCOMPLETE, REQUEST, OTHER };

static bool header_is(const char *line, const char *end, const char *name)
{
	for (; *name; name++, line++)
		if (line == end || (*line | 32) != *name)
			return false;
	return line < end && *line == ':';
}

/* Behind the line's feed, or NULL when it has not come. */
static const char *line_end(const char *p, const char *end)
{
	const char *feed = memchr(p, '\n', (size_t)(end - p));
	return feed ? feed + 1 : NULL;
}

static enum kind request_line(const char *p, const char *end, struct head *h)
{
	const char *q = p;
	while (q < end && q - p < 16 && ((*q >= 'A' && *q <= 'Z') || *q == '-'))
		q++;
	if (q == end)
		return q - p < 16 ? INCOMPLETE : OTHER;
	if (q == p || *q != ' ')
		return OTHER;
	h->method_end = q;
	h->target = q + 1;
	const char *next = line_end(p, end);
	if (!next)
		return INCOMPLETE;
	const char *last = next - 1;
	if (last > p && last[-1] == '\r')
		last--;
	h->version = find_last(p, last, ' ');
	if (!h->version || h->version <= h->target || last - h->version != 9 ||
	    memcmp(h->version, " HTTP/1.", 8) || h->target[0] != '/')
		return OTHER; /* "PRI * HTTP/2.0", CONNECT, an absolute target, OPTIONS * */
	h->target_end = h->version;
	for (const char *c = h->target; c < h->target_end; c++)
		if (*c <= ' ' || *c > '~')
			return OTHER;
	h->headers = next;
	return REQUEST;
}

static enum kind head_parse(const char *p, size_t size, struct head *h)
{
	const char *end = p + size;
	*h = (struct head){ .host = NULL };
	enum kind kind = request_line(p, end, h);
	if (kind != REQUEST)
		return kind;
	for (const char *line = h->headers, *next; (next = line_end(line, end)); line = next) {
		const char *last = next - 1;
		if (last > line && last[-1] == '\r')
			last--;
		if (last == line) {
			h->end = next;
			return h->upgrade ? OTHER : REQUEST;
		}
		if (header_is(line, last, "upgrade"))
			h->upgrade = true;
		if (!h->host && header_is(line, last, "host")) {
			h->host = line + 5;
			while (h->host < last && *h->host == ' ')
				h->host++;
			h->host_end = last;
		}
	}
	return INCOMPLETE;
}

/* Only what an authority may have; else it is not repeated to the proxy. */
static bool host_usable(const struct proxy_flow *f, const struct head *h)
{
	size_t size = h->host ? (size_t)(h->host_end - h->host) : 0, name = wh_strlen(f->name);
	if (!size || size > 255)
		return false;
	for (const char *c = h->host; c < h->host_end; c++) {
		bool fine = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			    (*c >= '0' && *c <= '9') || *c == '-' || *c == '.' || *c == '_' ||
			    *c == ':' || *c == '[' || *c == ']';
		if (!fine)
			return false;
	}
	/* Where rules say what may be reached, the name is the one that they have seen. */
	return !f->gateway->policy_count || (size >= name && !memcmp(h->host, f->name, name) &&
					     (size == name || h->host[name] == ':'));
}

static void out_text(struct proxy_flow *f, const char *text, size_t size)
{
	wh_assert(f->out_size + size <= PROXY_OUT_SIZE);
	memcpy(f->out + f->out_size, text, size);
	f->out_size += (uint32_t)size;
}

static void out_string(struct proxy_flow *f, const char *text)
{
	out_text(f, text, wh_strlen(text));
}

static void out_auth(struct proxy_flow *f)
{
	if (!f->server.auth[0])
		return;
	out_string(f, "Proxy-Authorization: Basic ");
	out_string(f, f->server.auth);
	out_string(f, "\r\n");
}

static void connect_write(struct proxy_flow *f)
{
	char port[16];
	wh_format(port, sizeof port, ":%u", f->meant.port);
	f->tunnel = true;
	f->out_size = f->out_sent = 0;
	out_string(f, "CONNECT ");
	out_string(f, f->name);
	out_string(f, port);
	out_string(f, " HTTP/1.1\r\nHost: ");
	out_string(f, f->name);
	out_string(f, port);
	out_string(f, "\r\n");
	out_auth(f);
	out_string(f, "\r\n");
}

static void request_write(struct proxy_flow *f, const char *p, const struct head *h)
{
	f->out_size = f->out_sent = 0;
	out_text(f, p, (size_t)(h->target - p));
	out_string(f, "http://");
	if (host_usable(f, h))
		out_text(f, h->host, (size_t)(h->host_end - h->host));
	else
		out_string(f, f->name);
	out_text(f, h->target, (size_t)(h->headers - h->target));
	for (const char *line = h->headers, *next; line < h->end; line = next) {
		next = line_end(line, h->end);
		if (next == h->end) /* the empty line */
			break;
		if (!header_is(line, next, "connection") &&
		    !header_is(line, next, "proxy-connection") &&
		    !header_is(line, next, "proxy-authorization") &&
		    !header_is(line, next, "keep-alive"))
			out_text(f, line, (size_t)(next - line));
	}
	out_auth(f);
	out_string(f, "Connection: close\r\n\r\n");
}

/* ---- steps ---- */

static int out_make(struct proxy_flow *f)
{
	if (!f->out)
		f->out = wh_alloc(f->gateway->alloc, PROXY_OUT_SIZE);
	return f->out ? 0 : -WH_ENOMEM;
}

/* Decides about port 80. 0 = more must come. */
static int request_step(struct proxy_flow *f, struct wh_net_tcp *s)
{
	struct wh_net_tcp_info info;
	struct wh_iov iov[2];
	struct head head;
	char text[PROXY_HEAD_MAX];
	uint32_t there = wh_net_tcp_peek(s, iov);
	if (!there)
		return 0;
	size_t size = wh_iov_read(iov, 2, 0, text, there < sizeof text ? there : sizeof text);
	enum kind kind = head_parse(text, size, &head);
	wh_net_tcp_info(s, &info);
	f->http = kind == REQUEST || head.upgrade;
	/* Nothing more can come: it is full, or the guest has ended its side. */
	if (kind == INCOMPLETE && (size == sizeof text || there == info.receive_size ||
				   info.state == WH_NET_TCP_CLOSE_WAIT))
		kind = OTHER;
	if (kind == INCOMPLETE)
		return 0;
	if (out_make(f))
		return -WH_ENOMEM;
	if (kind == REQUEST) {
		request_write(f, text, &head);
		wh_net_tcp_consume(s, (uint32_t)(head.end - text));
	} else {
		connect_write(f);
	}
	return 1;
}

static int send_step(struct proxy_flow *f, int fd)
{
	while (f->out_sent < f->out_size) {
		struct wh_iov iov = { f->out + f->out_sent, f->out_size - f->out_sent };
		long n = socket_send(f->gateway, fd, NULL, &iov, 1);
		if (n == -WH_EAGAIN)
			return 0;
		if (n < 0 && n != -WH_EINTR)
			return (int)n;
		f->out_sent += n > 0 ? (uint32_t)n : 0;
	}
	return 1;
}

static int status_of(const char *p, size_t size)
{
	if (size < 12 || memcmp(p, "HTTP/1.", 7) || p[8] != ' ')
		return 0;
	int status = 0;
	for (int i = 9; i < 12; i++) {
		if (p[i] < '0' || p[i] > '9')
			return 0;
		status = status * 10 + p[i] - '0';
	}
	return status;
}

/* Reads the head of the answer and not a byte more: what follows is the guest's. */
static int answer_step(struct proxy_flow *f, int fd)
{
	struct wh_gateway *gateway = f->gateway;
	char text[PROXY_ANSWER_MAX];
	struct iovec iov = { text, sizeof text };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	long n = gateway->host->receive(gateway->host_ctx, fd, &message, MSG_PEEK);
	if (n == -WH_EAGAIN || n == -WH_EINTR)
		return 0;
	if (n <= 0)
		return n ? (int)n : -WH_ECONNRESET;
	for (long i = 3; i < n; i++) {
		if (memcmp(text + i - 3, "\r\n\r\n", 4))
			continue;
		int status = status_of(text, (size_t)n);
		iov.iov_len = (size_t)i + 1;
		(void)gateway->host->receive(gateway->host_ctx, fd, &message, 0); /* it was there */
		if (status / 100 == 2)
			return 1;
		wh_log_write(&gateway->log, WH_LOG_DEBUG, "net", 0, "the proxy says %d to %s",
			     status, f->name);
		if (events_wanted(gateway))
			event(gateway, "proxy", ",\"host\":\"%s\",\"status\":%d", f->name, status);
		return -WH_ECONNREFUSED;
	}
	return n == (long)sizeof text ? -WH_ECONNREFUSED : 0;
}

int proxy_step(struct proxy_flow *f, struct wh_net_tcp *s, int fd)
{
	int step = 1;
	if (f->stage == PROXY_BEGIN) {
		if (f->plain) {
			step = request_step(f, s);
		} else if (out_make(f)) {
			step = -WH_ENOMEM;
		} else {
			connect_write(f);
		}
		if (step > 0)
			f->stage = PROXY_SEND;
	}
	if (step > 0 && f->stage == PROXY_SEND) {
		step = send_step(f, fd);
		if (step > 0)
			f->stage = PROXY_ANSWER;
	}
	if (step > 0 && f->tunnel)
		step = answer_step(f, fd);
	if (step < 0)
		f->gateway->stats.proxy_failed++;
	return step;
}

bool proxy_wants_connect(const struct proxy_flow *f)
{
	return !f->plain;
}

void proxy_end(struct proxy_flow *f)
{
	if (!f)
		return;
	wh_free(f->gateway->alloc, f->out, PROXY_OUT_SIZE);
	wh_free(f->gateway->alloc, f, sizeof *f);
}

/* ---- the page ---- */

#define PAGE_TIMEOUT_NS (10 * GATEWAY_S)

struct page {
	struct wh_list node;
	struct wh_gateway *gateway;
	struct wh_net_tcp *tcp;
	struct wh_loop_timer timer;
	struct wh_net_end server;
	bool connected, written;
};

static void page_free(struct page *page)
{
	struct wh_gateway *gateway = page->gateway;
	wh_loop_timer_stop(gateway->loop, &page->timer);
	wh_list_remove(&page->node);
	gateway->proxy->page_count--;
	if (page->tcp)
		wh_net_tcp_close(page->tcp);
	gateway->touched = true;
	wh_free(gateway->alloc, page, sizeof *page);
}

static void page_expired(struct wh_loop_timer *timer)
{
	page_free(timer->ctx);
}

/* Waits for the request, so that its bytes do not reset the answer. */
static void page_serve(struct page *page)
{
	struct wh_iov iov[2];
	char server[END_TEXT_SIZE], body[320], text[640];
	uint32_t n = wh_net_tcp_peek(page->tcp, iov);
	wh_net_tcp_consume(page->tcp, n);
	if (page->connected && n && !page->written) {
		size_t size =
			wh_format(body, sizeof body,
				  "<!DOCTYPE html><title>503 Service Unavailable</title>"
				  "<h1>The proxy cannot be used</h1><p>This machine's "
				  "connections go through the HTTP proxy %s of its host, which "
				  "does not answer or refuses.</p>\n",
				  end_text(&page->server, server));
		size = wh_format(text, sizeof text,
				 "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\n"
				 "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
				 size, body);
		page->written = true;
		(void)wh_net_tcp_write(page->tcp, text,
				       (uint32_t)size); /* an empty buffer takes it */
		wh_net_tcp_shutdown(page->tcp);
		page->gateway->touched = true;
	}
	if (wh_net_tcp_at_end(page->tcp) && (page->written || page->connected))
		page_free(page);
}

static void page_event(struct wh_net_tcp *s, uint32_t events)
{
	struct page *page = wh_net_tcp_ctx(s);
	if (events & WH_NET_FAILED) {
		page_free(page);
		return;
	}
	page->connected |= (events & WH_NET_CONNECTED) != 0;
	page_serve(page);
}

bool proxy_page(struct proxy_flow *f, struct wh_net_tcp *s, bool accepted)
{
	static const struct wh_net_tcp_ops ops = { .event = page_event };
	struct wh_gateway *gateway = f->gateway;
	if (!f->plain || (accepted && !f->http) || gateway->proxy->page_count >= PROXY_PAGES_MAX)
		return false;
	struct page *page = wh_alloc_zero(gateway->alloc, sizeof *page);
	if (!page)
		return false;
	*page = (struct page){
		.gateway = gateway, .tcp = s, .server = f->server.end, .connected = accepted
	};
	wh_loop_timer_init(&page->timer, page_expired, page);
	wh_loop_timer_start(gateway->loop, &page->timer,
			    wh_loop_now(gateway->loop) + PAGE_TIMEOUT_NS);
	wh_list_push_back(&gateway->proxy->pages, &page->node);
	gateway->proxy->page_count++;
	wh_net_tcp_set_ops(s, &ops, page);
	if (!accepted && wh_net_tcp_accept(s)) {
		page->tcp = NULL; /* still the caller's */
		page_free(page);
		return false;
	}
	if (accepted)
		page_serve(page);
	return true;
}

void pages_fini(struct wh_gateway *gateway)
{
	while (gateway->proxy && !wh_list_empty(&gateway->proxy->pages))
		page_free(WH_LIST_ENTRY(gateway->proxy->pages.next, struct page, node));
}
