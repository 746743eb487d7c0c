/* SPDX-License-Identifier: ISC */
/*
 * Sockets and keys for the nested machine and for the Linux guest inside, whose busybox knows neither Unix sockets nor vsock.
 *
 *	sock echo ADDRESS            serves one connection: sends back what comes
 *	sock pump ADDRESS KIB [LINE] connects (trying for 20 s), says LINE and awaits an answer that begins with OK (a LINE
 *	                             that begins with 0: none), then sends
 *	                             KIB of a pattern and expects it back
 *	sock cat ADDRESS             connects and prints what comes until the end
 *	sock exec ADDRESS COMMAND... connects and becomes COMMAND, with the connection as descriptor 9
 *	sock button                  waits for the power button
 *
 * ADDRESS is vsock:PORT (the host when connecting) or the path of a Unix socket.
 */
#include <fcntl.h>
#include <linux/input.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define TRIES 400
#define TRY_NS 50000000

static int address(const char *text, struct sockaddr_storage *to, socklen_t *size)
{
	memset(to, 0, sizeof *to);
	if (!strncmp(text, "vsock:", 6)) {
		struct sockaddr_vm *v = (struct sockaddr_vm *)to;
		v->svm_family = AF_VSOCK;
		v->svm_port = (unsigned)atoi(text + 6);
		v->svm_cid = VMADDR_CID_HOST;
		*size = sizeof *v;
		return AF_VSOCK;
	}
	struct sockaddr_un *u = (struct sockaddr_un *)to;
	u->sun_family = AF_UNIX;
	snprintf(u->sun_path, sizeof u->sun_path, "%s", text);
	*size = sizeof *u;
	return AF_UNIX;
}

/* "OK ...\n", byte by byte. */
static int accepted(int fd)
{
	char answer[32] = "";
	for (size_t n = 0; n < sizeof answer - 1 && read(fd, answer + n, 1) == 1; n++)
		if (answer[n] == '\n')
			return !strncmp(answer, "OK ", 3);
	return 0;
}

static int connected(const char *text, const char *line)
{
	struct sockaddr_storage to;
	socklen_t size;
	int family = address(text, &to, &size);
	for (int i = 0; i < TRIES; i++) {
		int fd = socket(family, SOCK_STREAM, 0);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&to, size) == 0 &&
		    (!line || (dprintf(fd, "%s\n", line) > 0 &&
			       (line[0] == '0' || accepted(fd))))) /* HyperKit's has no answer */
			return fd;
		close(fd);
		nanosleep(&(struct timespec){ 0, TRY_NS }, NULL);
	}
	fprintf(stderr, "cannot connect to %s\n", text);
	exit(1);
}

static int echo(const char *text)
{
	static char buffer[16384];
	struct sockaddr_storage at;
	socklen_t size;
	int server = socket(address(text, &at, &size), SOCK_STREAM, 0);
	if (at.ss_family == AF_VSOCK)
		((struct sockaddr_vm *)&at)->svm_cid = VMADDR_CID_ANY;
	if (server < 0 || bind(server, (struct sockaddr *)&at, size) || listen(server, 1))
		return 1;
	int fd = accept(server, NULL, NULL);
	ssize_t n;
	while ((n = read(fd, buffer, sizeof buffer)) > 0)
		for (ssize_t done = 0, r; done < n; done += r)
			if ((r = write(fd, buffer + done, (size_t)(n - done))) <= 0)
				return 1;
	return n != 0;
}

static unsigned char pattern(size_t at)
{
	return (unsigned char)(at * 31 + (at >> 9));
}

static int pump(const char *text, size_t total, const char *line)
{
	static unsigned char out[8192], in[8192];
	size_t sent = 0, got = 0;
	int fd = connected(text, line);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (got < total) {
		struct pollfd p = { fd, (short)(POLLIN | (sent < total ? POLLOUT : 0)), 0 };
		if (poll(&p, 1, 20000) <= 0) {
			fprintf(stderr, "stuck: %zu sent, %zu back\n", sent, got);
			return 1;
		}
		if (p.revents & POLLOUT && sent < total) {
			size_t n = total - sent < sizeof out ? total - sent : sizeof out;
			for (size_t i = 0; i < n; i++)
				out[i] = pattern(sent + i);
			ssize_t r = write(fd, out, n);
			sent += r > 0 ? (size_t)r : 0;
			if (sent == total)
				shutdown(fd, SHUT_WR);
		}
		ssize_t n = read(fd, in, sizeof in);
		if (n == 0)
			return fprintf(stderr, "ended after %zu bytes\n", got), 1;
		for (ssize_t i = 0; i < n; i++)
			if (in[i] != pattern(got + (size_t)i))
				return fprintf(stderr, "wrong byte at %zu\n", got + (size_t)i), 1;
		got += n > 0 ? (size_t)n : 0;
	}
	fcntl(fd, F_SETFL, 0);
	return read(fd, in, 1) != 0; /* the end comes, too */
}

static int cat(const char *text)
{
	char buffer[4096];
	int fd = connected(text, NULL);
	ssize_t n;
	while ((n = read(fd, buffer, sizeof buffer)) > 0)
		if (write(1, buffer, (size_t)n) != n)
			return 1;
	return 0;
}

static int button(void)
{
	struct pollfd p[8];
	int count = 0;
	for (int i = 0; i < 8; i++) {
		char name[32];
		snprintf(name, sizeof name, "/dev/input/event%d", i);
		int fd = open(name, O_RDONLY);
		if (fd >= 0)
			p[count++] = (struct pollfd){ fd, POLLIN, 0 };
	}
	printf("@ready@ %d\n", count);
	fflush(stdout);
	while (count && poll(p, (nfds_t)count, 30000) > 0)
		for (int i = 0; i < count; i++) {
			struct input_event e;
			if (p[i].revents & POLLIN && read(p[i].fd, &e, sizeof e) == sizeof e &&
			    e.type == EV_KEY && e.code == KEY_POWER)
				return 0;
		}
	return 1;
}

static int become(const char *text, char **command)
{
	int fd = connected(text, NULL);
	if (dup2(fd, 9) != 9)
		return 1;
	close(fd);
	execvp(command[0], command);
	perror(command[0]);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "exec"))
		return become(argv[2], argv + 3);
	if (argc == 3 && !strcmp(argv[1], "echo"))
		return echo(argv[2]);
	if (argc >= 4 && !strcmp(argv[1], "pump"))
		return pump(argv[2], (size_t)atoi(argv[3]) << 10, argc > 4 ? argv[4] : NULL);
	if (argc == 3 && !strcmp(argv[1], "cat"))
		return cat(argv[2]);
	if (argc == 2 && !strcmp(argv[1], "button"))
		return button();
	return 2;
}
