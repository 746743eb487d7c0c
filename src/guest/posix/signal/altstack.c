/* SPDX-License-Identifier: ISC */
#include <kern/mem.h>
#include <kern/thread.h>
#include <posix/signal.h>
#include <wherry/base/errors.h>

long wh_sys_sigaltstack(const struct lx_stack *stack, struct lx_stack *ret_old)
{
	struct kern_thread *t = kern_self();
	uint64_t sp = (uint64_t)(uintptr_t)__builtin_frame_address(0);
	bool inside = t->altstack_size && sp - t->altstack_base < t->altstack_size;
	if ((stack && !kern_user_readable(stack, sizeof *stack)) ||
	    (ret_old && !kern_user_writable(ret_old, sizeof *ret_old)))
		return -WH_EFAULT;
	struct lx_stack old = { t->altstack_base,
				inside             ? LX_SS_ONSTACK
				: t->altstack_size ? 0
						   : LX_SS_DISABLE,
				0, t->altstack_size };
	if (stack) {
		if (inside)
			return -WH_EPERM;
		if (stack->flags & ~(LX_SS_DISABLE | LX_SS_ONSTACK))
			return -WH_EINVAL;
		if (!(stack->flags & LX_SS_DISABLE) && stack->size < LX_MINSIGSTKSZ)
			return -WH_ENOMEM;
		t->altstack_base = stack->flags & LX_SS_DISABLE ? 0 : stack->base;
		t->altstack_size = stack->flags & LX_SS_DISABLE ? 0 : stack->size;
	}
	if (ret_old)
		*ret_old = old;
	return 0;
}
