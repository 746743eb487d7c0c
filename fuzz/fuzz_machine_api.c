/* SPDX-License-Identifier: ISC */
/*
 * Hostile clients of a machine's API. The input is pieces, each with a length byte in front: they are sent by one client after
 * another; a length of 0 brings the next client, 255 has the console write, 254 takes what was typed. Every answer is HTTP with a whole
 * line of JSON, metrics, or the console; at the end an honest client is served.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>

#include "machine_api.h"
#include "machine_console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct run run;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static bool paused;
static unsigned calls, typed_room;
static void (*snapshot_done)(void *ctx, int error, const struct wh_diag *diag);
static void *snapshot_ctx;

/* ---- a machine that is none ---- */

int wh_vmm_machine_pause(struct wh_vmm_machine *machine, bool on, struct wh_diag *diag)
{
	if (++calls % 5 == 0)
		return wh_diag_set(diag, -WH_EAGAIN, "the guest \"does\" not\ncome to rest");
	paused = on;
	return 0;
}

bool wh_vmm_machine_paused(const struct wh_vmm_machine *machine)
{
	return paused;
}

void wh_vmm_machine_kill(struct wh_vmm_machine *machine)
{
	calls++;
}

uint64_t wh_vmm_machine_ram_size(const struct wh_vmm_machine *machine)
{
	return 1 << 20;
}

int wh_vmm_machine_inspect(struct wh_vmm_machine *m, char *to, size_t size)
{
	return (int)wh_format(to, size, "thread tid=1 stack=1000,2000 name=x\nfd 0 kind=file\n");
}

uint64_t wh_vmm_machine_image_base(const struct wh_vmm_machine *m)
{
	return 0x1000;
}

int wh_vmm_image_symbol(struct wh_vmm_image *image, uint64_t at, const char **ret_name,
			uint64_t *ret_offset)
{
	*ret_name = "main";
	*ret_offset = at;
	return 0;
}

uint64_t wh_vmm_machine_touched(const struct wh_vmm_machine *machine)
{
	return 4096;
}

enum wh_vmm_engine wh_vmm_machine_engine(const struct wh_vmm_machine *machine)
{
	return WH_VMM_ENGINE_PROC;
}

void run_ask_to_stop(struct run *r, int signal)
{
	calls++;
}

/* Done now, refused, or done later. */
int run_snapshot(struct run *r, const char *path, int fd,
		 void (*done)(void *ctx, int error, const struct wh_diag *diag), void *ctx,
		 struct wh_diag *diag)
{
	struct wh_diag why = { "a device is busy" };
	wh_assert(path[0] == '/' && strlen(path) < 1024);
	if (snapshot_done || ++calls % 4 == 0)
		return wh_diag_set(diag, -WH_EALREADY, "another one");
	if (calls % 3) {
		done(ctx, calls % 2 ? 0 : -WH_EBUSY, &why);
		return 0;
	}
	snapshot_done = done;
	snapshot_ctx = ctx;
	return 0;
}

void run_snapshot_end(void)
{
}

static size_t type(struct run *r, const char *text, size_t size)
{
	size_t n = size < typed_room ? size : typed_room;
	typed_room -= (unsigned)n;
	return n;
}

static void finish_snapshot(void)
{
	struct wh_diag why = { "late" };
	void (*done)(void *ctx, int error, const struct wh_diag *diag) = snapshot_done;
	snapshot_done = NULL;
	if (done)
		done(snapshot_ctx, calls % 2 ? 0 : -WH_EIO, &why);
}

/* ---- clients ---- */

static char folder[] = "/tmp/wherry-fuzz-XXXXXX";

static void end(void)
{
	machine_api_close(&run);
	(void)rmdir(folder);
}

static void begin(void)
{
	wh_assert(mkdtemp(folder));
	setenv("WHERRY_MACHINES", folder, 1);
	run.options.name = "fuzz";
	run.title = "an \"image\"";
	run.console_input = type;
	wh_assert(wh_loop_new(&run.loop) == 0);
	wh_assert(machine_api_open(&run) == CLI_OK && machine_api_start(&run) == CLI_OK);
	atexit(end);
	snprintf(address.sun_path, sizeof address.sun_path, "%s/fuzz.sock", folder);
}

static int client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	wh_assert(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address));
	return fd;
}

static void serve(void)
{
	for (int i = 0; i < 8 && wh_loop_step(run.loop, 0) > 0; i++)
		;
}

/* What came: whole answers only, but for streams. */
static void look(int fd)
{
	static char text[1 << 17];
	size_t have = 0;
	ssize_t n;
	while (have < sizeof text - 1 &&
	       (n = recv(fd, text + have, sizeof text - 1 - have, MSG_DONTWAIT)) > 0)
		have += (size_t)n;
	text[have] = 0;
	if (!have)
		return;
	wh_assert(!strncmp(text, "HTTP/1.1 ", 9));
	char *body = strstr(text, "\r\n\r\n");
	wh_assert(body);
	body += 4;
	if (strstr(text, "Content-Type: application/json\r\n") && strstr(text, "json\r\n") < body) {
		wh_assert(body[0] == '{' && text[have - 1] == '\n' && text[have - 2] == '}');
		for (char *p = body; p < text + have - 1; p++)
			wh_assert(*p >= ' ' && *p <= '~');
	}
}

static void honest(void)
{
	static const char request[] = "GET /v1/machine HTTP/1.1\r\nHost: x\r\n\r\n";
	char text[1024];
	int fd = client();
	wh_assert(send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == sizeof request - 1);
	serve();
	ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
	wh_assert(n > 0);
	text[n] = 0;
	wh_assert(!strncmp(text, "HTTP/1.1 200 OK\r\n", 17) && strstr(text, "{\"name\":\"fuzz\""));
	close(fd);
	serve();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char line[256];
	if (!run.loop)
		begin();
	int fd = client();
	for (size_t at = 0; at < size;) {
		size_t n = data[at++];
		if (n == 0) {
			look(fd);
			close(fd);
			serve();
			fd = client();
		} else if (n == 255) {
			machine_console_output(line, sizeof line);
		} else if (n == 254) {
			typed_room += 100;
			machine_console_room();
			finish_snapshot();
		} else {
			n = n < size - at ? n : size - at;
			(void)send(fd, data + at, n,
				   MSG_NOSIGNAL | MSG_DONTWAIT); /* closed: fine */
			at += n;
			serve();
		}
	}
	look(fd);
	close(fd);
	serve();
	finish_snapshot();
	honest();
	return 0;
}
