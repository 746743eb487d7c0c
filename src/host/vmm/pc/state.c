/* SPDX-License-Identifier: ISC */
/*
 * Snapshots of a PC (docs/spec/pc-snapshot.md): header, sections, RAM. While it is saved the vCPUs stand still and devices have no
 * request under way; afterwards all goes on. A new machine maps the file's RAM copy-on-write, so that what the guest does not touch
 * is not read; many machines can be made of one file. The file is hostile: lengths, counts and places are checked, what is then
 * wrong in a processor's state KVM refuses or the guest suffers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "pc_priv.h"

#define MAGIC "WHPCSNP1"
#define VERSION 2u
#define HEADER_SIZE 64u
#define SECTION_HEADER 16u
#define STATE_MAX (4u << 20)
#define MSRS_MAX 256u
#define MSR_TSC_DEADLINE 0x6e0u
#define COPY_SIZE (1u << 20)

/* Header. */
enum {
	H_VERSION = 8,
	H_CPUS = 12,
	H_RAM_SIZE = 16,
	H_RAM_OFFSET = 24,
	H_STATE_SIZE = 32,
	H_SUM = 40,
	H_DEVICES = 48
};

/* Sections: type, index (vCPU, chip or slot), size, bytes. */
enum section {
	S_REGS = 1,
	S_SREGS,
	S_XSAVE,
	S_XCRS,
	S_DEBUG,
	S_LAPIC,
	S_MSRS,
	S_EVENTS,
	S_MP,
	S_CHIP, /* 0, 1: 8259s; 2: IOAPIC */
	S_PIT,
	S_CLOCK,
	S_PLATFORM,
	S_FUNCTION, /* configuration space, then pending, then the MSI-X table */
	S_DEVICE    /* the slot's own */
};

struct writer {
	uint8_t *data;
	size_t size, room;
};

