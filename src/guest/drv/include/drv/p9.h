/* SPDX-License-Identifier: ISC */
#ifndef DRV_P9_H
#define DRV_P9_H

/*
 * virtio-9p: a 9P2000.L session over one virtqueue. Each thread sends its request
 * and sleeps until its own answer is there. The wait is not ended by a signal,
 * since the device owns the buffers until it answers. Once the device breaks the
 * protocol, every request ends with -WH_EIO.
 */

#include <stdint.h>
#include <wherry/base/iov.h>
#include <wherry/ninep.h>

struct drv_p9;

/* Room for the answer to any request but readlink; put it on the stack. */
#define DRV_P9_ANSWER_SIZE 256u

int drv_9p_init(void); /* called by the kernel's start-up when linked */

/* The device with this mount tag, NULL = there is none. */
struct drv_p9 *drv_p9_find(const char *tag);

/* One exchange. `payload`: data of Twrite, or room for that of Rread and Rreaddir;
 * NULL for the others. `answer` is what ret_r's strings point into. The first
 * exchange agrees on the version. 0, the error that the server sent, -WH_EIO. */
int drv_p9_call(struct drv_p9 *d, struct wh_p9_msg *t, const struct wh_iov *payload, void *answer,
		uint32_t answer_max, struct wh_p9_msg *ret_r);

/* Fids: -WH_ENFILE when all are in use. Clunking does not wait for the answer. */
int drv_p9_fid_get(struct drv_p9 *d, uint32_t *ret_fid);
void drv_p9_fid_drop(struct drv_p9 *d, uint32_t fid); /* never used with the server */
void drv_p9_clunk(struct drv_p9 *d, uint32_t fid);

uint32_t drv_p9_payload_max(struct drv_p9 *d);

#endif
