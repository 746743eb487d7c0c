/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BLOCK_CODEC_H
#define WHERRY_BLOCK_CODEC_H

/*
 * Compression of clusters (struct wh_block_codec) by zlib and, where the build has it, Zstandard.
 * Threads: one codec, one thread at a time; several codecs work at the same time.
 */

#include <wherry/block.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* level: 1 .. 9 for zlib and 1 .. 19 for Zstandard; 0 = their defaults. -WH_ENOMEM. */
int wh_block_codec_new(int level, struct wh_block_codec **ret_codec);
/* NULL is allowed. */
void wh_block_codec_free(struct wh_block_codec *codec);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