static uint64_t sum_of(const uint8_t *p, size_t size)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a: against accidents only */
	for (size_t i = 0; i < size; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

static void put(struct writer *w, enum section type, uint32_t index, const void *data, size_t size)
{
	if (w->size + SECTION_HEADER + size > w->room) {
		w->room = 0; /* noticed at the end */
		return;
	}
	uint8_t *h = w->data + w->size;
	wh_store_le32(h, type);
	wh_store_le32(h + 4, index);
	wh_store_le64(h + 8, size);
	memcpy(h + SECTION_HEADER, data, size);
	w->size += SECTION_HEADER + size;
}

/* The next section of this kind; NULL = there is none, or not of that size (0 = any). */
static const uint8_t *get(const struct pc_snapshot *s, enum section type, uint32_t index,
			  size_t size, size_t *ret_size)
{
	for (size_t at = 0; at + SECTION_HEADER <= s->state_size;) {
		const uint8_t *h = s->state + at;
		uint64_t n = wh_load_le64(h + 8);
		if (!wh_range_inside(at + SECTION_HEADER, n, s->state_size))
			return NULL;
		if (wh_load_le32(h) == type && wh_load_le32(h + 4) == index) {
			if (ret_size)
				*ret_size = n;
			return !size || n == size ? h + SECTION_HEADER : NULL;
		}
		at += SECTION_HEADER + n;
	}
	return NULL;
}

/* ---- standing still ---- */

static void wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Called by a vCPU's thread that finds pc->pause set. */
void pc_vcpu_park(struct pc_vcpu *v)
{
	struct pc *pc = v->pc;
	v->run->immediate_exit = 1; /* completes what the last exit left half done */
	(void)ioctl(v->fd, KVM_RUN, 0);
	v->run->immediate_exit = 0;
	/* The signal that ended KVM_RUN is still pending; it would end every later one. */
	sigset_t stop;
	struct timespec now = { 0, 0 };
	sigemptyset(&stop);
	sigaddset(&stop, PC_STOP_SIGNAL);
	while (sigtimedwait(&stop, NULL, &now) > 0)
		;
	__atomic_store_n(&v->parked, 1, __ATOMIC_SEQ_CST);
	pc_tell_loop(pc);
	while (__atomic_load_n(&pc->pause, __ATOMIC_SEQ_CST) &&
	       !__atomic_load_n(&pc->stop, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &pc->pause, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
	__atomic_store_n(&v->parked, 0, __ATOMIC_SEQ_CST);
}

static bool all_parked(const struct pc *pc)
{
	for (uint32_t i = 0; i < pc->vcpu_count; i++)
		if (!__atomic_load_n(&pc->vcpu[i].parked, __ATOMIC_SEQ_CST))
			return false;
	return true;
}

static int pause_vcpus(struct pc *pc)
{
	__atomic_store_n(&pc->pause, 1, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < pc->vcpu_count; i++)
		pthread_kill(pc->vcpu[i].thread, PC_STOP_SIGNAL);
	while (!all_parked(pc)) {
		if (__atomic_load_n(&pc->end, __ATOMIC_ACQUIRE))
			return -WH_ESRCH;
		pc_answer_all(pc); /* some may wait for the loop */
		struct timespec t = { 0, 200000 };
		(void)nanosleep(&t, NULL);
	}
	return 0;
}

static void resume_vcpus(struct pc *pc)
{
	for (uint32_t i = 0; i < pc->vcpu_count; i++) /* or its watchdog would think it hung */
		(void)ioctl(pc->vcpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
	__atomic_store_n(&pc->pause, 0, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < pc->vcpu_count; i++)
		wake(&pc->pause);
}

int pc_pause(struct wh_vmm_machine *m, bool on, struct wh_diag *diag)
{
	struct pc *pc = pc_of(m);
	int error = on ? pause_vcpus(pc) : 0;
	if (!on)
		resume_vcpus(pc);
	return error ? wh_diag_set(diag, error, "the machine has ended") : 0;
}

/* ---- processors ---- */

struct msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[MSRS_MAX];
};

static uint32_t msr_list(struct pc *pc, uint32_t *indices)
{
	struct {
		struct kvm_msr_list head;
		uint32_t index[MSRS_MAX];
	} list = { .head.nmsrs = MSRS_MAX };
	if (ioctl(pc->dev, KVM_GET_MSR_INDEX_LIST, &list))
		return 0;
	memcpy(indices, list.index, list.head.nmsrs * sizeof *indices);
	return list.head.nmsrs;
}

/* One by one: a processor may lack some of what the list names. */
static void save_msrs(struct pc_vcpu *v, struct writer *w)
{
	uint32_t indices[MSRS_MAX], n = msr_list(v->pc, indices);
	static const uint32_t more[] = { MSR_TSC_DEADLINE };
	struct msrs m = { .head.nmsrs = 0 };
	for (uint32_t i = 0; i < n + WH_ARRAY_COUNT(more) && m.head.nmsrs < MSRS_MAX; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = { .head.nmsrs = 1, .entry.index = i < n ? indices[i] : more[i - n] };
		if (i < n && one.entry.index == MSR_TSC_DEADLINE)
			continue;
		if (ioctl(v->fd, KVM_GET_MSRS, &one) == 1)
			m.entry[m.head.nmsrs++] = one.entry;
	}
	put(w, S_MSRS, v->index, m.entry, m.head.nmsrs * sizeof m.entry[0]);
}

#define VCPU_PARTS(X)                                                          \
	X(S_MP, struct kvm_mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE)       \
	X(S_REGS, struct kvm_regs, KVM_GET_REGS, KVM_SET_REGS)                 \
	X(S_SREGS, struct kvm_sregs, KVM_GET_SREGS, KVM_SET_SREGS)             \
	X(S_XSAVE, struct kvm_xsave, KVM_GET_XSAVE, KVM_SET_XSAVE)             \
	X(S_XCRS, struct kvm_xcrs, KVM_GET_XCRS, KVM_SET_XCRS)                 \
	X(S_DEBUG, struct kvm_debugregs, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS) \
	X(S_LAPIC, struct kvm_lapic_state, KVM_GET_LAPIC, KVM_SET_LAPIC)

static int save_vcpu(struct pc_vcpu *v, struct writer *w)
{
	struct kvm_vcpu_events events;
#define SAVE(type, kind, get_call, set_call)                \
	do {                                                \
		kind part;                                  \
		if (ioctl(v->fd, get_call, &part))          \
			return -errno;                      \
		put(w, type, v->index, &part, sizeof part); \
	} while (0);
	VCPU_PARTS(SAVE)
	save_msrs(v, w);
	if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events))
		return -errno;
	put(w, S_EVENTS, v->index, &events, sizeof events);
	return 0;
}

static int restore_vcpu(struct pc_vcpu *v, const struct pc_snapshot *s)
{
	size_t size;
	const uint8_t *p;
#define RESTORE(type, kind, get_call, set_call)                \
	do {                                                   \
		kind part;                                     \
		p = get(s, type, v->index, sizeof part, NULL); \
		if (!p)                                        \
			return -WH_EBADMSG;                    \
		memcpy(&part, p, sizeof part);                 \
		if (ioctl(v->fd, set_call, &part))             \
			return -errno;                         \
	} while (0);
	VCPU_PARTS(RESTORE)
	p = get(s, S_MSRS, v->index, 0, &size);
	if (!p || size % sizeof(struct kvm_msr_entry) ||
	    size / sizeof(struct kvm_msr_entry) > MSRS_MAX)
		return -WH_EBADMSG;
	for (size_t at = 0; at < size; at += sizeof(struct kvm_msr_entry)) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = { .head.nmsrs = 1 };
		memcpy(&one.entry, p + at, sizeof one.entry);
		(void)ioctl(v->fd, KVM_SET_MSRS, &one); /* some can only be read */
	}
	struct kvm_vcpu_events events;
	p = get(s, S_EVENTS, v->index, sizeof events, NULL);
	if (!p)
		return -WH_EBADMSG;
	memcpy(&events, p, sizeof events);
	return ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events) ? -errno : 0;
}

