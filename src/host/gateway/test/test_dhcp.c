/* SPDX-License-Identifier: ISC */
/* DHCPv4, DHCPv6 and router advertisements: what clients of all kinds ask, and what bad ones do. */
#include "../gateway_priv.h"
#include "world.h"

#include <stdlib.h>

static struct world w;
static struct wh_gateway_stats stats;

static const struct wh_gateway_stats *now(void)
{
	wh_gateway_stats(w.gateway, &stats);
	return &stats;
}

/* ---- a client's socket ---- */

static struct {
	struct wh_net_udp *socket;
	uint32_t count, size;
	uint8_t bytes[2048];
} client;

static void client_datagram(struct wh_net_udp *u, const struct wh_net_tuple *tuple,
			    const struct wh_iov *iov, uint32_t count, uint32_t size)
{
	client.count++;
	client.size = size;
	CHECK(size <= sizeof client.bytes);
	CHECK_EQ(wh_iov_read(iov, count, 0, client.bytes, size), size);
}

static void client_open(uint16_t port)
{
	static const struct wh_net_udp_ops ops = { .datagram = client_datagram };
	struct wh_net_tuple tuple = { .local = { .port = port } };
	memset(&client, 0, sizeof client);
	CHECK_EQ(wh_net_udp_open(w.guest, &tuple, 0, &ops, NULL, &client.socket), 0);
}

static void client_send(const struct wh_net_end *to, const void *data, size_t size)
{
	struct wh_net_tuple tuple = { .local = wh_net_udp_tuple(client.socket)->local,
				      .remote = *to };
	struct wh_iov iov = { (void *)(uintptr_t)data, size };
	CHECK(wh_net_udp_send(w.guest, client.socket, &tuple, &iov, 1, NULL) > 0);
}

/* ---- DHCPv4 ---- */

static struct wh_wire_dhcp reply;

static void ask(const struct wh_wire_dhcp *d)
{
	uint8_t bytes[WH_WIRE_DHCP_SIZE_MAX];
	const struct wh_net_end to = end4(255, 255, 255, 255, 67);
	client_send(&to, bytes, wh_wire_dhcp_emit(bytes, d));
}

/* The type of the answer. */
static unsigned ask_and_wait(const struct wh_wire_dhcp *d)
{
	uint32_t before = client.count;
	ask(d);
	UNTIL(&w, client.count > before);
	CHECK(wh_wire_dhcp_parse(client.bytes, client.size, &reply) >= 0);
	CHECK_EQ(reply.transaction, d->transaction);
	return reply.type;
}

/* Nothing comes back: something that is answered is asked behind it. */
static void ask_in_vain(const struct wh_wire_dhcp *d)
{
	struct wh_wire_dhcp inform = { .op = 1, .type = WH_WIRE_DHCP_INFORM, .transaction = 99 };
	memcpy(inform.client_ip, w.gateway->addresses.guest_ip4, 4);
	ask(d);
	CHECK_EQ(ask_and_wait(&inform), WH_WIRE_DHCP_ACK);
}

static struct wh_wire_dhcp message(enum wh_wire_dhcp_type type, uint8_t mac)
{
	return (struct wh_wire_dhcp){ .op = 1,
				      .type = (uint8_t)type,
				      .broadcast = true,
				      .transaction = 0x1000u + mac,
				      .mac = { 2, 0, 0, 0, 0, mac } };
}

/* The last byte of the address that was leased. */
static unsigned lease(uint8_t mac)
{
	struct wh_wire_dhcp d = message(WH_WIRE_DHCP_DISCOVER, mac);
	CHECK_EQ(ask_and_wait(&d), WH_WIRE_DHCP_OFFER);
	d.type = WH_WIRE_DHCP_REQUEST;
	memcpy(d.requested_ip, reply.your_ip, 4);
	memcpy(d.server_id, reply.server_id, 4);
	CHECK_EQ(ask_and_wait(&d), WH_WIRE_DHCP_ACK);
	return reply.your_ip[3];
}

