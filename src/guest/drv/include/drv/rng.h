/* SPDX-License-Identifier: ISC */
#ifndef DRV_RNG_H
#define DRV_RNG_H

/* Entropy from a virtio-rng device, when there is one; called by the kernel's start-up
 * when linked. */
int drv_rng_init(void);

#endif
