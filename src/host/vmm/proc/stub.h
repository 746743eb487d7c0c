/* SPDX-License-Identifier: ISC */
#ifndef VMM_PROC_STUB_H
#define VMM_PROC_STUB_H

/* Numbers that stub.S and plan.c share; included by both, so nothing but macros. */

#define PROC_STUB_ADDRESS 0x200000 /* fixed: far from null, below every image */
#define PROC_STUB_SIZE 4096
#define PROC_PLAN_SIZE 4096 /* the top page of the guest's first stack */

#define PROC_STEP_CALL 0
#define PROC_STEP_ARGS 8
#define PROC_STEP_RESULT 56
#define PROC_STEP_SIZE 64

#define PROC_STEP_ENTER 0xffff        /* last step: args[0] = RDI, args[1] = RSP */
#define PROC_STEP_MOVE 0xfffe         /* args[0] = address of the next step */
#define PROC_STEP_MAY_FAIL 0x40000000 /* flag in `call`: an error is no reason to stop */

#endif
