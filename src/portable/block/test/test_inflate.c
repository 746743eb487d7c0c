/* SPDX-License-Identifier: ISC */
/* The decoder against zlib: all levels, strategies and kinds of content; streams that are cut or damaged. */
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/block.h>
#include <wherry/test.h>
#include <zlib.h>

#define SIZE (128u << 10)
static uint8_t plain[SIZE], packed[SIZE + 4096], out[SIZE];

static void fill(unsigned kind, uint64_t *seed)
{
	for (uint32_t i = 0; i < SIZE; i++) {
		uint64_t r = wh_random_next(seed);
		plain[i] = kind == 0             ? 0
			   : kind == 1           ? (uint8_t)r
			   : kind == 2           ? (uint8_t)("the quick brown fox "[r % 20])
			   : kind == 3           ? (uint8_t)(r % 3 ? 'a' : r >> 8)
			   : i > 32768 && r % 40 ? plain[i - 32768]
						 : (uint8_t)(r % 7);
	}
}

static size_t pack(size_t size, int level, int window, int strategy)
{
	z_stream z = { .next_in = plain,
		       .avail_in = (uInt)size,
		       .next_out = packed,
		       .avail_out = sizeof packed };
	CHECK_EQ(deflateInit2(&z, level, Z_DEFLATED, -window, 9, strategy), Z_OK);
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	CHECK_EQ(deflateEnd(&z), Z_OK);
	return sizeof packed - z.avail_out;
}

static void unpacks_what_zlib_packs(void)
{
	static const int strategies[] = { Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE,
					  Z_FIXED };
	uint64_t seed = test_seed();
	for (unsigned kind = 0; kind < 5; kind++)
		for (int level = 0; level <= 9; level += 3)
			for (unsigned i = 0; i < WH_ARRAY_COUNT(strategies); i++) {
				size_t size = 1 + wh_random_next(&seed) % SIZE;
				fill(kind, &seed);
				size_t n = pack(size, level, i % 2 ? 12 : 15, strategies[i]);
				memset(out, 0xaa, size);
				CHECK_EQ(wh_block_inflate(packed, n, out, size), 0);
				CHECK_MEM(out, plain, size);
				/* Sectors are counted, not bytes: something follows. */
				CHECK_EQ(wh_block_inflate(packed, n + 300, out, size), 0);
				CHECK_EQ(wh_block_inflate(packed, n, out, size + 1), -WH_EINVAL);
			}
}

/* The input ends, or holds anything: an error or other bytes, never a step outside of the memory. */
static void survives_damage(void)
{
	uint64_t seed = test_seed();
	fill(2, &seed);
	size_t size = 4096, n = pack(size, 9, 12, Z_DEFAULT_STRATEGY);
	for (size_t cut = 0; cut < n; cut++) {
		uint8_t *in = test_guarded(cut), *to = test_guarded(size);
		memcpy(in, packed, cut);
		int r = wh_block_inflate(in, cut, to, size);
		CHECK(r == -WH_EINVAL || !memcmp(to, plain, size));
		test_guarded_free(in, cut);
		test_guarded_free(to, size);
	}
	uint8_t *in = test_guarded(n), *to = test_guarded(size);
	for (unsigned i = 0; i < 20000; i++) {
		memcpy(in, packed, n);
		for (unsigned k = 0; k <= i % 4; k++)
			in[wh_random_next(&seed) % (i % 2 ? n : 100)] ^=
				(uint8_t)(1 + wh_random_next(&seed));
		int r = wh_block_inflate(in, n, to, size);
		CHECK(r == 0 || r == -WH_EINVAL);
	}
	test_guarded_free(in, n);
	test_guarded_free(to, size);
}

int main(void)
{
	RUN(unpacks_what_zlib_packs);
	RUN(survives_damage);
	return test_end();
}
