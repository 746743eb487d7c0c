/* SPDX-License-Identifier: ISC */
/*
 * Raw deflate streams (RFC 1951), unpacked into memory of a known size: for programs that link no compression
 * library. Short codes are looked up, long ones are decoded bit by bit with counts of codes by length, so the
 * tables are small. The output is the window: a distance reaches back into it and no further.
 */
#include "block_priv.h"

#define CODE_BITS 15u
#define FAST_BITS 9u /* most codes of a text are no longer */
#define LITERALS 288u
#define DISTANCES 30u
#define END_OF_BLOCK 256u

struct inflate {
	const uint8_t *from;
	size_t from_size, from_at;
	uint8_t *to;
	size_t to_size, to_at;
	uint32_t bits, bit_count;
};

/* Canonical codes: how many of each length, and the symbols in order of their codes. */
struct codes {
	uint16_t count[CODE_BITS + 1], symbol[LITERALS];
	uint16_t fast
		[1u
		 << FAST_BITS]; /* by the next bits: symbol and length of the code; 0 = it is longer */
};

/* The next n (<= 16) bits, low ones first, or -WH_EINVAL at the end of the input. */
static int take(struct inflate *s, uint32_t n)
{
	while (s->bit_count < n) {
		if (s->from_at == s->from_size)
			return -WH_EINVAL;
		s->bits |= (uint32_t)s->from[s->from_at++] << s->bit_count;
		s->bit_count += 8;
	}
	uint32_t value = s->bits & ((1u << n) - 1);
	s->bits >>= n;
	s->bit_count -= n;
	return (int)value;
}

/* As many bits as there is room for. */
static void refill(struct inflate *s)
{
	while (s->bit_count <= 24 && s->from_at < s->from_size) {
		s->bits |= (uint32_t)s->from[s->from_at++] << s->bit_count;
		s->bit_count += 8;
	}
}

/* Codes come with their first bit lowest: so are they looked up. */
static void fast_make(struct codes *c)
{
	uint32_t code = 0, index = 0;
	memset(c->fast, 0, sizeof c->fast);
	for (uint32_t bits = 1; bits <= FAST_BITS; bits++, code <<= 1)
		for (uint32_t i = 0; i < c->count[bits]; i++, code++, index++) {
			uint32_t reversed = 0;
			for (uint32_t b = 0; b < bits; b++)
				reversed |= (code >> b & 1) << (bits - 1 - b);
			for (; reversed < 1u << FAST_BITS; reversed += 1u << bits)
				c->fast[reversed] = (uint16_t)(c->symbol[index] << 4 | bits);
		}
}

/* Codes may be left over (a single distance has one), but not be given twice. */
static int codes_make(struct codes *c, const uint8_t *length, uint32_t n)
{
	uint16_t at[CODE_BITS + 1];
	int left = 1;
	memset(c->count, 0, sizeof c->count);
	for (uint32_t i = 0; i < n; i++)
		c->count[length[i]]++;
	c->count[0] = 0;
	for (uint32_t bits = 1; bits <= CODE_BITS; bits++) {
		left = 2 * left - c->count[bits];
		if (left < 0)
			return -WH_EINVAL;
	}
	at[1] = 0;
	for (uint32_t bits = 1; bits < CODE_BITS; bits++)
		at[bits + 1] = (uint16_t)(at[bits] + c->count[bits]);
	for (uint32_t i = 0; i < n; i++)
		if (length[i])
			c->symbol[at[length[i]]++] = (uint16_t)i;
	fast_make(c);
	return 0;
}

static int symbol(struct inflate *s, const struct codes *c)
{
	int code = 0, first = 0, index = 0;
	refill(s);
	uint32_t fast = c->fast[s->bits & ((1u << FAST_BITS) - 1)], size = fast & 15;
	if (size && size <= s->bit_count) {
		s->bits >>= size;
		s->bit_count -= size;
		return (int)(fast >> 4);
	}
	for (uint32_t bits = 1; bits <= CODE_BITS; bits++) {
		int bit = take(s, 1), count = c->count[bits];
		if (bit < 0)
			return bit;
		code |= bit;
		if (code - first < count)
			return c->symbol[index + code - first];
		index += count;
		first = (first + count) << 1;
		code <<= 1;
	}
	return -WH_EINVAL;
}

/* A length or distance: the base of its code and some bits. The codes of each `group` have one more bit than
 * those before. */
static int extended(struct inflate *s, uint32_t code, uint32_t group, uint32_t *ret_value)
{
	uint32_t bits = code < 2 * group ? 0 : code / group - 1;
	uint32_t base = code < 2 * group ? code : (group + code % group) << bits;
	int more = bits ? take(s, bits) : 0;
	*ret_value = base + (uint32_t)(more < 0 ? 0 : more);
	return more < 0 ? more : 0;
}