/* ---- the board ---- */

struct platform {
	struct pc_uart uart;
	uint8_t cmos_index;
	uint16_t pm_status, pm_enable, pm_control;
	uint32_t pci_address;
	uint8_t gpe_status, gpe_enable;
};

static int save_board(struct pc *pc, struct writer *w)
{
	struct wh_vmm_machine *m = pc->machine;
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock = { 0 };
	struct platform p = { pc->uart,       pc->cmos_index,  pc->pm_status,  pc->pm_enable,
			      pc->pm_control, pc->pci_address, pc->gpe_status, pc->gpe_enable };
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_irqchip chip = { .chip_id = i };
		if (ioctl(pc->vm, KVM_GET_IRQCHIP, &chip))
			return -errno;
		put(w, S_CHIP, i, &chip, sizeof chip);
	}
	if (ioctl(pc->vm, KVM_GET_PIT2, &pit) || ioctl(pc->vm, KVM_GET_CLOCK, &clock))
		return -errno;
	clock.realtime = wh_os_wall_clock();
	put(w, S_PIT, 0, &pit, sizeof pit);
	put(w, S_CLOCK, 0, &clock, sizeof clock);
	put(w, S_PLATFORM, 0, &p, sizeof p);
	for (uint32_t i = 0; i < m->slot_count; i++) {
		const struct pc_function *f = &pc->function[i + 1];
		uint8_t bytes[PC_PCI_CONFIG_SIZE + 8 + 16 * 65];
		size_t table = f->vector_count * sizeof *f->msix;
		memcpy(bytes, f->config, PC_PCI_CONFIG_SIZE);
		memcpy(bytes + PC_PCI_CONFIG_SIZE, &f->pending, 8);
		memcpy(bytes + PC_PCI_CONFIG_SIZE + 8, f->msix, table);
		put(w, S_FUNCTION, i, bytes, PC_PCI_CONFIG_SIZE + 8 + table);
		if (!m->slot[i].ops.save)
			return -WH_EOPNOTSUPP;
		uint8_t state[WH_VMM_SLOT_STATE_MAX];
		int n = m->slot[i].ops.save(m->slot[i].ctx, state, sizeof state);
		if (n < 0)
			return n;
		put(w, S_DEVICE, i, state, (size_t)n);
	}
	return 0;
}

