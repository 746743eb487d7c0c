/* SPDX-License-Identifier: ISC */
/*
 * Machines: memory, layout, boot info, start, end. What both engines share.
 *
 * RAM is one memfd whose size is sealed, so that neither side can make the other fault by
 * shrinking it. From low to high (wherry/abi/boot.h):
 *
 *	[relro][data, .bss][heap ...][info control strings mounts shm devices][trap stack][guard][stack]
 *
 * The small structures share as few pages as they can, because each page touched costs
 * a fault on either side. All of RAM but the sealed pages and the guard is
 * given to devices as writable, the image's other pages as read-only.
 *
 * States: new (slots may be added) -> started (the engine owns the guest) -> ended
 * (nothing runs in RAM; exited() was called once). _free works in each.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <wherry/abi/observe.h>
#include <wherry/base/assert.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "engine.h"
#include "snapshot_wire.h"

#define MFD_EXEC_FLAG 0x10u         /* linux/memfd.h: proc execs it, see VMM_RAM_OFFSET */
#define TRAP_STACK_SIZE (32u << 10) /* an AVX-512 and AMX frame is 12 KiB */
#define STACK_SIZE_MIN (32u << 10)  /* the kernel runs on it, too */
#define INSPECT_LOOK_NS 100000
#define INSPECT_LOOKS 10000
#define HEAP_SIZE_MIN (64u << 10) /* below it no program gets to main */
#define HWCAP2_FSGSBASE_BIT 2u    /* asm/hwcap2.h */

/* Bytes of argv, envp; false when over the limit. */
static bool strings_size(const char *const *list, uint64_t *size, uint32_t *count)
{
	*count = 0;
	for (; list && *list; list++) {
		*size += wh_strlen(*list) + 1;
		(*count)++;
		if (*size > WH_BOOT_STRINGS_SIZE_MAX)
			return false;
	}
	return true;
}

/* Returns the end of what it wrote. */
static uint8_t *copy_strings(uint8_t *to, const char *const *list)
{
	for (; list && *list; list++) {
		size_t n = wh_strlen(*list) + 1;
		memcpy(to, *list, n);
		to += n;
	}
	return to;
}

/* Header, ring and text; costs addresses until it is used. */
static uint64_t observe_size(const struct wh_vmm_machine *m)
{
	return wh_align_up(sizeof(struct wh_observe) +
				   (uint64_t)m->observe_records * sizeof(struct wh_observe_record) +
				   WH_OBSERVE_TEXT_SIZE,
			   VMM_PAGE);
}

/* Places everything for `memory_size` bytes of RAM. */
static int lay_out(struct wh_vmm_machine *m, uint64_t memory_size, uint64_t strings,
		   uint32_t mounts, struct wh_diag *diag)
{
	const struct wh_vmm_image *image = m->image;
	struct vmm_layout *l = &m->layout;
	uint64_t stack = m->stack_size ? wh_align_up(m->stack_size, VMM_PAGE)
				       : wh_manifest_stack(image->manifest.stack_size, memory_size);
	uint64_t small;
	uint64_t data = wh_align_up(image->end, VMM_PAGE) - image->ram_start;

	l->ram_size = wh_align_down(memory_size, VMM_PAGE);
	l->ram_base = l->image_base + image->ram_start;
	small = wh_align_up(sizeof(struct wh_boot_info), 64) +
		wh_align_up(sizeof(struct wh_boot_control), 64) + wh_align_up(strings, 64) +
		wh_align_up(mounts * sizeof(struct wh_boot_mount), 64) +
		WH_BOOT_DEVICES_MAX * (VMM_SHM_STRIDE + sizeof(struct wh_boot_device));
	uint64_t fixed = data + wh_align_up(small, VMM_PAGE) + observe_size(m) + TRAP_STACK_SIZE +
			 VMM_PAGE + stack;
	if (l->ram_size < fixed + HEAP_SIZE_MIN || l->ram_size < image->manifest.memory_min) {
		uint64_t need = fixed + HEAP_SIZE_MIN;
		if (need < image->manifest.memory_min)
			need = image->manifest.memory_min;
		return wh_diag_set(diag, -WH_ENOMEM,
				   "too little memory: the image needs %llu KiB, it was given %llu",
				   (unsigned long long)(wh_align_up(need, 1024) >> 10),
				   (unsigned long long)(l->ram_size >> 10));
	}
	l->stack_top = l->ram_base + l->ram_size;
	l->stack_low = l->stack_top - stack;
	l->trap_stack_top = l->stack_low - VMM_PAGE;
	l->trap_stack_low = l->trap_stack_top - TRAP_STACK_SIZE;
	l->info = l->trap_stack_low - wh_align_up(small, VMM_PAGE);
	l->observe = l->info - observe_size(m);
	l->control = l->info + wh_align_up(sizeof(struct wh_boot_info), 64);
	l->strings = l->control + wh_align_up(sizeof(struct wh_boot_control), 64);
	l->mounts = l->strings + wh_align_up(strings, 64);
	l->shm = l->mounts + wh_align_up(mounts * sizeof(struct wh_boot_mount), 64);
	/* The device table follows the registers of the last device: vmm_slots_publish. */
	l->heap_start = l->ram_base + data;
	l->heap_end = l->observe;
	return 0;
}

