/* SPDX-License-Identifier: ISC */
/*
 * A machine's API. One request a connection: it is read whole, within limits, answered, and the connection is
 * closed when the answer is with the kernel. `GET /v1/events` stays open and gets a line for each event; a listener
 * that does not read loses its connection, not the machine its time.
 *
 * A name is owned by whoever holds the lock of NAME.lock. A socket that is left over is removed by
 * the next owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <wherry/abi/observe.h>
#include <wherry/base/errors.h>

#include "machine_api.h"
#include "machine_console.h"
#include "machine_folder.h"

#define CLIENTS_MAX 16u   /* more wait in the kernel's queue */
#define REQUEST_MAX 4096u /* line, headers and body: a path and a few names */
#define REPLY_MAX 4096u
#define FAREWELL_MS 1000 /* for a viewer of the console to take the last of it */

struct client {
	struct wh_loop_fd watch;            /* fd < 0: this place is free */
	bool listens;                       /* to events */
	bool views, follows, types, typing; /* the console; request then holds what is typed */
	uint64_t seen;
	int passed; /* a descriptor that came with the request, or -1 */
	uint32_t size;
	char request[REQUEST_MAX + 1];
};

/* Waits for the snapshot under way; NULL: nobody does, or it has left. */
static struct client *waits_for_snapshot;

static struct machine_api {
	struct run *run; /* NULL = there is none */
	char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)], lock_path[160];
	int lock;
	struct wh_loop_fd listener;
	time_t started;
	unsigned clients;
	struct client *client;
} api = { .lock = -1, .listener = { .fd = -1 } };

/* ---- the name ---- */

/* The lock's file may be removed by its former owner between open and lock. */
static int take_lock(const char *path)
{
	struct stat mine, there;
	for (int i = 0; i < 100; i++) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			int error = errno;
			close(fd);
			return -error;
		}
		if (!fstat(fd, &mine) && !stat(path, &there) && mine.st_ino == there.st_ino)
			return fd;
		close(fd);
	}
	return -WH_EAGAIN;
}

bool machine_api_is_here(void)
{
	return true;
}

int machine_api_open(struct run *r)
{
	char folder[128];
	const char *name = r->options.name;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (!name)
		return CLI_OK;
	if (machine_folder(folder, sizeof folder, true))
		return CLI_ERROR;
	if (wh_format(address.sun_path, sizeof address.sun_path, "%s/%s.sock", folder, name) >=
	    sizeof address.sun_path) {
		cli_error("--name %s: the path of its socket in %s is too long", name, folder);
		return CLI_ERROR;
	}
	wh_format(api.lock_path, sizeof api.lock_path, "%s/%s.lock", folder, name);
	memcpy(api.socket_path, address.sun_path, sizeof api.socket_path);
	api.lock = take_lock(api.lock_path);
	if (api.lock < 0) {
		if (api.lock == -WH_EAGAIN)
			cli_error("--name %s: another machine has this name (see: wherry ps)",
				  name);
		else
			cli_error("--name %s: cannot lock %s (errno %d)", name, api.lock_path,
				  -api.lock);
		return CLI_ERROR;
	}
	(void)unlink(address.sun_path); /* of a machine that was killed */
	api.listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (api.listener.fd < 0 ||
	    bind(api.listener.fd, (struct sockaddr *)&address, sizeof address) ||
	    listen(api.listener.fd, 16)) {
		cli_error("--name %s: cannot listen at %s (errno %d)", name, address.sun_path,
			  errno);
		machine_api_close(r);
		return CLI_ERROR;
	}
	api.run = r;
	r->api_socket = api.socket_path;
	return machine_console_open();
}

/* ---- clients ---- */

static void drop(struct client *c)
{
	wh_loop_remove(api.run->loop, &c->watch);
	wh_os_close(&c->watch.fd);
	wh_os_close(&c->passed);
	if (waits_for_snapshot == c)
		waits_for_snapshot = NULL;
	if (api.clients-- == CLIENTS_MAX)
		(void)wh_loop_modify(api.run->loop, &api.listener, WH_LOOP_READ);
}

