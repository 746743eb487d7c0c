/* SPDX-License-Identifier: ISC */
#include "kernel_serial.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/bytes.h>

#include "cli.h"

#define CTRL_A 1
#define LOG_MAGIC "WHERRYL1"
#define LOG_HEADER 16u
#define LOG_SIZE 65536u
#define BEHIND_STEP 16384u
#define BEHIND_MAX (256u << 10)
#define FAREWELL_MS 10000 /* for a reader that takes nothing any more */

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

/* The client of a socket has left: another one may come. */
static void client_left(struct kernel_serial *s)
{
	stop_watching(s);
	wh_os_close(&s->in);
	s->out = -1;
	(void)wh_loop_add(s->loop, &s->listen); /* else it stays alone */
}

/* One read; true = there may be more. */
static bool take(struct kernel_serial *s)
{
	ssize_t n = read(s->in, s->waiting, sizeof s->waiting);
	if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EIO))
		return false;
	if (n <= 0 && s->listen.ctx) {
		client_left(s);
		return false;
	}
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
	if (s->ended || s->watching || s->in < 0)
		return;
	if (s->file) {
		while (take(s) && !s->ended)
			;
		return;
	}
	s->watch = (struct wh_loop_fd){
		.fd = s->in, .events = WH_LOOP_READ, .fn = readable, .ctx = s
	};
	s->watching = wh_loop_add(s->loop, &s->watch) >= 0;
	if (s->watching)
		return;
	s->file = true; /* epoll takes no regular files */
	want(s);
}

static int fail(const char *where, const char *what)
{
	cli_error("--serial %s: %s: %s", where, what, strerror(errno));
	return -1;
}

static void begin_stdio(struct kernel_serial *s)
{
	struct termios raw;
	s->in = STDIN_FILENO;
	s->out = STDOUT_FILENO;
	s->stdio = true;
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !tcgetattr(STDIN_FILENO, &s->before)) {
		raw = s->before;
		cfmakeraw(&raw);
		raw.c_oflag |= OPOST; /* our own lines, too */
		s->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
}

static int begin_pty(struct kernel_serial *s, const char *link)
{
	struct termios raw;
	struct stat st;
	s->in = s->out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	const char *name = s->in < 0 || grantpt(s->in) || unlockpt(s->in) ? NULL : ptsname(s->in);
	s->slave = name ? open(name, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
	if (s->slave < 0)
		return fail("pty", "no pseudo-terminal");
	if (!tcgetattr(s->slave, &raw)) {
		cfmakeraw(&raw);
		(void)tcsetattr(s->slave, TCSANOW, &raw);
	}
	if (!*link) {
		cli_error("serial port: %s", name);
		return 0;
	}
	if (lstat(link, &st) == 0 && S_ISLNK(st.st_mode))
		(void)unlink(link);
	if (symlink(name, link))
		return fail(link, "cannot make the link");
	wh_format(s->path, sizeof s->path, "%s", link);
	return 0;
}

static void client_came(struct wh_loop_fd *watch, uint32_t events)
{
	struct kernel_serial *s = watch->ctx;
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	s->in = s->out = fd;
	wh_loop_remove(s->loop, &s->listen);
	want(s);
}

static int begin_unix(struct kernel_serial *s, const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	if (!*path ||
	    wh_format(at.sun_path, sizeof at.sun_path, "%s", path) >= sizeof at.sun_path) {
		errno = ENAMETOOLONG;
		return fail(path, "the socket's name");
	}
	mode_t mask = umask(0177);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&at, sizeof at);
	(void)umask(mask);
	if (!r)
		wh_format(s->path, sizeof s->path, "%s", path);
	s->listen = (struct wh_loop_fd){
		.fd = fd, .events = WH_LOOP_READ, .fn = client_came, .ctx = s
	};
	if (r || listen(fd, 1) || wh_loop_add(s->loop, &s->listen) < 0)
		return fail(path, "cannot listen");
	return 0;
}

static int begin_log(struct kernel_serial *s, const char *path)
{
	struct stat st;
	s->log_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->log_fd < 0 || fstat(s->log_fd, &st) || !S_ISREG(st.st_mode) ||
	    ftruncate(s->log_fd, LOG_HEADER + LOG_SIZE))
		return fail(path, "cannot make the log");
	void *p =
		mmap(NULL, LOG_HEADER + LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s->log_fd, 0);
	if (p == MAP_FAILED)
		return fail(path, "cannot map the log");
	s->log = p;
	memcpy(s->log, LOG_MAGIC, 8);
	wh_store_le64(s->log + 8, 0);
	return 0;
}

