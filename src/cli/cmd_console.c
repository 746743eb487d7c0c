/* SPDX-License-Identifier: ISC */
/*
 * wherry logs, wherry console: what a named machine writes on its console, and typing there.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>
#include <wherry/base/mem.h>

#include "machine_client.h"

#define CTRL_A 1
#define HEAD_MAX 1024u

enum { OPT_FOLLOW = 1 };

static int cmd_logs(int argc, char **argv);
static int cmd_console(int argc, char **argv);

static const struct cli_option logs_options[] = { { OPT_FOLLOW, "follow", 'f', NULL,
						    "go on until the machine ends" } };

const struct cli_command cli_command_logs = {
	.name = "logs",
	.synopsis = "[-f] NAME",
	.summary = "show what a machine wrote on its console",
	.details = "The last 64 KiB are kept.",
	.options = logs_options,
	.option_count = WH_ARRAY_COUNT(logs_options),
	.run = cmd_logs,
};
const struct cli_command cli_command_console = {
	.name = "console",
	.synopsis = "NAME",
	.summary = "be at a machine's console",
	.details =
		"Shows what was written, then what is, and types what comes on standard input. On "
		"a\n"
		"terminal Ctrl-A d leaves the machine alone again, Ctrl-A Ctrl-A types one Ctrl-A.",
	.run = cmd_console,
};

/* The answer's head, byte by byte: what follows is the console's. 0 or -errno. */
static int take_head(int fd, const char *wanted)
{
	char head[HEAD_MAX];
	size_t n = 0;
	do {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		if (poll(&p, 1, MACHINE_ANSWER_MS) <= 0)
			return -ETIMEDOUT;
		if (n == sizeof head - 1 || read(fd, head + n, 1) != 1)
			return -EPROTO;
		head[++n] = 0;
	} while (n < 4 || strcmp(head + n - 4, "\r\n\r\n"));
	return strncmp(head, wanted, strlen(wanted)) ? -EPROTO : 0;
}

/* Connected behind the head, or an exit status below 0. */
static int open_view(const char *name, const char *method, const char *path, const char *wanted)
{
	int fd = machine_connect(name);
	int error = fd < 0 ? fd : machine_ask(fd, method, path, "", -1);
	if (!error)
		error = take_head(fd, wanted);
	if (error >= 0)
		return fd;
	if (fd >= 0)
		close(fd);
	(void)machine_missing(name, error);
	return -1;
}

/* false = that was the last. */
static bool pass_output(int fd)
{
	char text[4096];
	ssize_t n = read(fd, text, sizeof text);
	if (n > 0)
		cli_write(STDOUT_FILENO, text, (size_t)n);
	return n > 0 || (n < 0 && errno == EINTR);
}

static int cmd_logs(int argc, char **argv)
{
	const char *name = NULL;
	bool follow = false;
	int status = machine_operands(&cli_command_logs, argc, argv, &name, 1, &follow);
	if (status >= 0)
		return status;
	int fd = open_view(name, "GET", follow ? "/v1/console/follow" : "/v1/console",
			   "HTTP/1.1 200");
	if (fd < 0)
		return CLI_ERROR;
	while (pass_output(fd))
		;
	close(fd);
	return CLI_OK;
}

/* Takes our own keys out; false = the person leaves. */
static bool filter_keys(char *text, size_t *size, bool *escape)
{
	size_t kept = 0;
	for (size_t i = 0; i < *size; i++) {
		char c = text[i];
		if (*escape && c == 'd')
			return false;
		bool plain = *escape ? c == CTRL_A : c != CTRL_A;
		*escape = !*escape && c == CTRL_A;
		if (plain)
			text[kept++] = c;
	}
	*size = kept;
	return true;
}

/* The descriptor blocks: a guest that does not read makes us wait, but for its output. */
static bool type(int fd, const char *text, size_t size)
{
	while (size) {
		struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return false;
		if (p.revents & POLLIN && !pass_output(fd))
			return false;
		ssize_t n =
			p.revents & POLLOUT ? send(fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
		if (n < 0 && errno != EAGAIN)
			return false;
		text += n > 0 ? n : 0;
		size -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

static void attend(int fd, bool keys)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
			       { .fd = STDIN_FILENO, .events = POLLIN } };
	bool escape = false;
	char text[1024];
	while (poll(p, 2, -1) >= 0 || errno == EINTR) {
		if (p[0].revents && !pass_output(fd))
			return;
		if (!p[1].revents)
			continue;
		ssize_t n = read(STDIN_FILENO, text, sizeof text);
		size_t size = n > 0 ? (size_t)n : 0;
		if (n == 0 || (n < 0 && errno != EINTR)) { /* says no more, but listens */
			(void)shutdown(fd, SHUT_WR);
			p[1].fd = -1;
		}
		if ((keys && !filter_keys(text, &size, &escape)) || !type(fd, text, size))
			return;
	}
}

static int cmd_console(int argc, char **argv)
{
	const char *name = NULL;
	struct termios before, raw;
	int status = machine_operands(&cli_command_console, argc, argv, &name, 1, NULL);
	if (status >= 0)
		return status;
	int fd = open_view(name, "PUT", "/v1/console/attach", "HTTP/1.1 101");
	if (fd < 0)
		return CLI_ERROR;
	bool keys = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &before);
	if (keys) {
		raw = before;
		cfmakeraw(&raw);
		raw.c_oflag |= OPOST;
		keys = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	attend(fd, keys);
	if (keys)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
	close(fd);
	return CLI_OK;
}
