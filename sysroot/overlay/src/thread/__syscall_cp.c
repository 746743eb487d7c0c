/* SPDX-License-Identifier: ISC */
/* Behind a cancellation point, when the kernel has work for this thread. */
#include <errno.h>
#include "syscall.h"

int wh_signal_return(long result);

/* 1 = make the call again. May replace the result, or not return at all. */
hidden int wh_cp_again(long *result)
{
	int again = wh_signal_return(*result);
	if (*result == -EINTR && wh_cp_before) {
		long cancelled = wh_cp_before();
		if (cancelled) {
			*result = cancelled;
			return 0;
		}
	}
	return again;
}
