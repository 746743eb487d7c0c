/* SPDX-License-Identifier: ISC */
/* Text and addresses: rules, configuration, what a destination stands for. */
#include "../gateway_priv.h"

#include <wherry/test.h>

static struct wh_gateway_rule parsed(const char *text)
{
	struct wh_gateway_rule rule;
	struct wh_diag diag = { "?" };
	int error = wh_gateway_rule_parse(text, &rule, &diag);
	if (error)
		test_fail(__FILE__, __LINE__, "%s: %s", text, diag.text);
	return rule;
}

static void rules_are_parsed(void)
{
	struct wh_gateway_rule rule = parsed("8080:80");
	CHECK_EQ(rule.protocol, WH_GATEWAY_TCP);
	CHECK(!rule.bind_given);
	CHECK_EQ(rule.host.port, 8080);
	CHECK_EQ(rule.guest_port, 80);
	rule = parsed("0:53/udp");
	CHECK_EQ(rule.protocol, WH_GATEWAY_UDP);
	CHECK_EQ(rule.host.port, 0);
	rule = parsed("192.168.1.20:65535:65535/tcp");
	CHECK(rule.bind_given && wh_net_ip_is4(&rule.host.ip));
	CHECK_EQ(rule.host.ip.bytes[15], 20);
	rule = parsed("[::1]:1:2");
	CHECK(rule.bind_given && gateway_is_loopback(&rule.host.ip));
	rule = parsed("[fd00:1::a:b]:1:2/udp");
	CHECK_EQ(rule.host.ip.bytes[0], 0xfd);
	CHECK_EQ(rule.host.ip.bytes[13], 0xa);
	CHECK_EQ(rule.host.ip.bytes[15], 0xb);
	rule = parsed("[::]:1:2");
	CHECK(wh_net_ip_is_any(&rule.host.ip) && !wh_net_ip_is4(&rule.host.ip));
	rule = parsed("*:1:2");
	CHECK(rule.bind_given && wh_net_ip_is_any(&rule.host.ip));
	rule = parsed("0.0.0.0:1:2");
	CHECK(wh_net_ip_is4(&rule.host.ip) && wh_net_ip_is_any(&rule.host.ip));
}

static void bad_rules_are_refused(void)
{
	static const char *const bad[] = {
		"",
		"80",
		":",
		"80:",
		":80",
		"80:0",
		"65536:1",
		"1:65536",
		"1:2/sctp",
		"1:2/",
		"a:1:2",
		"1.2.3:1:2",
		"1.2.3.4.5:1:2",
		"256.1.1.1:1:2",
		"[::1:1:2",
		"::1:1:2",
		"[:::]:1:2",
		"[1:2]:1:2",
		"-1:2",
		"1 :2",
		"+1:2",
		"123456:1",
		"[g::]:1:2",
		"1.2.3.4::2",
		"[1:2:3:4:5:6:7:8:9]:1:2",
		"[::1.2.3.256]:1:2",
		"[1::2::3]:1:2",
		"**:1:2",
	};
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		struct wh_gateway_rule rule = { .guest_port = 7 };
		struct wh_diag diag = { "" };
		if (wh_gateway_rule_parse(bad[i], &rule, &diag) != -WH_EINVAL)
			test_fail(__FILE__, __LINE__, "\"%s\" was taken", bad[i]);
		CHECK_EQ(rule.guest_port, 7);
		CHECK(diag.text[0]);
	}
}

static void ip6_texts(void)
{
	static const struct {
		const char *text;
		uint8_t bytes[16];
	} good[] = {
		{ "::", { 0 } },
		{ "::1", { [15] = 1 } },
		{ "1::", { 0, 1 } },
		{ "1:2:3:4:5:6:7:8", { 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8 } },
		{ "1:2:3:4:5:6:7::", { 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 0 } },
		{ "FfFe::1.2.3.4", { 0xff, 0xfe, [12] = 1, 2, 3, 4 } },
		{ "::ffff:9.8.7.6", { [10] = 0xff, 0xff, 9, 8, 7, 6 } },
	};
	for (unsigned i = 0; i < WH_ARRAY_COUNT(good); i++) {
		struct wh_net_ip ip;
		const char *text = good[i].text;
		if (!ip6_parse(text, text + wh_strlen(text), &ip))
			test_fail(__FILE__, __LINE__, "%s was refused", text);
		CHECK_MEM(ip.bytes, good[i].bytes, 16);
	}
}