static void send_text(struct client *c, const char *text, size_t size)
{
	ssize_t n = send(c->watch.fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n != (ssize_t)size)
		drop(c); /* it does not read, or is gone */
}

static void reply(struct client *c, int status, const char *type, const char *body)
{
	char text[REPLY_MAX + 256];
	const char *reason = status == 200   ? "OK"
			     : status == 400 ? "Bad Request"
			     : status == 404 ? "Not Found"
			     : status == 405 ? "Method Not Allowed"
			     : status == 409 ? "Conflict"
			     : status == 503 ? "Service Unavailable"
					     : "Internal Server Error";
	size_t n = wh_format(text, sizeof text,
			     "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
			     "Connection: close\r\n\r\n%s",
			     status, reason, type, strlen(body), body);
	send_text(c, text, n < sizeof text ? n : sizeof text - 1);
	if (c->watch.fd >= 0)
		drop(c);
}

/* Between quotes of JSON. */
static void harmless(char *text)
{
	for (char *p = text; *p; p++)
		if (*p == '"' || *p == '\\' || *p < ' ' || *p > '~')
			*p = '\'';
}

static void fail(struct client *c, int status, const char *format, ...)
{
	char message[512], body[600];
	va_list args;
	va_start(args, format);
	wh_vformat(message, sizeof message, format, args);
	va_end(args);
	harmless(message);
	wh_format(body, sizeof body, "{\"error\":\"%s\"}\n", message);
	reply(c, status, "application/json", body);
}

static const char *state_name(void)
{
	return api.run->ended                            ? "ended"
	       : wh_vmm_machine_paused(api.run->machine) ? "paused"
							 : "running";
}

static void tell(struct client *c, const char *what, const char *detail)
{
	char line[256];
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	size_t n = wh_format(
		line, sizeof line, "{\"time_ms\":%llu,\"machine\":\"%s\",\"event\":\"%s\"%s}\n",
		(unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000,
		api.run->options.name, what, detail);
	send_text(c, line, n);
}

static void event(const char *what, const char *detail)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (api.client[i].watch.fd >= 0 && api.client[i].listens)
			tell(&api.client[i], what, detail);
}

/* ---- requests ---- */

static void get_machine(struct client *c, const char *body)
{
	char text[REPLY_MAX], title[64];
	struct run *r = api.run;
	wh_format(title, sizeof title, "%s", r->title ? r->title : "");
	harmless(title);
	wh_format(text, sizeof text,
		  "{\"name\":\"%s\",\"state\":\"%s\",\"engine\":\"%s\",\"pid\":%d,"
		  "\"image\":\"%s\",\"memory_bytes\":%llu,\"memory_touched_bytes\":%llu,"
		  "\"started_s\":%lld}\n",
		  r->options.name, state_name(),
		  wh_vmm_machine_engine(r->machine) == WH_VMM_ENGINE_KVM ? "kvm" : "proc",
		  (int)getpid(), title, (unsigned long long)wh_vmm_machine_ram_size(r->machine),
		  (unsigned long long)wh_vmm_machine_touched(r->machine), (long long)api.started);
	reply(c, 200, "application/json", text);
}

