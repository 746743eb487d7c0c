/* SPDX-License-Identifier: ISC */
/* Policy, names, the list of flows, and the control: its commands, its file, hostile clients. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/gateway_control.h>

#include "../gateway_priv.h"
#include "world.h"

static struct world w;
static struct wh_gateway_control *control;
static char reply[1 << 20];

/* ---- policy ---- */

static struct wh_gateway_policy rule(const char *text, bool deny)
{
	struct wh_gateway_policy policy;
	struct wh_diag diag = { "" };
	if (wh_gateway_policy_parse(text, deny, &policy, &diag))
		test_fail(__FILE__, __LINE__, "%s", diag.text);
	return policy;
}

static void policies_are_parsed(void)
{
	static const char *const good[] = { "*",
					    "in:*",
					    "*:25/tcp",
					    "10.0.0.0/8",
					    "10.0.0.0/8/udp",
					    "10.1.2.3:1-65535/udp",
					    "0.0.0.0/0/icmp",
					    "[fd00::/8]:443/tcp",
					    "[::1]",
					    "[::/0]",
					    "in:[2001:db8::1]:80-81",
					    "db.test",
					    "*.corp.test:443/tcp",
					    "a_b.x-1.test/icmp" };
	static const char *const bad[] = {
		"",          "in:",       "10.0.0.0/33", "*/sctp",           "*:0",      "*:2-1",
		"*:65536",   "[::1",      "::1",         "[::1]x:5",         "[::/129]", "*:/tcp",
		"*:5/icmp",  "in:*/icmp", "1.2.3:5",     "[::ffff:1.2.3.4]", "*:1-",     "1.2.3.4/",
		"1.2.3.256", "in:a.test", "a..test",     "*.test.*",         " *"
	};
	char text[WH_GATEWAY_POLICY_TEXT_SIZE];
	struct wh_gateway_policy policy;
	for (unsigned i = 0; i < WH_ARRAY_COUNT(good); i++) {
		policy = rule(good[i], true);
		CHECK_STR(wh_gateway_policy_text(&policy, text), good[i]);
	}
	policy = rule("out:1.2.3.4", false);
	CHECK_STR(wh_gateway_policy_text(&policy, text), "1.2.3.4");
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++)
		if (wh_gateway_policy_parse(bad[i], true, &policy, NULL) != -WH_EINVAL)
			test_fail(__FILE__, __LINE__, "%s was taken", bad[i]);
}

static bool denied(const char *address, uint16_t port, uint8_t protocol)
{
	struct wh_net_ip ip;
	const char *end = address + wh_strlen(address);
	CHECK(ip4_parse(address, end, &ip) || ip6_parse(address, end, &ip));
	return policy_denies(w.gateway, false, protocol, &ip, port);
}

static void first_fitting_policy_decides(void)
{
	struct wh_gateway_policy p = rule("*", true), q = rule("10.0.0.0/9:80-90/tcp", false);
	struct wh_gateway_policy_entry list[4];
	uint32_t all, some;
	world_init(&w);
	world_start_gateway(&w);
	CHECK(!denied("10.1.1.1", 80, 6));
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &p, 0, &all), 0);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &q, all, &some), 0);
	CHECK(!denied("10.127.1.1", 80, 6) && !denied("10.1.1.1", 90, 6));
	CHECK(denied("10.128.1.1", 80, 6) && denied("10.1.1.1", 91, 6));
	CHECK(denied("10.1.1.1", 80, 17) && denied("fd00::1", 80, 6) && denied("9.9.9.9", 0, 1));
	CHECK_EQ(wh_gateway_policy_list(w.gateway, list, 4), 2);
	CHECK(list[0].id == some && list[0].hits == 2 && list[1].hits == 5);
	CHECK_EQ(wh_gateway_policy_remove(w.gateway, all), 0);
	CHECK_EQ(wh_gateway_policy_remove(w.gateway, all), -WH_ENOENT);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &p, all, NULL), -WH_ENOENT);
	p = rule("[fd00:8000::/17]", true);
	for (unsigned i = 1; i < WH_GATEWAY_POLICIES_MAX; i++)
		CHECK_EQ(wh_gateway_policy_add(w.gateway, &p, 0, NULL), 0);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &p, 0, NULL), -WH_ENOSPC);
	CHECK(denied("fd00:8001::1", 5, 17) && !denied("fd00:7fff::1", 5, 17));
	world_stop(&w);
}

