/* SPDX-License-Identifier: ISC */
/*
 * No instruction enters the system; src/internal/syscall.h makes calls of it.
 * These are what a call with a computed number would become: declared so that
 * unused inline functions compile, defined nowhere so that nothing else links.
 */
#define __SYSCALL_LL_E(x) (x)
#define __SYSCALL_LL_O(x) (x)

long wh_syscall_number_is_not_constant(long, ...);
#define WH_NOT_CONSTANT wh_syscall_number_is_not_constant
static inline long __syscall0(long n)
{
	return WH_NOT_CONSTANT(n);
}
static inline long __syscall1(long n, long a)
{
	return WH_NOT_CONSTANT(n, a);
}
static inline long __syscall2(long n, long a, long b)
{
	return WH_NOT_CONSTANT(n, a, b);
}
static inline long __syscall3(long n, long a, long b, long c)
{
	return WH_NOT_CONSTANT(n, a, b, c);
}
static inline long __syscall4(long n, long a, long b, long c, long d)
{
	return WH_NOT_CONSTANT(n, a, b, c, d);
}
static inline long __syscall5(long n, long a, long b, long c, long d, long e)
{
	return WH_NOT_CONSTANT(n, a, b, c, d, e);
}
static inline long __syscall6(long n, long a, long b, long c, long d, long e, long f)
{
	return WH_NOT_CONSTANT(n, a, b, c, d, e, f);
}

#define IPC_64 0
