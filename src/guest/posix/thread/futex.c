/* SPDX-License-Identifier: ISC */
/*
 * Futexes. A waiter lies on its thread's stack, in the bucket of its word's
 * address, in order of arrival. All threads share one address space, so private
 * and shared are the same. Priority inheritance is refused: with one
 * CPU there is nothing to inherit.
 */
#include <stdbool.h>
#include <kern/futex.h>
#include <kern/mem.h>
#include <kern/signal.h>
#include <kern/thread.h>
#include <posix/thread.h>
#include <posix/time.h>

enum {
	FUTEX_WAIT = 0,
	FUTEX_WAKE = 1,
	FUTEX_REQUEUE = 3,
	FUTEX_CMP_REQUEUE = 4,
	FUTEX_WAKE_OP = 5,
	FUTEX_WAIT_BITSET = 9,
	FUTEX_WAKE_BITSET = 10,
	FUTEX_COMMAND = 127,
	FUTEX_CLOCK_REALTIME = 256
};
#define ANY_BIT UINT32_MAX
#define BUCKET_COUNT 64u

struct waiter {
	struct wh_list node;
	const uint32_t *word;
	uint32_t bits;
	bool woken;
	struct kern_thread *thread;
};

static struct wh_list bucket[BUCKET_COUNT]; /* next == NULL: never used */

static struct wh_list *bucket_of(const uint32_t *word)
{
	uint64_t hash = ((uint64_t)(uintptr_t)word >> 2) * 0x9e3779b97f4a7c15ull;
	struct wh_list *b = &bucket[hash >> 58];
	if (!b->next)
		wh_list_init(b);
	return b;
}

static int wake(const uint32_t *word, uint32_t count, uint32_t bits)
{
	uint32_t n = 0;
	WH_LIST_FOR_EACH_SAFE(it, bucket_of(word)) {
		struct waiter *w = WH_LIST_ENTRY(it, struct waiter, node);
		if (n >= count)
			break;
		if (w->word != word || !(w->bits & bits))
			continue;
		wh_list_remove(&w->node);
		w->woken = true;
		kern_thread_wake(w->thread);
		n++;
	}
	return (int)n;
}

int kern_futex_wake(uint32_t *word, uint32_t count)
{
	return wake(word, count, ANY_BIT);
}

static int requeue(const uint32_t *word, uint32_t wake_count, uint32_t move_count,
		   const uint32_t *to)
{
	uint32_t n = 0;
	int woken = wake(word, wake_count, ANY_BIT);
	struct wh_list *target = bucket_of(to);
	WH_LIST_FOR_EACH_SAFE(it, bucket_of(word)) {
		struct waiter *w = WH_LIST_ENTRY(it, struct waiter, node);
		if (n >= move_count)
			break;
		if (w->word != word || word == to)
			continue;
		wh_list_remove(&w->node);
		w->word = to;
		wh_list_push_back(target, &w->node);
		n++;
	}
	return woken + (int)n;
}

static long wait(uint32_t *word, uint32_t value, uint64_t deadline, uint32_t bits)
{
	if (!bits)
		return -WH_EINVAL;
	if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value)
		return -WH_EAGAIN;
	struct waiter w = { .word = word, .bits = bits, .thread = kern_self() };
	wh_list_push_back(bucket_of(word), &w.node);
	int r;
	do
		r = kern_sleep(deadline);
	while (!r && !w.woken);
	if (w.woken)
		return 0;
	wh_list_remove(&w.node);
	w.thread->restartable = r == -WH_EINTR && deadline == KERN_FOREVER;
	return r;
}

/* FUTEX_WAIT's time is relative, FUTEX_WAIT_BITSET's absolute. */
static int deadline_of(const struct lx_timespec *t, int operation, uint64_t *ret_deadline)
{
	if (!t || (operation & FUTEX_COMMAND) == FUTEX_WAIT)
		return posix_deadline(t, ret_deadline);
	if (!posix_timespec_valid(t))
		return -WH_EINVAL;
	uint64_t ns = posix_timespec_ns(t);
	if (ns != KERN_FOREVER && operation & FUTEX_CLOCK_REALTIME) {
		uint64_t now = kern_time_realtime();
		ns = posix_deadline_in(ns > now ? ns - now : 0);
	}
	*ret_deadline = ns;
	return 0;
}

/* Arithmetic on *to, then wakes there if the old value compares: futex(2). */
static long wake_op(uint32_t *word, uint32_t count, uint32_t *to, uint32_t count_to, uint32_t code)
{
	enum { OP_SET, OP_ADD, OP_OR, OP_ANDN, OP_XOR };
	enum { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE };
	int32_t operand = (int32_t)(code << 8) >> 20, compare = (int32_t)(code << 20) >> 20;
	uint32_t op = code >> 28 & 7, cmp = code >> 24 & 15;
	if (code >> 31)
		operand = (int32_t)(1u << (operand & 31));
	uint32_t old = *to, arg = (uint32_t)operand;
	if (op > OP_XOR || cmp > CMP_GE)
		return -WH_ENOSYS;
	*to = op == OP_SET    ? arg
	      : op == OP_ADD  ? old + arg
	      : op == OP_OR   ? (old | arg)
	      : op == OP_ANDN ? (old & ~arg)
			      : (old ^ arg);
	int32_t was = (int32_t)old;
	bool hit = cmp == CMP_EQ   ? was == compare
		   : cmp == CMP_NE ? was != compare
		   : cmp == CMP_LT ? was < compare
		   : cmp == CMP_LE ? was <= compare
		   : cmp == CMP_GT ? was > compare
				   : was >= compare;
	int n = wake(word, count, ANY_BIT);
	return hit ? n + wake(to, count_to, ANY_BIT) : n;
}

static bool valid(const uint32_t *word)
{
	return !((uintptr_t)word & 3) && kern_user_readable(word, sizeof *word);
}

long wh_sys_futex(uint32_t *word, int operation, uint32_t value, const struct lx_timespec *timeout,
		  uint32_t *word2, uint32_t value3)
{
	uint64_t deadline;
	uint32_t value2 = (uint32_t)(uintptr_t)timeout;
	int command = operation & FUTEX_COMMAND;
	if (!valid(word))
		return -WH_EFAULT;
	switch (command) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET: {
		int r = deadline_of(timeout, operation, &deadline);
		if (r < 0)
			return r;
		do
			r = (int)wait(word, value, deadline,
				      command == FUTEX_WAIT ? ANY_BIT : value3);
		while (kern_signal_again(r));
		return r;
	}
	case FUTEX_WAKE:
		return wake(word, value, ANY_BIT);
	case FUTEX_WAKE_BITSET:
		return value3 ? wake(word, value, value3) : -WH_EINVAL;
	case FUTEX_CMP_REQUEUE:
		if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value3)
			return -WH_EAGAIN;
		return valid(word2) ? requeue(word, value, value2, word2) : -WH_EFAULT;
	case FUTEX_REQUEUE:
		return valid(word2) ? requeue(word, value, value2, word2) : -WH_EFAULT;
	case FUTEX_WAKE_OP:
		return kern_user_writable(word2, sizeof *word2)
			       ? wake_op(word, value, word2, value2, value3)
			       : -WH_EFAULT;
	default:
		return -WH_ENOSYS;
	}
}
