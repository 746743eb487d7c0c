/* SPDX-License-Identifier: ISC */
/* The device half on rings and memory that are all input. */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/test.h>
#include <wherry/virtq.h>

#define RAM_SIZE 16384u
#define RAM_START 0x10000u
#define QUEUE_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(16) uint8_t ram[RAM_SIZE];
	struct wh_gmem mem = { 0 };
	struct wh_virtq_device q;
	struct wh_iov iov[QUEUE_MAX];
	struct wh_virtq_chain chain = { .iov = iov, .iov_max = QUEUE_MAX };
	if (size < 8)
		return 0;
	struct wh_virtq_device_config c = { .mem = &mem,
					    .size = data[0],
					    .desc = RAM_START + 16u * data[1],
					    .driver = RAM_START + 16u * data[2],
					    .device = RAM_START + 16u * data[3],
					    .features = data[4] & 1 ? WH_VIRTQ_F_EVENT_IDX : 0 };
	if (data[4] & 2)
		c.features |= WH_VIRTQ_F_INDIRECT;
	chain.iov_max = data[5] < QUEUE_MAX ? data[5] : QUEUE_MAX;
	memset(ram, 0, sizeof ram);
	memcpy(ram, data + 8, size - 8 < RAM_SIZE ? size - 8 : RAM_SIZE);
	if (wh_gmem_add(&mem, RAM_START, RAM_SIZE / 2, ram, true) < 0 ||
	    wh_gmem_add(&mem, RAM_START + RAM_SIZE / 2, RAM_SIZE / 2, ram + RAM_SIZE / 2, false) <
		    0)
		abort();
	if (wh_virtq_device_init(&q, &c) < 0)
		return 0;
	for (int i = 0; i < 300; i++) {
		if (wh_virtq_device_pop(&q, &chain) <= 0 && !wh_virtq_device_kicks_on(&q))
			break;
		uint64_t in = 0, out = 0;
		for (uint32_t k = 0; k < chain.out_count + chain.in_count; k++) {
			uint8_t *p = iov[k].base;
			wh_assert(p >= ram && iov[k].size <= RAM_SIZE &&
				  p + iov[k].size <= ram + RAM_SIZE);
			if (k >= chain.out_count) {
				wh_assert(p + iov[k].size <= ram + RAM_SIZE / 2);
				memset(p, data[6], iov[k].size); /* may hit the rings */
				in += iov[k].size;
			} else {
				out += iov[k].size;
			}
		}
		wh_assert(in == chain.in_size && out == chain.out_size);
		wh_virtq_device_push(&q, chain.head, (uint32_t)in);
		(void)wh_virtq_device_interrupt_needed(&q);
	}
	return 0;
}
