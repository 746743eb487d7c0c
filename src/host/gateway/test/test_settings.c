/* SPDX-License-Identifier: ISC */
/* Settings from a folder that is followed, the event stream, and captures in a ring. */
#include "../gateway_priv.h"
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/gateway_settings.h>

static struct world w;
static struct wh_gateway_control *control;
static struct wh_gateway_settings *settings;
static char folder[64];
static char events[65536];

static void note_event(void *ctx, const char *line, size_t size)
{
	size_t n = strlen(events);
	if (n + size < sizeof events)
		memcpy(events + n, line, size), events[n + size] = 0;
}

static struct wh_gateway_watcher watcher = { .fn = note_event };

static void put(const char *name, const char *text)
{
	char path[128], temporary[128];
	snprintf(temporary, sizeof temporary, "%s/.new", folder);
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *f = fopen(temporary, "w");
	CHECK(f && fputs(text, f) >= 0 && !fclose(f) && !rename(temporary, path));
}

static void drop(const char *name)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	CHECK_EQ(unlink(path), 0);
}

static void begin(void)
{
	snprintf(folder, sizeof folder, "/tmp/wherry-test-XXXXXX");
	CHECK(mkdtemp(folder) != NULL);
	events[0] = 0;
	world_init(&w);
	world_start(&w);
	wh_gateway_watch(w.gateway, &watcher);
	CHECK_EQ(wh_gateway_control_new(w.gateway, w.loop, NULL, &control, NULL), 0);
}

static void follow(void)
{
	CHECK_EQ(wh_gateway_settings_new(control, folder, &settings, NULL), 0);
}

static void end(void)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	wh_gateway_settings_free(settings);
	settings = NULL;
	wh_gateway_control_free(control);
	wh_gateway_unwatch(&watcher);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			drop(e->d_name);
	closedir(d);
	rmdir(folder);
	world_stop(&w);
}

static uint32_t lines(void)
{
	uint32_t n, failed;
	wh_gateway_settings_count(settings, &n, &failed);
	return n * 100 + failed;
}

/* The rules' texts, one behind the other. */
static const char *rules(void)
{
	static char all[1000];
	struct wh_gateway_policy_entry list[8];
	char text[WH_GATEWAY_POLICY_TEXT_SIZE];
	uint32_t count = wh_gateway_policy_list(w.gateway, list, 8);
	all[0] = 0;
	for (uint32_t i = 0; i < count; i++) {
		strcat(all, list[i].policy.deny ? "-" : "+");
		strcat(all, wh_gateway_policy_text(&list[i].policy, text));
	}
	return all;
}

static void files_say_what_is(void)
{
	struct wh_gateway_published list[4];
	struct wh_gateway_name name;
	struct wh_gateway_forward forward;
	struct wh_gateway_limits limits;
	begin();
	put("20-last", "policy deny *\n");
	put("10-first",
	    "# ports\n  expose 127.0.0.1:0:80 \n\npolicy allow a.test\r\n"
	    "dns add a.test 192.0.2.1\nforward 5432=127.0.0.1:5432\nlimits connects 100\n");
	put("30-bad", "nonsense\nexpose\n");
	put("backup~", "policy deny 1.2.3.4\n");
	follow();
	CHECK_EQ(lines(), 602);
	CHECK_STR(rules(), "+a.test-*");
	CHECK_EQ(wh_gateway_published_list(w.gateway, list, 4), 1);
	uint32_t id = list[0].id;
	uint16_t port = list[0].host.port;
	CHECK_EQ(wh_gateway_name_get(w.gateway, 0, &name), 0);
	CHECK_EQ(wh_gateway_forward_get(w.gateway, 0, &forward), 0);
	/* A rule more: the port that was published stays as it is. */
	put("15-more", "policy allow b.test\nproxy all 192.0.2.9:3128\n");
	UNTIL(&w, lines() == 802);
	CHECK_STR(rules(), "+a.test+b.test-*");
	CHECK_EQ(wh_gateway_published_list(w.gateway, list, 4), 1);
	CHECK(list[0].id == id && list[0].host.port == port);
	/* What goes is undone. */
	drop("15-more");
	drop("30-bad");
	UNTIL(&w, lines() == 600);
	CHECK_STR(rules(), "+a.test-*");
	struct wh_gateway_proxy proxy;
	wh_gateway_proxy_get(w.gateway, &proxy);
	CHECK_EQ(proxy.http.port, 0);
	drop("10-first");
	UNTIL(&w, lines() == 100);
	CHECK_STR(rules(), "-*");
	CHECK_EQ(wh_gateway_published_list(w.gateway, list, 4), 0);
	CHECK_EQ(wh_gateway_name_get(w.gateway, 0, &name), -WH_ENOENT);
	CHECK_EQ(wh_gateway_forward_get(w.gateway, 0, &forward), -WH_ENOENT);
	wh_gateway_limits_get(w.gateway, &limits);
	CHECK_EQ(limits.connects, 0);
	CHECK(strstr(events, "{\"event\":\"settings\""));
	end();
}