static void ends_as_text(void)
{
	static const char *const texts[] = { "10.0.2.15:80",
					     "255.255.255.255:65535",
					     "[::]:1",
					     "[::1]:2",
					     "[1::]:3",
					     "[1:2:3:4:5:6:7:8]:4",
					     "[1:0:2::3]:5",
					     "[fd77:6865:7272:7900::15]:6",
					     "[1:2:3:4:5:6:7:0]:7",
					     "[0:1:2:3:4:5:6:7]:8" };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(texts); i++) {
		char rule_text[80], text[END_TEXT_SIZE];
		wh_format(rule_text, sizeof rule_text, "%s:1", texts[i]);
		struct wh_gateway_rule rule = parsed(rule_text);
		CHECK_STR(end_text(&rule.host, text), texts[i]);
	}
}

static void configs_are_checked(void)
{
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_gateway_addresses a;
	struct wh_diag diag;
	CHECK_EQ(wh_gateway_config_addresses(&config, &a, &diag), 0);
	CHECK_EQ(a.guest_ip4[3], 15);
	CHECK_EQ(a.dns_ip6[15], 3);
	CHECK_EQ(a.prefix6, 64);
	config.no_ip6 = true;
	CHECK_EQ(wh_gateway_config_addresses(&config, &a, &diag), 0);
	CHECK_EQ(a.prefix6, 0);
	config.guest_ip4[0] = 192;
	CHECK_EQ(wh_gateway_config_addresses(&config, &a, &diag), -WH_EINVAL);
	config.guest_ip4[0] = 0;
	config.guest_mac[0] = 1;
	CHECK_EQ(wh_gateway_config_addresses(&config, &a, &diag), -WH_EINVAL);
	config.guest_mac[0] = 0;
	config.prefix4 = 31;
	CHECK_EQ(wh_gateway_config_addresses(&config, &a, &diag), -WH_EINVAL);
	struct wh_loop *loop;
	struct wh_gateway *gateway;
	CHECK_EQ(wh_loop_new(&loop), 0);
	config.size--;
	CHECK_EQ(wh_gateway_new(&config, loop, &gateway, &diag), -WH_EINVAL);
	config = (struct wh_gateway_config)WH_GATEWAY_CONFIG_INIT;
	config.resolver_count = WH_GATEWAY_RESOLVERS_MAX + 1;
	CHECK_EQ(wh_gateway_new(&config, loop, &gateway, &diag), -WH_EINVAL);
	wh_gateway_free(NULL);
	wh_loop_free(loop);
}

static void new_survives_every_allocation_failure(void)
{
	struct wh_loop *loop;
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	config.alloc = &test_allocator;
	config.hostname = "name";
	CHECK_EQ(wh_loop_new(&loop), 0);
	int error = -1;
	for (unsigned long n = 1; error && n < 1000; n++) {
		struct wh_gateway *gateway;
		test_alloc_fail_at(n);
		error = wh_gateway_new(&config, loop, &gateway, NULL);
		test_alloc_fail_at(0);
		if (!error)
			wh_gateway_free(gateway);
		else
			CHECK_EQ(error, -WH_ENOMEM);
		CHECK_EQ(test_alloc_live(), 0);
	}
	CHECK_EQ(error, 0);
	wh_loop_free(loop);
}

static struct wh_net_end end6(const char *text, uint16_t port)
{
	struct wh_net_end end = { .port = port };
	CHECK(ip6_parse(text, text + wh_strlen(text), &end.ip));
	return end;
}

static struct wh_net_end end4(const char *text, uint16_t port)
{
	struct wh_net_end end = { .port = port };
	CHECK(ip4_parse(text, text + wh_strlen(text), &end.ip));
	return end;
}

