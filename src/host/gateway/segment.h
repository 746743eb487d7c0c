/* SPDX-License-Identifier: ISC */
#ifndef GATEWAY_SEGMENT_H
#define GATEWAY_SEGMENT_H

#include <wherry/net_frame.h>

/* Finishes a frame whose sender has left checksum or segmentation to the receiver, for one that takes neither: emit
 * is called with each of the complete frames. scratch: WH_NET_FRAME_SIZE_MAX bytes; the frame is copied there before
 * it is looked at. -WH_EINVAL: headers that fit no such frame; nothing was emitted. */
int segment_finish(const struct wh_net_frame *frame, uint8_t *scratch,
		   void (*emit)(void *ctx, const struct wh_net_frame *frame), void *ctx);

#endif
