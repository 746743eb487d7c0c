/* SPDX-License-Identifier: ISC */
/* Signals are a property of the process: the one place in the libraries with static state. */
#include <wherry/os.h>

#include <errno.h>
#include <signal.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#define SIGNALS_MAX 64 /* numbers of Linux signals end here */

static struct wh_os_signals *attached;
static uint64_t pending; /* bit n-1 = signal n */
static uint64_t installed;
static struct sigaction former[SIGNALS_MAX];

static void handler(int number)
{
	__atomic_fetch_or(&pending, 1ull << (number - 1), __ATOMIC_ACQ_REL);
	struct wh_os_signals *signals = __atomic_load_n(&attached, __ATOMIC_ACQUIRE);
	if (signals)
		wh_loop_wake(signals->loop);
}

static void deliver(struct wh_loop_hook *hook)
{
	struct wh_os_signals *signals = WH_CONTAINER_OF(hook, struct wh_os_signals, hook);
	uint64_t set = __atomic_exchange_n(&pending, 0, __ATOMIC_ACQ_REL);
	while (set && attached == signals) {
		int number = __builtin_ctzll(set) + 1;
		set &= set - 1;
		signals->fn(signals, number);
	}
}

int wh_os_signals_attach(struct wh_os_signals *signals, struct wh_loop *loop, const int *list,
			 unsigned count)
{
	if (attached)
		return -WH_EBUSY;
	signals->loop = loop;
	signals->hook = (struct wh_loop_hook){ .after_sleep = deliver };
	wh_loop_hook_add(loop, &signals->hook);
	__atomic_store_n(&attached, signals, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < count; i++) {
		struct sigaction action = { .sa_handler = handler };
		wh_assert(list[i] > 0 && list[i] <= SIGNALS_MAX);
		if (sigaction(list[i], &action, &former[list[i] - 1])) {
			int error = -errno;
			wh_os_signals_detach(signals);
			return error;
		}
		installed |= 1ull << (list[i] - 1);
	}
	return 0;
}

void wh_os_signals_detach(struct wh_os_signals *signals)
{
	if (!attached || attached != signals)
		return;
	for (int i = 0; i < SIGNALS_MAX; i++)
		if (installed & (1ull << i))
			(void)sigaction(i + 1, &former[i], NULL); /* it was valid before */
	installed = 0;
	__atomic_store_n(&attached, NULL, __ATOMIC_RELEASE);
	__atomic_store_n(&pending, 0, __ATOMIC_RELEASE);
	wh_loop_hook_remove(signals->loop, &signals->hook);
}