int vmm_ram_open(struct wh_diag *diag)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create("wherry-guest", flags | MFD_EXEC_FLAG);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("wherry-guest", flags);
	if (fd < 0)
		return wh_diag_set(diag, -errno, "cannot make guest memory (errno %d)", errno);
	return fd;
}

int vmm_ram_map(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	uint64_t size = m->layout.ram_size;
	if (ftruncate(m->ram_fd, (off_t)(size + VMM_RAM_OFFSET)) ||
	    fcntl(m->ram_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return wh_diag_set(diag, -errno, "cannot make %llu MiB of guest memory (errno %d)",
				   (unsigned long long)(size >> 20), errno);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->ram_fd,
		       VMM_RAM_OFFSET);
	if (p == MAP_FAILED)
		return wh_diag_set(diag, -WH_ENOMEM,
				   "cannot map %llu MiB of guest memory: choose less with --memory",
				   (unsigned long long)(size >> 20));
	m->ram = p;
	return 0;
}

/* The host's view of the pages that are never written. */
static int map_text(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	const struct wh_vmm_image *image = m->image;
	uint64_t size = image->ram_start - image->start;
	if (!size)
		return 0;
	bool whole = image->piece_count > 0;
	for (uint32_t i = 1; i < image->piece_count; i++)
		whole &= image->piece[i].start - image->piece[i].offset ==
			 image->piece[0].start - image->piece[0].offset;
	void *p = whole ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, image->fd,
			       (off_t)image->piece[0].offset)
			: mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			       -1, 0);
	if (p == MAP_FAILED)
		return wh_diag_set(diag, -errno, "cannot map the image (errno %d)", errno);
	m->text = p;
	m->text_size = size;
	for (uint32_t i = 0; !whole && i < image->piece_count; i++) {
		const struct vmm_piece *piece = &image->piece[i];
		if (mmap(m->text + (piece->start - image->start), piece->size, PROT_READ,
			 MAP_PRIVATE | MAP_FIXED, image->fd, (off_t)piece->offset) == MAP_FAILED)
			return wh_diag_set(diag, -errno, "cannot map the image (errno %d)", errno);
	}
	return 0;
}

/* What devices may touch on the guest's behalf. */
static void describe_memory(struct wh_vmm_machine *m)
{
	const struct wh_vmm_image *image = m->image;
	const struct vmm_layout *l = &m->layout;
	uint64_t relro = image->relro_end - image->ram_start;
	wh_gaddr guard = l->stack_low - VMM_PAGE;
	int error = 0;
	if (m->text_size)
		error |= wh_gmem_add(&m->memory, l->image_base + image->start, m->text_size,
				     m->text, false);
	if (relro)
		error |= wh_gmem_add(&m->memory, l->ram_base, relro, m->ram, false);
	error |= wh_gmem_add(&m->memory, l->ram_base + relro, guard - l->ram_base - relro,
			     m->ram + relro, true);
	error |= wh_gmem_add(&m->memory, l->stack_low, l->stack_top - l->stack_low,
			     vmm_ram_at(m, l->stack_low), true);
	wh_assert(error == 0); /* our own layout */
}

