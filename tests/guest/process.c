/* SPDX-License-Identifier: ISC */
#include <sched.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

extern char **environ;

static void knows_itself(void)
{
	struct utsname u;
	CHECK_EQ(uname(&u), 0);
	CHECK(!strcmp(u.sysname, "Linux") && !strcmp(u.machine, "x86_64") && *u.nodename);
	CHECK(getpid() > 0);
	CHECK_EQ(getuid(), geteuid());
	CHECK_EQ(getgid(), getegid());
	CHECK_EQ(getpgid(0), getpgrp());
	CHECK(gettid() > 0);
	CHECK(sysconf(_SC_PAGESIZE) == 4096 && sysconf(_SC_NPROCESSORS_ONLN) >= 1);
}

static void knows_its_resources(void)
{
	struct rlimit l;
	struct rusage u;
	struct sysinfo s;
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &l), 0);
	CHECK(l.rlim_cur >= 1024);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &l), 0);
	CHECK_EQ(getrlimit(RLIMIT_STACK, &l), 0);
	CHECK(l.rlim_cur >= 65536);
	CHECK_EQ(getrusage(RUSAGE_SELF, &u), 0);
	CHECK_EQ(sysinfo(&s), 0);
	CHECK(s.totalram > 0 && s.freeram <= s.totalram && s.mem_unit == 1);
	CHECK(getrlimit(99, &l) < 0 && errno == EINVAL);
}

static void memory_has_limits(void)
{
	struct rlimit l, before;
	CHECK_EQ(getrlimit(RLIMIT_DATA, &before), 0);
	CHECK(before.rlim_cur == RLIM_INFINITY && before.rlim_max == RLIM_INFINITY);
	for (int i = 0; i < 2; i++) {
		int resource = i ? RLIMIT_AS : RLIMIT_DATA;
		l.rlim_cur = 24 << 20;
		l.rlim_max = RLIM_INFINITY;
		CHECK_EQ(setrlimit(resource, &l), 0);
		CHECK_EQ(getrlimit(resource, &l), 0);
		CHECK_EQ(l.rlim_cur, 24 << 20);
		void *p = malloc(30 << 20);
		CHECK(!p && errno == ENOMEM);
		p = malloc(1 << 20);
		CHECK(p);
		free(p);
		CHECK_EQ(setrlimit(resource, &before), 0);
		p = malloc(30 << 20);
		CHECK(p);
		free(p);
	}
	l.rlim_cur = 2, l.rlim_max = 1;
	CHECK(setrlimit(RLIMIT_AS, &l) < 0 && errno == EINVAL);
}

static void names_its_thread(void)
{
	char name[16] = "";
	CHECK_EQ(prctl(PR_SET_NAME, "a name that is far too long"), 0);
	CHECK_EQ(prctl(PR_GET_NAME, name), 0);
	CHECK(!strcmp(name, "a name that is "));
}

static void random_bytes(void)
{
	unsigned char a[300], b[300];
	CHECK_EQ(getrandom(a, sizeof a, 0), sizeof a);
	CHECK_EQ(getrandom(b, sizeof b, 0), sizeof b);
	CHECK(memcmp(a, b, sizeof a));
	CHECK_EQ(getentropy(a, 256), 0);
	CHECK(getrandom((void *)8, 4, 0) < 0 && errno == EFAULT);
}

static void has_no_children(void)
{
	int status;
	CHECK(waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD);
}

int main(int argc, char **argv)
{
	CHECK(argc >= 1 && argv[0] && !argv[argc] && environ);
	RUN(knows_itself);
	RUN(knows_its_resources);
	RUN(memory_has_limits);
	RUN(names_its_thread);
	RUN(random_bytes);
	RUN(has_no_children);
	printf("ok\n");
	return 0;
}
