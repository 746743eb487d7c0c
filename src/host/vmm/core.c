/* SPDX-License-Identifier: ISC */
/*
 * A core file of a guest that has ended (ELF, ET_CORE; what gdb reads of it is in bfd's elf.c and gdb's corelow.c): notes
 * with the registers and an auxiliary vector that says where the image lay, one segment for the pages that are never written and one
 * for RAM. Untouched pages are holes of the file.
 *
 * What the guest wrote about its end is copied once and believed for what it is: a hostile guest makes a core file full of
 * lies about itself.
 */
#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "vmm_priv.h"

#define NOTES_OFFSET 512u
#define DATA_OFFSET 4096u
#define AUX_COUNT 6u
#define FP_SIZE 512u

/* Members of Linux's struct elf_prstatus, struct elf_prpsinfo on x86-64. */
struct status {
	int32_t signal, code, error;
	int16_t current_signal;
	uint16_t pad;
	uint64_t pending, held;
	int32_t pid, parent, group, session;
	uint64_t times[8];
	uint64_t registers[27];
	int32_t fp_valid, pad2;
};
_Static_assert(sizeof(struct status) == 336, "the kernel's");

struct process {
	int8_t state, name, zombie, nice;
	uint32_t pad;
	uint64_t flag;
	uint32_t uid, gid;
	int32_t pid, parent, group, session;
	char program[16], arguments[80];
};
_Static_assert(sizeof(struct process) == 136, "the kernel's");

struct notes {
	struct status status;
	struct process process;
	Elf64_auxv_t aux[AUX_COUNT];
	uint8_t fp[FP_SIZE];
};

struct note {
	Elf64_Nhdr head;
	char name[8];
};

/* As they are in the file, each at a multiple of four. */
#define NOTES_SIZE (4 * sizeof(struct note) + sizeof(struct notes))
_Static_assert(NOTES_OFFSET + NOTES_SIZE <= DATA_OFFSET, "before the segments");

static void append(uint8_t **at, uint32_t type, const void *from, size_t size)
{
	struct note note = { { 5, (uint32_t)size, type }, "CORE" };
	memcpy(*at, &note, sizeof note);
	memcpy(*at + sizeof note, from, size);
	*at += sizeof note + size;
}

/* The kernel's order in a core file, as indices into a signal frame's general registers. */
static const uint8_t order[27] = { 7, 6,  5,  4, 10, 11, 3, 2, 1, 0, 13, 14, 12, 9,
				   8, 13, 16, 0, 17, 15, 0, 0, 0, 0, 0,  0,  0 };
#define AT_CS 17
#define AT_SS 20
#define AT_RIP 16
#define AT_RSP 19
#define AT_RBP 4
#define GREG_OFFSET 40u /* in struct ucontext */
#define GREG_COUNT 23u
#define FP_POINTER (GREG_OFFSET + 8 * GREG_COUNT)

/* From the trap's frame where there is one; else what the guest told of the caller of its end. */
static void fill_registers(const struct wh_vmm_machine *m, const struct wh_boot_control *c,
			   const struct wh_vmm_exit *how, struct notes *n)
{
	uint64_t frame[(FP_POINTER + 8) / 8];
	uint64_t *to = n->status.registers;
	const void *at = how->kind == WH_BOOT_EXIT_FAULT
				 ? wh_gmem_at(&m->memory, c->park_frame, sizeof frame, false)
				 : NULL;
	if (at) {
		memcpy(frame, at, sizeof frame);
		for (unsigned i = 0; i < WH_ARRAY_COUNT(order); i++)
			to[i] = frame[GREG_OFFSET / 8 + order[i]];
		at = wh_gmem_at(&m->memory, frame[FP_POINTER / 8], FP_SIZE, false);
		if (at)
			memcpy(n->fp, at, FP_SIZE);
		n->status.fp_valid = at != NULL;
		memset(to + AT_SS + 1, 0, 6 * sizeof *to);
	} else {
		to[AT_RBP] = c->fault_rbp;
		to[AT_RSP] = c->fault_rsp;
		to[AT_RIP] = c->fault_rip;
	}
	to[AT_CS] = 0x33; /* gdb takes a 64-bit program from it */
	to[AT_SS] = 0x2b;
}

