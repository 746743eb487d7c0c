/* SPDX-License-Identifier: ISC */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/net_wire.h>

/* Sum of native 16-bit words, folded to 16 bits. Ones' complement addition does not
 * care about the word width, so it runs on 64-bit loads (RFC 1071, 2 (B) and (C)). */
static uint32_t sum_native(const uint8_t *p, size_t size)
{
	uint64_t low = 0, high = 0;
	while (size >= 32) {
		uint64_t w[4];
		memcpy(w, p, 32);
		low += (uint32_t)w[0];
		high += w[0] >> 32;
		low += (uint32_t)w[1];
		high += w[1] >> 32;
		low += (uint32_t)w[2];
		high += w[2] >> 32;
		low += (uint32_t)w[3];
		high += w[3] >> 32;
		p += 32;
		size -= 32;
	}
	while (size >= 4) {
		uint32_t w;
		memcpy(&w, p, 4);
		low += w;
		p += 4;
		size -= 4;
	}
	if (size) {
		uint8_t tail[4] = { 0 };
		for (size_t i = 0; i < size; i++)
			tail[i] = p[i];
		uint32_t w;
		memcpy(&w, tail, 4);
		low += w;
	}
	/* Each is below 2^62 for any size that fits memory, so no carry is lost. */
	low += high;
	low = (low & 0xffffffff) + (low >> 32);
	low = (low & 0xffffffff) + (low >> 32);
	uint32_t folded = ((uint32_t)low & 0xffff) + ((uint32_t)low >> 16);
	return (folded & 0xffff) + (folded >> 16);
}

uint16_t wh_wire_sum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

uint16_t wh_wire_sum_finish(uint32_t sum)
{
	return (uint16_t)~wh_wire_sum_fold(sum);
}

uint32_t wh_wire_sum(uint32_t sum, const void *data, size_t size)
{
	uint16_t part = (uint16_t)sum_native(data, size);
	return wh_wire_sum_fold(sum) + WH_BYTES_BE(16, part);
}

uint32_t wh_wire_sum_iov(uint32_t sum, const struct wh_iov *iov, size_t count, size_t offset,
			 size_t size)
{
	bool odd = false; /* the next byte is the low one of a word */
	for (size_t i = 0; i < count && size; i++) {
		if (offset >= iov[i].size) {
			offset -= iov[i].size;
			continue;
		}
		size_t n = iov[i].size - offset;
		if (n > size)
			n = size;
		uint16_t part = (uint16_t)sum_native((const uint8_t *)iov[i].base + offset, n);
		part = WH_BYTES_BE(16, part);
		if (odd)
			part = wh_bswap16(part);
		sum = (uint32_t)wh_wire_sum_fold(sum) + part;
		odd ^= n & 1;
		size -= n;
		offset = 0;
	}
	wh_assert(!size);
	return sum;
}

uint32_t wh_wire_sum_pseudo(const uint8_t *from, const uint8_t *to, size_t address_size,
			    uint8_t protocol, uint32_t size)
{
	wh_assert(address_size == 4 || address_size == 16);
	uint32_t sum = wh_wire_sum(0, from, address_size);
	sum = wh_wire_sum(sum, to, address_size);
	return (uint32_t)wh_wire_sum_fold(sum) + protocol + (size >> 16) + (size & 0xffff);
}