static void denied_flows_are_refused(void)
{
	static struct app app;
	static struct program program;
	struct wh_gateway_policy p;
	struct wh_gateway_stats s;
	uint32_t id;
	uint16_t port, udp_port;
	int listener = host_listen(AF_INET, &port), udp = host_udp(AF_INET, &udp_port);
	char text[64];
	world_init(&w);
	world_start(&w);
	snprintf(text, sizeof text, "10.0.2.2:%u/tcp", port);
	p = rule(text, true);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &p, 0, &id), 0);
	app_connect(&app, &w, false, port);
	UNTIL(&w, app.failed);
	CHECK_EQ(app.error, WH_ECONNREFUSED);
	app_close(&app);
	CHECK_EQ(wh_gateway_policy_remove(w.gateway, id), 0);
	app_connect(&app, &w, false, port);
	UNTIL(&w, app.connected);
	program_accept(&program, &w, listener);

	snprintf(text, sizeof text, "10.0.2.2:%u/udp", udp_port);
	p = rule(text, true);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &p, 0, &id), 0);
	struct wh_net_tuple tuple = { .local = { .port = 99 },
				      .remote = end4(10, 0, 2, 2, udp_port) };
	char byte[] = "x";
	struct wh_iov iov = { byte, 1 };
	CHECK_EQ(wh_net_udp_send(w.guest, NULL, &tuple, &iov, 1, NULL), 1);
	UNTIL(&w, w.udp_errors == 1);
	CHECK_EQ(w.last_udp_error, WH_ECONNREFUSED);
	wh_gateway_stats(w.gateway, &s);
	CHECK_EQ(s.policy_denied, 2);
	app_close(&app);
	program_close(&program);
	close(listener);
	close(udp);
	world_stop(&w);
}

static void denied_clients_are_reset(void)
{
	static struct program program;
	struct wh_gateway_rule published = { .protocol = WH_GATEWAY_TCP, .guest_port = 80 };
	struct wh_gateway_policy p = rule("in:127.0.0.0/8:80/tcp", true);
	struct wh_net_end bound;
	world_init(&w);
	world_start(&w);
	CHECK_EQ(wh_gateway_publish(w.gateway, &published, NULL, &bound, NULL), 0);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &p, 0, NULL), 0);
	program_connect(&program, &w, AF_INET, bound.port);
	UNTIL(&w, program.error || program.at_end);
	CHECK_EQ(program.error, ECONNRESET);
	program_close(&program);
	world_stop(&w);
}

/* ---- names ---- */

static void names_are_kept(void)
{
	const uint8_t four[4] = { 1, 2, 3, 4 }, six[16] = { 0xfd, [15] = 1 };
	struct wh_net_ip ip4 = wh_net_ip4(four), ip6 = wh_net_ip6(six), got;
	char text[300], name[20];
	memset(text, 'a', 299);
	text[299] = 0;
	world_init(&w);
	world_start_gateway(&w);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "DB.Test.", &ip4), 0);
	CHECK_EQ(names_find(w.gateway, "db.test", false, &got), 1);
	CHECK(wh_net_ip_equal(&got, &ip4));
	CHECK_EQ(names_find(w.gateway, "db.test", true, &got), 0);
	CHECK_EQ(wh_gateway_name_add(w.gateway, "db.test", &ip6), 0);
	CHECK_EQ(names_find(w.gateway, "db.test", true, &got), 1);
	CHECK_EQ(names_find(w.gateway, "db", true, &got), -WH_ENOENT);
	static const char *const bad[] = { "", ".", "a..b", ".a", "a b", "a\"", "\xc3\xa4" };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++)
		CHECK_EQ(wh_gateway_name_add(w.gateway, bad[i], &ip4), -WH_EINVAL);
	CHECK_EQ(wh_gateway_name_add(w.gateway, text, &ip4), -WH_EINVAL);
	for (unsigned i = 1; i < WH_GATEWAY_NAMES_MAX; i++) {
		snprintf(name, sizeof name, "n%u", i);
		CHECK_EQ(wh_gateway_name_add(w.gateway, name, &ip4), 0);
	}
	CHECK_EQ(wh_gateway_name_add(w.gateway, "more", &ip4), -WH_ENOSPC);
	CHECK_EQ(wh_gateway_name_remove(w.gateway, "DB.test"), 0);
	CHECK_EQ(wh_gateway_name_remove(w.gateway, "db.test"), -WH_ENOENT);
	world_stop(&w);
}

/* ---- the control ---- */