static void begin(uint8_t prefix4)
{
	static const uint8_t time4[4] = { 192, 0, 2, 123 };
	static const uint8_t time6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 0x23 };
	world_init(&w);
	w.config.prefix4 = prefix4;
	if (prefix4)
		w.config.guest_ip4[0] = 10, w.config.guest_ip4[2] = 2, w.config.guest_ip4[3] = 5;
	w.config.search = "example.org corp.example";
	w.config.ntp[0] = wh_net_ip4(time4);
	w.config.ntp[1] = wh_net_ip6(time6);
	w.config.ntp_count = 2;
	world_start(&w);
}

static void states_of_a_client(void)
{
	begin(0);
	client_open(68);
	CHECK_EQ(lease(1), 15);
	CHECK_EQ(reply.ntp_count, 1);
	CHECK_EQ(reply.ntp[0][3], 123);
	CHECK_EQ(lease(2), 16);
	CHECK_EQ(lease(1), 15); /* the same one again */
	/* RENEWING and REBINDING have the address in ciaddr. */
	struct wh_wire_dhcp renew = message(WH_WIRE_DHCP_REQUEST, 2);
	memcpy(renew.client_ip, (uint8_t[4]){ 10, 0, 2, 16 }, 4);
	struct wh_net_ip ip = wh_net_ip4(renew.client_ip);
	CHECK_EQ(wh_net_address_add(w.guest, &ip, 24), 0); /* the answer goes there */
	CHECK_EQ(ask_and_wait(&renew), WH_WIRE_DHCP_ACK);
	CHECK_EQ(reply.lease_s, 3600);
	/* INIT-REBOOT: one that nobody has is given, another's and one of another network are not. */
	struct wh_wire_dhcp reboot = message(WH_WIRE_DHCP_REQUEST, 3);
	memcpy(reboot.requested_ip, (uint8_t[4]){ 10, 0, 2, 77 }, 4);
	CHECK_EQ(ask_and_wait(&reboot), WH_WIRE_DHCP_ACK);
	CHECK_EQ(reply.your_ip[3], 77);
	reboot.mac[5] = 4;
	CHECK_EQ(ask_and_wait(&reboot), WH_WIRE_DHCP_NAK);
	reboot.requested_ip[1] = 9;
	CHECK_EQ(ask_and_wait(&reboot), WH_WIRE_DHCP_NAK);
	CHECK_EQ(now()->dhcp_refused, 2);
	/* Who has chosen another server hears nothing, and its offer is free. */
	struct wh_wire_dhcp other = message(WH_WIRE_DHCP_REQUEST, 4);
	other.server_id[0] = 10;
	ask_in_vain(&other);
	struct wh_gateway_lease list[WH_GATEWAY_LEASES_MAX];
	uint32_t n = wh_gateway_lease_list(w.gateway, list, WH_GATEWAY_LEASES_MAX);
	for (uint32_t i = 0; i < n; i++)
		CHECK_EQ(list[i].left_ns == 0, list[i].mac[5] == 4);
	CHECK_EQ(n, 4);
	wh_net_udp_close(client.socket);
	world_stop(&w);
}

static void decline_and_release(void)
{
	begin(0);
	client_open(68);
	CHECK_EQ(lease(1), 15);
	struct wh_wire_dhcp d = message(WH_WIRE_DHCP_DECLINE, 1);
	memcpy(d.requested_ip, (uint8_t[4]){ 10, 0, 2, 99 }, 4);
	ask_in_vain(&d); /* not its own: nothing happens */
	CHECK_EQ(now()->dhcp_declined, 0);
	d.requested_ip[3] = 15;
	ask_in_vain(&d);
	CHECK_EQ(now()->dhcp_declined, 1);
	CHECK_EQ(lease(1), 16);
	CHECK_EQ(lease(2), 17);
	/* A release of another's address does nothing; its own one is the next one's when all are gone. */
	struct wh_wire_dhcp release = message(WH_WIRE_DHCP_RELEASE, 2);
	memcpy(release.client_ip, (uint8_t[4]){ 10, 0, 2, 16 }, 4);
	ask_in_vain(&release);
	release.client_ip[3] = 17;
	ask_in_vain(&release);
	CHECK_EQ(lease(2), 17); /* it came back first */
	wh_net_udp_close(client.socket);
	world_stop(&w);
}

