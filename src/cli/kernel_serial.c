/* SPDX-License-Identifier: ISC */
#include "kernel_serial.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CTRL_A 1

static void stop_watching(struct kernel_serial *s)
{
	if (s->watching)
		wh_loop_remove(s->loop, &s->watch);
	s->watching = false;
}

/* Gives the guest what waits; true = nothing is left. */
static bool give(struct kernel_serial *s)
{
	size_t taken = wh_vmm_pc_serial_input(s->machine, s->waiting, s->waiting_size);
	memmove(s->waiting, s->waiting + taken, s->waiting_size - taken);
	s->waiting_size -= taken;
	return !s->waiting_size;
}

/* Takes our own keys out of what a person typed. */
static void filter_keys(struct kernel_serial *s)
{
	size_t kept = 0;
	for (size_t i = 0; i < s->waiting_size; i++) {
		char c = s->waiting[i];
		if (s->escape && c == 'x')
			s->quit(s->ctx);
		bool plain = s->escape ? c == CTRL_A : c != CTRL_A;
		s->escape = !s->escape && c == CTRL_A;
		if (plain)
			s->waiting[kept++] = c;
	}
	s->waiting_size = kept;
}

/* One read; true = there may be more. */
static bool take(struct kernel_serial *s)
{
	ssize_t n = read(STDIN_FILENO, s->waiting, sizeof s->waiting);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return false;
	if (n <= 0) {
		s->ended = true;
		stop_watching(s);
		return false;
	}
	s->waiting_size = (size_t)n;
	if (s->raw)
		filter_keys(s);
	return give(s);
}

static void readable(struct wh_loop_fd *watch, uint32_t events)
{
	struct kernel_serial *s = watch->ctx;
	if (!take(s) && s->waiting_size)
		stop_watching(s); /* until there is room */
}

static void want(struct kernel_serial *s)
{
	if (s->ended || s->watching)
		return;
	if (s->file) {
		while (take(s) && !s->ended)
			;
		return;
	}
	s->watching = wh_loop_add(s->loop, &s->watch) >= 0;
	if (s->watching)
		return;
	s->file = true; /* epoll takes no regular files */
	want(s);
}

void kernel_serial_begin(struct kernel_serial *s)
{
	struct termios raw;
	s->watch = (struct wh_loop_fd){
		.fd = STDIN_FILENO, .events = WH_LOOP_READ, .fn = readable, .ctx = s
	};
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !tcgetattr(STDIN_FILENO, &s->before)) {
		raw = s->before;
		cfmakeraw(&raw);
		raw.c_oflag |= OPOST; /* our own lines, too */
		s->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	want(s);
}

void kernel_serial_room(struct kernel_serial *s)
{
	if (give(s))
		want(s);
}

void kernel_serial_end(struct kernel_serial *s)
{
	stop_watching(s);
	if (s->raw)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &s->before);
	s->raw = false;
}
