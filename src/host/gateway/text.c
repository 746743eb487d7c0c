/* SPDX-License-Identifier: ISC */
/* Addresses as text, both ways, and the log's lines. */
#include "gateway_priv.h"

bool ip4_parse(const char *text, const char *end, struct wh_net_ip *ret_ip)
{
	uint8_t ip[4];
	for (int i = 0; i < 4; i++) {
		uint32_t value = 0, digits = 0;
		for (; text < end && *text >= '0' && *text <= '9' && digits < 3; text++, digits++)
			value = value * 10 + (uint32_t)(*text - '0');
		if (!digits || value > 255 || (i < 3 && (text == end || *text++ != '.')))
			return false;
		ip[i] = (uint8_t)value;
	}
	*ret_ip = wh_net_ip4(ip);
	return text == end;
}

/* Digits up to `end`; false when there are none, others, or more than 65535. */
bool port_parse(const char *text, const char *end, uint16_t *ret_port)
{
	uint32_t value = 0;
	if (text == end || end - text > 5)
		return false;
	for (; text < end; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (uint32_t)(*text - '0');
	}
	*ret_port = (uint16_t)value;
	return value <= 65535;
}

const char *find_last(const char *text, const char *end, char c)
{
	while (end > text)
		if (*--end == c)
			return end;
	return NULL;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 4291, 2.2; an IPv4 tail is taken too. */
bool ip6_parse(const char *text, const char *end, struct wh_net_ip *ret_ip)
{
	struct wh_net_ip ip = { { 0 } };
	unsigned count = 0, gap = 16; /* bytes so far; where :: stands */
	if (end - text >= 2 && text[0] == ':' && text[1] == ':') {
		gap = 0;
		text += 2;
	}
	while (text < end) {
		uint32_t value = 0, digits = 0;
		const char *group = text;
		for (; text < end && hex_digit(*text) >= 0 && digits < 4; text++, digits++)
			value = value << 4 | (uint32_t)hex_digit(*text);
		if (text < end && *text == '.') {
			struct wh_net_ip tail;
			if (count > 12 || !ip4_parse(group, end, &tail))
				return false;
			memcpy(ip.bytes + count, tail.bytes + 12, 4);
			count += 4;
			text = end;
			break;
		}
		if (!digits || count > 14)
			return false;
		wh_store_be16(ip.bytes + count, (uint16_t)value);
		count += 2;
		if (text == end)
			break;
		if (*text++ != ':' || text == end)
			return false;
		if (*text == ':') {
			if (gap != 16)
				return false;
			gap = count;
			text++;
		}
	}
	if (gap == 16 ? count != 16 : count > 14)
		return false;
	if (gap != 16) {
		memmove(ip.bytes + gap + (16 - count), ip.bytes + gap, count - gap);
		memset(ip.bytes + gap, 0, 16 - count);
	}
	*ret_ip = ip;
	return true;
}

/* RFC 5952 but for the choice of the run of zeros: the first one of two groups or more. */
static size_t ip6_text(const struct wh_net_ip *ip, char *to, size_t size)
{
	size_t n = 0;
	bool gap = false;
	for (int i = 0; i < 8; i++) {
		uint16_t group = wh_load_be16(ip->bytes + 2 * i);
		bool zeros = !group && i < 7 && !wh_load_be16(ip->bytes + 2 * i + 2);
		if (zeros && !gap) {
			gap = true;
			while (i < 7 && !wh_load_be16(ip->bytes + 2 * i + 2))
				i++;
			n += wh_format(to + n, size - n, i == 7 ? "::" : ":");
			continue;
		}
		n += wh_format(to + n, size - n, i ? ":%x" : "%x", group);
	}
	return n;
}

const char *end_text(const struct wh_net_end *end, char to[END_TEXT_SIZE])
{
	const uint8_t *b = end->ip.bytes;
	size_t n = 0;
	if (wh_net_ip_is4(&end->ip)) {
		n = wh_format(to, END_TEXT_SIZE, "%u.%u.%u.%u", b[12], b[13], b[14], b[15]);
	} else {
		to[n++] = '[';
		n += ip6_text(&end->ip, to + n, END_TEXT_SIZE - n);
		n += wh_format(to + n, END_TEXT_SIZE - n, "]");
	}
	if (end->port)
		wh_format(to + n, END_TEXT_SIZE - n, ":%u", end->port);
	return to;
}

const char *mac_text(const uint8_t mac[6], char to[MAC_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	for (int i = 0; i < 6; i++) {
		to[3 * i] = digits[mac[i] >> 4];
		to[3 * i + 1] = digits[mac[i] & 15];
		to[3 * i + 2] = i < 5 ? ':' : 0;
	}
	return to;
}

bool mac_parse(const char *text, uint8_t ret_mac[6])
{
	uint8_t mac[6];
	for (int i = 0; i < 6; i++, text += 3) {
		int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);
		if (low < 0 || text[2] != (i < 5 ? ':' : 0))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(ret_mac, mac, 6);
	return true;
}

void log_flow(const struct wh_gateway *gateway, uint32_t id, const char *what,
	      const struct wh_net_end *from, const struct wh_net_end *to, int error)
{
	char a[END_TEXT_SIZE], b[END_TEXT_SIZE];
	if (!gateway->log.fn || gateway->log.level < WH_LOG_DEBUG)
		return;
	if (error)
		wh_log_write(&gateway->log, WH_LOG_DEBUG, "net", id, "%s %s -> %s: error %d", what,
			     end_text(from, a), end_text(to, b), error);
	else
		wh_log_write(&gateway->log, WH_LOG_DEBUG, "net", id, "%s %s -> %s", what,
			     end_text(from, a), end_text(to, b));
}
