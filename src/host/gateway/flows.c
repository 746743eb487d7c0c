/* SPDX-License-Identifier: ISC */
/* The list of flows, in the order of their ids: what neither table has by itself. */
#include "gateway_priv.h"

#include <wherry/base/assert.h>

struct wh_gateway_flow *flow_list_add(struct flow_list *list, uint32_t id)
{
	struct wh_gateway_flow *flows = list->flows;
	uint32_t at = list->count;
	wh_assert(list->count <= list->max);
	if (id <= list->after)
		return NULL;
	while (at && flows[at - 1].id > id)
		at--;
	if (at == list->max)
		return NULL;
	if (list->count < list->max)
		list->count++;
	memmove(flows + at + 1, flows + at, (list->count - 1 - at) * sizeof *flows);
	flows[at] = (struct wh_gateway_flow){ .id = id, .state = "" };
	return &flows[at];
}

void flow_socket_ends(struct wh_gateway *gateway, int fd, struct wh_gateway_flow *flow)
{
	union host_address address = { .any = { .sa_family = AF_UNSPEC } };
	socklen_t size = sizeof address;
	if (fd < 0 || gateway->host->name(gateway->host_ctx, fd, &address.any, &size) ||
	    !address_to_end(&address, &flow->host))
		memset(&flow->host, 0, sizeof flow->host);
}

uint32_t wh_gateway_flow_list(struct wh_gateway *gateway, uint32_t after,
			      struct wh_gateway_flow *flows, uint32_t max)
{
	struct flow_list list = { .flows = flows, .after = after, .max = max };
	tcp_flows_list(gateway, &list);
	splices_list(gateway, &list);
	udp_flows_list(gateway, &list);
	return list.count;
}
