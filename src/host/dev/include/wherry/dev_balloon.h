/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DEV_BALLOON_H
#define WHERRY_DEV_BALLOON_H

/*
 * virtio-balloon (virtio 1.2, 5.5): pages that the guest gives up, or reports as free, go back to the host at
 * once. Reporting needs nobody's asking: a guest that frees memory shrinks. Threads: the loop's.
 */

#include <wherry/base/diag.h>
#include <wherry/base/log.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_dev_balloon;

struct wh_dev_balloon_stats {
	uint64_t target_pages, actual_pages; /* of 4 KiB: asked for, given up */
	uint64_t returned_bytes;             /* given back to the host so far, by either way */
};

/* Plugs the device into a machine that has not started. 0, -WH_ENOMEM or as wh_vmm_slot_add. */
int wh_dev_balloon_new(struct wh_vmm_machine *machine, const struct wh_log *log,
		       struct wh_dev_balloon **ret_balloon, struct wh_diag *diag);
/* How much the guest shall give up, in bytes; it may take its time. */
void wh_dev_balloon_target(struct wh_dev_balloon *balloon, uint64_t bytes);
void wh_dev_balloon_stats(const struct wh_dev_balloon *balloon,
			  struct wh_dev_balloon_stats *ret_stats);
void wh_dev_balloon_free(struct wh_dev_balloon *balloon); /* after the machine is freed */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
