/* SPDX-License-Identifier: ISC */
/*
 * Hops: a guest's hop limits on the host's sockets, and the errors that routers send about them, so that traceroute and
 * its like see the way that packets take. The gateway is the first hop.
 *
 * Limits of HOPS_PROBE_MAX and more are those of ordinary traffic, which goes with the host's own: so nothing is set on
 * the sockets of ordinary flows.
 */
#include "gateway_priv.h"

#include <time.h> /* linux/errqueue.h needs struct timespec */

#include <linux/errqueue.h>

#define HOPS_PROBE_MAX 32u

bool hops_end_here(struct wh_gateway *gateway, const struct wh_net_tuple *tuple,
		   const struct hops_echo *echo, const struct wh_iov *iov, uint32_t count)
{
	uint8_t payload[HOPS_PAYLOAD_MAX];
	bool is4 = wh_net_ip_is4(&tuple->remote.ip);
	if (wh_net_hop_limit(gateway->net) > 1 || gateway_is_own(gateway, &tuple->local.ip))
		return false;
	struct wh_net_icmp_report r = { .from = gateway->self[is4 ? 0 : 1],
					.type = is4 ? WH_WIRE_ICMP_TIME_EXCEEDED
						    : WH_WIRE_ICMP6_TIME_EXCEEDED,
					.tuple = *tuple,
					.echo = echo != NULL };
	if (echo)
		r.id = echo->id, r.sequence = echo->sequence;
	r.payload = payload;
	r.payload_size = (uint32_t)wh_iov_read(iov, count, 0, payload, sizeof payload);
	(void)wh_net_icmp_report(gateway->net, &r); /* lost: it is asked again */
	gateway->stats.hops_ended++;
	gateway->touched = true;
	return true;
}

void hops_set(struct wh_gateway *gateway, int fd, bool is4, uint8_t *set)
{
	uint8_t limit = wh_net_hop_limit(gateway->net);
	if (limit >= HOPS_PROBE_MAX)
		limit = 0;
	if (limit == *set)
		return;
	int value = limit ? limit - 1 : -1; /* -1 = the host's default */
	(void)(is4 ? socket_set(gateway, fd, IPPROTO_IP, IP_TTL, value)
		   : socket_set(gateway, fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, value));
	*set = limit;
}

/* Those that say something about the way; others are not the guest's business. */
static bool may_tell(bool is4, uint8_t type)
{
	if (is4)
		return type == WH_WIRE_ICMP_UNREACHABLE || type == WH_WIRE_ICMP_TIME_EXCEEDED ||
		       type == WH_WIRE_ICMP_PARAMETER;
	return type >= WH_WIRE_ICMP6_UNREACHABLE && type <= WH_WIRE_ICMP6_PARAMETER;
}

bool hops_error(struct wh_gateway *gateway, const struct cmsghdr *c,
		struct wh_net_icmp_report *report)
{
	struct sock_extended_err error;
	union host_address offender = { .any = { .sa_family = AF_UNSPEC } };
	struct wh_net_end from;
	size_t size = c->cmsg_len - CMSG_LEN(0);
	bool is4 = wh_net_ip_is4(&report->tuple.remote.ip);
	if (size < sizeof error)
		return false;
	memcpy(&error, CMSG_DATA(c), sizeof error);
	if (error.ee_origin != (is4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6) ||
	    !may_tell(is4, error.ee_type))
		return false;
	size -= sizeof error;
	memcpy(&offender, CMSG_DATA(c) + sizeof error,
	       size < sizeof offender ? size : sizeof offender);
	report->from = gateway->self[is4 ? 0 : 1];
	if (address_to_end(&offender, &from) && wh_net_ip_is4(&from.ip) == is4 &&
	    !gateway_is_loopback(&from.ip) && !wh_net_ip_is_any(&from.ip) &&
	    !gateway_in_subnet(gateway, &from.ip))
		report->from = from.ip;
	/* The host's own word about an address that is the gateway's to the guest. */
	if (gateway_is_own(gateway, &report->tuple.local.ip))
		report->from = report->tuple.local.ip;
	report->type = error.ee_type;
	report->code = error.ee_code;
	report->info = error.ee_errno == WH_EMSGSIZE ? error.ee_info : 0;
	(void)wh_net_icmp_report(gateway->net, report); /* lost, as such messages may be */
	gateway->stats.hops_told++;
	gateway->touched = true;
	return true;
}
