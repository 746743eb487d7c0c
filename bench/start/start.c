/* SPDX-License-Identifier: ISC */
/*
 * Whole-process start figures: from fork and exec to reaped, medians and ratios in one run.
 *
 *	bench-start [--runs N] [--json] NOOP COMMAND...     COMMAND = NAME=PROGRAM[,ARG...]
 *
 * NOOP is the physical limit: a static program that ends at once. Each command takes turns with it, run by run,
 * in a series of its own: a disturbance of the machine hits both alike, and the kernel's taking apart of
 * namespaces, which goes on after a command was reaped, is not charged to some other command.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS_MAX 16
#define ARGUMENTS_MAX 32
#define RUNS_MAX 100000

struct command {
	const char *name;
	char *argv[ARGUMENTS_MAX + 1];
	double *us, *noop_us; /* of the same series */
	int failures;
};

static int null_fd;

static double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void run_once(struct command *c, double *ret_us)
{
	int status;
	double start = now_us();
	pid_t pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (!pid) {
		dup2(null_fd, 0);
		dup2(null_fd, 1);
		execv(c->argv[0], c->argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	*ret_us = now_us() - start;
	c->failures += !WIFEXITED(status) || WEXITSTATUS(status) > 100;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void parse(struct command *c, char *text, int runs)
{
	char *equals = strchr(text, '=');
	c->name = equals ? text : "no-op";
	if (equals)
		*equals++ = 0;
	int n = 0;
	for (char *p = strtok(equals ? equals : text, ","); p && n < ARGUMENTS_MAX;
	     p = strtok(NULL, ","))
		c->argv[n++] = p;
	c->us = malloc(sizeof(double) * (size_t)runs);
	c->noop_us = malloc(sizeof(double) * (size_t)runs);
	if (!n || !c->us || !c->noop_us)
		exit(2);
}

static void report(const struct command *c, int runs, bool json)
{
	double median = c->us[runs / 2], noop = c->noop_us[runs / 2], ratio = median / noop;
	double p90 = c->us[runs * 9 / 10];
	if (json)
		printf("{\"bench\":\"start\",\"name\":\"%s\",\"us\":%.1f,\"p90\":%.1f,\"noop\":%."
		       "1f,\"ratio\":%.2f,"
		       "\"runs\":%d,\"failures\":%d}\n",
		       c->name, median, p90, noop, ratio, runs, c->failures);
	else
		printf("| %-24s | %8.1f | %8.1f | %8.1f | %8.1f | %6.2f | %d |\n", c->name,
		       c->us[0], median, p90, noop, ratio, c->failures);
}

int main(int argc, char **argv)
{
	static struct command commands[COMMANDS_MAX];
	int count = 0, runs = 500;
	bool json = false;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--runs") && i + 1 < argc)
			runs = atoi(argv[++i]);
		else if (!strcmp(argv[i], "--json"))
			json = true;
		else if (count < COMMANDS_MAX && runs > 0 && runs <= RUNS_MAX)
			parse(&commands[count++], argv[i], runs);
	}
	if (count < 2)
		return 2;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!json)
		puts("| start to end             |   min us |   median |      p90 |    no-op |  "
		     "ratio | "
		     "failed |\n"
		     "|--------------------------|----------|----------|----------|----------|-----"
		     "---|---|");
	for (int k = 1; k < count; k++) {
		for (int i = 0; i < runs; i++) {
			run_once(&commands[0], &commands[k].noop_us[i]);
			run_once(&commands[k], &commands[k].us[i]);
		}
		qsort(commands[k].us, (size_t)runs, sizeof(double), by_value);
		qsort(commands[k].noop_us, (size_t)runs, sizeof(double), by_value);
		report(&commands[k], runs, json);
	}
	return 0;
}
