/* SPDX-License-Identifier: ISC */
/* Threads that compute and never call: others go on, signals reach them, their registers stay theirs. */
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include "check.h"

static volatile int stop, progress;
static volatile uint64_t rounds[2];

static void *spin(void *arg)
{
	(void)arg;
	while (!stop)
		;
	return 0;
}

static void *advance(void *arg)
{
	(void)arg;
	progress = 1;
	for (int i = 0; i < 3; i++) {
		usleep(1000); /* timers are looked at although nobody calls */
		progress++;
	}
	stop = 1;
	return 0;
}

static void others_make_progress(void)
{
	pthread_t a, b;
	stop = progress = 0;
	CHECK_EQ(pthread_create(&a, 0, spin, 0), 0);
	CHECK_EQ(pthread_create(&b, 0, advance, 0), 0);
	while (!stop)
		;
	CHECK_EQ(progress, 4);
	CHECK_EQ(pthread_join(a, 0), 0);
	CHECK_EQ(pthread_join(b, 0), 0);
}

/* Every register that a program has holds a value of its thread's, and is looked at after many ticks. */
static void *keep_registers(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg, bad = 0;
	while (!stop) {
		uint64_t wrong;
		__asm__ volatile(
			"lea -256(%%rsp), %%rsp\n\t" /* the compiler's red zone */
			"push %%rbp\n\t"
			"movq %1, %%xmm0\n\tpunpcklqdq %%xmm0, %%xmm0\n\t"
			"movdqa %%xmm0, %%xmm7\n\tmovdqa %%xmm0, %%xmm15\n\t"
			"mov %1, %%rbx\n\tmov %1, %%rbp\n\tmov %1, %%r8\n\tmov %1, %%r9\n\t"
			"mov %1, %%r10\n\tmov %1, %%r11\n\tmov %1, %%r12\n\tmov %1, %%r13\n\t"
			"mov %1, %%r14\n\tmov %1, %%r15\n\tmov %1, %%rdi\n\tmov %1, %%rsi\n\t"
			"mov $2000000, %%ecx\n"
			"1:\tmov %%rbx, -8(%%rsp)\n\t" /* red zone */
			"stc\n\tpause\n\tjnc 2f\n\t"   /* flags */
			"cmp %%rbx, -8(%%rsp)\n\tjne 2f\n\t"
			"dec %%ecx\n\tjnz 1b\n"
			"2:\tmov %%rcx, %%rdx\n\t"
			"mov %1, %%rax\n\t"
			"xor %%rax, %%rbx\n\tor %%rbx, %%rdx\n\txor %%rax, %%rbp\n\tor %%rbp, "
			"%%rdx\n\t"
			"xor %%rax, %%r8\n\tor %%r8, %%rdx\n\txor %%rax, %%r9\n\tor %%r9, %%rdx\n\t"
			"xor %%rax, %%r10\n\tor %%r10, %%rdx\n\txor %%rax, %%r11\n\tor %%r11, "
			"%%rdx\n\t"
			"xor %%rax, %%r12\n\tor %%r12, %%rdx\n\txor %%rax, %%r13\n\tor %%r13, "
			"%%rdx\n\t"
			"xor %%rax, %%r14\n\tor %%r14, %%rdx\n\txor %%rax, %%r15\n\tor %%r15, "
			"%%rdx\n\t"
			"xor %%rax, %%rdi\n\tor %%rdi, %%rdx\n\txor %%rax, %%rsi\n\tor %%rsi, "
			"%%rdx\n\t"
			"movq %%xmm0, %%rbx\n\txor %%rax, %%rbx\n\tor %%rbx, %%rdx\n\t"
			"movq %%xmm7, %%rbx\n\txor %%rax, %%rbx\n\tor %%rbx, %%rdx\n\t"
			"psrldq $8, %%xmm15\n\tmovq %%xmm15, %%rbx\n\txor %%rax, %%rbx\n\tor "
			"%%rbx, %%rdx\n\t"
			"pop %%rbp\n\t"
			"lea 256(%%rsp), %%rsp\n\t"
			: "=&d"(wrong)
			: "a"(seed)
			: "rbx", "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
			  "r15", "xmm0", "xmm7", "xmm15", "memory", "cc");
		bad |= wrong;
		rounds[seed & 1]++;
	}
	return (void *)(uintptr_t)bad;
}

static double third(int n)
{
	volatile double x = n;
	return x / 3.0;
}

static void registers_are_kept(void)
{
	pthread_t t[2];
	void *bad;
	unsigned csr = _mm_getcsr();
	stop = 0;
	rounds[0] = rounds[1] = 0;
	CHECK_EQ(pthread_create(&t[0], 0, keep_registers, (void *)0x5555aaaa12345678u), 0);
	CHECK_EQ(pthread_create(&t[1], 0, keep_registers, (void *)0x1234567855aa55abu), 0);
	_mm_setcsr(csr | 0x6000); /* towards zero: this thread's alone */
	double sum = 0;
	while (rounds[0] < 8 || rounds[1] < 8)
		sum += third(1);
	stop = 1;
	CHECK_EQ(_mm_getcsr() & 0x6000, 0x6000);
	_mm_setcsr(csr);
	CHECK(sum > 0);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pthread_join(t[i], &bad), 0);
		CHECK(!bad);
	}
}

static volatile int caught;
static volatile uintptr_t caught_sp, caught_ip;
static sigjmp_buf jump;

static void on_signal(int signo, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	(void)info;
	caught_ip = (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
	caught_sp = (uintptr_t)&info;
	caught = signo;
	stop = 1;
}

static void on_signal_jump(int signo)
{
	caught = signo;
	siglongjmp(jump, 1);
}

static void install(int signo, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction a = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags };
	CHECK_EQ(sigaction(signo, &a, 0), 0);
	caught = stop = 0;
}

