/* SPDX-License-Identifier: ISC */
#ifndef VMM_SOLO5_SPT_PRIV_H
#define VMM_SOLO5_SPT_PRIV_H

#include "../proc/proc_priv.h"
#include "solo5_priv.h"
#include "spt_filter.h"

/* Where things lie (include/spt_abi.h). Guest programs begin at SOLO5_MIN_ADDRESS; between what the ABI puts below
 * and there lies the stub's plan, with what it points to. */
#define SPT_BASE 0x10000u
#define SPT_INFO 0x11000u
#define SPT_INFO_SIZE 40u
#define SPT_PLAN 0x20000u
#define SPT_STEPS_MAX 192u /* 12 KiB */
#define SPT_DATA 0x24000u
#define SPT_STACK_MIN (64u << 10) /* below it no program gets anywhere */
#define SPT_FRAME_MAX (65535u + 14u)

/* The guest's descriptors. */
enum { SPT_CONSOLE = 1, SPT_EPOLL = 3, SPT_TIMER = 4, SPT_PASS = 5, SPT_NET_FIRST = 6 };
#define SPT_ASKED_FIRST 4096 /* and above: disks that have none */
/* On their way they have numbers above those, so that no copy hits one that is still needed. */
#define SPT_GIVEN_MIN 128
#define SPT_GIVEN_MAX (WH_VMM_SOLO5_DEVICES_MAX + 4u)

struct spt_net;

struct spt {
	struct wh_vmm_machine *machine;
	struct wh_vmm_solo5 *solo5;
	struct wh_vmm_solo5_ops ops;
	void *ops_ctx;
	struct wh_vmm_spare *process;
	/* A watch's ctx is set while the loop has it. */
	struct wh_loop_fd exit_watch, console_watch, pass_watch, asked_watch;
	bool running, asks;
	uint32_t net_count;
	struct spt_net *net[WH_VMM_SOLO5_DEVICES_MAX];
	uint32_t given_count;
	int given[SPT_GIVEN_MAX], number[SPT_GIVEN_MAX]; /* here, and in the guest */
	bool given_closed; /* the child has them; the list is its own until it has exec'ed */
	int numbers_end;
	struct spt_filter filter;
	struct wh_boot_info info;
	struct wh_boot_control control;
};

/* The guest's memory by rights, from SPT_BASE to its end. */
#define SPT_PIECES_MAX (2 * WH_ELF_SEGMENTS_MAX + 1)
struct spt_piece {
	uint64_t start, end;
	bool write, execute;
};
uint32_t spt_pieces(const struct wh_vmm_solo5 *solo5, uint64_t ram_size, struct spt_piece *to);

/* spt_plan.c: writes what the stub does (proc/plan.h) into guest memory. */
void spt_plan_write(struct spt *s);

#endif
