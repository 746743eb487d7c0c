/* SPDX-License-Identifier: ISC */
/*
 * Solo5 binaries: static ELF files with two notes of the owner "Solo5", which say target, ABI version and the devices that
 * the guest wants. All is checked when the file is opened.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "solo5_priv.h"

#define NOTE_ABI 0x31494241u
#define NOTE_MANIFEST 0x3154464du
#define NOTE_HEADER 20u /* with the owner's name */
#define ABI_VERSION 2u
#define MFT_VERSION 1u
#define MFT_RESERVED (1u << 30)
#define MFT_TYPE 68u
#define MFT_PROPERTIES 72u
#define MFT_BACK_END 88u
#define MFT_ATTACHED 96u

/* Finds a note that has a segment of its own; `pad` bytes of its descriptor come before what is meant. */
static int find_note(const struct wh_elf *elf, uint32_t type, uint32_t pad, uint64_t *ret_offset,
		     uint64_t *ret_size)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		const struct wh_elf_segment *s = &elf->segment[i];
		uint8_t h[NOTE_HEADER];
		if (s->type != PT_NOTE || s->file_size < NOTE_HEADER ||
		    wh_elf_read(elf, s->offset, h, sizeof h) < 0)
			continue;
		if (wh_load_le32(h) != 6 || memcmp(h + 12, "Solo5\0\0", 8) != 0 ||
		    wh_load_le32(h + 8) != type)
			continue;
		uint32_t size = wh_load_le32(h + 4);
		if (size < pad || size > s->file_size - NOTE_HEADER)
			return -WH_ENOEXEC;
		*ret_offset = s->offset + NOTE_HEADER + pad;
		*ret_size = size - pad;
		return 0;
	}
	return -WH_ENOENT;
}

static int read_abi(struct wh_vmm_solo5 *s, struct wh_diag *diag)
{
	const struct wh_elf *elf = &s->elf;
	static const char *const targets[] = { "unknown", "hvt",    "spt", "virtio",
					       "muen",    "genode", "xen" };
	uint8_t abi[16];
	uint64_t offset, size;
	int error = find_note(elf, NOTE_ABI, 0, &offset, &size);
	if (error < 0 || size != sizeof abi || wh_elf_read(elf, offset, abi, sizeof abi) < 0)
		return wh_diag_set(diag, -WH_ENOEXEC, "no Solo5 binary: it has no ABI note");
	uint32_t target = wh_load_le32(abi), version = wh_load_le32(abi + 4);
	if (target != WH_VMM_SOLO5_HVT && target != WH_VMM_SOLO5_SPT)
		return wh_diag_set(
			diag, -WH_ENOEXEC,
			"a Solo5 binary for %s: only hvt and spt can be run, build it for "
			"one of them",
			targets[target < WH_ARRAY_COUNT(targets) ? target : 0]);
	if (version != ABI_VERSION)
		return wh_diag_set(diag, -WH_ENOEXEC, "Solo5 ABI version %u; only %u can be run",
				   version, ABI_VERSION);
	s->target = (enum wh_vmm_solo5_target)target;
	return 0;
}

static int bad_manifest(struct wh_diag *diag, const char *what)
{
	return wh_diag_set(diag, -WH_ENOEXEC, "damaged Solo5 manifest: %s", what);
}

static int read_manifest(struct wh_vmm_solo5 *s, struct wh_diag *diag)
{
	uint64_t offset, size;
	const uint8_t *m = s->manifest;
	if (find_note(&s->elf, NOTE_MANIFEST, 4, &offset, &size) < 0 || size > sizeof s->manifest ||
	    size < SOLO5_MFT_HEADER + SOLO5_MFT_ENTRY ||
	    wh_elf_read(&s->elf, offset, s->manifest, size) < 0)
		return bad_manifest(diag, "it is missing or too large");
	uint32_t count = wh_load_le32(m + 4);
	if (wh_load_le32(m) != MFT_VERSION)
		return bad_manifest(diag, "version");
	if (!count || count > WH_VMM_SOLO5_DEVICES_MAX ||
	    size != SOLO5_MFT_HEADER + (uint64_t)count * SOLO5_MFT_ENTRY)
		return bad_manifest(diag, "size");
	s->manifest_size = (uint32_t)size;
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *e = m + SOLO5_MFT_HEADER + i * SOLO5_MFT_ENTRY;
		uint32_t type = wh_load_le32(e + MFT_TYPE);
		if (e[WH_VMM_SOLO5_NAME_SIZE - 1] || e[MFT_ATTACHED])
			return bad_manifest(diag, "an entry");
		if (!i && (type != MFT_RESERVED || e[0]))
			return bad_manifest(diag, "the first entry");
		if (!i)
			continue;
		if (type != WH_VMM_SOLO5_BLOCK && type != WH_VMM_SOLO5_NET)
			return bad_manifest(diag, "a device of an unknown type");
		struct wh_vmm_solo5_device *d = &s->device[s->device_count++];
		d->kind = (enum wh_vmm_solo5_kind)type;
		memcpy(d->name, e, sizeof d->name);
	}
	return 0;
}