static void fill_info(struct wh_vmm_machine *m, const struct wh_vmm_config *config)
{
	const struct vmm_layout *l = &m->layout;
	struct wh_boot_info *b = m->info;
	const char *name = config->name ? config->name : m->image->manifest.name;
	size_t n = wh_strlen(name);
	*b = (struct wh_boot_info){
		.magic = WH_BOOT_MAGIC,
		.version = WH_BOOT_VERSION,
		.size = sizeof *b,
		.engine = m->engine->boot_id,
		.flags = config->boot_flags,
		.image_base = l->image_base,
		.image_start = l->image_base + m->image->start,
		.image_end = l->image_base + m->image->end,
		.ram_base = l->ram_base,
		.ram_size = l->ram_size,
		.heap_start = l->heap_start,
		.heap_end = l->heap_end,
		.stack_low = l->stack_low,
		.stack_top = l->stack_top,
		.trap_stack_top = l->trap_stack_top,
		.control = l->control,
		.mounts = l->mounts,
		.strings = l->strings,
		.mount_count = config->mount_count,
		.doorbell_fd = -1,
		.tsc_hz = m->tsc_hz,
	};
	if (m->engine->relocate)
		b->flags |= WH_BOOT_RELOCATED;
	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT)
		b->flags |= WH_BOOT_FSGSBASE;
	if (config->net) {
		b->flags |= WH_BOOT_NET_STATIC;
		b->net = *config->net;
	}
	memcpy(b->hostname, name, n < sizeof b->hostname ? n : sizeof b->hostname - 1);
	if (config->mount_count)
		memcpy(vmm_ram_at(m, l->mounts), config->mounts,
		       config->mount_count * sizeof *config->mounts);
}

static void fill_observe(struct wh_vmm_machine *m)
{
	m->info->observe = m->layout.observe;
	m->observe = vmm_ram_at(m, m->layout.observe);
	m->observe->capacity = m->observe_records;
	m->observe->text_size = WH_OBSERVE_TEXT_SIZE;
	m->observe->flags = m->observe_flags;
}

static int check_config(const struct wh_vmm_config *config, struct wh_diag *diag)
{
	if (config->size != sizeof *config)
		return wh_diag_set(diag, -WH_EINVAL, "config of another version");
	if (config->mount_count > WH_BOOT_MOUNTS_MAX)
		return wh_diag_set(diag, -WH_E2BIG, "%u mounts; at most %u are possible",
				   config->mount_count, WH_BOOT_MOUNTS_MAX);
	if (config->stack_size &&
	    (config->stack_size < STACK_SIZE_MIN || config->stack_size > WH_MANIFEST_STACK_MAX))
		return wh_diag_set(diag, -WH_EINVAL, "a stack must have from %u KiB to %llu MiB",
				   STACK_SIZE_MIN >> 10, WH_MANIFEST_STACK_MAX >> 20);
	if (config->memory_size > WH_MANIFEST_MEMORY_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "more memory than %llu GiB is not supported",
				   WH_MANIFEST_MEMORY_MAX >> 30);
	return 0;
}

const struct vmm_engine_ops *vmm_engine_of(enum wh_vmm_engine wanted)
{
	if (wanted == WH_VMM_ENGINE_AUTO)
		wanted = vmm_kvm_is_native() ? WH_VMM_ENGINE_KVM : WH_VMM_ENGINE_PROC;
	return wanted == WH_VMM_ENGINE_KVM ? &vmm_engine_kvm : &vmm_engine_proc;
}

static int choose_engine(struct wh_vmm_machine *m, enum wh_vmm_engine wanted, struct wh_diag *diag)
{
	/* A spare settles it, and looking twice costs. */
	const struct vmm_engine_ops *engine = m->spare ? &vmm_engine_proc : vmm_engine_of(wanted);
	int error = engine->probe ? engine->probe(diag)
				  : wh_diag_set(diag, -WH_ENODEV, "the kvm engine is not built in");
	if (error < 0)
		return error;
	m->engine = engine;
	return 0;
}