static void alarm_reaches_computation(void)
{
	struct itimerval soon = { .it_value = { 0, 20000 } };
	uintptr_t here = (uintptr_t)alarm_reaches_computation;
	install(SIGALRM, on_signal, 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &soon, 0), 0);
	while (!stop)
		;
	CHECK_EQ(caught, SIGALRM);
	CHECK(caught_ip > here && caught_ip < here + 4096); /* the loop above */
	/* and out of the handler for good, with the signal open again behind it */
	signal(SIGALRM, on_signal_jump);
	for (int i = 0; i < 2; i++) {
		caught = 0;
		CHECK_EQ(setitimer(ITIMER_REAL, &soon, 0), 0);
		if (!sigsetjmp(jump, 1))
			for (;;)
				__asm__ volatile("");
		CHECK_EQ(caught, SIGALRM);
	}
}

static void alternate_stack_is_used(void)
{
	static char stack[65536];
	stack_t s = { .ss_sp = stack, .ss_size = sizeof stack };
	struct itimerval soon = { .it_value = { 0, 10000 } };
	CHECK_EQ(sigaltstack(&s, 0), 0);
	install(SIGALRM, on_signal, SA_ONSTACK);
	CHECK_EQ(setitimer(ITIMER_REAL, &soon, 0), 0);
	while (!stop)
		;
	CHECK(caught_sp - (uintptr_t)stack < sizeof stack);
	s.ss_flags = SS_DISABLE;
	CHECK_EQ(sigaltstack(&s, 0), 0);
}

static void on_change(int signo, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	(void)signo;
	(void)info;
	u->uc_mcontext.gregs[REG_RBX] = 42; /* goes on with what is written here */
}

static void handler_changes_registers(void)
{
	struct itimerval soon = { .it_value = { 0, 10000 } };
	uint64_t seen;
	install(SIGALRM, on_change, 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &soon, 0), 0);
	__asm__ volatile("xor %%ebx, %%ebx\n1:\ttest %%rbx, %%rbx\n\tjz 1b\n\tmov %%rbx, %0"
			 : "=r"(seen)::"rbx", "cc");
	CHECK_EQ(seen, 42);
}

static pthread_t killed_in;
static void on_usr1(int signo, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	killed_in = pthread_self();
	caught = signo;
	stop = 1;
}

static void kill_reaches_its_thread(void)
{
	pthread_t t;
	install(SIGUSR1, on_usr1, 0);
	CHECK_EQ(pthread_create(&t, 0, spin, 0), 0);
	usleep(2000); /* it spins; we come back because a timer is due */
	CHECK_EQ(pthread_kill(t, SIGUSR1), 0);
	CHECK_EQ(pthread_join(t, 0), 0);
	CHECK_EQ(caught, SIGUSR1);
	CHECK(pthread_equal(killed_in, t));
}

static void *spin_async(void *arg)
{
	(void)arg;
	CHECK_EQ(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, 0), 0);
	for (;;)
		__asm__ volatile("");
	return 0;
}

static sem_t never;
static void *spin_then_wait(void *arg)
{
	(void)arg;
	for (int i = 0; i < 5; i++) /* long enough to be interrupted while it is cancelled */
		for (volatile int j = 0; j < 5000000; j++)
			;
	sem_wait(&never);
	return 0;
}

static void cancellation(void)
{
	pthread_t t;
	void *result;
	CHECK_EQ(pthread_create(&t, 0, spin_async, 0), 0);
	usleep(2000);
	CHECK_EQ(pthread_cancel(t), 0);
	CHECK_EQ(pthread_join(t, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
	/* Deferred: the signal comes while it computes, the cancellation where it waits. */
	CHECK_EQ(sem_init(&never, 0, 0), 0);
	CHECK_EQ(pthread_create(&t, 0, spin_then_wait, 0), 0);
	usleep(2000);
	CHECK_EQ(pthread_cancel(t), 0);
	CHECK_EQ(pthread_join(t, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
}

/* Two threads that live in the kernel part and in the C library's allocator: never taken apart. */
static void *call_much(void *arg)
{
	int fds[2];
	char text[64];
	unsigned seed = (unsigned)(uintptr_t)arg;
	CHECK_EQ(pipe(fds), 0);
	for (int i = 0; !stop || i < 1000; i++) {
		size_t size = (size_t)rand_r(&seed) % 3000 + 1;
		unsigned char *p = malloc(size);
		CHECK(p);
		memset(p, (int)size, size);
		CHECK_EQ(write(fds[1], text, sizeof text), sizeof text);
		CHECK_EQ(read(fds[0], text, sizeof text), sizeof text);
		void *m =
			mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(m != MAP_FAILED);
		CHECK_EQ(munmap(m, 16384), 0);
		for (size_t j = 0; j < size; j++)
			CHECK_EQ(p[j], (unsigned char)size);
		free(p);
	}
	close(fds[0]);
	close(fds[1]);
	return 0;
}

static void calls_are_whole(void)
{
	pthread_t t[4];
	struct timespec begin, now;
	stop = 0;
	for (intptr_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], 0, call_much, (void *)(i + 1)), 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 300);
	stop = 1;
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(t[i], 0), 0);
}

int main(void)
{
	others_make_progress();
	registers_are_kept();
	alarm_reaches_computation();
	alternate_stack_is_used();
	handler_changes_registers();
	kill_reaches_its_thread();
	cancellation();
	calls_are_whole();
	return 0;
}