/* A /29 has room for four guests. */
static void pool_exhausted(void)
{
	begin(29);
	client_open(68);
	CHECK_EQ(lease(1), 5);
	CHECK_EQ(lease(2), 6);
	CHECK_EQ(lease(3), 1);
	struct wh_wire_dhcp d = message(WH_WIRE_DHCP_DISCOVER, 4);
	CHECK_EQ(ask_and_wait(&d), WH_WIRE_DHCP_OFFER);
	CHECK_EQ(reply.your_ip[3], 4);
	d = message(WH_WIRE_DHCP_DISCOVER, 5);
	ask_in_vain(&d);
	CHECK_EQ(now()->dhcp_exhausted, 1);
	/* The offer that nobody took up has run out: then it is another's, and the leases stay. */
	struct lease *offer = lease_find(w.gateway, (uint8_t[6]){ 2, 0, 0, 0, 0, 4 });
	CHECK(offer && !offer->bound);
	offer->expires_ns = 1;
	CHECK_EQ(lease(5), 4);
	CHECK_EQ(lease(1), 5);
	d = message(WH_WIRE_DHCP_REQUEST, 4);
	memcpy(d.requested_ip, (uint8_t[4]){ 10, 0, 2, 4 }, 4);
	CHECK_EQ(ask_and_wait(&d), WH_WIRE_DHCP_NAK);
	/* As are leases, from the oldest on. */
	lease_find(w.gateway, (uint8_t[6]){ 2, 0, 0, 0, 0, 3 })->expires_ns = 2;
	lease_find(w.gateway, (uint8_t[6]){ 2, 0, 0, 0, 0, 2 })->expires_ns = 1;
	CHECK_EQ(lease(6), 6);
	CHECK_EQ(lease(7), 1);
	wh_net_udp_close(client.socket);
	world_stop(&w);
}

static void fixed_leases(void)
{
	static const uint8_t a[6] = { 2, 0, 0, 0, 0, 1 }, b[6] = { 2, 0, 0, 0, 0, 2 };
	begin(0);
	client_open(68);
	CHECK_EQ(wh_gateway_lease_fix(w.gateway, a, (uint8_t[4]){ 10, 0, 2, 200 }), 0);
	CHECK_EQ(wh_gateway_lease_fix(w.gateway, b, (uint8_t[4]){ 10, 0, 2, 200 }), -WH_EADDRINUSE);
	CHECK_EQ(wh_gateway_lease_fix(w.gateway, b, (uint8_t[4]){ 10, 0, 2, 3 }),
		 -WH_EADDRNOTAVAIL);
	CHECK_EQ(wh_gateway_lease_fix(w.gateway, (uint8_t[6]){ 1 }, (uint8_t[4]){ 10, 0, 2, 9 }),
		 -WH_EINVAL);
	CHECK_EQ(lease(1), 200);
	CHECK_EQ(lease(2), 15);
	/* An address that is leased is not taken away; one that was only offered is. */
	CHECK_EQ(wh_gateway_lease_fix(w.gateway, a, (uint8_t[4]){ 10, 0, 2, 15 }), -WH_EADDRINUSE);
	struct wh_wire_dhcp d = message(WH_WIRE_DHCP_DISCOVER, 3);
	CHECK_EQ(ask_and_wait(&d), WH_WIRE_DHCP_OFFER);
	CHECK_EQ(reply.your_ip[3], 16);
	CHECK_EQ(wh_gateway_lease_fix(w.gateway, a, (uint8_t[4]){ 10, 0, 2, 16 }), 0);
	CHECK_EQ(lease(1), 16);
	CHECK_EQ(lease(3), 17);
	CHECK_EQ(wh_gateway_lease_remove(w.gateway, a), 0);
	CHECK_EQ(wh_gateway_lease_remove(w.gateway, a), -WH_ENOENT);
	wh_net_udp_close(client.socket);
	world_stop(&w);
}

