/* SPDX-License-Identifier: ISC */
#ifndef ZCODEC_H
#define ZCODEC_H
#include <wherry/block.h>
extern const struct wh_block_codec zcodec;
#endif
