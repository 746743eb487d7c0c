/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/thread.h>
#include <posix/poll.h>
#include <wherry/base/errors.h>

/* In posix/signal; without them nobody can send or handle a signal. */
__attribute__((weak)) void posix_signal_mask_set(uint64_t mask);
__attribute__((weak)) void posix_signal_adopt(uint64_t set);

int posix_wait_mask_begin(const uint64_t *mask, size_t size, uint64_t *ret_before)
{
	struct kern_thread *t = kern_self();
	*ret_before = 0;
	if (!mask)
		return 0;
	if (size != sizeof *mask)
		return -WH_EINVAL;
	if (!kern_user_readable(mask, sizeof *mask))
		return -WH_EFAULT;
	*ret_before = t->signal_mask;
	t->signal_mask = *mask & ~(LX_SIG_BIT(LX_SIGKILL) | LX_SIG_BIT(LX_SIGSTOP));
	if (posix_signal_adopt)
		posix_signal_adopt(~t->signal_mask);
	return 0;
}

void posix_wait_mask_end(const uint64_t *mask, uint64_t before)
{
	struct kern_thread *t = kern_self();
	if (!mask)
		return;
	if (posix_signal_mask_set && kern_signal_pending())
		posix_signal_mask_set(t->signal_mask); /* handlers run under the given mask */
	if (posix_signal_mask_set)
		posix_signal_mask_set(before);
	else
		t->signal_mask = before;
}
