/* SPDX-License-Identifier: ISC */
/*
 * Snapshots (docs/spec/snapshot.md): a guest's memory, where it lies, and the image, in one file that
 * needs nothing else.
 *
 * Taking: the guest parks (wherry/abi/boot.h), so that RAM holds its registers; devices finish what is under
 * way, so that the used rings hold their state; then the pages that were ever touched are written.
 *
 * Restoring: everything in the header is checked on a copy before anything is made of it. What RAM holds is
 * hostile, as a running guest's RAM is; it is read only through the checks that hold for that.
 *
 * The guest's RAM has to be shared between guest and monitor, so a private mapping of the file cannot be it; the
 * touched pages are copied instead. The text is mapped from the file and shared by all copies.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/hash.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "engine.h"
#include "snapshot_wire.h"

#define VIRTIO_ID_9P 9u /* virtio 1.2, section 5 */

struct wh_vmm_snapshot {
	int fd;
	struct wh_vmm_image *image;
	struct vmm_snapshot_header h;
	struct vmm_extent *extent;
};

/* ---- header ---- */

static const uint16_t layout_at[] = {
	SNAPSHOT_IMAGE_BASE, SNAPSHOT_RAM_BASE,  SNAPSHOT_RAM_SIZE, SNAPSHOT_HEAP_START,
	SNAPSHOT_HEAP_END,   SNAPSHOT_INFO,      SNAPSHOT_CONTROL,  SNAPSHOT_STRINGS,
	SNAPSHOT_MOUNTS,     SNAPSHOT_SHM,       SNAPSHOT_TRAP_LOW, SNAPSHOT_TRAP_TOP,
	SNAPSHOT_STACK_LOW,  SNAPSHOT_STACK_TOP,
};

static void layout_fields(struct vmm_layout *l, uint64_t *to[])
{
	uint64_t *const fields[] = {
		&l->image_base,     &l->ram_base,       &l->ram_size,  &l->heap_start, &l->heap_end,
		&l->info,           &l->control,        &l->strings,   &l->mounts,     &l->shm,
		&l->trap_stack_low, &l->trap_stack_top, &l->stack_low, &l->stack_top,
	};
	_Static_assert(WH_ARRAY_COUNT(fields) == WH_ARRAY_COUNT(layout_at), "one place each");
	memcpy(to, fields, sizeof fields);
}

static uint32_t header_crc(const uint8_t *page)
{
	static const uint8_t zero[4];
	uint32_t crc = wh_crc32c(0, page, SNAPSHOT_CRC);
	crc = wh_crc32c(crc, zero, sizeof zero);
	return wh_crc32c(crc, page + SNAPSHOT_CRC + 4, SNAPSHOT_HEADER_SIZE - SNAPSHOT_CRC - 4);
}

static void encode(struct vmm_snapshot_header *h, uint32_t extents_crc, uint8_t *page)
{
	uint64_t *field[WH_ARRAY_COUNT(layout_at)];
	memset(page, 0, SNAPSHOT_HEADER_SIZE);
	wh_store_le64(page, SNAPSHOT_MAGIC_VALUE);
	wh_store_le32(page + SNAPSHOT_VERSION, SNAPSHOT_VERSION_VALUE);
	wh_store_le32(page + SNAPSHOT_ENGINE, h->engine);
	wh_store_le64(page + SNAPSHOT_IMAGE_OFFSET, h->image_offset);
	wh_store_le64(page + SNAPSHOT_IMAGE_SIZE, h->image_size);
	wh_store_le64(page + SNAPSHOT_PARK_FRAME, h->park_frame);
	wh_store_le64(page + SNAPSHOT_FS_BASE, h->fs_base);
	wh_store_le64(page + SNAPSHOT_XCR0, h->xcr0);
	wh_store_le32(page + SNAPSHOT_EXTENTS, h->extent_count);
	wh_store_le32(page + SNAPSHOT_EXTENTS_CRC, extents_crc);
	wh_store_le32(page + SNAPSHOT_SLOTS, h->slot_count);
	layout_fields(&h->layout, field);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(layout_at); i++)
		wh_store_le64(page + layout_at[i], *field[i]);
	for (uint32_t i = 0; i < h->slot_count; i++) {
		uint8_t *p = page + SNAPSHOT_SLOT_TABLE + i * SNAPSHOT_SLOT_SIZE;
		wh_store_le32(p, h->slot[i].virtio_id);
		wh_store_le32(p + 4, h->slot[i].queue_count);
		memcpy(p + 8, h->slot[i].name, sizeof h->slot[i].name);
	}
	wh_store_le32(page + SNAPSHOT_CRC, header_crc(page));
}