int kernel_serial_begin(struct kernel_serial *s, const char *where)
{
	char kind[160];
	char *log;
	int error = 0;
	s->in = s->out = s->slave = s->log_fd = s->listen.fd = -1;
	if (wh_format(kind, sizeof kind, "%s", where ? where : "stdio") >= sizeof kind) {
		errno = ENAMETOOLONG;
		return fail(where, "the names");
	}
	log = strstr(kind, ",log=");
	if (log) {
		*log = 0;
		error = begin_log(s, log + 5);
	}
	if (error < 0)
		return error;
	if (wh_streq(kind, "stdio")) {
		begin_stdio(s);
	} else if (wh_streq(kind, "pty") || !strncmp(kind, "pty=", 4)) {
		error = begin_pty(s, kind[3] ? kind + 4 : "");
	} else if (!strncmp(kind, "unix=", 5)) {
		error = begin_unix(s, kind + 5);
	} else if (!wh_streq(kind, "null") && !wh_streq(kind, "hvc")) {
		cli_error("--serial is stdio, null, hvc, pty[=LINK] or unix=PATH, not %s", kind);
		error = -1;
	}
	if (error < 0)
		kernel_serial_end(s);
	else
		want(s);
	return error;
}

static void write_log(struct kernel_serial *s, const char *text, size_t size)
{
	uint64_t total = wh_load_le64(s->log + 8);
	for (size_t i = 0; i < size; i++)
		s->log[LOG_HEADER + (total + i) % LOG_SIZE] = (uint8_t)text[i];
	__atomic_store_n((uint64_t *)(void *)(s->log + 8), total + size, __ATOMIC_RELEASE);
}

/* Writes what is taken at once: bytes, or less than `size`. */
static size_t write_some(struct kernel_serial *s, const char *text, size_t size, int wait_ms)
{
	size_t done = 0;
	while (done < size) {
		struct pollfd p = { .fd = s->out, .events = POLLOUT };
		size_t n = size - done < PIPE_BUF || s->out_file ? size - done : PIPE_BUF;
		if (!s->out_file && poll(&p, 1, wait_ms) == 0)
			break;
		ssize_t r = write(s->out, text + done, n);
		if (r < 0 && errno == EAGAIN)
			break;
		if (r < 0 && errno != EINTR)
			return size; /* nowhere to complain to */
		done += r > 0 ? (size_t)r : 0;
	}
	return done;
}

static void out_ready(struct wh_loop_fd *watch, uint32_t events)
{
	struct kernel_serial *s = watch->ctx;
	size_t n = write_some(s, s->behind, s->behind_size, 0);
	s->behind_size -= n;
	memmove(s->behind, s->behind + n, s->behind_size);
	if (s->behind_size)
		return;
	if (s->out_watching)
		wh_loop_remove(s->loop, watch);
	s->out_watching = false;
	wh_vmm_pc_serial_hold(s->machine, false);
}

static void keep_behind(struct kernel_serial *s, const char *text, size_t size)
{
	if (s->behind_room - s->behind_size < size) {
		size_t room = s->behind_size + size + BEHIND_STEP;
		char *p = room > BEHIND_MAX ? NULL : realloc(s->behind, room);
		if (!p)
			return; /* lost: somebody pauses over and over while nobody reads */
		s->behind = p;
		s->behind_room = room;
	}
	memcpy(s->behind + s->behind_size, text, size);
	s->behind_size += size;
	if (s->out_watching)
		return;
	s->out_watch = (struct wh_loop_fd){
		.fd = s->out, .events = WH_LOOP_WRITE, .fn = out_ready, .ctx = s
	};
	s->out_watching = wh_loop_add(s->loop, &s->out_watch) >= 0;
	s->out_file = !s->out_watching;
	if (s->out_file)
		out_ready(&s->out_watch, 0);
	else
		wh_vmm_pc_serial_hold(s->machine, true);
}

static void write_stdio(struct kernel_serial *s, const char *text, size_t size)
{
	size_t n = s->behind_size ? 0 : write_some(s, text, size, 0);
	if (n < size)
		keep_behind(s, text + n, size - n);
}

void kernel_serial_output(struct kernel_serial *s, const char *text, size_t size)
{
	if (s->log)
		write_log(s, text, size);
	if (s->stdio)
		write_stdio(s, text, size);
	else if (s->listen.ctx && s->out >= 0)
		(void)send(s->out, text, size, MSG_NOSIGNAL); /* what does not fit is lost */
	else if (s->out >= 0)
		(void)!write(s->out, text, size);
}

void kernel_serial_room(struct kernel_serial *s)
{
	if (give(s))
		want(s);
}

void kernel_serial_end(struct kernel_serial *s)
{
	stop_watching(s);
	if (s->out_watching) {
		wh_loop_remove(s->loop, &s->out_watch);
		(void)write_some(s, s->behind, s->behind_size, FAREWELL_MS);
	}
	s->out_watching = false;
	free(s->behind);
	s->behind = NULL;
	s->behind_size = s->behind_room = 0;
	if (s->raw)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &s->before);
	s->raw = false;
	if (s->path[0])
		(void)unlink(s->path);
	s->path[0] = 0;
	if (s->listen.ctx && s->in < 0)
		wh_loop_remove(s->loop, &s->listen);
	if (!s->stdio)
		wh_os_close(&s->in);
	wh_os_close(&s->listen.fd);
	wh_os_close(&s->slave);
	if (s->log)
		munmap(s->log, LOG_HEADER + LOG_SIZE);
	s->log = NULL;
	wh_os_close(&s->log_fd);
}