/* OpenMetrics 1.0 text. */
static void get_metrics(struct client *c, const char *body)
{
	char text[REPLY_MAX];
	struct run *r = api.run;
	struct rusage usage = { 0 };
	const char *name = r->options.name;
	getrusage(RUSAGE_SELF, &usage);
	long long cpu_us = (long long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
			   usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
	wh_format(text, sizeof text,
		  "# TYPE wherry_machine_running gauge\n"
		  "wherry_machine_running{machine=\"%s\"} %d\n"
		  "# TYPE wherry_machine_memory_bytes gauge\n# UNIT wherry_machine_memory_bytes "
		  "bytes\n"
		  "wherry_machine_memory_bytes{machine=\"%s\"} %llu\n"
		  "# TYPE wherry_machine_memory_touched_bytes gauge\n"
		  "# UNIT wherry_machine_memory_touched_bytes bytes\n"
		  "wherry_machine_memory_touched_bytes{machine=\"%s\"} %llu\n"
		  "# TYPE wherry_machine_start_time_seconds gauge\n"
		  "# UNIT wherry_machine_start_time_seconds seconds\n"
		  "wherry_machine_start_time_seconds{machine=\"%s\"} %lld\n"
		  "# TYPE wherry_monitor_cpu_seconds counter\n# UNIT wherry_monitor_cpu_seconds "
		  "seconds\n"
		  "wherry_monitor_cpu_seconds_total{machine=\"%s\"} %lld.%06lld\n# EOF\n",
		  name, !wh_vmm_machine_paused(r->machine), name,
		  (unsigned long long)wh_vmm_machine_ram_size(r->machine), name,
		  (unsigned long long)wh_vmm_machine_touched(r->machine), name,
		  (long long)api.started, name, cpu_us / 1000000, cpu_us % 1000000);
	reply(c, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text);
}

/* A stack as the guest gave it, its addresses as FUNCTION+OFFSET. Returns where it ended. */
static const char *put_stack(const char *at, char *to, size_t size, size_t *used)
{
	struct run *r = api.run;
	do {
		char *end;
		const char *name;
		uint64_t offset, address = strtoull(at + 1, &end, 16) -
					   wh_vmm_machine_image_base(r->machine);
		bool known = !wh_vmm_image_symbol(r->image, address, &name, &offset);
		*used += known ? wh_format(to + *used, size - *used, "%c%s+0x%llx", *at, name,
					   (unsigned long long)offset)
			       : wh_format(to + *used, size - *used, "%c0x%llx", *at,
					   (unsigned long long)address);
		if (*used >= size)
			*used = size - 1;
		at = end;
	} while (*at == ',');
	return at;
}

/* What the guest tells about itself, lines of words. */
static void get_inspect(struct client *c, const char *body)
{
	static const char head[] =
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
	char *text = malloc(WH_OBSERVE_TEXT_SIZE), *named = malloc(2 * WH_OBSERVE_TEXT_SIZE);
	int n = text && named ? wh_vmm_machine_inspect(api.run->machine, text, WH_OBSERVE_TEXT_SIZE)
			      : -WH_ENOMEM;
	if (n == -WH_EINVAL)
		fail(c, 409,
		     "it does not run, or its image cannot tell (too old, or a copy from a "
		     "snapshot)");
	else if (n < 0)
		fail(c, 503, "the guest does not answer");
	if (n >= 0) {
		size_t used = wh_format(named, sizeof head, "%s", head);
		for (const char *at = text; *at && used + 1 < 2 * WH_OBSERVE_TEXT_SIZE;) {
			named[used++] = *at++;
			if (!strncmp(at - 1, " stack=", 7)) {
				memcpy(named + used, "stack", 5);
				used += 5;
				at = put_stack(at + 5, named, 2 * WH_OBSERVE_TEXT_SIZE, &used);
			}
		}
		send_text(c, named, used);
		if (c->watch.fd >= 0)
			drop(c);
	}
	free(text);
	free(named);
}

static void get_events(struct client *c, const char *body)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\n"
				   "Connection: close\r\n\r\n";
	send_text(c, head, sizeof head - 1);
	if (c->watch.fd >= 0) {
		c->listens = true;
		tell(c, state_name(), "");
	}
}

static void set_paused(struct client *c, bool on)
{
	struct wh_diag diag = { "" };
	int error = wh_vmm_machine_pause(api.run->machine, on, &diag);
	if (error < 0) {
		fail(c, error == -WH_EINVAL ? 409 : 500, "%s", diag.text);
		return;
	}
	event(on ? "paused" : "resumed", "");
	get_machine(c, NULL);
}

static void put_pause(struct client *c, const char *body)
{
	set_paused(c, true);
}

static void put_resume(struct client *c, const char *body)
{
	set_paused(c, false);
}