static int decode(const uint8_t *page, struct vmm_snapshot_header *h, struct wh_diag *diag)
{
	uint64_t *field[WH_ARRAY_COUNT(layout_at)];
	if (wh_load_le64(page) != SNAPSHOT_MAGIC_VALUE)
		return wh_diag_set(diag, -WH_ENOEXEC, "not a snapshot");
	if (wh_load_le32(page + SNAPSHOT_VERSION) != SNAPSHOT_VERSION_VALUE)
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "a snapshot of format %u, this wherry knows %u: take it again",
				   wh_load_le32(page + SNAPSHOT_VERSION), SNAPSHOT_VERSION_VALUE);
	if (wh_load_le32(page + SNAPSHOT_CRC) != header_crc(page))
		return wh_diag_set(diag, -WH_ENOEXEC, "damaged snapshot: bad header checksum");
	*h = (struct vmm_snapshot_header){
		.engine = wh_load_le32(page + SNAPSHOT_ENGINE),
		.image_offset = wh_load_le64(page + SNAPSHOT_IMAGE_OFFSET),
		.image_size = wh_load_le64(page + SNAPSHOT_IMAGE_SIZE),
		.park_frame = wh_load_le64(page + SNAPSHOT_PARK_FRAME),
		.fs_base = wh_load_le64(page + SNAPSHOT_FS_BASE),
		.xcr0 = wh_load_le64(page + SNAPSHOT_XCR0),
		.extent_count = wh_load_le32(page + SNAPSHOT_EXTENTS),
		.extents_crc = wh_load_le32(page + SNAPSHOT_EXTENTS_CRC),
		.slot_count = wh_load_le32(page + SNAPSHOT_SLOTS),
	};
	layout_fields(&h->layout, field);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(layout_at); i++)
		*field[i] = wh_load_le64(page + layout_at[i]);
	if (h->slot_count > WH_BOOT_DEVICES_MAX)
		return wh_diag_set(diag, -WH_ENOEXEC, "damaged snapshot: %u devices",
				   h->slot_count);
	for (uint32_t i = 0; i < h->slot_count; i++) {
		const uint8_t *p = page + SNAPSHOT_SLOT_TABLE + i * SNAPSHOT_SLOT_SIZE;
		h->slot[i].virtio_id = wh_load_le32(p);
		h->slot[i].queue_count = wh_load_le32(p + 4);
		memcpy(h->slot[i].name, p + 8, sizeof h->slot[i].name);
		h->slot[i].name[sizeof h->slot[i].name - 1] = 0;
	}
	return 0;
}

/* Is `a` .. `a + size` inside the part of RAM that lies between data and trap stack? */
static bool inside(const struct vmm_layout *l, wh_gaddr a, uint64_t size)
{
	return a >= l->heap_end && a <= l->trap_stack_low && size <= l->trap_stack_low - a;
}

/* The layout as machine.c would have made it, as far as anything depends on it. */
static bool layout_is_sound(const struct vmm_snapshot_header *h, const struct wh_vmm_image *image)
{
	const struct vmm_layout *l = &h->layout;
	uint64_t data = wh_align_up(image->end, VMM_PAGE) - image->ram_start;
	if (l->image_base % VMM_PAGE || l->image_base < SNAPSHOT_BASE_MIN ||
	    l->image_base > SNAPSHOT_BASE_MAX || l->ram_size % VMM_PAGE ||
	    l->ram_size > WH_MANIFEST_MEMORY_MAX || l->ram_size < data ||
	    l->ram_base != l->image_base + image->ram_start)
		return false;
	if (l->stack_top != l->ram_base + l->ram_size || l->heap_start != l->ram_base + data ||
	    l->heap_end % VMM_PAGE || l->trap_stack_low % VMM_PAGE || l->stack_low % VMM_PAGE)
		return false;
	if (l->heap_end < l->heap_start || l->trap_stack_low < l->heap_end ||
	    l->trap_stack_top > l->stack_top || l->trap_stack_top < l->trap_stack_low ||
	    l->trap_stack_top - l->trap_stack_low < SNAPSHOT_TRAP_STACK_MIN ||
	    l->stack_low != l->trap_stack_top + VMM_PAGE || l->stack_low >= l->stack_top)
		return false;
	if (l->info % 64 || l->control % 64 || l->shm % 64 ||
	    !inside(l, l->info, sizeof(struct wh_boot_info)) ||
	    !inside(l, l->control, sizeof(struct wh_boot_control)) || !inside(l, l->strings, 0) ||
	    !inside(l, l->mounts, 0) ||
	    !inside(l, l->shm,
		    WH_BOOT_DEVICES_MAX * (VMM_SHM_STRIDE + sizeof(struct wh_boot_device))))
		return false;
	return h->park_frame % 8 == 0 && h->park_frame < l->trap_stack_top &&
	       h->park_frame >= l->trap_stack_low + SNAPSHOT_TRAP_STACK_MIN / 2;
}

