/* SPDX-License-Identifier: ISC */
/* zlib and zstd for the interop test, as QEMU uses them. */
#include <wherry/base/errors.h>
#include <zlib.h>
#include <zstd.h>

#include "zcodec.h"

static int decode(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		  void *to, size_t to_size)
{
	if (type == WH_BLOCK_COMPRESSION_ZSTD) {
		ZSTD_inBuffer in = { from, from_size, 0 };
		ZSTD_outBuffer out = { to, to_size, 0 };
		ZSTD_DCtx *d = ZSTD_createDCtx();
		while (out.pos < out.size) {
			size_t was = in.pos, had = out.pos, r = ZSTD_decompressStream(d, &out, &in);
			if (ZSTD_isError(r) || (in.pos == was && out.pos == had))
				break;
		}
		ZSTD_freeDCtx(d);
		return out.pos == out.size ? 0 : -WH_EINVAL;
	}
	z_stream z = { .next_in = (Bytef *)(uintptr_t)from,
		       .avail_in = (uInt)from_size,
		       .next_out = to,
		       .avail_out = (uInt)to_size };
	if (inflateInit2(&z, -15) != Z_OK)
		return -WH_ENOMEM;
	(void)inflate(&z,
		      Z_FINISH); /* the input is longer than the stream: judged by what came out */
	inflateEnd(&z);
	return z.avail_out ? -WH_EINVAL : 0;
}

static int encode(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		  void *to, size_t to_size)
{
	if (type == WH_BLOCK_COMPRESSION_ZSTD) {
		size_t n = ZSTD_compress(to, to_size, from, from_size, 3);
		return ZSTD_isError(n) ? -WH_ENOSPC : (int)n;
	}
	z_stream z = { 0 };
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return -WH_ENOMEM;
	z.next_in = (Bytef *)(uintptr_t)from;
	z.avail_in = (uInt)from_size;
	z.next_out = to;
	z.avail_out = (uInt)to_size;
	int r = deflate(&z, Z_FINISH) == Z_STREAM_END ? (int)(to_size - z.avail_out) : -WH_ENOSPC;
	deflateEnd(&z);
	return r;
}

const struct wh_block_codec zcodec = { .decode = decode, .encode = encode };