static int restore_clock(struct pc *pc, const struct pc_snapshot *s)
{
	struct kvm_clock_data clock;
	const uint8_t *p = get(s, S_CLOCK, 0, sizeof clock, NULL);
	if (!p)
		return -WH_EBADMSG;
	memcpy(&clock, p, sizeof clock);
	/* The guest's clock goes on by the time that has gone by. */
	uint64_t now = wh_os_wall_clock();
	if (clock.realtime && now > clock.realtime)
		clock.clock += now - clock.realtime;
	clock.flags = 0;
	return ioctl(pc->vm, KVM_SET_CLOCK, &clock) ? -errno : 0;
}

static int restore_platform(struct pc *pc, const struct pc_snapshot *s)
{
	struct platform p;
	const uint8_t *from = get(s, S_PLATFORM, 0, sizeof p, NULL);
	if (!from)
		return -WH_EBADMSG;
	memcpy(&p, from, sizeof p);
	if (p.uart.input_count > PC_UART_INPUT || p.uart.output_count > PC_UART_OUTPUT)
		return -WH_EBADMSG;
	uint8_t thre; /* of a file: it may be none */
	memcpy(&thre, &p.uart.thre, 1);
	p.uart.told = p.uart.room = p.uart.line = false;
	p.uart.thre = thre == 1;
	pc->uart = p.uart;
	pc->cmos_index = p.cmos_index & 0x7f;
	pc->pm_status = p.pm_status;
	pc->pm_enable = p.pm_enable;
	pc->pm_control = p.pm_control;
	pc->pci_address = p.pci_address;
	pc->gpe_status = p.gpe_status & 1;
	pc->gpe_enable = p.gpe_enable & 1;
	pc_uart_update(pc);
	return 0;
}

static int restore_functions(struct pc *pc, const struct pc_snapshot *s)
{
	struct wh_vmm_machine *m = pc->machine;
	for (uint32_t i = 0; i < m->slot_count; i++) {
		struct pc_function *f = &pc->function[i + 1];
		size_t table = f->vector_count * sizeof *f->msix, size;
		const uint8_t *p = get(s, S_FUNCTION, i, PC_PCI_CONFIG_SIZE + 8 + table, NULL);
		if (!p)
			return -WH_EBADMSG;
		for (uint32_t b = 0; b < PC_PCI_CONFIG_SIZE; b++) {
			if ((p[b] ^ f->config[b]) & ~f->writable[b])
				return -WH_EBADMSG; /* another device */
			f->config[b] = p[b];
		}
		memcpy(&f->pending, p + PC_PCI_CONFIG_SIZE, 8);
		f->pending &= (1ull << f->vector_count) - 1;
		memcpy(f->msix, p + PC_PCI_CONFIG_SIZE + 8, table);
		p = get(s, S_DEVICE, i, 0, &size);
		if (!p || !m->slot[i].ops.restore ||
		    m->slot[i].ops.restore(m->slot[i].ctx, p, size) < 0)
			return -WH_EBADMSG;
	}
	return 0;
}