static int build(struct wh_vmm_machine *m, const struct wh_vmm_config *config, struct wh_diag *diag)
{
	uint64_t strings = 0;
	uint32_t argc, envc;
	const char *const workdir[] = { config->workdir, NULL };
	uint32_t workdir_count;
	if (!strings_size(config->argv, &strings, &argc) ||
	    !strings_size(config->envp, &strings, &envc) ||
	    !strings_size(workdir, &strings, &workdir_count))
		return wh_diag_set(diag, -WH_E2BIG, "arguments and environment are over %u KiB",
				   WH_BOOT_STRINGS_SIZE_MAX >> 10);
	int error = choose_engine(m, config->engine, diag);
	if (error < 0)
		return error;
	error = m->engine->init(m, diag);
	if (error < 0)
		return error;
	if (m->ram_fd < 0)
		error = m->ram_fd = vmm_ram_open(diag);
	if (error < 0)
		return error;
	uint64_t size =
		config->memory_size ? config->memory_size : m->image->manifest.memory_default;
	if (!size)
		size = WH_MANIFEST_MEMORY_DEFAULT;
	error = lay_out(m, size, strings, config->mount_count, diag);
	if (error < 0)
		return error;
	error = vmm_ram_map(m, diag);
	if (error < 0)
		return error;
	error = map_text(m, diag);
	if (error < 0)
		return error;
	error = vmm_image_load(m->image, m->ram, m->layout.image_base, m->engine->relocate);
	if (error < 0)
		return wh_diag_set(diag, error, "the image changed while it was loaded");
	describe_memory(m);
	m->info = vmm_ram_at(m, m->layout.info);
	m->control = vmm_ram_at(m, m->layout.control);
	fill_info(m, config);
	if (m->image->manifest.flags & WH_MANIFEST_OBSERVED)
		fill_observe(m);
	uint8_t *to = vmm_ram_at(m, m->layout.strings);
	m->info->strings_size = (uint32_t)strings;
	m->info->argc = argc;
	m->info->envc = envc;
	to = copy_strings(to, config->argv);
	to = copy_strings(to, config->envp);
	if (config->workdir)
		m->info->workdir = m->layout.strings +
				   (uint64_t)(to - (uint8_t *)vmm_ram_at(m, m->layout.strings));
	copy_strings(to, workdir);
	return 0;
}

/* What build() does, from a file. */
static int build_copy(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	m->engine = &vmm_engine_proc; /* vmm_snapshot_open knows no other */
	int error = m->engine->init(m, diag);
	if (error < 0)
		return error;
	m->layout = vmm_snapshot_header(m->snapshot)->layout;
	error = vmm_ram_map(m, diag);
	if (error < 0)
		return error;
	error = map_text(m, diag);
	if (error < 0)
		return error;
	error = vmm_snapshot_load(m->snapshot, m->ram);
	if (error < 0)
		return wh_diag_set(diag, error, "the snapshot changed while it was read");
	describe_memory(m);
	m->info = vmm_ram_at(m, m->layout.info);
	m->control = vmm_ram_at(m, m->layout.control);
	m->control->signals = m->control->park = 0;
	m->control->generation++;
	memset(m->control->timeline, 0, sizeof m->control->timeline);
	return 0;
}

static int make(const struct wh_vmm_config *config, struct wh_vmm_image *image,
		struct wh_vmm_snapshot *snapshot, struct wh_loop *loop,
		struct wh_vmm_machine **ret_machine, struct wh_diag *diag)
{
	struct wh_vmm_machine *m = NULL;
	int error = check_config(config, diag);
	if (error >= 0 && image->fd < 0)
		error = wh_diag_set(diag, -WH_EINVAL, "an image in memory cannot be run");
	if (error >= 0 && !(m = calloc(1, sizeof *m)))
		error = wh_diag_set(diag, -WH_ENOMEM, "no memory for a machine");
	if (error < 0) {
		if (config->size == sizeof *config)
			wh_vmm_spare_free(config->spare);
		return error;
	}
	m->ram_fd = -1;
	m->image = image;
	m->snapshot = snapshot;
	m->loop = loop;
	m->log = config->log;
	m->exited = config->exited;
	m->thread_begins = config->thread_begins;
	m->serial = config->serial;
	m->ctx = config->ctx;
	m->sandbox = config->sandbox;
	m->observe_records = config->observe_records;
	m->observe_flags = config->observe_flags;
	m->stack_size = config->stack_size;
	m->spare = config->spare;
	error = snapshot ? build_copy(m, diag) : build(m, config, diag);
	if (error < 0) {
		wh_vmm_machine_free(m);
		return error;
	}
	*ret_machine = m;
	return 0;
}

int wh_vmm_machine_new(const struct wh_vmm_config *config, struct wh_vmm_image *image,
		       struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
		       struct wh_diag *diag)
{
	return make(config, image, NULL, loop, ret_machine, diag);
}

int wh_vmm_machine_restore(const struct wh_vmm_config *config, struct wh_vmm_snapshot *snapshot,
			   struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			   struct wh_diag *diag)
{
	return make(config, wh_vmm_snapshot_image(snapshot), snapshot, loop, ret_machine, diag);
}

