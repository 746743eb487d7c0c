/* SPDX-License-Identifier: ISC */
/* The command line and memory map that some other monitor passes to an image. */
#include <cpu/pvh.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>

#define STRINGS_SIZE 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pvh_command command;
	static char strings[STRINGS_SIZE];
	uint32_t limit = size ? 1 + data[0] * 2u : 1;
	int r = pvh_command_parse((const char *)data, (uint32_t)size, "image", strings, limit,
				  &command);
	wh_assert(command.strings_size <= limit && command.device_count <= WH_BOOT_DEVICES_MAX);
	uint32_t ends = 0;
	for (uint32_t i = 0; i < command.strings_size; i++)
		ends += !strings[i];
	if (r >= 0)
		wh_assert(ends == command.argc + command.envc);

	struct pvh_memory map[8] = { 0 };
	uint32_t count = 0;
	for (size_t at = 0; at + 20 <= size && count < 8; at += 20, count++)
		map[count] =
			(struct pvh_memory){ wh_load_le64(data + at), wh_load_le64(data + at + 8),
					     wh_load_le32(data + at + 16) & 1, 0 };
	const struct pvh_image image = { .start = 0x200000, .end = 0x300000, .ram_base = 0x280000 };
	uint64_t end = pvh_ram_end(map, count, &image, 1ull << 32);
	wh_assert(!end || (end >= 0x300000 && end <= 1ull << 32));
	return 0;
}