static int read_exactly(int fd, void *to, size_t size, uint64_t at)
{
	while (size) {
		ssize_t n = pread(fd, to, size, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -WH_ENOEXEC;
		to = (uint8_t *)to + n;
		size -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

static int read_extents(struct wh_vmm_snapshot *s, uint64_t file_size, struct wh_diag *diag)
{
	uint64_t last = 0;
	size_t size = (size_t)s->h.extent_count * SNAPSHOT_EXTENT_SIZE;
	if (s->h.extent_count > SNAPSHOT_EXTENTS_MAX)
		return wh_diag_set(diag, -WH_ENOEXEC, "damaged snapshot: %u extents",
				   s->h.extent_count);
	uint8_t *table = malloc(size + 1);
	s->extent = calloc(s->h.extent_count + 1u, sizeof *s->extent);
	if (!table || !s->extent) {
		free(table);
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the snapshot's table");
	}
	int error = read_exactly(s->fd, table, size, SNAPSHOT_HEADER_SIZE);
	if (error >= 0 && wh_crc32c(0, table, size) != s->h.extents_crc)
		error = -WH_ENOEXEC;
	for (uint32_t i = 0; i < s->h.extent_count && error >= 0; i++) {
		const uint8_t *p = table + (size_t)i * SNAPSHOT_EXTENT_SIZE;
		struct vmm_extent e = { wh_load_le64(p), wh_load_le64(p + 8),
					wh_load_le64(p + 16) };
		if (!e.size || e.ram_offset < last ||
		    !wh_range_inside(e.ram_offset, e.size, s->h.layout.ram_size) ||
		    !wh_range_inside(e.file_offset, e.size, file_size))
			error = -WH_ENOEXEC;
		last = e.ram_offset + e.size;
		s->extent[i] = e;
	}
	free(table);
	return error < 0 ? wh_diag_set(diag, error, "truncated or damaged snapshot") : 0;
}

/* The state components that the processor saves in a signal's frame. */
static uint64_t xcr0(void)
{
	uint32_t low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

static int open_own(int fd, struct wh_vmm_snapshot **ret_snapshot, struct wh_diag *diag)
{
	uint8_t page[SNAPSHOT_HEADER_SIZE];
	struct stat st;
	struct wh_vmm_snapshot *s = calloc(1, sizeof *s);
	if (!s) {
		close(fd);
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the snapshot");
	}
	s->fd = fd;
	int error = fstat(fd, &st) || !S_ISREG(st.st_mode)
			    ? wh_diag_set(diag, -WH_ENOEXEC, "not a snapshot: not a regular file")
			    : read_exactly(fd, page, sizeof page, 0);
	if (error == -WH_ENOEXEC && S_ISREG(st.st_mode))
		error = wh_diag_set(diag, error, "not a snapshot: too short");
	if (error >= 0)
		error = decode(page, &s->h, diag);
	if (error >= 0 &&
	    !wh_range_inside(s->h.image_offset, s->h.image_size, (uint64_t)st.st_size))
		error = wh_diag_set(diag, -WH_ENOEXEC, "truncated snapshot");
	if (error >= 0 && (s->h.image_offset % VMM_PAGE || s->h.engine != WH_BOOT_ENGINE_PROC))
		error = wh_diag_set(diag, -WH_ENOEXEC, "damaged snapshot: impossible header");
	if (error >= 0)
		error = vmm_image_open_part(fd, s->h.image_offset, s->h.image_size, &s->image,
					    diag);
	if (error >= 0 && !layout_is_sound(&s->h, s->image))
		error = wh_diag_set(diag, -WH_ENOEXEC, "damaged snapshot: impossible layout");
	if (error >= 0 && s->h.xcr0 & ~xcr0())
		error = wh_diag_set(diag, -WH_ENOEXEC,
				    "the snapshot was taken on a processor with more registers");
	if (error >= 0)
		error = read_extents(s, (uint64_t)st.st_size, diag);
	if (error < 0)
		wh_vmm_snapshot_close(s);
	else
		*ret_snapshot = s;
	return error;
}

int wh_vmm_snapshot_open_fd(int fd, struct wh_vmm_snapshot **ret_snapshot, struct wh_diag *diag)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return wh_diag_set(diag, -errno, "cannot keep the snapshot's descriptor");
	return open_own(own, ret_snapshot, diag);
}

void wh_vmm_snapshot_close(struct wh_vmm_snapshot *s)
{
	if (!s)
		return;
	wh_vmm_image_close(s->image);
	wh_os_close(&s->fd);
	free(s->extent);
	free(s);
}

struct wh_vmm_image *wh_vmm_snapshot_image(struct wh_vmm_snapshot *s)
{
	return s->image;
}

const struct vmm_snapshot_header *vmm_snapshot_header(const struct wh_vmm_snapshot *s)
{
	return &s->h;
}

int vmm_snapshot_load(const struct wh_vmm_snapshot *s, uint8_t *ram)
{
	for (uint32_t i = 0; i < s->h.extent_count; i++) {
		const struct vmm_extent *e = &s->extent[i];
		int error = read_exactly(s->fd, ram + e->ram_offset, e->size, e->file_offset);
		if (error < 0)
			return error;
	}
	return 0;
}

/* ---- taking one ---- */

struct writer {
	int fd, error;
	uint64_t at;
};

static void put(struct writer *w, const void *from, size_t size)
{
	if (w->error >= 0)
		w->error = wh_os_write_all(w->fd, from, size);
	w->at += size;
}

static void fill_up(struct writer *w)
{
	static const uint8_t zero[VMM_PAGE]
		__attribute__((section(".bss.zero"))); /* not in the file */
	put(w, zero, (size_t)(-w->at & (VMM_PAGE - 1)));
}

/* The pages of RAM that were ever touched; file offsets follow later. Count, or -errno. */
static int find_extents(const struct wh_vmm_machine *m, struct vmm_extent *to, uint32_t max)
{
	uint32_t count = 0;
	off_t end = (off_t)(VMM_RAM_OFFSET + m->layout.ram_size), at = VMM_RAM_OFFSET;
	while (at < end) {
		off_t data = lseek(m->ram_fd, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		off_t hole = data < 0 ? -1 : lseek(m->ram_fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if (hole > end)
			hole = end;
		if (data >= end)
			break;
		if (count == max)
			return -WH_E2BIG;
		to[count++] = (struct vmm_extent){ (uint64_t)(data - VMM_RAM_OFFSET),
						   (uint64_t)(hole - data), 0 };
		at = hole;
	}
	return (int)count;
}

static int copy_image(struct writer *w, const struct wh_vmm_image *image)
{
	uint8_t buffer[16384];
	uint64_t size = image->elf.input.size;
	for (uint64_t at = 0; at < size && w->error >= 0;) {
		size_t n = size - at < sizeof buffer ? (size_t)(size - at) : sizeof buffer;
		int error = wh_elf_read(&image->elf, at, buffer, n);
		if (error < 0)
			return error;
		put(w, buffer, n);
		at += n;
	}
	fill_up(w);
	return w->error;
}

static void describe(const struct wh_vmm_machine *m, struct vmm_snapshot_header *h)
{
	*h = (struct vmm_snapshot_header){ .engine = m->engine->boot_id,
					   .image_size = m->image->elf.input.size,
					   .layout = m->layout,
					   .park_frame = m->control->park_frame,
					   .fs_base = m->control->park_fs_base,
					   .xcr0 = xcr0(),
					   .slot_count = m->slot_count };
	for (uint32_t i = 0; i < m->slot_count; i++) {
		h->slot[i].virtio_id = m->slot[i].virtio_id;
		h->slot[i].queue_count = m->slot[i].queue_count;
		memcpy(h->slot[i].name, m->slot[i].name, sizeof m->slot[i].name);
	}
}

static int write_parked(const struct wh_vmm_machine *m, int fd, struct vmm_extent *extent,
			uint8_t *table)
{
	uint8_t page[SNAPSHOT_HEADER_SIZE];
	struct vmm_snapshot_header h;
	struct writer w = { .fd = fd };
	int count = find_extents(m, extent, SNAPSHOT_EXTENTS_MAX);
	if (count < 0)
		return count;
	describe(m, &h);
	h.extent_count = (uint32_t)count;
	size_t table_size = (size_t)count * SNAPSHOT_EXTENT_SIZE;
	h.image_offset = wh_align_up(SNAPSHOT_HEADER_SIZE + table_size, VMM_PAGE);
	uint64_t at = h.image_offset + wh_align_up(h.image_size, VMM_PAGE);
	for (int i = 0; i < count; i++) {
		uint8_t *p = table + (size_t)i * SNAPSHOT_EXTENT_SIZE;
		extent[i].file_offset = at;
		at += extent[i].size;
		wh_store_le64(p, extent[i].ram_offset);
		wh_store_le64(p + 8, extent[i].size);
		wh_store_le64(p + 16, extent[i].file_offset);
	}
	encode(&h, wh_crc32c(0, table, table_size), page);
	put(&w, page, sizeof page);
	put(&w, table, table_size);
	fill_up(&w);
	int error = copy_image(&w, m->image);
	for (int i = 0; i < count && error >= 0; i++) {
		put(&w, m->ram + extent[i].ram_offset, extent[i].size);
		error = w.error;
	}
	return error;
}

static int check_can(const struct wh_vmm_machine *m, struct wh_diag *diag)
{
	if (!m->started || m->ended)
		return wh_diag_set(diag, -WH_EINVAL, "the guest is not running");
	if (!m->engine->park)
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "snapshots are for the proc engine; this guest runs on %s",
				   m->engine->name);
	if (!(m->image->manifest.flags & WH_MANIFEST_PARKS))
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "the image is too old for snapshots; build it again");
	if (!(m->info->flags & WH_BOOT_FSGSBASE))
		return wh_diag_set(diag, -WH_EOPNOTSUPP,
				   "snapshots need a processor and kernel with FSGSBASE");
	for (uint32_t i = 0; i < m->slot_count; i++)
		if (m->slot[i].virtio_id == VIRTIO_ID_9P)
			return wh_diag_set(
				diag, -WH_EOPNOTSUPP,
				"a guest with shared folders (-v) cannot be snapshotted: "
				"its open files are the host's");
	return 0;
}

static int quiesce(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	(void)vmm_slots_kicked(m);
	for (uint32_t i = 0; i < m->slot_count; i++)
		if (m->slot[i].ops.idle && !m->slot[i].ops.idle(m->slot[i].ctx))
			return wh_diag_set(diag, -WH_EAGAIN,
					   "device %u has requests under way; try again", i);
	return 0;
}

int wh_vmm_machine_snapshot(struct wh_vmm_machine *m, int fd, struct wh_diag *diag)
{
	if (m->engine->snapshot && m->started && !m->ended)
		return m->engine->snapshot(m, fd, diag);
	int error = check_can(m, diag);
	if (error < 0)
		return error;
	struct vmm_extent *extent = malloc(SNAPSHOT_EXTENTS_MAX * sizeof *extent);
	uint8_t *table = malloc(SNAPSHOT_EXTENTS_MAX * SNAPSHOT_EXTENT_SIZE);
	if (!extent || !table)
		error = wh_diag_set(diag, -WH_ENOMEM, "no memory for the snapshot's table");
	if (error >= 0)
		error = m->engine->park(m, true, diag);
	if (error >= 0) {
		error = quiesce(m, diag);
		if (error >= 0) {
			error = write_parked(m, fd, extent, table);
			if (error < 0)
				(void)wh_diag_set(diag, error,
						  "cannot write the snapshot (errno %d)", -error);
		}
		(void)m->engine->park(m, false, NULL); /* letting go cannot fail */
	}
	free(extent);
	free(table);
	return error;
}
