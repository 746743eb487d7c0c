/* SPDX-License-Identifier: ISC */
/* Waits to be stopped, in the way that the first argument names. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include "check.h"

static volatile sig_atomic_t asked;

static void on_term(int signo)
{
	asked = signo;
}

static void *wait_for_term(void *set)
{
	int signo;
	CHECK_EQ(sigwait(set, &signo), 0);
	printf("stopped by %d\n", signo);
	exit(4);
}

static void ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	struct sigaction action = { .sa_handler = on_term };
	if (!strcmp(how, "default")) {
		ready();
		for (;;)
			pause();
	}
	if (!strcmp(how, "handler")) {
		CHECK_EQ(sigaction(SIGTERM, &action, 0), 0);
		CHECK_EQ(sigaction(SIGINT, &action, 0), 0);
		ready();
		while (!asked)
			CHECK(poll(0, 0, -1) < 0 && errno == EINTR);
		printf("stopped by %d\n", (int)asked);
		return 3;
	}
	if (!strcmp(how, "thread")) {
		sigset_t set;
		pthread_t t;
		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		pthread_sigmask(SIG_BLOCK, &set, 0);
		CHECK_EQ(pthread_create(&t, 0, wait_for_term, &set), 0);
		ready();
		pthread_join(t, 0);
	}
	return 99;
}
