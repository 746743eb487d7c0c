/* SPDX-License-Identifier: ISC */
/* Questions that are answered from here: addresses of local names, names of local addresses, filtered types. */
#include "dns_priv.h"

/* "15.2.0.10.in-addr.arpa" */
static bool reverse4(const char *name, struct wh_net_ip *ret_ip)
{
	uint8_t ip[4];
	for (int i = 3; i >= 0; i--) {
		uint32_t value = 0, digits = 0;
		for (; *name >= '0' && *name <= '9' && digits < 3; name++, digits++)
			value = value * 10 + (uint32_t)(*name - '0');
		if (!digits || value > 255 || *name++ != '.')
			return false;
		ip[i] = (uint8_t)value;
	}
	*ret_ip = wh_net_ip4(ip);
	return wh_streq(name, "in-addr.arpa");
}

static bool reverse6(const char *name, struct wh_net_ip *ret_ip)
{
	struct wh_net_ip ip = { { 0 } };
	for (int i = 31; i >= 0; i--, name += 2) {
		int c = name[0] >= 'a' ? name[0] - 'a' + 10 : name[0] - '0';
		if (c < 0 || c > 15 || (name[0] > '9' && name[0] < 'a') || name[1] != '.')
			return false;
		ip.bytes[i / 2] |= (uint8_t)(c << (i % 2 ? 0 : 4));
	}
	*ret_ip = ip;
	return wh_streq(name, "ip6.arpa");
}

/* The name of an address: 1 = *ret_name, 0 = it is of this link and has none, < 0 = ask the servers. */
static int reverse_name(struct wh_gateway *gateway, const char *question,
			char ret_name[WH_WIRE_DNS_NAME_SIZE])
{
	struct wh_net_ip ip;
	const char *name = NULL;
	if (!reverse4(question, &ip) && !reverse6(question, &ip))
		return -WH_ENOENT;
	if (gateway_is_own(gateway, &ip))
		name = "gateway.internal";
	else if (gateway_is_loopback(&ip))
		name = "localhost";
	else if (wh_net_ip_equal(&ip, &gateway->guest[0]) ||
		 (gateway->ip6 && wh_net_ip_equal(&ip, &gateway->guest[1])))
		name = gateway->hostname;
	else
		name = names_reverse(gateway, &ip);
	if (!name && dns_hosts_reverse(gateway, &ip, ret_name))
		return 1;
	if (!name)
		return gateway_in_subnet(gateway, &ip) ? 0 : -WH_ENOENT;
	size_t n = wh_strnlen(name, WH_WIRE_DNS_NAME_SIZE - 1);
	memcpy(ret_name, name, n);
	ret_name[n] = 0;
	return 1;
}

static int answer_build(uint8_t *bytes, size_t size, const struct wh_wire_dns *question,
			uint16_t type, const void *data, int data_size)
{
	struct wh_wire_dns answer = *question;
	answer.response = answer.recursion_available = true;
	answer.answers = answer.authorities = answer.additionals = answer.udp_size = 0;
	int n = wh_wire_dns_emit(bytes, size, &answer);
	if (n > 0 && data_size > 0)
		n = wh_wire_dns_append(bytes, (size_t)n, size, type, DNS_TTL_LOCAL_S, data,
				       (uint16_t)data_size);
	return n;
}

/* Records of this name that are kept here. 0 = there are none, or it is an alias for a name that servers know. */
static int answer_records(struct wh_gateway *gateway, const struct wh_wire_dns *question,
			  uint8_t *bytes, size_t room)
{
	char target[WH_WIRE_DNS_NAME_SIZE];
	bool ip6 = question->type == WH_WIRE_DNS_AAAA, ip4 = question->type == WH_WIRE_DNS_A;
	struct wh_net_ip ip;
	int found = -WH_ENOENT;
	if (!dns_records_has(gateway, question->name))
		return 0;
	bool alias = dns_alias(gateway, question->name, target);
	if (alias && (ip4 || ip6)) {
		if (policy_name_denies(gateway, target))
			return 0; /* whoever asks for it is told the same */
		found = dns_local_name(gateway, target, ip6, &ip);
		if (found < 0)
			return 0;
	} else if (ip4 || ip6) {
		return 0; /* addresses are names.c's */
	}
	gateway->stats.dns_local++;
	int n = answer_build(bytes, room, question, 0, NULL, 0);
	if (n > 0)
		n = dns_records_append(gateway, question, bytes, n, room);
	if (n <= 0 || found <= 0)
		return n;
	int size = wh_wire_dns_name_emit((uint8_t[WH_WIRE_DNS_NAME_SIZE + 2]){ 0 },
					 WH_WIRE_DNS_NAME_SIZE + 2, target);
	int end = wh_wire_dns_append(bytes, (size_t)n, room, question->type, DNS_TTL_LOCAL_S,
				     ip6 ? ip.bytes : ip.bytes + 12, ip6 ? 16 : 4);
	if (end < 0 || size < 0)
		return n;
	wh_store_be16(bytes + n,
		      (uint16_t)(0xc000 | (n - size))); /* the target, in the record before */
	policy_name_answer(gateway, question->name, &ip, DNS_TTL_LOCAL_S);
	proxy_note(gateway, question->name, &ip);
	return end;
}

