/* SPDX-License-Identifier: ISC */
/*
 * Snapshot files. The checksums of header and table are put right, so that what lies behind them is reached; a file
 * that is taken is loaded into guarded memory.
 */
#include <sys/mman.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/hash.h>
#include <wherry/test.h>

#include "snapshot_wire.h"

#define RAM_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_right(uint8_t *file, size_t size)
{
	if (size < SNAPSHOT_HEADER_SIZE)
		return;
	uint64_t table = (uint64_t)wh_load_le32(file + SNAPSHOT_EXTENTS) * SNAPSHOT_EXTENT_SIZE;
	if (table <= size - SNAPSHOT_HEADER_SIZE)
		wh_store_le32(file + SNAPSHOT_EXTENTS_CRC,
			      wh_crc32c(0, file + SNAPSHOT_HEADER_SIZE, (size_t)table));
	wh_store_le32(file + SNAPSHOT_CRC, 0);
	wh_store_le32(file + SNAPSHOT_CRC, wh_crc32c(0, file, SNAPSHOT_HEADER_SIZE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wh_vmm_snapshot *s;
	struct wh_diag diag = { "" };
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	wh_assert(fd >= 0 && ftruncate(fd, (off_t)size + 1) == 0 &&
		  ftruncate(fd, (off_t)size) == 0);
	if (size) {
		uint8_t *file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		wh_assert(file != MAP_FAILED);
		memcpy(file, data, size);
		put_right(file, size);
		munmap(file, size);
	}
	int error = wh_vmm_snapshot_open_fd(fd, &s, &diag);
	close(fd);
	if (error < 0) {
		wh_assert(diag.text[0]); /* every refusal says why */
		return 0;
	}
	const struct vmm_layout *l = &vmm_snapshot_header(s)->layout;
	wh_assert(l->info >= l->heap_end &&
		  l->info + sizeof(struct wh_boot_info) <= l->trap_stack_low);
	wh_assert(l->control + sizeof(struct wh_boot_control) <= l->trap_stack_low);
	wh_assert(l->stack_top == l->ram_base + l->ram_size);
	if (l->ram_size <= RAM_MAX) {
		uint8_t *ram = test_guarded(l->ram_size); /* a write behind it faults */
		(void)vmm_snapshot_load(s, ram);          /* whatever the file says, inside */
		test_guarded_free(ram, l->ram_size);
	}
	wh_vmm_snapshot_close(s);
	return 0;
}
