/* SPDX-License-Identifier: ISC */
/* Ethernet and ARP. */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/net_wire.h>

int wh_wire_eth_parse(const uint8_t *p, size_t size, struct wh_wire_eth *ret)
{
	if (size < WH_WIRE_ETH_SIZE)
		return -WH_EBADMSG;
	memcpy(ret->to, p, 6);
	memcpy(ret->from, p + 6, 6);
	ret->type = wh_load_be16(p + 12);
	return WH_WIRE_ETH_SIZE;
}

size_t wh_wire_eth_emit(uint8_t *p, const struct wh_wire_eth *eth)
{
	memcpy(p, eth->to, 6);
	memcpy(p + 6, eth->from, 6);
	wh_store_be16(p + 12, eth->type);
	return WH_WIRE_ETH_SIZE;
}

int wh_wire_arp_parse(const uint8_t *p, size_t size, struct wh_wire_arp *ret)
{
	if (size < WH_WIRE_ARP_SIZE)
		return -WH_EBADMSG;
	if (wh_load_be16(p) != 1 || wh_load_be16(p + 2) != WH_WIRE_ETH_IP4 || p[4] != 6 ||
	    p[5] != 4)
		return -WH_EBADMSG;
	ret->op = wh_load_be16(p + 6);
	memcpy(ret->sender_mac, p + 8, 6);
	memcpy(ret->sender_ip, p + 14, 4);
	memcpy(ret->target_mac, p + 18, 6);
	memcpy(ret->target_ip, p + 24, 4);
	return WH_WIRE_ARP_SIZE;
}

size_t wh_wire_arp_emit(uint8_t *p, const struct wh_wire_arp *arp)
{
	wh_store_be16(p, 1);
	wh_store_be16(p + 2, WH_WIRE_ETH_IP4);
	p[4] = 6;
	p[5] = 4;
	wh_store_be16(p + 6, arp->op);
	memcpy(p + 8, arp->sender_mac, 6);
	memcpy(p + 14, arp->sender_ip, 4);
	memcpy(p + 18, arp->target_mac, 6);
	memcpy(p + 24, arp->target_ip, 4);
	return WH_WIRE_ARP_SIZE;
}
