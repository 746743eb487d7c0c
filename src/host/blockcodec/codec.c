/* SPDX-License-Identifier: ISC */
/*
 * zlib as QEMU uses it: raw deflate, a window of 4 KiB when packing, any when unpacking.
 */
#include <stdlib.h>
#include <wherry/base/errors.h>
#include <wherry/block_codec.h>
#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#define WINDOW_PACK (-12)
#define WINDOW_UNPACK (-15)
#define MEMORY_LEVEL 9

struct codec {
	struct wh_block_codec codec;
	int level;
	bool packing, unpacking; /* the streams exist */
	z_stream pack, unpack;
#ifdef HAVE_ZSTD
	ZSTD_CCtx *zstd_pack;
	ZSTD_DCtx *zstd_unpack;
#endif
};

static int inflate_cluster(struct codec *c, const void *from, size_t from_size, void *to,
			   size_t to_size)
{
	int r = c->unpacking ? inflateReset(&c->unpack) : inflateInit2(&c->unpack, WINDOW_UNPACK);
	if (r != Z_OK)
		return -WH_ENOMEM;
	c->unpacking = true;
	c->unpack.next_in = (Bytef *)(uintptr_t)from;
	c->unpack.avail_in = (uInt)from_size;
	c->unpack.next_out = to;
	c->unpack.avail_out = (uInt)to_size;
	r = inflate(&c->unpack, Z_FINISH);
	/* The last sector may go on behind the stream. */
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && !c->unpack.avail_out ? 0 : -WH_EINVAL;
}

static int deflate_cluster(struct codec *c, const void *from, size_t from_size, void *to,
			   size_t to_size)
{
	int r = c->packing
			? deflateReset(&c->pack)
			: deflateInit2(&c->pack, c->level ? c->level : Z_DEFAULT_COMPRESSION,
				       Z_DEFLATED, WINDOW_PACK, MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
	if (r != Z_OK)
		return -WH_ENOMEM;
	c->packing = true;
	c->pack.next_in = (Bytef *)(uintptr_t)from;
	c->pack.avail_in = (uInt)from_size;
	c->pack.next_out = to;
	c->pack.avail_out = (uInt)to_size;
	r = deflate(&c->pack, Z_FINISH);
	return r == Z_STREAM_END ? (int)(to_size - c->pack.avail_out) : -WH_ENOSPC;
}

#ifdef HAVE_ZSTD
static int zstd_unpack(struct codec *c, const void *from, size_t from_size, void *to,
		       size_t to_size)
{
	ZSTD_inBuffer in = { from, from_size, 0 };
	ZSTD_outBuffer out = { to, to_size, 0 };
	if (!c->zstd_unpack && !(c->zstd_unpack = ZSTD_createDCtx()))
		return -WH_ENOMEM;
	ZSTD_DCtx_reset(c->zstd_unpack, ZSTD_reset_session_only);
	while (out.pos < out.size) {
		size_t in_before = in.pos, out_before = out.pos;
		size_t r = ZSTD_decompressStream(c->zstd_unpack, &out, &in);
		if (ZSTD_isError(r) || (in.pos == in_before && out.pos == out_before))
			return -WH_EINVAL;
	}
	return 0;
}

static int zstd_pack(struct codec *c, const void *from, size_t from_size, void *to, size_t to_size)
{
	if (!c->zstd_pack && !(c->zstd_pack = ZSTD_createCCtx()))
		return -WH_ENOMEM;
	size_t r = ZSTD_compressCCtx(c->zstd_pack, to, to_size, from, from_size,
				     c->level ? c->level : ZSTD_CLEVEL_DEFAULT);
	return ZSTD_isError(r) ? -WH_ENOSPC : (int)r;
}
#else
static int zstd_unpack(struct codec *c, const void *from, size_t from_size, void *to,
		       size_t to_size)
{
	return -WH_EOPNOTSUPP;
}

static int zstd_pack(struct codec *c, const void *from, size_t from_size, void *to, size_t to_size)
{
	return -WH_EOPNOTSUPP;
}
#endif

static int decode(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		  void *to, size_t to_size)
{
	return type == WH_BLOCK_COMPRESSION_ZSTD
		       ? zstd_unpack(ctx, from, from_size, to, to_size)
		       : inflate_cluster(ctx, from, from_size, to, to_size);
}

static int encode(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		  void *to, size_t to_size)
{
	return type == WH_BLOCK_COMPRESSION_ZSTD
		       ? zstd_pack(ctx, from, from_size, to, to_size)
		       : deflate_cluster(ctx, from, from_size, to, to_size);
}

int wh_block_codec_new(int level, struct wh_block_codec **ret_codec)
{
	struct codec *c = calloc(1, sizeof *c);
	if (!c)
		return -WH_ENOMEM;
	c->level = level;
	c->codec = (struct wh_block_codec){ .decode = decode, .encode = encode, .ctx = c };
	*ret_codec = &c->codec;
	return 0;
}

void wh_block_codec_free(struct wh_block_codec *codec)
{
	if (!codec)
		return;
	struct codec *c = codec->ctx;
	if (c->packing)
		deflateEnd(&c->pack);
	if (c->unpacking)
		inflateEnd(&c->unpack);
#ifdef HAVE_ZSTD
	ZSTD_freeCCtx(c->zstd_pack);
	ZSTD_freeDCtx(c->zstd_unpack);
#endif
	free(c);
}