static void put_stop(struct client *c, const char *body)
{
	run_ask_to_stop(api.run, SIGTERM);
	event("stopping", "");
	get_machine(c, NULL);
}

static void put_kill(struct client *c, const char *body)
{
	api.run->asked_to_stop = true;
	wh_vmm_machine_kill(api.run->machine);
	get_machine(c, NULL);
}

/* {"file":"/PATH"}; of escapes only \" \\ and \/ are taken. false = something else. */
static bool file_of(const char *body, char *to, size_t size)
{
	static const char *const before[] = { "{", "\"file\"", ":", "\"" };
	size_t n = 0;
	for (size_t i = 0; i < WH_ARRAY_COUNT(before); i++) {
		body += strspn(body, " \t\r\n");
		if (strncmp(body, before[i], strlen(before[i])))
			return false;
		body += strlen(before[i]);
	}
	for (; *body && *body != '"'; body++) {
		if (*body == '\\' && body[1] != '"' && body[1] != '\\' && body[1] != '/')
			return false;
		body += *body == '\\';
		if (n + 1 >= size || (unsigned char)*body < ' ')
			return false;
		to[n++] = *body;
	}
	to[n] = 0;
	if (*body++ != '"')
		return false;
	body += strspn(body, " \t\r\n");
	if (*body++ != '}')
		return false;
	return !body[strspn(body, " \t\r\n")] && to[0] == '/';
}

static void snapshot_done(void *ctx, int error, const struct wh_diag *diag)
{
	struct client *c = waits_for_snapshot;
	waits_for_snapshot = NULL;
	if (error >= 0)
		event("snapshot", "");
	if (c && error < 0)
		fail(c, error == -WH_EAGAIN || error == -WH_EBUSY ? 503 : 409, "%s", diag->text);
	else if (c)
		get_machine(c, NULL);
}

static void put_snapshot(struct client *c, const char *body)
{
	char path[1024];
	struct wh_diag diag = { "" };
	if (!file_of(body, path, sizeof path)) {
		fail(c, 400, "the body must be {\"file\":\"/ABSOLUTE/PATH\"}");
		return;
	}
	struct client *before = waits_for_snapshot;
	waits_for_snapshot = c;
	int fd =
		c->passed; /* `wherry snapshot` opens the file itself: a confined monitor may not */
	c->passed = -1;
	if (run_snapshot(api.run, path, fd, snapshot_done, NULL, &diag) < 0) {
		waits_for_snapshot = before;
		fail(c, 409, "%s", diag.text);
	}
}

/* ---- the console ---- */

/* What the viewer has not seen, as much as its socket takes. */
static void show(struct client *c)
{
	size_t size;
	const char *text;
	while ((text = machine_console_read(&c->seen, &size)), size) {
		ssize_t n = send(c->watch.fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			(void)wh_loop_modify(api.run->loop, &c->watch,
					     c->watch.events | WH_LOOP_WRITE);
			return;
		}
		if (n < 0) {
			drop(c);
			return;
		}
		c->seen += (uint64_t)n;
	}
	if (c->watch.events & WH_LOOP_WRITE)
		(void)wh_loop_modify(api.run->loop, &c->watch, c->watch.events & ~WH_LOOP_WRITE);
	if (!c->follows)
		drop(c);
}

static void begin_view(struct client *c, const char *head)
{
	send_text(c, head, strlen(head));
	if (c->watch.fd < 0)
		return;
	c->views = true;
	c->size = 0;
	c->seen = 0;
	show(c);
}

#define VIEW_HEAD                                                       \
	"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n" \
	"Connection: close\r\n\r\n"

static void get_console(struct client *c, const char *body)
{
	begin_view(c, VIEW_HEAD);
}

static void follow_console(struct client *c, const char *body)
{
	c->follows = true;
	begin_view(c, VIEW_HEAD);
}

static void attach_console(struct client *c, const char *body)
{
	c->follows = c->types = true;
	begin_view(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
		      "Upgrade: wherry-console\r\n\r\n");
}

