/* SPDX-License-Identifier: ISC */
#ifndef WH_SYSCALL_H
#define WH_SYSCALL_H

/*
 * The C library's only way to the system, in place of the file of the same name
 * (which stays beside it as syscall_musl.h for its many other definitions).
 *
 * A call with a constant number becomes a direct call of a function: SYS_read
 * expands to the literal 0, the literal is pasted to wh_nr_0, and the generated
 * names header says that this is wh_sys_read. So the linker sees which calls a
 * program reaches. Pasting works at every optimisation level and under LTO; a
 * number that is not a literal does not compile, or ends as an undefined
 * `wh_syscall_number_is_not_constant`.
 */

#include "syscall_musl.h"
#include "wh_names.h"

#define WH_PASTE(a, b) a##b
#define WH_HANDLER(n) WH_PASTE(wh_nr_, n)

/* Handlers have their natural parameter types; the ABI passes the first six
 * integers in registers either way. The cast gives the call a prototype. */
#define WH_LONGS0 void
#define WH_LONGS1 long
#define WH_LONGS2 long, long
#define WH_LONGS3 long, long, long
#define WH_LONGS4 long, long, long, long
#define WH_LONGS5 long, long, long, long, long
#define WH_LONGS6 long, long, long, long, long, long
#define WH_CALL(count, n) ((long (*)(WH_LONGS##count))WH_HANDLER(n))

#undef __syscall1
#undef __syscall2
#undef __syscall3
#undef __syscall4
#undef __syscall5
#undef __syscall6
#define __syscall0(n) WH_CALL(0, n)()
#define __syscall1(n, a) WH_CALL(1, n)(__scc(a))
#define __syscall2(n, a, b) WH_CALL(2, n)(__scc(a), __scc(b))
#define __syscall3(n, a, b, c) WH_CALL(3, n)(__scc(a), __scc(b), __scc(c))
#define __syscall4(n, a, b, c, d) WH_CALL(4, n)(__scc(a), __scc(b), __scc(c), __scc(d))
#define __syscall5(n, a, b, c, d, e) WH_CALL(5, n)(__scc(a), __scc(b), __scc(c), __scc(d), __scc(e))
#define __syscall6(n, a, b, c, d, e, f) \
	WH_CALL(6, n)(__scc(a), __scc(b), __scc(c), __scc(d), __scc(e), __scc(f))

/*
 * Cancellation points. Look for a cancellation before the call, and when the kernel
 * has a signal for this thread take it behind the call. A thread that is preempted
 * between the look and the call finds the signal still pending in the call, which does not wait then. wh_cp_before exists only in
 * programs that cancel threads (pthread_cancel.c).
 */
extern unsigned wh_signal_work;
hidden int wh_cp_again(long *result);
__attribute__((__weak__)) long wh_cp_before(void);

#define WH_POINT(call)                                            \
	__extension__({                                           \
		long wh_r;                                        \
		do {                                              \
			wh_r = wh_cp_before ? wh_cp_before() : 0; \
			if (wh_r)                                 \
				break;                            \
			wh_r = (call);                            \
		} while (wh_signal_work && wh_cp_again(&wh_r));   \
		wh_r;                                             \
	})

#undef __syscall_cp0
#undef __syscall_cp1
#undef __syscall_cp2
#undef __syscall_cp3
#undef __syscall_cp4
#undef __syscall_cp5
#undef __syscall_cp6
#define __syscall_cp0(n) WH_POINT(__syscall0(n))
#define __syscall_cp1(n, a) WH_POINT(__syscall1(n, a))
#define __syscall_cp2(n, a, b) WH_POINT(__syscall2(n, a, b))
#define __syscall_cp3(n, a, b, c) WH_POINT(__syscall3(n, a, b, c))
#define __syscall_cp4(n, a, b, c, d) WH_POINT(__syscall4(n, a, b, c, d))
#define __syscall_cp5(n, a, b, c, d, e) WH_POINT(__syscall5(n, a, b, c, d, e))
#define __syscall_cp6(n, a, b, c, d, e, f) WH_POINT(__syscall6(n, a, b, c, d, e, f))

#undef __socketcall
#undef __socketcall_cp
#define __socketcall(name, a, b, c, d, e, f) __syscall6(SYS_##name, a, b, c, d, e, f)
#define __socketcall_cp(name, a, b, c, d, e, f) __syscall_cp6(SYS_##name, a, b, c, d, e, f)

#endif
