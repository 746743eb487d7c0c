/* SPDX-License-Identifier: ISC */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include "check.h"

static volatile int caught, last_code;
static volatile uintptr_t last_address;
static sigjmp_buf jump;

static void handler(int signo)
{
	caught += signo;
}

static void handler_info(int signo, siginfo_t *info, void *context)
{
	caught += info->si_signo;
	last_code = info->si_code;
	last_address = (uintptr_t)info->si_addr;
}

static void install(int signo, void (*fn)(int), int flags)
{
	struct sigaction a = { .sa_handler = fn, .sa_flags = flags };
	CHECK_EQ(sigaction(signo, &a, 0), 0);
	caught = 0;
}

static void raise_and_kill(void)
{
	install(SIGUSR1, handler, 0);
	CHECK_EQ(raise(SIGUSR1), 0);
	CHECK_EQ(caught, SIGUSR1);
	CHECK_EQ(kill(getpid(), SIGUSR1), 0);
	CHECK_EQ(caught, 2 * SIGUSR1);
	install(SIGUSR1, SIG_IGN, 0);
	CHECK_EQ(raise(SIGUSR1), 0);
	CHECK_EQ(raise(SIGCHLD), 0); /* ignored by default */
	CHECK_EQ(kill(getpid(), 0), 0);
	CHECK(kill(getpid(), 99) < 0 && errno == EINVAL);
	CHECK(kill(4711, SIGUSR1) < 0 && errno == ESRCH);
	struct sigaction a = { .sa_sigaction = handler_info,
			       .sa_flags = SA_SIGINFO | SA_RESETHAND };
	CHECK_EQ(sigaction(SIGUSR2, &a, 0), 0);
	CHECK_EQ(kill(getpid(), SIGUSR2), 0);
	CHECK_EQ(last_code, SI_USER);
	CHECK_EQ(sigaction(SIGUSR2, 0, &a), 0);
	CHECK(a.sa_handler == SIG_DFL);
	CHECK(sigaction(SIGKILL, &a, 0) < 0 && errno == EINVAL);
}

static void blocked_signals_wait(void)
{
	sigset_t set, old, pending;
	install(SIGUSR1, handler, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &set, &old), 0);
	raise(SIGUSR1);
	raise(SIGUSR1);
	CHECK_EQ(caught, 0);
	CHECK_EQ(sigpending(&pending), 0);
	CHECK(sigismember(&pending, SIGUSR1));
	CHECK_EQ(sigprocmask(SIG_SETMASK, &old, 0), 0);
	CHECK_EQ(caught, SIGUSR1); /* standard signals do not queue */
	CHECK_EQ(sigprocmask(SIG_BLOCK, &set, 0), 0);
	raise(SIGUSR1);
	sigset_t none;
	sigemptyset(&none);
	CHECK(sigsuspend(&none) < 0 && errno == EINTR);
	CHECK_EQ(caught, 2 * SIGUSR1);
	CHECK_EQ(sigprocmask(SIG_SETMASK, 0, &set), 0);
	CHECK(sigismember(&set, SIGUSR1));
	CHECK_EQ(sigprocmask(SIG_SETMASK, &old, 0), 0);
}

static void waits_for_signals(void)
{
	sigset_t set;
	siginfo_t info;
	struct timespec t = { 0, 10000000 };
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGALRM);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &set, 0), 0);
	CHECK(sigtimedwait(&set, &info, &t) < 0 && errno == EAGAIN);
	kill(getpid(), SIGUSR1);
	CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
	CHECK_EQ(info.si_signo, SIGUSR1);
	struct itimerval v = { .it_value = { 0, 10000 } };
	CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
	CHECK_EQ(sigwaitinfo(&set, &info), SIGALRM);
	CHECK_EQ(sigprocmask(SIG_UNBLOCK, &set, 0), 0);
}

static void interrupts_sleep(void)
{
	struct itimerval v = { .it_value = { 0, 10000 } };
	struct timespec t = { 5, 0 }, left = { 0, 0 };
	install(SIGALRM, handler, SA_RESTART);
	CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
	CHECK(nanosleep(&t, &left) < 0 && errno == EINTR); /* never restarts */
	CHECK(left.tv_sec == 4 && left.tv_nsec > 0);
	CHECK_EQ(caught, SIGALRM);
	v.it_interval.tv_usec = 5000;
	CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
	while (caught < 4 * SIGALRM)
		pause();
	memset(&v, 0, sizeof v);
	CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
	CHECK_EQ(alarm(100), 0);
	CHECK_EQ(alarm(0), 100);
}