bool wh_vmm_machine_restored(const struct wh_vmm_machine *m)
{
	return m->snapshot != NULL;
}

/* By system call: the first use of the vdso costs two page faults. */
static uint64_t clock_now(int clock)
{
	struct timespec t = { 0, 0 };
	syscall(SYS_clock_gettime, clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int wh_vmm_machine_start(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	wh_assert(!m->started);
	struct wh_boot_info *b = m->info;
	if (!m->snapshot)
		vmm_slots_publish(m);
	else if (m->slot_count != vmm_snapshot_header(m->snapshot)->slot_count)
		return wh_diag_set(diag, -WH_EINVAL, "the snapshot has %u devices, not %u",
				   vmm_snapshot_header(m->snapshot)->slot_count, m->slot_count);
	else
		vmm_slots_take_up(m);
	wh_os_random(b->entropy, sizeof b->entropy);
	b->tsc_at_realtime = __builtin_ia32_rdtsc();
	b->realtime_ns = clock_now(CLOCK_REALTIME);
	m->started_tsc = b->tsc_at_realtime;
	m->started_ns = clock_now(CLOCK_MONOTONIC);
	for (int i = WH_BOOT_STAGE_START; i <= WH_BOOT_STAGE_SPAWN; i++)
		m->control->timeline[i] = m->timeline[i];
	m->timeline[WH_BOOT_STAGE_SPAWN] = __builtin_ia32_rdtsc();
	int error = m->engine->start(m, diag);
	m->started = error >= 0;
	return error;
}

void wh_vmm_machine_signal(struct wh_vmm_machine *m, int signal)
{
	if (!m->started || m->ended || signal < 1 || signal > 31)
		return;
	if (m->engine->signal) {
		m->engine->signal(m, signal);
		return;
	}
	__atomic_fetch_or(&m->control->signals, 1u << (signal - 1), __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&m->control->host_events, 1, __ATOMIC_SEQ_CST);
	m->engine->wake(m);
}

void wh_vmm_machine_kill(struct wh_vmm_machine *m)
{
	if (m->started && !m->ended)
		m->engine->kill(m);
}

int wh_vmm_machine_pause(struct wh_vmm_machine *m, bool on, struct wh_diag *diag)
{
	if (!m->started || m->ended)
		return wh_diag_set(diag, -WH_EINVAL, "the guest is not running");
	if (!m->engine->pause)
		return wh_diag_set(diag, -WH_EOPNOTSUPP, "%s guests cannot be paused",
				   m->engine->name);
	if (m->paused == on)
		return 0;
	int error = m->engine->pause(m, on, diag);
	if (error >= 0)
		m->paused = on;
	return error;
}

bool wh_vmm_machine_paused(const struct wh_vmm_machine *m)
{
	return m->paused;
}

void wh_vmm_machine_free(struct wh_vmm_machine *m)
{
	if (!m)
		return;
	if (m->engine)
		m->engine->fini(m);
	wh_vmm_spare_free(m->spare);
	if (m->ram)
		munmap(m->ram, m->layout.ram_size);
	if (m->text)
		munmap(m->text, m->text_size);
	wh_os_close(&m->ram_fd);
	free(m);
}

const struct wh_gmem *wh_vmm_machine_memory(const struct wh_vmm_machine *m)
{
	return &m->memory;
}

uint64_t wh_vmm_machine_ram_size(const struct wh_vmm_machine *m)
{
	return m->layout.ram_size;
}

uint64_t wh_vmm_machine_touched(const struct wh_vmm_machine *m)
{
	struct stat st;
	return fstat(m->ram_fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

enum wh_vmm_engine wh_vmm_machine_engine(const struct wh_vmm_machine *m)
{
	return m->engine->id;
}

void wh_vmm_machine_mark(struct wh_vmm_machine *m, enum wh_boot_stage stage, uint64_t tsc)
{
	if ((unsigned)stage < WH_BOOT_STAGE_ENTRY)
		m->timeline[stage] = tsc;
}

const uint64_t *wh_vmm_machine_timeline(struct wh_vmm_machine *m, uint64_t *ret_tsc_hz)
{
	uint64_t ns = wh_os_now() - m->started_ns;
	uint64_t ticks = __builtin_ia32_rdtsc() - m->started_tsc;
	for (int i = WH_BOOT_STAGE_ENTRY; m->started && i < WH_BOOT_STAGE_COUNT; i++)
		m->timeline[i] = __atomic_load_n(&m->control->timeline[i], __ATOMIC_RELAXED);
	if (!m->tsc_hz && m->started && ns > 50000)
		m->tsc_hz = (uint64_t)((double)ticks * 1e9 / (double)ns);
	*ret_tsc_hz = m->tsc_hz;
	return m->timeline;
}

struct wh_observe *wh_vmm_machine_observe(struct wh_vmm_machine *m)
{
	return m->observe;
}

void wh_vmm_machine_observed(struct wh_vmm_machine *m)
{
	if (!m->started || m->ended)
		return;
	__atomic_fetch_add(&m->control->host_events, 1, __ATOMIC_SEQ_CST);
	m->engine->wake(m);
}

uint64_t wh_vmm_machine_image_base(const struct wh_vmm_machine *m)
{
	return m->layout.image_base;
}

/* The guest cannot wake us but through the loop, where we are: looks now and then. */
int wh_vmm_machine_inspect(struct wh_vmm_machine *m, char *to, size_t size)
{
	struct wh_observe *o = m->observe;
	const struct timespec moment = { 0, INSPECT_LOOK_NS };
	if (!o || !m->started || m->ended || m->paused)
		return -WH_EINVAL;
	uint32_t asked = __atomic_add_fetch(&o->asked, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&m->control->host_events, 1, __ATOMIC_SEQ_CST);
	m->engine->wake(m);
	for (int i = 0; __atomic_load_n(&o->answered, __ATOMIC_ACQUIRE) != asked; i++) {
		if (i == INSPECT_LOOKS)
			return -WH_EAGAIN;
		nanosleep(&moment, NULL);
	}
	size_t n = __atomic_load_n(&o->text_length, __ATOMIC_RELAXED);
	if (n > WH_OBSERVE_TEXT_SIZE)
		n = WH_OBSERVE_TEXT_SIZE;
	if (n >= size)
		n = size - 1;
	const char *from =
		(const char *)(o + 1) + m->observe_records * sizeof(struct wh_observe_record);
	memcpy(to, from, n);
	for (size_t i = 0; i < n; i++)
		if (to[i] != '\n' && (to[i] < ' ' || to[i] > '~'))
			to[i] = '?';
	to[n] = '\0';
	return (int)n;
}

/* One copy of what the guest wrote about its end, made harmless. */
static void decode_exit(const struct wh_vmm_machine *m, int host_signal, struct wh_vmm_exit *how)
{
	struct wh_boot_control c;
	memcpy(&c, (const void *)m->control, sizeof c);
	*how = (struct wh_vmm_exit){ .image_base = m->layout.image_base };
	how->host_signal = host_signal;
	how->kind = c.exit_kind <= WH_BOOT_EXIT_PANIC ? (enum wh_boot_exit)c.exit_kind
						      : WH_BOOT_EXIT_NONE;
	if (host_signal) /* killed: what it may have written before says nothing */
		how->kind = WH_BOOT_EXIT_NONE;
	how->value = c.exit_value;
	if (how->kind == WH_BOOT_EXIT_STATUS)
		how->value &= 255;
	if (how->kind == WH_BOOT_EXIT_SIGNAL && (c.exit_value < 1 || c.exit_value > 64))
		how->kind = WH_BOOT_EXIT_NONE;
	how->fault_vector = c.fault_vector;
	how->fault_address = c.fault_address;
	how->fault_rip = c.fault_rip;
	how->fault_error = c.fault_error;
	how->backtrace_count = c.backtrace_count <= 16 ? c.backtrace_count : 16;
	memcpy(how->backtrace, c.backtrace, sizeof how->backtrace);
	const char *text = m->failure[0] ? m->failure : c.message;
	for (size_t i = 0; i + 1 < sizeof how->message && text[i]; i++)
		how->message[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
}

void vmm_machine_ended(struct wh_vmm_machine *m, int host_signal)
{
	struct wh_vmm_exit how;
	wh_assert(m->started && !m->ended);
	m->ended = true;
	decode_exit(m, host_signal, &how);
	for (uint32_t i = 0; i < m->slot_count; i++)
		if (m->slot[i].ops.drain)
			m->slot[i].ops.drain(m->slot[i].ctx);
	if (m->exited)
		m->exited(m->ctx, m, &how);
}
