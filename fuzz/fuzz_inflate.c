/* SPDX-License-Identifier: ISC */
/* The input is a raw deflate stream; its size says how much should come out of it. */
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/block.h>
#include <wherry/test.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t room = 512u << size % 4;
	uint8_t *in = test_guarded(size), *out = test_guarded(room);
	memcpy(in, data, size);
	int r = wh_block_inflate(in, size, out, room);
	wh_assert(r == 0 || r == -WH_EINVAL);
	test_guarded_free(in, size);
	test_guarded_free(out, room);
	return 0;
}