/* What others have set by the control is not touched, and too much is left out. */
static void others_settings_stay(void)
{
	static char many[40000];
	struct wh_diag diag;
	begin();
	CHECK_EQ(wh_gateway_control_run(control, "policy deny 192.0.2.0/24", &diag), 0);
	CHECK(wh_gateway_control_run(control, "policy deny", &diag) < 0);
	CHECK(diag.text[0]);
	put("a", "policy allow x.test\n");
	follow();
	CHECK_STR(rules(), "-192.0.2.0/24+x.test");
	put("a", "policy allow y.test\n");
	UNTIL(&w, !strcmp(rules(), "-192.0.2.0/24+y.test"));
	for (unsigned i = 0; i < WH_SETTINGS_LINES_MAX + 10; i++)
		strcat(many, "limits connects 5\n");
	put("b", many);
	UNTIL(&w, lines() > 1000 * 100);
	uint32_t n, failed;
	wh_gateway_settings_count(settings, &n, &failed);
	CHECK_EQ(failed, 1);
	put("b", "policy allow z.test\n");
	UNTIL(&w, !strcmp(rules(), "-192.0.2.0/24+y.test+z.test"));
	CHECK_EQ(wh_gateway_settings_new(control, "/nonexistent", &settings, &diag), -ENOENT);
	CHECK_EQ(wh_gateway_settings_new(control, "/dev/null", &settings, &diag), -WH_ENOTDIR);
	end();
}

/* ---- events ---- */

static void flows_are_told(void)
{
	uint16_t port;
	struct app app = { .to_send = 1000 };
	struct program server = { .to_send = 2000 };
	begin();
	int listener = host_listen(AF_INET, &port);
	app_connect(&app, &w, false, port);
	program_accept(&server, &w, listener);
	UNTIL(&w, app.received == 2000 && server.received == 1000);
	CHECK(strstr(events, "{\"event\":\"open\""));
	CHECK(strstr(events, "\"protocol\":\"tcp\",\"direction\":\"out\",\"guest\":\"10.0.2.15:"));
	program_close(&server);
	app_close(&app);
	UNTIL(&w, strstr(events, "{\"event\":\"close\""));
	CHECK(strstr(events, "\"bytes_out\":1000,\"bytes_in\":2000}"));
	struct wh_gateway_policy deny;
	CHECK_EQ(wh_gateway_policy_parse("*:9/tcp", true, &deny, NULL), 0);
	CHECK_EQ(wh_gateway_policy_add(w.gateway, &deny, 0, NULL), 0);
	struct app denied = { 0 };
	app_connect(&denied, &w, false, 9);
	UNTIL(&w, denied.failed);
	CHECK(strstr(events, "{\"event\":\"denied\""));
	CHECK(strstr(events, "\"rule\":\"*:9/tcp\",\"peer\":\"10.0.2.2:9\"}"));
	close(listener);
	follow();
	end();
}