static int begin(void)
{
	int pair[2];
	world_init(&w);
	world_start(&w);
	CHECK_EQ(wh_gateway_control_new(w.gateway, w.loop, NULL, &control, NULL), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_EQ(wh_gateway_control_add(control, pair[0]), 0);
	return pair[1];
}

static void end(int fd)
{
	close(fd);
	wh_gateway_control_free(control);
	world_stop(&w);
}

/* Reads replies until one ends with "ok" or the connection does. */
static void hear(int fd)
{
	size_t n = 0;
	uint64_t limit = world_clock() + 20000000000ull;
	for (;;) {
		ssize_t m = recv(fd, reply + n, sizeof reply - 1 - n, MSG_DONTWAIT);
		n += m > 0 ? (size_t)m : 0;
		reply[n] = 0;
		if (!m || strstr(reply, "{\"ok\"") || (m < 0 && errno != EAGAIN))
			return;
		wh_loop_step(w.loop, m > 0 ? 0 : 20);
		if (world_clock() > limit)
			test_fail(__FILE__, __LINE__, "no reply; so far %s", reply);
	}
}

static const char *ask(int fd, const char *request)
{
	CHECK_EQ(send(fd, request, strlen(request), MSG_NOSIGNAL), (long)strlen(request));
	hear(fd);
	return reply;
}

static void give(int fd, const char *request, const int *fds, unsigned count)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} space;
	struct iovec iov = { (void *)(uintptr_t)request, strlen(request) };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &space,
			    .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	memset(&space, 0, sizeof space);
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	CHECK_EQ(sendmsg(fd, &h, MSG_NOSIGNAL), (long)strlen(request));
	hear(fd);
}

#define OK "{\"ok\":true}\n"

static void ports_are_published_by_request(void)
{
	int fd = begin();
	CHECK_STR(ask(fd, "rules\n"), OK);
	CHECK(strstr(ask(fd, "expose 127.0.0.1:0:80\n"), "\"guest_port\":80"));
	CHECK(strstr(reply, "{\"id\":1,\"protocol\":\"tcp\",\"host\":\"127.0.0.1:"));
	CHECK(strstr(ask(fd, "expose 0:53/udp\n"), "\"protocol\":\"udp\""));
	CHECK(strstr(ask(fd, "rules\n"), "{\"id\":2,"));
	CHECK_STR(ask(fd, "unexpose 1\n"), OK);
	CHECK(strstr(ask(fd, "unexpose 1\n"), "\"ok\":false,\"error\":2,"));
	CHECK(strstr(ask(fd, "unexpose 0x2\n"), "\"ok\":false"));
	CHECK(strstr(ask(fd, "expose \"80\\\n"), "\\\"80\\\\: a published port"));
	CHECK(!strstr(ask(fd, "rules\n"), "{\"id\":1,"));
	end(fd);
}

static void flows_are_listed(void)
{
	static struct app apps[40];
	static struct program programs[40];
	uint16_t port;
	int listener = host_listen(AF_INET, &port), fd = begin(), lines = 0;
	char expected[64];
	CHECK_STR(ask(fd, "flows\n"), OK);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(apps); i++) {
		apps[i] = (struct app){ .to_send = 1000 };
		app_connect(&apps[i], &w, false, port);
		UNTIL(&w, apps[i].connected);
		programs[i] = (struct program){ 0 };
		program_accept(&programs[i], &w, listener);
		UNTIL(&w, programs[i].received == 1000);
	}
	world_settle(&w);
	ask(fd, "flows\n");
	for (const char *p = reply; (p = strstr(p, "\"bytes_out\":1000,")); p++)
		lines++;
	CHECK_EQ(lines, WH_ARRAY_COUNT(apps));
	snprintf(expected, sizeof expected, "\"host_peer\":\"127.0.0.1:%u\"", port);
	CHECK(strstr(reply, expected));
	snprintf(expected, sizeof expected, "\"peer\":\"10.0.2.2:%u\"", port);
	CHECK(strstr(reply, expected) && strstr(reply, "\"guest\":\"10.0.2.15:") &&
	      strstr(reply, "\"state\":\"ESTABLISHED\"") && strstr(reply, "\"direction\":\"out\""));
	CHECK(strstr(ask(fd, "stats\n"), "\"tcp_out_opened\":40,") && strstr(reply, OK));
	for (unsigned i = 0; i < WH_ARRAY_COUNT(apps); i++) {
		app_close(&apps[i]);
		program_close(&programs[i]);
	}
	close(listener);
	end(fd);
}