int dns_answer_local(struct wh_gateway *gateway, const struct wh_wire_dns *question, bool stream,
		     uint8_t bytes[DNS_LOCAL_SIZE_MAX])
{
	bool ip6 = question->type == WH_WIRE_DNS_AAAA, ip4 = question->type == WH_WIRE_DNS_A;
	char name[WH_WIRE_DNS_NAME_SIZE];
	uint8_t encoded[WH_WIRE_DNS_NAME_SIZE];
	struct wh_net_ip ip;
	if (question->class_ != WH_WIRE_DNS_IN)
		return 0;
	bool wide = stream || question->udp_size >= DNS_LOCAL_SIZE_MAX;
	int n = answer_records(gateway, question, bytes,
			       wide ? DNS_LOCAL_SIZE_MAX : DNS_UDP_SIZE_MIN);
	if (n)
		return n;
	int found = question->type == WH_WIRE_DNS_PTR ? reverse_name(gateway, question->name, name)
						      : -WH_ENOENT;
	if (found == 0) {
		struct wh_wire_dns answer = *question;
		answer.rcode = WH_WIRE_DNS_NXDOMAIN;
		gateway->stats.dns_local++;
		return answer_build(bytes, DNS_LOCAL_SIZE_MAX, &answer, 0, NULL, 0);
	}
	if (found > 0) {
		int size = wh_wire_dns_name_emit(encoded, sizeof encoded, name);
		gateway->stats.dns_local++;
		return answer_build(bytes, DNS_LOCAL_SIZE_MAX, question, WH_WIRE_DNS_PTR, encoded,
				    size);
	}
	found = dns_local_name(gateway, question->name, ip6, &ip);
	if (found < 0) {
		if ((!ip6 || gateway->dns_filter != WH_GATEWAY_FILTER_AAAA) &&
		    (!ip4 || gateway->dns_filter != WH_GATEWAY_FILTER_A))
			return 0;
		gateway->stats.dns_filtered++;
		found = 0;
	} else {
		gateway->stats.dns_local++;
	}
	if (!found || (!ip6 && !ip4))
		return answer_build(bytes, DNS_LOCAL_SIZE_MAX, question, 0, NULL, 0);
	policy_name_answer(gateway, question->name, &ip, DNS_TTL_LOCAL_S);
	proxy_note(gateway, question->name, &ip);
	return answer_build(bytes, DNS_LOCAL_SIZE_MAX, question, question->type,
			    ip6 ? ip.bytes : ip.bytes + 12, ip6 ? 16 : 4);
}

void dns_note_addresses(struct wh_gateway *gateway, const uint8_t *message, uint32_t size)
{
	struct wh_wire_dns answer;
	struct wh_wire_dns_record record;
	if ((!gateway->policy_name_count && !gateway->proxy) ||
	    wh_wire_dns_parse(message, size, &answer) < 0)
		return;
	size_t at = answer.question_end;
	/* Addresses at the end of a chain of CNAMEs are those of the name that was asked for. */
	for (uint32_t i = 0;
	     i < answer.answers && wh_wire_dns_next(message, size, &at, &record) == 1; i++) {
		const uint8_t *data = message + record.data_offset;
		struct wh_net_ip ip;
		if (record.class_ != WH_WIRE_DNS_IN)
			continue;
		if (record.type == WH_WIRE_DNS_A && record.data_size == 4)
			ip = wh_net_ip4(data);
		else if (record.type == WH_WIRE_DNS_AAAA && record.data_size == 16)
			ip = wh_net_ip6(data);
		else
			continue;
		policy_name_answer(gateway, answer.name, &ip, record.ttl_s);
		proxy_note(gateway, answer.name, &ip);
	}
}