static int match(struct inflate *s, uint32_t code, const struct codes *distances)
{
	uint32_t size = 255, distance;
	int r = 0;
	if (code > 285)
		return -WH_EINVAL;
	if (code < 285)
		r = extended(s, code - 257, 4, &size);
	int d = r < 0 ? r : symbol(s, distances);
	if (d < 0 || (uint32_t)d >= DISTANCES)
		return -WH_EINVAL;
	r = extended(s, (uint32_t)d, 2, &distance);
	size += 3;
	distance++;
	if (r < 0 || distance > s->to_at || size > s->to_size - s->to_at)
		return -WH_EINVAL;
	for (; size; size--, s->to_at++)
		s->to[s->to_at] = s->to[s->to_at - distance];
	return 0;
}

static int block(struct inflate *s, const struct codes *literals, const struct codes *distances)
{
	for (;;) {
		int r = symbol(s, literals);
		if (r < 0 || r == (int)END_OF_BLOCK)
			return r < 0 ? r : 0;
		if (r > (int)END_OF_BLOCK)
			r = match(s, (uint32_t)r, distances);
		else if (s->to_at == s->to_size)
			r = -WH_EINVAL;
		else
			s->to[s->to_at++] = (uint8_t)r;
		if (r < 0)
			return r;
	}
}

static int stored(struct inflate *s)
{
	s->from_at -= s->bit_count / 8; /* the rest of the byte goes, what follows was read early */
	s->bits = s->bit_count = 0;
	if (s->from_size - s->from_at < 4)
		return -WH_EINVAL;
	const uint8_t *p = s->from + s->from_at;
	uint32_t size = p[0] | (uint32_t)p[1] << 8;
	s->from_at += 4;
	if ((size ^ 0xffff) != (p[2] | (uint32_t)p[3] << 8) || size > s->from_size - s->from_at ||
	    size > s->to_size - s->to_at)
		return -WH_EINVAL;
	if (size)
		memcpy(s->to + s->to_at, s->from + s->from_at, size);
	s->from_at += size;
	s->to_at += size;
	return 0;
}

/* The lengths of the block's codes are packed themselves. */
static int lengths(struct inflate *s, uint8_t *length, uint32_t n)
{
	static const uint8_t order[19] = { 16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
					   11, 4,  12, 3, 13, 2, 14, 1, 15 };
	struct codes c;
	uint8_t own[19] = { 0 };
	int count = take(s, 4);
	for (int i = 0; count >= 0 && i < count + 4; i++) {
		int bits = take(s, 3);
		if (bits < 0)
			return bits;
		own[order[i]] = (uint8_t)bits;
	}
	if (count < 0 || codes_make(&c, own, sizeof own) < 0)
		return -WH_EINVAL;
	for (uint32_t i = 0; i < n;) {
		int code = symbol(s, &c), repeat = 1;
		uint8_t value = (uint8_t)code;
		if (code < 0 || (code == 16 && !i))
			return -WH_EINVAL;
		if (code >= 16) {
			value = code == 16 ? length[i - 1] : 0;
			repeat = take(s, code == 16 ? 2 : code == 17 ? 3 : 7);
			if (repeat < 0)
				return repeat;
			repeat += code == 18 ? 11 : 3;
		}
		if ((uint32_t)repeat > n - i)
			return -WH_EINVAL;
		while (repeat--)
			length[i++] = value;
	}
	return 0;
}

static int coded(struct inflate *s, bool fixed)
{
	struct codes literals, distances;
	uint8_t length[LITERALS + 32] = { 0 };
	uint32_t n = LITERALS, m = DISTANCES;
	if (fixed) {
		for (uint32_t i = 0; i < LITERALS; i++)
			length[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
		memset(length + n, 5, m);
	} else {
		int more = take(s, 5), some = take(s, 5);
		n = 257 + (uint32_t)more;
		m = 1 + (uint32_t)some;
		if (more < 0 || some < 0 || n > 286 || m > DISTANCES ||
		    lengths(s, length, n + m) < 0 || !length[END_OF_BLOCK])
			return -WH_EINVAL;
	}
	if (codes_make(&literals, length, n) < 0 || codes_make(&distances, length + n, m) < 0)
		return -WH_EINVAL;
	return block(s, &literals, &distances);
}

int wh_block_inflate(const void *from, size_t from_size, void *to, size_t to_size)
{
	struct inflate s = { .from = from, .from_size = from_size, .to = to, .to_size = to_size };
	int last = 0;
	while (!last) {
		int kind;
		last = take(&s, 1);
		kind = take(&s, 2);
		int r = last < 0 || kind < 0 ? -WH_EINVAL
			: kind == 0          ? stored(&s)
			: kind == 3          ? -WH_EINVAL
					     : coded(&s, kind == 1);
		if (r < 0)
			break;
	}
	/* As QEMU: when all is there, how the stream would have gone on is of no interest. */
	return s.to_at == to_size ? 0 : -WH_EINVAL;
}

static int decode(void *ctx, enum wh_block_compression type, const void *from, size_t from_size,
		  void *to, size_t to_size)
{
	return type == WH_BLOCK_COMPRESSION_ZLIB ? wh_block_inflate(from, from_size, to, to_size)
						 : -WH_EOPNOTSUPP;
}

const struct wh_block_codec *wh_block_inflate_codec(void)
{
	static const struct wh_block_codec codec = { .decode = decode,
						     .types = 1u << WH_BLOCK_COMPRESSION_ZLIB };
	return &codec;
}
