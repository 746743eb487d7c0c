/* SPDX-License-Identifier: ISC */
/*
 * Compaction of a disk that is being served. Each step takes the image to itself with WH_BLOCK_QUIESCE, moves a little,
 * and then leaves it alone for as long as that took, so that clients get at least half of the time.
 */
#include "disk_control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "disk.h"

#define STEP_BYTES (1u << 20) /* moved while clients wait */
#define SHOW_NS 100000000u
#define ACCEPT_BACKLOG 4

struct disk_control {
	struct wh_loop *loop;
	const struct wh_nbd_export *exports;
	uint32_t export_count;
	const char *path;
	struct wh_loop_fd listening, client;
	bool watched;
	/* The one client. */
	char line[DISK_CONTROL_LINE_MAX];
	size_t line_size;
	bool asked, hung_up;
	/* Its work. */
	struct wh_block *block;
	struct wh_block_request q;
	struct wh_block_compaction *compaction;
	struct wh_loop_timer rest;
	struct wh_diag diag;
	uint64_t before, shown_ns;
	bool in_flight;
};

/* ---- the client ---- */

__attribute__((format(printf, 2, 3))) static void say(struct disk_control *c, const char *format,
						      ...)
{
	char text[DISK_CONTROL_LINE_MAX];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	/* A client that does not read is not waited for: it gets less to read. */
	if (n > 0 && (size_t)n < sizeof text && c->client.fd >= 0)
		(void)!send(c->client.fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void hang_up(struct disk_control *c)
{
	if (c->client.fd < 0)
		return;
	if (c->watched)
		wh_loop_remove(c->loop, &c->client);
	c->watched = false;
	close(c->client.fd);
	c->client.fd = -1;
	c->line_size = 0;
	c->asked = c->hung_up = false;
}

/* ---- compaction ---- */

static void end(struct disk_control *c, int result)
{
	struct wh_block_info info;
	wh_block_compact_end(c->compaction);
	c->compaction = NULL;
	wh_block_info(c->block, &info);
	if (result < 0)
		say(c, "error %s\n", c->diag.text[0] ? c->diag.text : strerror(-result));
	else
		say(c, "done %llu %llu\n", (unsigned long long)c->before,
		    (unsigned long long)info.file_size);
	c->block = NULL;
	hang_up(c);
}

static void alone(struct wh_block_request *q, int result)
{
	struct disk_control *c = q->ctx;
	uint64_t done = 0, total = 0, begun = wh_os_now();
	c->in_flight = false;
	if (result >= 0 && c->hung_up)
		result = -WH_ECANCELED;
	if (result >= 0 && !c->compaction)
		result = wh_block_compact_begin(c->block, &c->compaction, &c->diag);
	if (result >= 0)
		result = wh_block_compact_step(c->compaction, STEP_BYTES, &done, &total);
	if (result <= 0) {
		end(c, result);
		return;
	}
	uint64_t now = wh_os_now();
	if (now - c->shown_ns > SHOW_NS) {
		c->shown_ns = now;
		say(c, "progress %llu %llu\n", (unsigned long long)done, (unsigned long long)total);
	}
	wh_loop_timer_start(c->loop, &c->rest, now + (now - begun));
}

static void step(struct wh_loop_timer *timer)
{
	struct disk_control *c = timer->ctx;
	c->in_flight = true;
	c->q = (struct wh_block_request){ .op = WH_BLOCK_QUIESCE, .done = alone, .ctx = c };
	wh_block_submit(c->block, &c->q);
}

static void request(struct disk_control *c)
{
	static const char verb[] = "compact";
	const char *name = c->line + sizeof verb - 1;
	struct wh_block_info info;
	const struct wh_nbd_export *e = NULL;
	c->asked = true;
	if (strncmp(c->line, verb, sizeof verb - 1) || (*name && *name != ' ')) {
		say(c, "error the only request is: compact NAME\n");
		hang_up(c);
		return;
	}
	name += *name == ' ';
	for (uint32_t i = 0; i < c->export_count && !e; i++)
		if (!*name || !strcmp(name, c->exports[i].name))
			e = &c->exports[i];
	if (!e || e->read_only) {
		say(c, e ? "error the export is read-only\n" : "error there is no export %s\n",
		    name);
		hang_up(c);
		return;
	}
	c->block = e->block;
	c->diag.text[0] = '\0';
	wh_block_info(c->block, &info);
	c->before = info.file_size;
	step(&c->rest);
}

static void client_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct disk_control *c = watch->ctx;
	ssize_t n = recv(watch->fd, c->line + c->line_size, sizeof c->line - 1 - c->line_size,
			 MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (!c->block) {
			hang_up(c);
			return;
		}
		c->hung_up = true; /* the step under way is the last */
		wh_loop_remove(c->loop, watch);
		c->watched = false;
		return;
	}
	if (c->asked)
		return; /* more than one line: not for us */
	c->line_size += (size_t)n;
	char *end_of_line = memchr(c->line, '\n', c->line_size);
	if (end_of_line) {
		*end_of_line = '\0';
		request(c);
	} else if (c->line_size == sizeof c->line - 1) {
		hang_up(c);
	}
}

static void accept_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct disk_control *c = watch->ctx;
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (c->client.fd >= 0) {
		static const char busy[] = "error somebody else is at work\n";
		(void)!send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	c->client = (struct wh_loop_fd){
		.fd = fd, .events = WH_LOOP_READ, .fn = client_event, .ctx = c
	};
	c->watched = wh_loop_add(c->loop, &c->client) >= 0;
	if (!c->watched)
		hang_up(c);
}

/* ---- the socket ---- */

static bool address(const char *path, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof a->sun_path) {
		cli_error("%s is too long for a Unix socket", path);
		return false;
	}
	memcpy(a->sun_path, path, strlen(path));
	return true;
}