int pc_state_restore(struct pc *pc, const struct pc_snapshot *s, struct wh_diag *diag)
{
	struct kvm_pit_state2 pit;
	int error = 0;
	if (pc->machine->slot_count != s->devices)
		return wh_diag_set(
			diag, -WH_EINVAL,
			"the snapshot's machine has %u devices, this one %u: say the same "
			"options",
			s->devices, pc->machine->slot_count);
	for (uint32_t i = 0; !error && i < 3; i++) {
		struct kvm_irqchip chip;
		const uint8_t *p = get(s, S_CHIP, i, sizeof chip, NULL);
		if (!p)
			error = -WH_EBADMSG;
		else
			memcpy(&chip, p, sizeof chip);
		if (p && (chip.chip_id != i || ioctl(pc->vm, KVM_SET_IRQCHIP, &chip)))
			error = -WH_EBADMSG;
	}
	const uint8_t *p = get(s, S_PIT, 0, sizeof pit, NULL);
	if (p)
		memcpy(&pit, p, sizeof pit);
	if (!error && (!p || ioctl(pc->vm, KVM_SET_PIT2, &pit)))
		error = -WH_EBADMSG;
	for (uint32_t i = 0; !error && i < pc->vcpu_count; i++)
		error = restore_vcpu(&pc->vcpu[i], s);
	if (!error)
		error = restore_clock(pc, s);
	if (!error)
		error = restore_platform(pc, s);
	if (!error)
		error = restore_functions(pc, s);
	if (!error) {
		pc_generation_renew(pc);
		pc_generation_changed(pc);
	}
	return error ? wh_diag_set(diag, error,
				   "the snapshot does not fit: damaged, of another host's "
				   "processor, or "
				   "of other devices (errno %d)",
				   -error)
		     : 0;
}

/* ---- the file ---- */