static void fill_notes(const struct wh_vmm_machine *m, const struct wh_vmm_exit *how,
		       struct notes *n)
{
	struct wh_boot_control c;
	uint64_t base = m->layout.image_base, entry = m->image->elf.entry;
	uint8_t ehdr[64] = { 0 };
	memcpy(&c, (const void *)m->control, sizeof c);
	memset(n, 0, sizeof *n);
	n->status.signal = n->status.current_signal =
		(int16_t)(how->host_signal                  ? how->host_signal
			  : how->kind == WH_BOOT_EXIT_PANIC ? 6
			  : how->kind == WH_BOOT_EXIT_NONE  ? 9
							    : how->value & 63);
	n->status.pid = n->process.pid = 1;
	fill_registers(m, &c, how, n);
	wh_format(n->process.program, sizeof n->process.program, "%s", m->image->manifest.name);
	wh_format(n->process.arguments, sizeof n->process.arguments, "%s", m->image->manifest.name);
	(void)wh_elf_read(&m->image->elf, 0, ehdr, sizeof ehdr); /* checked when it was opened */
	const Elf64_auxv_t aux[AUX_COUNT] = {
		{ AT_PHDR,
		  { base + m->image->start + ((const Elf64_Ehdr *)(const void *)ehdr)->e_phoff } },
		{ AT_PHENT, { sizeof(Elf64_Phdr) } },
		{ AT_PHNUM, { m->image->elf.segment_count } },
		{ AT_PAGESZ, { VMM_PAGE } },
		{ AT_ENTRY, { base + entry } },
		{ AT_NULL, { 0 } },
	};
	memcpy(n->aux, aux, sizeof aux);
}

/* At a place of the file. 0 or -errno. */
static int put(int fd, uint64_t at, const void *from, uint64_t size)
{
	const char *p = from;
	while (size) {
		ssize_t n = pwrite(fd, p, size, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -WH_ENOSPC;
		p += n;
		at += (uint64_t)n;
		size -= (uint64_t)n;
	}
	return 0;
}

/* What was ever touched. */
static int put_ram(const struct wh_vmm_machine *m, int fd, uint64_t to)
{
	off_t end = (off_t)(VMM_RAM_OFFSET + m->layout.ram_size), at = VMM_RAM_OFFSET;
	int error = ftruncate(fd, (off_t)(to + m->layout.ram_size)) ? -errno : 0;
	while (error >= 0 && at < end) {
		off_t data = lseek(m->ram_fd, at, SEEK_DATA);
		off_t hole = data < 0 ? end : lseek(m->ram_fd, data, SEEK_HOLE);
		if (data < 0 || data >= end)
			break;
		if (hole < 0 || hole > end)
			hole = end;
		error = put(fd, to + (uint64_t)(data - VMM_RAM_OFFSET),
			    m->ram + (data - VMM_RAM_OFFSET), (uint64_t)(hole - data));
		at = hole;
	}
	return error;
}

int wh_vmm_machine_core(struct wh_vmm_machine *m, const struct wh_vmm_exit *how, int fd,
			struct wh_diag *diag)
{
	struct notes notes;
	uint8_t packed[NOTES_SIZE], *end = packed;
	struct {
		Elf64_Ehdr file;
		Elf64_Phdr segment[3];
	} h = { .file = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			  .e_type = ET_CORE,
			  .e_machine = EM_X86_64,
			  .e_version = EV_CURRENT,
			  .e_phoff = sizeof h.file,
			  .e_ehsize = sizeof h.file,
			  .e_phentsize = sizeof h.segment[0],
			  .e_phnum = 3 } };
	_Static_assert(sizeof h <= NOTES_OFFSET, "before the notes");
	if (!m->ended || !m->image)
		return wh_diag_set(diag, -WH_EINVAL, "only of an image that has ended");
	fill_notes(m, how, &notes);
	append(&end, NT_PRSTATUS, &notes.status, sizeof notes.status);
	append(&end, NT_PRPSINFO, &notes.process, sizeof notes.process);
	append(&end, NT_AUXV, notes.aux, sizeof notes.aux);
	append(&end, NT_FPREGSET, notes.fp, sizeof notes.fp);
	wh_assert(end == packed + sizeof packed);
	uint64_t text = m->layout.image_base + m->image->start;
	uint64_t ram_at = DATA_OFFSET + m->text_size;
	h.segment[0] = (Elf64_Phdr){ .p_type = PT_NOTE,
				     .p_offset = NOTES_OFFSET,

				     .p_align = 4,
				     .p_filesz = sizeof packed };
	h.segment[1] = (Elf64_Phdr){ .p_type = PT_LOAD,
				     .p_flags = PF_R | PF_X,
				     .p_offset = DATA_OFFSET,
				     .p_vaddr = text,
				     .p_filesz = m->text_size,
				     .p_memsz = m->text_size,
				     .p_align = VMM_PAGE };
	h.segment[2] = (Elf64_Phdr){ .p_type = PT_LOAD,
				     .p_flags = PF_R | PF_W,
				     .p_offset = ram_at,
				     .p_vaddr = m->layout.ram_base,
				     .p_filesz = m->layout.ram_size,
				     .p_memsz = m->layout.ram_size,
				     .p_align = VMM_PAGE };
	int error = put(fd, 0, &h, sizeof h);
	if (error >= 0)
		error = put(fd, NOTES_OFFSET, packed, sizeof packed);
	if (error >= 0)
		error = put(fd, DATA_OFFSET, m->text, m->text_size);
	if (error >= 0)
		error = put_ram(m, fd, ram_at);
	return error < 0 ? wh_diag_set(diag, error, "cannot write it (errno %d)", -error) : 0;
}
