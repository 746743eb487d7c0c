/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DEV_BLK_H
#define WHERRY_DEV_BLK_H

/*
 * virtio-blk (virtio 1.2, 5.2) on a struct wh_block: read, write, flush, discard, write
 * zeroes, identification. Threads: the loop's.
 */

#include <wherry/block.h>
#include <wherry/loop.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_dev_blk;

#define WH_DEV_BLK_QUEUES_MAX 4u /* more virtual processors share them */

struct wh_dev_blk_config {
	size_t size;            /* sizeof(struct wh_dev_blk_config) */
	struct wh_block *block; /* borrowed until _free */
	const char *name;       /* NAME of --disk */
	const char *serial;     /* cut to 20 bytes; NULL = name */
	uint32_t queues;        /* 1 .. WH_DEV_BLK_QUEUES_MAX; 0 = 1 */
	bool no_discard;        /* the guest is not offered discard */
	/* Limits, 0 = none; a short burst is let through. They need the loop. */
	uint64_t requests_per_s, bytes_per_s;
	struct wh_loop *loop;
	struct wh_log log;
};

/* Plugs a disk into a machine that has not started. 0, -WH_ENOMEM or as wh_vmm_slot_add. */
int wh_dev_blk_new(const struct wh_dev_blk_config *config, struct wh_vmm_machine *machine,
		   struct wh_dev_blk **ret_blk, struct wh_diag *diag);
/* Requests that are not answered yet: run the loop until there are none before the machine, whose memory
 * they use, goes. */
uint32_t wh_dev_blk_busy(const struct wh_dev_blk *blk);
/* After the machine is freed; no request is in flight then. Close the block afterwards. */
void wh_dev_blk_free(struct wh_dev_blk *blk);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