int disk_control_new(struct wh_loop *loop, const char *path, const struct wh_nbd_export *exports,
		     uint32_t count, struct disk_control **ret_control)
{
	struct sockaddr_un a;
	struct disk_control *c = calloc(1, sizeof *c);
	if (!c || !address(path, &a)) {
		free(c);
		return CLI_ERROR;
	}
	*c = (struct disk_control){ .loop = loop,
				    .path = path,
				    .exports = exports,
				    .export_count = count,
				    .client = { .fd = -1 } };
	wh_loop_timer_init(&c->rest, step, c);
	mode_t mask = umask(0177); /* for the owner alone */
	c->listening = (struct wh_loop_fd){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
					    .events = WH_LOOP_READ,
					    .fn = accept_event,
					    .ctx = c };
	int fd = c->listening.fd;
	bool bound = fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof a);
	umask(mask);
	if (!bound || listen(fd, ACCEPT_BACKLOG) || wh_loop_add(loop, &c->listening) < 0) {
		cli_error("disk serve: cannot listen on %s: %s", path, strerror(errno));
		if (bound)
			unlink(path);
		if (fd >= 0)
			close(fd);
		free(c);
		return CLI_ERROR;
	}
	*ret_control = c;
	return CLI_OK;
}

void disk_control_free(struct disk_control *c)
{
	if (!c)
		return;
	wh_loop_remove(c->loop, &c->listening);
	close(c->listening.fd);
	unlink(c->path);
	c->hung_up = true;
	while (c->in_flight && wh_loop_step(c->loop, -1) >= 0)
		;
	wh_loop_timer_stop(c->loop, &c->rest);
	if (c->block)
		end(c, -WH_ECANCELED);
	hang_up(c);
	free(c);
}

/* ---- the other side ---- */

/* One line of the answer: 1 = there is more, 0 = done, CLI_ERROR. */
static int answer(const char *path, char *line, struct disk_progress *progress,
		  uint64_t *ret_before, uint64_t *ret_after)
{
	unsigned long long a, b;
	if (sscanf(line, "progress %llu %llu", &a, &b) == 2) {
		disk_progress_show(progress, a, b);
		return 1;
	}
	if (sscanf(line, "done %llu %llu", &a, &b) == 2) {
		*ret_before = a;
		*ret_after = b;
		return 0;
	}
	cli_error("%s: %s", path, strncmp(line, "error ", 6) ? "no server of disks" : line + 6);
	return CLI_ERROR;
}

int disk_control_compact(const char *path, const char *name, struct disk_progress *progress,
			 uint64_t *ret_before, uint64_t *ret_after)
{
	struct sockaddr_un a;
	char line[DISK_CONTROL_LINE_MAX];
	int result = CLI_ERROR;
	bool answered = false;
	if (!address(path, &a))
		return CLI_ERROR;
	if (strlen(name) > DISK_CONTROL_LINE_MAX / 2) {
		cli_error("%s: the name is too long", path);
		return CLI_ERROR;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE *f = fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof a) ? fdopen(fd, "r") : NULL;
	if (!f || dprintf(fd, "compact %s\n", name) < 0) {
		cli_error("cannot reach a server at %s: %s", path, strerror(errno));
		if (f)
			fclose(f);
		else if (fd >= 0)
			close(fd);
		return CLI_ERROR;
	}
	while (!answered && !disk_interrupted() && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = '\0';
		result = answer(path, line, progress, ret_before, ret_after);
		answered = result != 1;
	}
	fclose(f); /* before the end: the server stops */
	if (answered)
		return result;
	cli_error(disk_interrupted() ? "%s: interrupted; the image is consistent"
				     : "%s: the server is gone",
		  path);
	return CLI_ERROR;
}
