/* SPDX-License-Identifier: ISC */
/*
 * How a running guest is asked to end.
 */
#include "run.h"

static void grace_over(struct wh_loop_timer *timer)
{
	struct run *r = timer->ctx;
	if (r->options.verbose)
		cli_error("the guest did not end within %u s: killing it", RUN_GRACE_MS / 1000);
	wh_vmm_machine_kill(r->machine);
}

void run_ask_to_stop(struct run *r, int signal)
{
	if (r->asked_to_stop) {
		wh_vmm_machine_kill(r->machine);
		return;
	}
	r->asked_to_stop = true;
	wh_vmm_machine_signal(r->machine, signal);
	wh_loop_timer_init(&r->grace, grace_over, r);
	wh_loop_timer_start(r->loop, &r->grace, wh_os_now() + RUN_GRACE_MS * 1000000ull);
}
