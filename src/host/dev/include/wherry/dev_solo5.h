/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DEV_SOLO5_H
#define WHERRY_DEV_SOLO5_H

/*
 * What a Solo5 guest's devices do (wherry/solo5.h): disks on struct wh_block, network devices as providers of a struct
 * wh_net_port. Attach everything that the manifest names, then make the machine with wh_dev_solo5_ops.
 * Threads: the loop's.
 */

#include <wherry/block.h>
#include <wherry/net_frame.h>
#include <wherry/solo5.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_dev_solo5;

/* Frames that wait for the guest, of each network device. */
#define WH_DEV_SOLO5_FRAMES 64u

int wh_dev_solo5_new(struct wh_vmm_solo5 *solo5,
		     void (*puts)(void *ctx, const char *text, size_t size), void *ctx,
		     struct wh_dev_solo5 **ret_devices);
/* A disk by its name in the manifest; the block stays the caller's. -WH_ENOENT: no such device; -WH_EINVAL: its size
 * is no multiple of 512. Operations are done at once: open it without a struct wh_blockio. */
int wh_dev_solo5_block(struct wh_dev_solo5 *devices, const char *name, struct wh_block *block);
/* spt guests, after that: requests go to this descriptor, which holds the same bytes, without passing here. */
void wh_dev_solo5_block_direct(struct wh_dev_solo5 *devices, const char *name, int fd);
/* The network device of that name; NULL name = the first one. The port's user is set before the machine starts. */
int wh_dev_solo5_net(struct wh_dev_solo5 *devices, const char *name, const uint8_t mac[6],
		     struct wh_net_port **ret_port);
/* After the machine is made: whom frames wake. */
void wh_dev_solo5_machine(struct wh_dev_solo5 *devices, struct wh_vmm_machine *machine);
void wh_dev_solo5_free(struct wh_dev_solo5 *devices);  /* after the machine is freed */
extern const struct wh_vmm_solo5_ops wh_dev_solo5_ops; /* ctx = the devices */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