/* ---- DHCPv6 ---- */

static uint8_t query[1500];
static size_t query_size;

static void option(uint16_t kind, const void *data, size_t size)
{
	wh_store_be16(query + query_size, kind);
	wh_store_be16(query + query_size + 2, (uint16_t)size);
	if (size)
		memcpy(query + query_size + 4, data, size);
	query_size += 4 + size;
}

static void query_begin(uint8_t type, bool known)
{
	static const uint8_t duid[] = { 0, 2, 0, 0, 0xab, 0x11, 1, 2, 3, 4 };
	memcpy(query, (uint8_t[4]){ type, 7, 8, 9 }, 4);
	query_size = 4;
	if (known)
		option(1, duid, sizeof duid);
}

static void association(uint16_t kind, uint8_t iaid, const uint8_t *ip)
{
	uint8_t ia[40] = { 0, 0, 0, iaid };
	if (ip) {
		wh_store_be16(ia + 12, 5);
		wh_store_be16(ia + 14, 24);
		memcpy(ia + 16, ip, 16);
	}
	option(kind, ia, ip ? 40 : 12);
}

/* The option's data in the last reply, or NULL. */
static const uint8_t *found(uint16_t kind, size_t *ret_size)
{
	for (size_t at = 4; at + 4 <= client.size;) {
		size_t size = wh_load_be16(client.bytes + at + 2);
		CHECK(at + 4 + size <= client.size);
		if (wh_load_be16(client.bytes + at) == kind) {
			*ret_size = size;
			return client.bytes + at + 4;
		}
		at += 4 + size;
	}
	return NULL;
}

static const struct wh_net_end servers = { { { 0xff, 2, [13] = 1, [15] = 2 } }, 547 };

static unsigned query_send(void)
{
	uint32_t before = client.count;
	client_send(&servers, query, query_size);
	UNTIL(&w, client.count > before);
	CHECK(client.size >= 4 && !memcmp(client.bytes + 1, query + 1, 3));
	return client.bytes[0];
}

static void query_in_vain(void)
{
	uint32_t before = client.count;
	client_send(&servers, query, query_size);
	query_begin(11, false);
	CHECK_EQ(query_send(), 7);
	CHECK_EQ(client.count, before + 1);
}

/* The last byte of the one address that was given. */
static unsigned address_given(void)
{
	size_t size;
	const uint8_t *ia = found(3, &size);
	CHECK(ia && size >= 40);
	CHECK_EQ(wh_load_be16(ia + 12), 5);
	CHECK(!memcmp(ia + 16, "\xfd\x77\x68\x65\x72\x72\x79", 7));
	CHECK_EQ(wh_load_be32(ia + 36), 3600);
	return ia[31];
}

static void begin6(void)
{
	begin(0);
	wh_gateway_dhcp6_enable(w.gateway);
	client_open(546);
}

static void end6(void)
{
	wh_net_udp_close(client.socket);
	world_stop(&w);
}