/* A client of the control that watches, and one that does not read. */
static void clients_watch(void)
{
	static char text[100000];
	int pair[2], lazy[2];
	begin();
	follow();
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, lazy));
	CHECK_EQ(wh_gateway_control_add(control, pair[0]), 0);
	CHECK_EQ(wh_gateway_control_add(control, lazy[0]), 0);
	CHECK_EQ(send(pair[1], "events\n", 7, 0), 7);
	CHECK_EQ(send(lazy[1], "events\n", 7, 0), 7);
	UNTIL(&w, recv(pair[1], text, sizeof text, 0) > 0);
	CHECK(strstr(text, "{\"ok\":true}") == text);
	CHECK_EQ(send(pair[1], "what?\n", 6, 0), 6); /* it has nothing more to say */
	uint32_t heard = 0;
	for (unsigned i = 0; i < 20000; i++) {
		event(w.gateway, "test", ",\"number\":%u", i);
		if (i % 50)
			continue;
		wh_loop_step(w.loop, 0);
		ssize_t n = recv(pair[1], text, sizeof text, 0);
		for (ssize_t k = 0; k < n; k++)
			heard += text[k] == '\n';
	}
	world_settle(&w);
	for (ssize_t n; (n = recv(pair[1], text, sizeof text, 0)) > 0; wh_loop_step(w.loop, 0))
		for (ssize_t k = 0; k < n; k++)
			heard += text[k] == '\n';
	CHECK_EQ(heard, 20000);
	/* The other one has missed some, and is told so between whole lines. */
	bool lost = false;
	for (ssize_t n; (n = recv(lazy[1], text, sizeof text - 1, 0)) > 0;
	     wh_loop_step(w.loop, 0)) {
		text[n] = 0;
		lost |= strstr(text, "\n{\"event\":\"lost\"}\n") != NULL;
	}
	CHECK(lost);
	close(pair[1]);
	close(lazy[1]);
	world_settle(&w);
	end();
}

/* ---- ring ---- */

static void frame_in(uint32_t size, uint8_t mark)
{
	static uint8_t bytes[70000];
	struct wh_iov iov = { bytes, size };
	struct wh_net_frame frame = { .iov = &iov, .iov_count = 1, .size = size };
	memset(bytes, mark, size);
	pcap_frame(w.gateway, &frame);
}

/* Checks the file's records and returns how many there are. */
static unsigned dump(uint8_t *ret_last, uint32_t *ret_size)
{
	static uint8_t bytes[300000];
	char path[] = "/tmp/wherry-test-XXXXXX";
	int fd = mkstemp(path);
	CHECK(fd >= 0 && !unlink(path));
	CHECK_EQ(wh_gateway_pcap_dump(w.gateway, fd), 0);
	ssize_t size = pread(fd, bytes, sizeof bytes, 0);
	close(fd);
	CHECK(size >= 24 && wh_load_le32(bytes) == 0xa1b23c4d);
	unsigned count = 0;
	uint8_t former = 0;
	for (ssize_t at = 24; at < size; count++) {
		uint32_t n = wh_load_le32(bytes + at + 8);
		CHECK((size_t)at + 16 + n <= (size_t)size && wh_load_le32(bytes + at + 12) >= n);
		*ret_last = bytes[at + 16 + n - 1];
		*ret_size = n;
		CHECK(!count || (uint8_t)(former + 1) == *ret_last); /* none is missing between */
		former = *ret_last;
		at += 16 + n;
	}
	return count;
}

static void ring_keeps_the_last_frames(void)
{
	uint8_t last;
	uint32_t size;
	begin();
	follow();
	CHECK_EQ(wh_gateway_pcap_dump(w.gateway, 1), -WH_ENOENT);
	CHECK_EQ(wh_gateway_pcap_ring(w.gateway, 100), -WH_EINVAL);
	CHECK_EQ(wh_gateway_pcap_ring(w.gateway, 65536), 0);
	CHECK_EQ(dump(&last, &size), 0);
	unsigned state = 7;
	for (unsigned i = 0; i < 3000; i++) {
		state = state * 1103515245 + 12345;
		frame_in(60 + state / 65536 % 9000, (uint8_t)i);
		if (i % 7)
			continue;
		CHECK(dump(&last, &size) > 0);
		CHECK_EQ(last, (uint8_t)i);
	}
	frame_in(65536, 1); /* does not fit */
	wh_gateway_pcap_select(w.gateway, 100, NULL);
	CHECK_EQ(wh_gateway_pcap_ring(w.gateway, 65536), 0);
	frame_in(5000, 9);
	CHECK_EQ(dump(&last, &size), 1);
	CHECK_EQ(size, 100);
	/* One guest's frames. */
	wh_gateway_pcap_select(w.gateway, 0, (const uint8_t *)"\7\7\7\7\7\7");
	frame_in(60, 8);
	CHECK_EQ(dump(&last, &size), 1);
	frame_in(60, 7);
	wh_gateway_pcap_ring(w.gateway, 0);
	CHECK(!wh_gateway_capturing(w.gateway));
	end();
}

int main(void)
{
	RUN(files_say_what_is);
	RUN(others_settings_stay);
	RUN(flows_are_told);
	RUN(clients_watch);
	RUN(ring_keeps_the_last_frames);
	return test_end();
}
