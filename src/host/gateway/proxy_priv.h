/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_PROXY_PRIV_H
#define WHERRY_PROXY_PRIV_H

/* Inside of the proxy's client: proxy.c decides, proxy_flow.c speaks HTTP. tcp.c owns the sockets. */

#include "gateway_priv.h"

#define PROXY_NAMES_MAX 256u
#define PROXY_AUTH_SIZE 256u
#define PROXY_HEAD_MAX 16384u /* of a request that is rewritten; longer ones go through CONNECT */
#define PROXY_ANSWER_MAX 8192u
#define PROXY_PAGES_MAX 64u

struct proxy_server {
	bool used;
	struct wh_net_end end;
	char auth[PROXY_AUTH_SIZE]; /* base64, "" = none */
};

struct proxy_name {
	struct wh_net_ip ip;
	char name[WH_GATEWAY_NAME_SIZE];
};

struct gateway_proxy {
	struct proxy_server http, https;
	char exclude[WH_GATEWAY_PROXY_EXCLUDE_SIZE];
	uint32_t name_next;
	struct wh_list pages;
	uint32_t page_count;
	struct proxy_name names[PROXY_NAMES_MAX];
};

enum proxy_stage {
	PROXY_BEGIN,  /* CONNECT is to be written; plain: the guest's request is to be read */
	PROXY_SEND,   /* `out` goes to the proxy */
	PROXY_ANSWER, /* its answer to CONNECT is to come */
};

struct proxy_flow {
	struct wh_gateway *gateway;
	struct proxy_server server;
	struct wh_net_end meant;
	bool plain;  /* port 80: the guest's request decides what is said */
	bool tunnel; /* CONNECT was or is said */
	bool http;   /* plain: the guest speaks HTTP/1, a page tells it of failures */
	uint8_t stage;
	char name[WH_GATEWAY_NAME_SIZE]; /* host to the proxy */
	char *out;                       /* PROXY_OUT_SIZE, or NULL */
	uint32_t out_size, out_sent;
};
#define PROXY_OUT_SIZE (PROXY_HEAD_MAX + 1024u)

void pages_fini(struct wh_gateway *gateway);
/* Does this rule's address cover it? policy.c */
bool policy_net_fits(const struct wh_gateway_policy *policy, const struct wh_net_ip *ip);
/* The name that was told for the address, or NULL. */
const char *proxy_name(const struct wh_gateway *gateway, const struct wh_net_ip *ip);

#endif