static void destinations(void)
{
	struct wh_loop *loop;
	struct wh_gateway *g;
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_net_end to;
	CHECK_EQ(wh_loop_new(&loop), 0);
	CHECK_EQ(wh_gateway_new(&config, loop, &g, NULL), 0);
	static const struct {
		const char *ip;
		enum destination wanted;
	} cases[] = {
		{ "10.0.2.2", DESTINATION_REFUSED },
		{ "10.0.2.3", DESTINATION_DNS },
		{ "10.0.2.99", DESTINATION_UNREACHABLE },
		{ "127.0.0.1", DESTINATION_FORBIDDEN },
		{ "127.9.9.9", DESTINATION_FORBIDDEN },
		{ "0.0.0.0", DESTINATION_FORBIDDEN },
		{ "0.1.2.3", DESTINATION_FORBIDDEN },
		{ "224.0.0.1", DESTINATION_UNREACHABLE },
		{ "255.255.255.255", DESTINATION_UNREACHABLE },
		{ "192.0.2.1", DESTINATION_HOST },
	};
	static const struct {
		const char *ip;
		enum destination wanted;
	} cases6[] = {
		{ "fd77:6865:7272:7900::2", DESTINATION_REFUSED },
		{ "fd77:6865:7272:7900::3", DESTINATION_DNS },
		{ "fd77:6865:7272:7900::99", DESTINATION_UNREACHABLE },
		{ "::1", DESTINATION_FORBIDDEN },
		{ "::", DESTINATION_FORBIDDEN },
		{ "::ffff:127.0.0.1", DESTINATION_FORBIDDEN },
		{ "fe80::1", DESTINATION_UNREACHABLE },
		{ "ff02::1", DESTINATION_UNREACHABLE },
		{ "2001:db8::1", DESTINATION_HOST },
	};
	for (unsigned i = 0; i < WH_ARRAY_COUNT(cases); i++) {
		struct wh_net_end meant = end4(cases[i].ip, 80);
		if (gateway_destination(g, &meant, &to) != cases[i].wanted)
			test_fail(__FILE__, __LINE__, "%s", cases[i].ip);
	}
	for (unsigned i = 0; i < WH_ARRAY_COUNT(cases6); i++) {
		struct wh_net_end meant = end6(cases6[i].ip, 80);
		if (gateway_destination(g, &meant, &to) != cases6[i].wanted)
			test_fail(__FILE__, __LINE__, "%s", cases6[i].ip);
	}
	wh_gateway_free(g);
	config.host_loopback = true;
	config.no_outbound = true;
	CHECK_EQ(wh_gateway_new(&config, loop, &g, NULL), 0);
	struct wh_net_end meant = end4("10.0.2.2", 80);
	CHECK_EQ(gateway_destination(g, &meant, &to), DESTINATION_HOST);
	CHECK(gateway_is_loopback(&to.ip) && wh_net_ip_is4(&to.ip));
	CHECK_EQ(to.port, 80);
	meant = end4("192.0.2.1", 80);
	CHECK_EQ(gateway_destination(g, &meant, &to), DESTINATION_FORBIDDEN);
	/* Clients as the guest sees them. */
	struct wh_net_end client = end4("127.0.0.1", 5), shown;
	CHECK(!gateway_shown(g, &client, &shown));
	CHECK_EQ(shown.ip.bytes[15], 2);
	client = end4("10.0.2.15", 5);
	CHECK(!gateway_shown(g, &client, &shown));
	client = end4("192.0.2.9", 5);
	CHECK(gateway_shown(g, &client, &shown));
	CHECK(wh_net_ip_equal(&shown.ip, &client.ip));
	client = end6("2001:db8::9", 5);
	CHECK(gateway_shown(g, &client, &shown));
	client = end6("fe80::9", 5);
	CHECK(!gateway_shown(g, &client, &shown));
	wh_gateway_free(g);
	wh_loop_free(loop);
}

int main(void)
{
	RUN(rules_are_parsed);
	RUN(bad_rules_are_refused);
	RUN(ip6_texts);
	RUN(ends_as_text);
	RUN(configs_are_checked);
	RUN(new_survives_every_allocation_failure);
	RUN(destinations);
	return test_end();
}