static void udp_flows_are_listed(void)
{
	uint16_t port;
	int udp = host_udp(AF_INET, &port), fd = begin();
	struct wh_net_tuple tuple = { .local = { .port = 99 }, .remote = end4(10, 0, 2, 2, port) };
	char bytes[] = "12345";
	struct wh_iov iov = { bytes, 5 };
	struct wh_gateway_flow flow;
	CHECK_EQ(wh_net_udp_send(w.guest, NULL, &tuple, &iov, 1, NULL), 5);
	UNTIL(&w, wh_gateway_flow_list(w.gateway, 0, &flow, 1));
	CHECK(flow.bytes_out == 5 && flow.peer.port == port && flow.guest.port == 99 &&
	      flow.host_peer.ip.bytes[12] == 127 && flow.host.port);
	CHECK_EQ(wh_gateway_flow_list(w.gateway, flow.id, &flow, 1), 0);
	CHECK(strstr(ask(fd, "flows\n"), "\"protocol\":\"udp\",\"direction\":\"out\""));
	close(udp);
	end(fd);
}

static void policy_and_names_by_request(void)
{
	int fd = begin();
	CHECK_STR(ask(fd, "policy deny *\n"), "{\"id\":1}\n" OK);
	CHECK_STR(ask(fd, "policy allow 10.0.0.0/8/tcp 1\n"), "{\"id\":2}\n" OK);
	CHECK_STR(ask(fd, "policy\n"),
		  "{\"id\":2,\"action\":\"allow\",\"rule\":\"10.0.0.0/8/tcp\",\"hits\":0}\n"
		  "{\"id\":1,\"action\":\"deny\",\"rule\":\"*\",\"hits\":0}\n" OK);
	CHECK_STR(ask(fd, "policy remove 1\n"), OK);
	CHECK(strstr(ask(fd, "policy remove 1\n"), "\"ok\":false"));
	CHECK(strstr(ask(fd, "policy deny * 9\n"), "\"ok\":false,\"error\":2"));
	CHECK(strstr(ask(fd, "policy sometimes *\n"), "\"ok\":false"));
	CHECK_STR(ask(fd, "dns add db.test 192.0.2.7\n"), OK);
	CHECK_STR(ask(fd, "dns add db.test fd00::7\n"), OK);
	CHECK(strstr(ask(fd, "dns\n"), "{\"name\":\"db.test\",\"address\":\"192.0.2.7\"}\n"
				       "{\"name\":\"db.test\",\"address\":\"[fd00::7]\"}\n" OK));
	CHECK(strstr(ask(fd, "dns add db.test nowhere\n"), "\"ok\":false"));
	CHECK_STR(ask(fd, "dns remove db.test\n"), OK);
	CHECK(strstr(ask(fd, "dns remove db.test\n"), "\"ok\":false"));
	end(fd);
}

static int open_descriptors(void)
{
	int count = 0;
	for (int i = 0; i < 256; i++)
		count += fcntl(i, F_GETFD) >= 0;
	return count;
}

static void captures_begin_and_end(void)
{
	int fd = begin(), files[8], pipe_[2];
	FILE *file = tmpfile();
	CHECK(file && !pipe(pipe_));
	CHECK(strstr(ask(fd, "pcap start\n"), "must bring a descriptor"));
	give(fd, "pcap start\n", &pipe_[1], 1);
	CHECK(strstr(reply, "must bring a descriptor"));
	int before = open_descriptors(), own = fileno(file);
	give(fd, "pcap start\n", &own, 1);
	CHECK_STR(reply, OK);
	give(fd, "pcap start\n", &own, 1);
	CHECK(strstr(reply, "runs already"));
	CHECK(strstr(ask(fd, "stats\n"), "{\"capturing\":true,"));
	for (int i = 0; i < 8; i++)
		files[i] = own;
	give(fd, "rules\n", files, 8); /* not asked for: closed */
	CHECK_STR(reply, OK);
	CHECK_EQ(open_descriptors(), before + 1);
	CHECK_STR(ask(fd, "pcap stop\n"), OK);
	CHECK_EQ(open_descriptors(), before);
	struct stat st;
	CHECK(!fstat(own, &st) && st.st_size >= 24);
	fclose(file);
	close(pipe_[0]);
	close(pipe_[1]);
	end(fd);
}