static void addresses_by_dhcp6(void)
{
	uint8_t server[64];
	size_t server_size, n;
	begin6();
	query_begin(1, true);
	association(3, 1, NULL);
	CHECK_EQ(query_send(), 2); /* ADVERTISE */
	CHECK_EQ(address_given(), 0x15);
	CHECK_EQ(*found(7, &n), 255);
	const uint8_t *id = found(2, &server_size);
	CHECK(id && server_size == 10);
	memcpy(server, id, server_size);
	CHECK(found(1, &n) && n == 10);
	struct wh_gateway_lease list[2];
	CHECK_EQ(wh_gateway_lease_list(w.gateway, list, 2), 1);
	CHECK(!list[0].bound);
	/* REQUEST, RENEW, REBIND; a second association has nothing. */
	for (uint8_t type = 3; type <= 6; type++) {
		if (type == 4)
			continue;
		query_begin(type, true);
		if (type != 6)
			option(2, server, server_size);
		association(3, 1, NULL);
		association(3, 2, NULL);
		CHECK_EQ(query_send(), 7);
		CHECK_EQ(address_given(), 0x15);
		CHECK_EQ(wh_gateway_lease_list(w.gateway, list, 2), 1);
		CHECK(list[0].bound && list[0].left_ns > 3590 * GATEWAY_S);
	}
	/* DNS, search and time servers; what is not asked for is not sent. */
	CHECK_EQ(found(23, &n)[15], 3);
	CHECK(found(24, &n) && n == 27);
	CHECK(found(56, &n) && n == 20);
	query_begin(6, true);
	association(3, 1, NULL);
	option(6, "\0\x18", 2);
	CHECK_EQ(query_send(), 7);
	CHECK(!found(23, &n) && found(24, &n) && !found(56, &n));
	/* Rapid commit. */
	query_begin(1, true);
	option(14, NULL, 0);
	association(3, 1, NULL);
	CHECK_EQ(query_send(), 7);
	CHECK(found(14, &n) != NULL);
	end6();
}

static void other_questions_of_dhcp6(void)
{
	static const uint8_t server[] = { 0, 3, 0, 1, 0x52, 0x55, 0x0a, 0, 2, 2 };
	uint8_t ip[16] = { 0xfd, 0x77, 0x68, 0x65, 0x72, 0x72, 0x79, [15] = 0x44 };
	size_t n;
	begin6();
	/* CONFIRM: of this link or not; about nothing there is no answer. */
	query_begin(4, true);
	association(3, 1, ip);
	CHECK_EQ(query_send(), 7);
	CHECK_EQ(wh_load_be16(found(13, &n)), 0);
	ip[0] = 0xfc;
	query_begin(4, true);
	association(3, 1, ip);
	CHECK_EQ(query_send(), 7);
	CHECK_EQ(wh_load_be16(found(13, &n)), 4);
	query_begin(4, true);
	query_in_vain();
	/* An address that is not its own ends, its own is given. */
	query_begin(6, true);
	association(3, 1, ip);
	CHECK_EQ(query_send(), 7);
	CHECK_EQ(address_given(), 0x15);
	const uint8_t *ia = found(3, &n);
	CHECK_EQ(n, 12 + 2 * 28);
	CHECK(!memcmp(ia + 44, ip, 16) && wh_load_be32(ia + 64) == 0);
	/* Temporary addresses and prefixes are refused. */
	query_begin(1, true);
	association(25, 1, NULL);
	CHECK_EQ(query_send(), 2);
	ia = found(25, &n);
	CHECK(ia && wh_load_be16(ia + 12) == 13 && wh_load_be16(ia + 16) == 6);
	/* RELEASE and DECLINE. */
	for (uint8_t type = 8; type <= 9; type++) {
		query_begin(type, true);
		option(2, server, sizeof server);
		ip[0] = 0xfd, ip[15] = 0x15;
		association(3, 1, ip);
		CHECK_EQ(query_send(), 7);
		CHECK_EQ(wh_load_be16(found(13, &n)), 0);
	}
	CHECK_EQ(now()->dhcp_declined, 1);
	query_begin(6, true);
	association(3, 1, NULL);
	CHECK_EQ(query_send(), 7);
	CHECK_EQ(address_given(), 0x16);
	end6();
}