static int write_at(int fd, const void *data, size_t size, uint64_t offset)
{
	const uint8_t *p = data;
	while (size) {
		ssize_t n = pwrite(fd, p, size, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -WH_EIO;
		p += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* Pages of zeros stay holes. */
static int write_ram(const struct wh_vmm_machine *m, int fd, uint64_t offset)
{
	static const uint8_t zeros[VMM_PAGE];
	uint64_t size = m->layout.ram_size;
	for (uint64_t at = 0; at < size;) {
		uint64_t end = at;
		while (end < size && end - at < COPY_SIZE && memcmp(m->ram + end, zeros, VMM_PAGE))
			end += VMM_PAGE;
		int error = write_at(fd, m->ram + at, end - at, offset + at);
		if (error < 0)
			return error;
		at = end == at ? at + VMM_PAGE : end;
	}
	return ftruncate(fd, (off_t)(offset + size)) ? -errno : 0;
}

static int write_all(struct pc *pc, int fd, struct writer *w)
{
	struct wh_vmm_machine *m = pc->machine;
	uint8_t h[HEADER_SIZE] = MAGIC;
	uint64_t ram = wh_align_up(HEADER_SIZE + w->size, VMM_PAGE);
	wh_store_le32(h + H_VERSION, VERSION);
	wh_store_le32(h + H_CPUS, pc->vcpu_count);
	wh_store_le64(h + H_RAM_SIZE, m->layout.ram_size);
	wh_store_le64(h + H_RAM_OFFSET, ram);
	wh_store_le64(h + H_STATE_SIZE, w->size);
	wh_store_le64(h + H_SUM, sum_of(w->data, w->size));
	wh_store_le32(h + H_DEVICES, m->slot_count);
	int error = write_at(fd, w->data, w->size, HEADER_SIZE);
	if (error >= 0)
		error = write_ram(m, fd, ram);
	/* the header last: a file without one is none */
	return error < 0 ? error : write_at(fd, h, sizeof h, 0);
}

int pc_save(struct wh_vmm_machine *m, int fd, struct wh_diag *diag)
{
	struct pc *pc = pc_of(m);
	struct writer w = { .room = STATE_MAX };
	for (uint32_t i = 0; i < m->slot_count; i++)
		if (!m->slot[i].ops.save)
			return wh_diag_set(diag, -WH_EOPNOTSUPP, "device %u cannot be saved",
					   m->slot[i].virtio_id);
	w.data = malloc(STATE_MAX);
	if (!w.data)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a snapshot");
	int error = m->paused ? 0 : pause_vcpus(pc);
	for (uint32_t i = 0; !error && i < pc->vcpu_count; i++)
		error = save_vcpu(&pc->vcpu[i], &w);
	if (!error)
		error = save_board(pc, &w);
	if (!error && !w.room)
		error = -WH_E2BIG;
	if (!error)
		error = write_all(pc, fd, &w);
	if (!m->paused)
		resume_vcpus(pc);
	free(w.data);
	if (error)
		wh_diag_set(diag, error,
			    error == -WH_EBUSY
				    ? "a device has requests under way or files open (errno %d)"
				    : "cannot save the machine (errno %d)",
			    -error);
	return error;
}

bool wh_vmm_pc_is_snapshot(const char *path)
{
	char magic[8] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	bool result = fd >= 0 && read(fd, magic, 8) == 8 && !memcmp(magic, MAGIC, 8);
	wh_os_close(&fd);
	return result;
}

int pc_snapshot_open(const char *path, struct pc_snapshot *s, struct wh_diag *diag)
{
	uint8_t h[HEADER_SIZE];
	struct stat st;
	*s = (struct pc_snapshot){ .fd = open(path, O_RDONLY | O_CLOEXEC) };
	if (s->fd < 0)
		return wh_diag_set(diag, -errno, "snapshot %s: cannot open it (errno %d)", path,
				   errno);
	if (fstat(s->fd, &st) || pread(s->fd, h, sizeof h, 0) != sizeof h ||
	    memcmp(h, MAGIC, 8) != 0)
		return wh_diag_set(diag, -WH_ENOEXEC, "%s is no snapshot of a PC", path);
	if (wh_load_le32(h + H_VERSION) != VERSION)
		return wh_diag_set(diag, -WH_ENOEXEC,
				   "snapshot %s is of version %u; only %u is known", path,
				   wh_load_le32(h + H_VERSION), VERSION);
	s->cpus = wh_load_le32(h + H_CPUS);
	s->ram_size = wh_load_le64(h + H_RAM_SIZE);
	s->ram_offset = wh_load_le64(h + H_RAM_OFFSET);
	s->state_size = wh_load_le64(h + H_STATE_SIZE);
	s->devices = wh_load_le32(h + H_DEVICES);
	if (!s->cpus || s->cpus > WH_VMM_PC_CPUS_MAX || s->state_size > STATE_MAX ||
	    s->ram_size < WH_VMM_PC_MEMORY_MIN || s->ram_size > WH_VMM_PC_MEMORY_MAX ||
	    s->ram_size % VMM_PAGE || s->ram_offset % VMM_PAGE ||
	    s->ram_offset < HEADER_SIZE + s->state_size ||
	    !wh_range_inside(s->ram_offset, s->ram_size, (uint64_t)st.st_size))
		return wh_diag_set(diag, -WH_ENOEXEC, "snapshot %s is damaged or cut off", path);
	s->state = malloc(s->state_size + 1);
	if (!s->state)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a snapshot");
	if (pread(s->fd, s->state, s->state_size, HEADER_SIZE) != (ssize_t)s->state_size ||
	    sum_of(s->state, s->state_size) != wh_load_le64(h + H_SUM))
		return wh_diag_set(diag, -WH_ENOEXEC, "snapshot %s is damaged: wrong checksum",
				   path);
	return 0;
}

int pc_snapshot_map(const struct pc_snapshot *s, struct wh_vmm_machine *m, struct wh_diag *diag)
{
	void *p = mmap(NULL, s->ram_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
		       s->fd, (off_t)s->ram_offset);
	if (p == MAP_FAILED)
		return wh_diag_set(diag, -errno, "cannot map the snapshot's memory (errno %d)",
				   errno);
	m->ram = p;
	return 0;
}

void pc_snapshot_close(struct pc_snapshot *s)
{
	wh_os_close(&s->fd);
	free(s->state);
	s->state = NULL;
}