static void hostile_clients_harm_themselves(void)
{
	static const char *const bad[] = { "\n",           "   \n",         "rules now\n",
					   "frobnicate\n", "a b c d e f\n", "rules\t\n",
					   "\xff\xfe\n",   "pcap\n",        "stats\r\n" };
	char junk[2000];
	int fd = begin(), pairs[WH_CONTROL_CLIENTS_MAX + 4][2];
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++)
		CHECK(strstr(ask(fd, bad[i]), "\"ok\":false"));
	CHECK_EQ(send(fd, "rules\0x\n", 8, 0), 8);
	hear(fd);
	CHECK(strstr(reply, "\"ok\":false"));
	/* in pieces, and several at once */
	CHECK_EQ(send(fd, "ru", 2, 0), 2);
	world_settle(&w);
	CHECK_STR(ask(fd, "les\n"), OK);
	ask(fd, "rules\nrules\nrules\n");
	world_settle(&w);
	CHECK(recv(fd, reply, sizeof reply, MSG_DONTWAIT) != 0);
	/* too many */
	for (unsigned i = 0; i < WH_ARRAY_COUNT(pairs); i++) {
		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]), 0);
		CHECK_EQ(wh_gateway_control_add(control, pairs[i][0]),
			 i + 1 < WH_CONTROL_CLIENTS_MAX ? 0 : -WH_ENOSPC);
	}
	/* one asks without reading: nothing grows, and others are served */
	int asker = pairs[0][1];
	long sent = 0, n;
	for (int i = 0; i < 200; i++) {
		while ((n = send(asker, "stats\n", 6, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
			sent += n;
		wh_loop_step(w.loop, 0);
	}
	CHECK(sent < 4 << 20);
	CHECK_STR(ask(fd, "rules\n"), OK);
	/* a line without end */
	memset(junk, 'x', sizeof junk);
	CHECK_EQ(send(pairs[1][1], junk, sizeof junk, MSG_NOSIGNAL), (long)sizeof junk);
	hear(pairs[1][1]);
	CHECK(strstr(reply, "too long"));
	world_settle(&w);
	CHECK(send(pairs[1][1], "x", 1, MSG_NOSIGNAL) < 0);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(pairs); i++)
		close(pairs[i][1]);
	world_settle(&w);
	CHECK_STR(ask(fd, "rules\n"), OK);
	/* the last request of a client that closes its half is answered */
	CHECK_EQ(send(fd, "policy\n", 7, 0), 7);
	CHECK_EQ(shutdown(fd, SHUT_WR), 0);
	hear(fd);
	CHECK_STR(reply, OK);
	UNTIL(&w, recv(fd, junk, 1, MSG_DONTWAIT) == 0);
	end(fd);
}

/* ---- its file ---- */

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static void the_file_is_ours_alone(void)
{
	char folder[] = "/tmp/wherry-control-XXXXXX", path[64], long_path[200];
	struct wh_gateway_control *second;
	struct wh_diag diag;
	struct stat st;
	CHECK(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/c", folder);
	memset(long_path, 'x', sizeof long_path);
	long_path[199] = 0;
	world_init(&w);
	world_start_gateway(&w);
	/* somebody's file stays */
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	CHECK_EQ(wh_gateway_control_new(w.gateway, w.loop, path, &control, &diag), -WH_EADDRINUSE);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(wh_gateway_control_new(w.gateway, w.loop, long_path, &control, &diag),
		 -WH_ENAMETOOLONG);
	/* what a killed one has left is replaced */
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	memcpy(a.sun_path, path, sizeof path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(!bind(fd, (struct sockaddr *)&a, sizeof a));
	close(fd);
	CHECK_EQ(wh_gateway_control_new(w.gateway, w.loop, path, &control, &diag), 0);
	CHECK(!stat(path, &st) && (st.st_mode & 0777) == 0600);
	CHECK_EQ(wh_gateway_control_new(w.gateway, w.loop, path, &second, &diag), -WH_EADDRINUSE);
	fd = connect_to(path);
	CHECK_STR(ask(fd, "rules\n"), OK);
	close(fd);
	wh_gateway_control_free(control);
	CHECK(stat(path, &st) && errno == ENOENT);
	/* another one's is not removed */
	CHECK_EQ(wh_gateway_control_new(w.gateway, w.loop, path, &control, &diag), 0);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(wh_gateway_control_new(w.gateway, w.loop, path, &second, &diag), 0);
	wh_gateway_control_free(control);
	CHECK(!stat(path, &st));
	wh_gateway_control_free(second);
	CHECK(!rmdir(folder));
	world_stop(&w);
}

int main(void)
{
	RUN(policies_are_parsed);
	RUN(first_fitting_policy_decides);
	RUN(denied_flows_are_refused);
	RUN(denied_clients_are_reset);
	RUN(names_are_kept);
	RUN(ports_are_published_by_request);
	RUN(flows_are_listed);
	RUN(udp_flows_are_listed);
	RUN(policy_and_names_by_request);
	RUN(captures_begin_and_end);
	RUN(hostile_clients_harm_themselves);
	RUN(the_file_is_ours_alone);
	return test_end();
}