static void bad_dhcp6(void)
{
	static const uint8_t other[] = { 0, 3, 0, 1, 1, 2, 3, 4, 5, 6 };
	begin6();
	query_begin(1, false); /* nobody */
	query_in_vain();
	query_begin(3, true); /* no server, another server */
	query_in_vain();
	query_begin(3, true);
	option(2, other, sizeof other);
	query_in_vain();
	query_begin(12, true); /* a relay */
	query_in_vain();
	query_begin(1, true);
	association(3, 1, NULL);
	query_size -= 3; /* cut */
	query_in_vain();
	query_begin(1, true);
	option(3, "abc", 3);
	query_in_vain();
	query_begin(1, true);
	for (int i = 0; i < 30; i++) /* more than there is room for */
		association(3, (uint8_t)i, NULL);
	CHECK_EQ(query_send(), 2);
	CHECK_EQ(address_given(), 0x15);
	for (int i = 0; i < 2000; i++) {
		query_begin((uint8_t)(1 + rand() % 12), rand() % 4);
		association(3, 1, NULL);
		query[4 + (size_t)rand() % (query_size - 4)] ^= (uint8_t)(1 << rand() % 8);
		client_send(&servers, query, query_size - (size_t)(rand() % 3));
		world_settle(&w);
	}
	end6();
}

/* ---- router advertisements ---- */

static uint8_t advert[512];
static uint32_t advert_size, adverts;

static bool note_advert(struct world *world, const struct wh_net_frame *frame, bool to_guest)
{
	uint8_t head[54 + 1];
	if (!to_guest || wh_iov_read(frame->iov, 1, 0, head, sizeof head) < sizeof head ||
	    head[12] != 0x86 || head[20] != WH_WIRE_PROTO_ICMP6 ||
	    head[54] != WH_WIRE_ICMP6_ROUTER_ADVERT)
		return true;
	advert_size = frame->size - 54;
	CHECK(advert_size <= sizeof advert);
	wh_iov_read(frame->iov, 1, 54, advert, advert_size);
	adverts++;
	return true;
}

static void advertisements(void)
{
	struct wh_wire_router_advert ra;
	adverts = 0;
	world_init(&w);
	w.filter = note_advert;
	w.config.search = "example.org corp.example";
	w.host_end.port.mtu = 9000;
	world_start(&w); /* one when the link begins */
	UNTIL(&w, adverts == 1);
	CHECK(wh_wire_router_advert_parse(advert, advert_size, &ra) >= 0);
	CHECK_EQ(ra.mtu, 9000);
	CHECK(!ra.managed && !ra.other && ra.lifetime_s == 9000);
	/* DNSSL is the last option. */
	const uint8_t *option_at = advert + advert_size - 40;
	CHECK_EQ(option_at[0], 31);
	CHECK_EQ(option_at[1], 5);
	CHECK(!memcmp(option_at + 8, "\7example\3org\0\4corp\7example\0", 27));
	/* Then with the timer, and with what changed meanwhile. */
	wh_gateway_dhcp6_enable(w.gateway);
	CHECK(wh_loop_timer_running(&w.gateway->advert_timer));
	wh_loop_timer_start(w.loop, &w.gateway->advert_timer, 1);
	UNTIL(&w, adverts == 2);
	CHECK(wh_wire_router_advert_parse(advert, advert_size, &ra) >= 0);
	CHECK(ra.managed && ra.other && ra.prefix[0].autonomous);
	CHECK(wh_loop_timer_running(&w.gateway->advert_timer));
	world_stop(&w);
}

int main(void)
{
	RUN(states_of_a_client);
	RUN(decline_and_release);
	RUN(pool_exhausted);
	RUN(fixed_leases);
	RUN(addresses_by_dhcp6);
	RUN(other_questions_of_dhcp6);
	RUN(bad_dhcp6);
	RUN(advertisements);
	return test_end();
}
