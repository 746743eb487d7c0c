/* SPDX-License-Identifier: ISC */
/*
 * Cold start to the first byte of an HTTP reply: starts a command, connects to its
 * port as soon as that is possible, sends a request, and stops the clock at the
 * reply's first byte. The clock starts before the command's fork.
 *
 *	firstbyte RUNS PORT COMMAND [ARGS...]
 *
 * Prints one line of JSON with quantiles in us.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Microseconds, or -1. */
static double one(int port, char **command)
{
	static const char request[] =
		"GET /count HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
	inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	pid_t pid;
	double begin = now(), result = -1;
	if (posix_spawnp(&pid, command[0], &actions, NULL, command, environ)) {
		perror(command[0]);
		exit(1);
	}
	while (now() - begin < 5e6) {
		char byte;
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
			close(fd);
			continue;
		}
		if (write(fd, request, sizeof request - 1) > 0 && read(fd, &byte, 1) == 1)
			result = now() - begin;
		close(fd);
		if (result >= 0)
			break;
	}
	kill(pid, SIGINT);
	waitpid(pid, NULL, 0);
	posix_spawn_file_actions_destroy(&actions);
	return result;
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: firstbyte RUNS PORT COMMAND [ARGS...]\n");
		return 2;
	}
	int runs = atoi(argv[1]), good = 0;
	double *us = calloc((size_t)runs, sizeof *us);
	for (int i = 0; i < runs; i++) {
		double t = one(atoi(argv[2]), argv + 3);
		if (t >= 0)
			us[good++] = t;
	}
	qsort(us, (size_t)good, sizeof *us, compare);
	printf("{\"p50_us\": %.0f, \"p10_us\": %.0f, \"p90_us\": %.0f, \"runs\": %d, \"failed\": "
	       "%d}\n",
	       good ? us[good / 2] : 0, good ? us[good / 10] : 0, good ? us[good * 9 / 10] : 0,
	       good, runs - good);
	return good == runs ? 0 : 1;
}