/* Gives the guest what was typed; reads on when all of it is taken. */
static void type(struct client *c)
{
	struct run *r = api.run;
	size_t taken = 1;
	c->typing = true; /* taking some makes room, which is told in between */
	while (c->size && taken) {
		taken = r->console_input ? r->console_input(r, c->request, c->size) : c->size;
		c->size -= (uint32_t)taken;
		memmove(c->request, c->request + taken, c->size);
	}
	c->typing = false;
	uint32_t events =
		(c->watch.events & WH_LOOP_WRITE) | (c->size || !c->types ? 0 : WH_LOOP_READ);
	if (c->watch.fd >= 0 && events != c->watch.events)
		(void)wh_loop_modify(r->loop, &c->watch, events);
}

static void viewer_ready(struct client *c, uint32_t events)
{
	if (events & WH_LOOP_READ && !c->size) {
		ssize_t n = recv(c->watch.fd, c->request, REQUEST_MAX, MSG_DONTWAIT);
		if ((n == 0 && !c->types) || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			drop(c);
			return;
		}
		if (n == 0)
			c->types = false; /* has nothing more to say, but may listen */
		c->size = n > 0 && c->types ? (uint32_t)n : 0;
		type(c);
	} else if (events & WH_LOOP_HANGUP) {
		drop(c);
		return;
	}
	if (events & WH_LOOP_WRITE)
		show(c);
}

void machine_api_console_output(void)
{
	for (unsigned i = 0; api.client && i < CLIENTS_MAX; i++) {
		struct client *c = &api.client[i];
		if (c->watch.fd >= 0 && c->views && !(c->watch.events & WH_LOOP_WRITE))
			show(c);
	}
}

void machine_api_console_room(void)
{
	for (unsigned i = 0; api.client && i < CLIENTS_MAX; i++) {
		struct client *c = &api.client[i];
		if (c->watch.fd >= 0 && c->views && c->size && !c->typing)
			type(c);
	}
}

/* The machine is gone; viewers get the last of it. */
static void end_views(void)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &api.client[i];
		struct pollfd p = { .fd = c->watch.fd, .events = POLLOUT };
		while (c->watch.fd >= 0 && c->views && c->watch.events & WH_LOOP_WRITE &&
		       poll(&p, 1, FAREWELL_MS) > 0)
			show(c);
	}
}

static const struct {
	const char *method, *path;
	void (*fn)(struct client *c, const char *body);
} requests[] = {
	{ "GET", "/v1/machine", get_machine },
	{ "GET", "/v1/machine/inspect", get_inspect },
	{ "GET", "/v1/metrics", get_metrics },
	{ "GET", "/v1/events", get_events },
	{ "GET", "/v1/console", get_console },
	{ "GET", "/v1/console/follow", follow_console },
	{ "PUT", "/v1/console/attach", attach_console },
	{ "PUT", "/v1/machine/pause", put_pause },
	{ "PUT", "/v1/machine/resume", put_resume },
	{ "PUT", "/v1/machine/stop", put_stop },
	{ "PUT", "/v1/machine/kill", put_kill },
	{ "PUT", "/v1/machine/snapshot", put_snapshot },
};

/* A header's value, or NULL. */
static const char *header(const char *headers, const char *name)
{
	for (const char *p = strstr(headers, "\r\n"); p; p = strstr(p, "\r\n")) {
		p += 2;
		if (!strncasecmp(p, name, strlen(name)) && p[strlen(name)] == ':')
			return p + strlen(name) + 1;
	}
	return NULL;
}

/* The request is whole: `end` is the blank line behind its headers. */
static void serve(struct client *c, const char *body)
{
	char *method = c->request, *path = strchr(method, ' ');
	char *version = path ? strchr(path + 1, ' ') : NULL;
	bool known = false;
	if (!version || strncmp(version + 1, "HTTP/1.", 7)) {
		fail(c, 400, "this is not HTTP");
		return;
	}
	*path++ = *version = 0;
	for (size_t i = 0; i < WH_ARRAY_COUNT(requests); i++) {
		if (!wh_streq(path, requests[i].path))
			continue;
		known = true;
		if (wh_streq(method, requests[i].method)) {
			requests[i].fn(c, body);
			return;
		}
	}
	if (known)
		fail(c, 405, "%s cannot be done to %s", method, path);
	else
		fail(c, 404, "there is no %s", path);
}