static int ends[2];

static void *write_later(void *text)
{
	usleep(30000);
	CHECK_EQ(write(ends[1], text, strlen(text)), strlen(text));
	return 0;
}

static void restarts_read_if_asked(void)
{
	struct itimerval v = { .it_value = { 0, 5000 } };
	pthread_t t;
	char text[16];
	CHECK_EQ(pipe(ends), 0);
	install(SIGALRM, handler, SA_RESTART);
	CHECK_EQ(pthread_create(&t, 0, write_later, "abc"), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
	CHECK_EQ(read(ends[0], text, sizeof text), 3);
	CHECK_EQ(caught, SIGALRM);
	CHECK_EQ(pthread_join(t, 0), 0);

	install(SIGALRM, handler, 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
	CHECK(read(ends[0], text, sizeof text) < 0 && errno == EINTR);
	CHECK_EQ(caught, SIGALRM);

	/* standard I/O does not ask for a cancellation point */
	FILE *f = fdopen(ends[0], "r");
	install(SIGALRM, handler, SA_RESTART);
	CHECK_EQ(pthread_create(&t, 0, write_later, "line\n"), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
	CHECK(fgets(text, sizeof text, f) && !strcmp(text, "line\n"));
	CHECK_EQ(caught, SIGALRM);
	CHECK_EQ(pthread_join(t, 0), 0);
	fclose(f);

	signal(SIGPIPE, SIG_IGN);
	CHECK(write(ends[1], "x", 1) < 0 && errno == EPIPE);
	install(SIGPIPE, handler, 0);
	CHECK(write(ends[1], "x", 1) < 0 && errno == EPIPE);
	CHECK_EQ(caught, SIGPIPE);
	close(ends[1]);
}

static void jump_out(int signo)
{
	siglongjmp(jump, signo);
}

static void handlers_may_jump(void)
{
	struct itimerval v = { .it_value = { 0, 5000 } };
	install(SIGALRM, jump_out, 0);
	for (volatile int i = 0; i < 3; i++) {
		if (!sigsetjmp(jump, 1)) {
			CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
			for (;;)
				sleep(100);
		}
	}
}

static void faults_reach_handlers(void)
{
	struct sigaction a = { .sa_sigaction = handler_info, .sa_flags = SA_SIGINFO };
	install(SIGSEGV, jump_out, 0);
	for (volatile int i = 0; i < 3; i++)
		if (!sigsetjmp(jump, 1)) {
			*(volatile int *)16 = 1;
			CHECK(!"no fault");
		}
	(void)a;
}

static volatile int on_alternate;
static char alternate[65536];
static void note_stack(int signo)
{
	char here;
	on_alternate = &here > alternate && &here < alternate + sizeof alternate;
}

static void uses_the_alternate_stack(void)
{
	stack_t s = { .ss_sp = alternate, .ss_size = sizeof alternate };
	install(SIGUSR1, note_stack, SA_ONSTACK);
	CHECK_EQ(sigaltstack(&s, 0), 0);
	raise(SIGUSR1);
	CHECK(on_alternate);
	s.ss_flags = SS_DISABLE;
	CHECK_EQ(sigaltstack(&s, 0), 0);
	raise(SIGUSR1);
	CHECK(!on_alternate);
}

static int recurse(volatile char *p, int depth)
{
	char frame[4096];
	frame[0] = *p;
	return depth ? recurse(frame, depth - 1) + frame[0] : 0;
}

static void survives_a_stack_overflow(void)
{
	stack_t s = { .ss_sp = alternate, .ss_size = sizeof alternate };
	CHECK_EQ(sigaltstack(&s, 0), 0);
	install(SIGSEGV, jump_out, SA_ONSTACK);
	for (volatile int i = 0; i < 2; i++)
		if (!sigsetjmp(jump, 1)) {
			(void)recurse("x", 1 << 20);
			CHECK(!"no overflow");
		}
	install(SIGSEGV, SIG_DFL, 0);
	s.ss_flags = SS_DISABLE;
	CHECK_EQ(sigaltstack(&s, 0), 0);
}

static void returns_from_a_fault(int signo, siginfo_t *info, void *context)
{
	ucontext_t *c = context;
	caught += signo;
	last_address = (uintptr_t)info->si_addr;
	c->uc_mcontext.gregs[REG_RAX] = (greg_t)&c->uc_mcontext; /* anything readable */
	(void)info;
}

/* The handler repairs the register; the load is made again, with all others as they were. */
static void goes_on_behind_a_fault(void)
{
	struct sigaction a = { .sa_sigaction = returns_from_a_fault, .sa_flags = SA_SIGINFO };
	CHECK_EQ(sigaction(SIGSEGV, &a, 0), 0);
	double x = 1.5;
	for (int i = 0; i < 3; i++) {
		uintptr_t address = 24, marker = 0x1234567890abcdef, seen;
		caught = 0;
		__asm__ volatile("movsd %3, %%xmm7\n\t"
				 "mov (%0), %%cl\n\t"
				 "mov %2, %1\n\t"
				 "movsd %%xmm7, %3"
				 : "+a"(address), "=&r"(seen), "+r"(marker), "+m"(x)
				 :
				 : "rcx", "xmm7", "memory");
		CHECK_EQ(caught, SIGSEGV);
		CHECK_EQ(last_address, 24);
		CHECK(seen == 0x1234567890abcdef && x == 1.5);
	}
	install(SIGSEGV, SIG_DFL, 0);
}

static void *signalled(void *arg)
{
	while (!caught)
		pause();
	return 0;
}

static void signals_reach_the_thread(void)
{
	pthread_t t;
	install(SIGUSR2, handler, 0);
	CHECK_EQ(pthread_create(&t, 0, signalled, 0), 0);
	usleep(1000);
	CHECK_EQ(pthread_kill(t, SIGUSR2), 0);
	CHECK_EQ(pthread_join(t, 0), 0);
	CHECK_EQ(caught, SIGUSR2);
}

static void signals_can_be_read(void)
{
	sigset_t set, old;
	struct signalfd_siginfo info[4];
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGALRM);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &set, &old), 0);
	int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(read(fd, info, sizeof info) < 0 && errno == EAGAIN);
	kill(getpid(), SIGUSR1);
	CHECK_EQ(read(fd, info, sizeof info), sizeof info[0]);
	CHECK_EQ(info[0].ssi_signo, SIGUSR1);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct itimerval v = { .it_value = { 0, 5000 } };
	CHECK_EQ(poll(&p, 1, 0), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &v, 0), 0);
	CHECK_EQ(poll(&p, 1, 5000), 1);
	CHECK_EQ(read(fd, info, sizeof info), sizeof info[0]);
	CHECK_EQ(info[0].ssi_signo, SIGALRM);
	CHECK(read(fd, info, 5) < 0 && errno == EINVAL);
	close(fd);
	CHECK_EQ(sigprocmask(SIG_SETMASK, &old, 0), 0);
}

