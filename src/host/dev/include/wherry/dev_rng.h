/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DEV_RNG_H
#define WHERRY_DEV_RNG_H

/* virtio-rng (virtio 1.2, 5.4) from the host's getrandom(). Threads: the loop's. */

#include <wherry/base/diag.h>
#include <wherry/base/log.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_dev_rng;

/* Plugs the device into a machine that has not started. 0, -WH_ENOMEM or as wh_vmm_slot_add. */
int wh_dev_rng_new(struct wh_vmm_machine *machine, const struct wh_log *log,
		   struct wh_dev_rng **ret_rng, struct wh_diag *diag);
void wh_dev_rng_free(struct wh_dev_rng *rng); /* after the machine is freed */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