/* Looks whether the request is whole. */
static void look(struct client *c)
{
	char *end = strstr(c->request, "\r\n\r\n");
	uint64_t length = 0;
	if (!end) {
		if (c->size == REQUEST_MAX)
			fail(c, 400, "the request is over %u bytes", REQUEST_MAX);
		return;
	}
	const char *text = header(c->request, "Content-Length");
	if (text) {
		text += strspn(text, " ");
		if (cli_parse_number(text, strspn(text, "0123456789"), REQUEST_MAX, &length) < 0) {
			fail(c, 400, "bad Content-Length");
			return;
		}
	}
	size_t before = (size_t)(end + 4 - c->request);
	if (length > REQUEST_MAX - before)
		fail(c, 400, "the request is over %u bytes", REQUEST_MAX);
	else if (c->size >= before + length) {
		end[4 + length] = 0;
		serve(c, end + 4);
	}
}

static void client_ready(struct wh_loop_fd *watch, uint32_t events)
{
	struct client *c = watch->ctx;
	if (c->views) {
		viewer_ready(c, events);
		return;
	}
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec to = { c->request + c->size, REQUEST_MAX - c->size };
	struct msghdr message = { .msg_iov = &to,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof control };
	ssize_t n = recvmsg(watch->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
		wh_os_close(&c->passed); /* at most one: the buffer holds no more */
		memcpy(&c->passed, CMSG_DATA(head), sizeof c->passed);
	}
	if (n <= 0 || c->listens) { /* a listener has nothing more to say */
		drop(c);
		return;
	}
	c->size += (uint32_t)n;
	c->request[c->size] = 0;
	look(c);
}

static void client_comes(struct wh_loop_fd *listener, uint32_t events)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof peer;
	struct client *c = api.client;
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	while (c->watch.fd >= 0) /* one is free, or nobody listens */
		c++;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ||
	    (peer.uid != getuid() && peer.uid != 0)) {
		close(fd);
		return;
	}
	*c = (struct client){
		.passed = -1,
		.watch = { .fd = fd, .events = WH_LOOP_READ, .fn = client_ready, .ctx = c }
	};
	if (wh_loop_add(api.run->loop, &c->watch) < 0) {
		wh_os_close(&c->watch.fd);
		return;
	}
	if (++api.clients == CLIENTS_MAX)
		(void)wh_loop_modify(api.run->loop, listener, 0);
}

int machine_api_start(struct run *r)
{
	if (!api.run)
		return CLI_OK;
	api.client = calloc(CLIENTS_MAX, sizeof *api.client);
	if (!api.client) {
		cli_error("no memory");
		return CLI_ERROR;
	}
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		api.client[i].watch.fd = api.client[i].passed = -1;
	api.started = time(NULL);
	api.listener.events = WH_LOOP_READ;
	api.listener.fn = client_comes;
	int error = wh_loop_add(r->loop, &api.listener);
	if (error < 0)
		cli_error("--name: cannot watch the API's socket (errno %d)", -error);
	return error < 0 ? CLI_ERROR : CLI_OK;
}

void machine_api_close(struct run *r)
{
	char how[64];
	if (api.lock < 0)
		return;
	if (api.client && api.run) {
		wh_format(how, sizeof how, ",\"kind\":%d,\"value\":%d", (int)r->how.kind,
			  r->how.value);
		event("ended", how);
		end_views();
		run_snapshot_end();
	}
	if (api.socket_path[0])
		(void)unlink(api.socket_path);
	(void)unlink(api.lock_path); /* while we hold it */
	wh_os_close(&api.listener.fd);
	wh_os_close(&api.lock);
}