static int check_segments(struct wh_vmm_solo5 *s, struct wh_diag *diag)
{
	uint64_t last = 0;
	bool ordered = true; /* what is fixed lies before what is written */
	if (s->elf.type != ET_EXEC || s->elf.entry < SOLO5_MIN_ADDRESS)
		return wh_diag_set(diag, -WH_ENOEXEC, "damaged Solo5 binary: type or entry");
	for (uint32_t i = 0; i < s->elf.segment_count; i++) {
		const struct wh_elf_segment *p = &s->elf.segment[i];
		if (p->type != PT_LOAD || !p->file_size)
			continue;
		uint64_t end = wh_align_up(p->vaddr + p->mem_size, VMM_PAGE);
		if (p->vaddr < SOLO5_MIN_ADDRESS || p->vaddr < last ||
		    end > WH_VMM_SOLO5_MEMORY_MAX || (p->flags & (PF_W | PF_X)) == (PF_W | PF_X))
			return wh_diag_set(diag, -WH_ENOEXEC,
					   "damaged Solo5 binary: order, place or rights of a "
					   "segment");
		if (p->flags & PF_W) {
			ordered &= s->fixed_size != 0;
		} else if (!s->fixed_size) {
			s->fixed = wh_align_down(p->vaddr, VMM_PAGE);
			s->fixed_size = end - s->fixed;
		} else {
			ordered &= last == s->fixed + s->fixed_size;
			s->fixed_size = end - s->fixed;
		}
		last = end;
	}
	if (!ordered)
		s->fixed_size = 0;
	s->end = last;
	return last ? 0 : wh_diag_set(diag, -WH_ENOEXEC, "damaged Solo5 binary: nothing to load");
}

static int open_input(int fd, const struct wh_elf_input *input, struct wh_vmm_solo5 **ret_solo5,
		      struct wh_diag *diag)
{
	struct wh_vmm_solo5 *s = calloc(1, sizeof *s);
	if (!s) {
		wh_os_close(&fd);
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a binary");
	}
	s->fd = fd;
	int error = wh_elf_open(input, &s->elf, diag);
	if (error >= 0)
		error = read_abi(s, diag);
	if (error >= 0)
		error = read_manifest(s, diag);
	if (error >= 0)
		error = check_segments(s, diag);
	if (error < 0) {
		wh_vmm_solo5_close(s);
		return error;
	}
	*ret_solo5 = s;
	return 0;
}

int wh_vmm_solo5_open_memory(const void *data, size_t size, struct wh_vmm_solo5 **ret_solo5,
			     struct wh_diag *diag)
{
	struct wh_elf_input input = { .data = data, .fd = -1, .size = size };
	return open_input(-1, &input, ret_solo5, diag);
}

int wh_vmm_solo5_open(const char *path, struct wh_vmm_solo5 **ret_solo5, struct wh_diag *diag)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return wh_diag_set(diag, -errno, "cannot open it (errno %d)", errno);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		wh_os_close(&fd);
		return wh_diag_set(diag, -WH_ENOEXEC, "not a regular file");
	}
	struct wh_elf_input input = { .fd = fd, .size = (uint64_t)st.st_size };
	return open_input(fd, &input, ret_solo5, diag);
}

bool wh_vmm_solo5_looks_like(const char *path)
{
	struct stat st;
	struct wh_elf elf;
	uint64_t offset, size;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	bool result = false;
	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode)) {
		struct wh_elf_input input = { .fd = fd, .size = (uint64_t)st.st_size };
		result = wh_elf_open(&input, &elf, NULL) >= 0 &&
			 find_note(&elf, NOTE_ABI, 0, &offset, &size) >= 0;
	}
	wh_os_close(&fd);
	return result;
}

void wh_vmm_solo5_close(struct wh_vmm_solo5 *s)
{
	if (!s)
		return;
	wh_os_close(&s->fd);
	free(s);
}

enum wh_vmm_solo5_target wh_vmm_solo5_target(const struct wh_vmm_solo5 *s)
{
	return s->target;
}

struct wh_vmm_solo5_device *wh_vmm_solo5_device(struct wh_vmm_solo5 *s, uint32_t handle)
{
	return handle && handle <= s->device_count ? &s->device[handle - 1] : NULL;
}

int solo5_load(const struct wh_vmm_solo5 *s, uint8_t *ram, struct wh_diag *diag)
{
	for (uint32_t i = 0; i < s->elf.segment_count; i++) {
		const struct wh_elf_segment *p = &s->elf.segment[i];
		if (p->type != PT_LOAD || !p->file_size)
			continue;
		int error = wh_elf_read(&s->elf, p->offset, ram + p->vaddr, p->file_size);
		if (error < 0)
			return wh_diag_set(diag, error, "cannot read it (errno %d)", -error);
	}
	return 0;
}

void solo5_manifest_fill(struct wh_vmm_solo5 *s)
{
	for (uint32_t i = 0; i < s->device_count; i++) {
		const struct wh_vmm_solo5_device *d = &s->device[i];
		uint8_t *e = s->manifest + SOLO5_MFT_HEADER + (i + 1) * SOLO5_MFT_ENTRY;
		if (d->kind == WH_VMM_SOLO5_BLOCK) {
			wh_store_le64(e + MFT_PROPERTIES, d->capacity);
			wh_store_le16(e + MFT_PROPERTIES + 8, d->block_size);
		} else {
			memcpy(e + MFT_PROPERTIES, d->mac, 6);
			wh_store_le16(e + MFT_PROPERTIES + 6, d->mtu);
		}
		if (s->target == WH_VMM_SOLO5_SPT)
			wh_store_le32(e + MFT_BACK_END, (uint32_t)d->guest_fd);
		e[MFT_ATTACHED] = d->attached;
	}
}