static volatile int notified;
static void note_timer(union sigval value)
{
	notified += value.sival_int;
}

static void timers_may_start_threads(void)
{
	timer_t id;
	struct sigevent event = { .sigev_notify = SIGEV_THREAD,
				  .sigev_notify_function = note_timer,
				  .sigev_value.sival_int = 5 };
	struct itimerspec v = { { 0, 0 }, { 0, 2000000 } };
	CHECK_EQ(timer_create(CLOCK_REALTIME, &event, &id), 0);
	CHECK_EQ(timer_settime(id, 0, &v, 0), 0);
	while (!notified)
		usleep(1000);
	CHECK_EQ(notified, 5);
	CHECK_EQ(timer_delete(id), 0);
}

static void posix_timers(void)
{
	timer_t id;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec v = { { 0, 2000000 }, { 0, 2000000 } }, now;
	install(SIGUSR1, handler, 0);
	CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &id), 0);
	CHECK_EQ(timer_settime(id, 0, &v, 0), 0);
	CHECK_EQ(timer_gettime(id, &now), 0);
	CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 2000000);
	while (caught < 3 * SIGUSR1)
		pause();
	CHECK_EQ(timer_delete(id), 0);
	CHECK(timer_delete(id) < 0);
}

int main(void)
{
	RUN(raise_and_kill);
	RUN(blocked_signals_wait);
	RUN(waits_for_signals);
	RUN(interrupts_sleep);
	RUN(restarts_read_if_asked);
	RUN(handlers_may_jump);
	RUN(faults_reach_handlers);
	RUN(uses_the_alternate_stack);
	RUN(survives_a_stack_overflow);
	RUN(goes_on_behind_a_fault);
	RUN(signals_reach_the_thread);
	RUN(signals_can_be_read);
	RUN(posix_timers);
	RUN(timers_may_start_threads);
	printf("ok\n");
	return 0;
}
