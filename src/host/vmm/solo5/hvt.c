/* SPDX-License-Identifier: ISC */
/*
 * The engine for Solo5's hvt guests: one vCPU in 64-bit mode with its first pages mapped by us, no interrupt controller, and
 * eight calls by writes to ports 0x500+n with the address of an argument struct in EAX (include/hvt_abi.h). The
 * network ring is not offered.
 *
 * Threads: the vCPU's thread puts the call into a mailbox and waits; the loop's thread answers, a poll later: when a frame comes or
 * its time is over. Ranges are checked against guest memory by wh_gmem_at, read-only pages included.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "solo5_priv.h"

#define STOP_SIGNAL SIGUSR1
#define STACK_SIZE (64u << 10)
#define KERNEL_SIGSET_SIZE 8u
#define CPUID_MAX 128u
#define PORT_CALL 0x500u

/* Where things lie in the guest (tenders/hvt/hvt_cpu_x86_64.h). */
#define AT_GDT 0x1000u
#define AT_PML4 0x2000u
#define AT_PDPT 0x3000u
#define AT_PD 0x4000u
#define AT_PT 0x8000u
#define AT_INFO 0x10000u
#define INFO_SIZE 64u

enum {
	CALL_WALLTIME = 1,
	CALL_PUTS,
	CALL_POLL,
	CALL_BLOCK_WRITE,
	CALL_BLOCK_READ,
	CALL_NET_WRITE,
	CALL_NET_READ,
	CALL_HALT
};
enum { RESULT_OK, RESULT_AGAIN, RESULT_EINVAL, RESULT_EUNSPEC };
enum end { END_NONE, END_HALT, END_KILLED, END_FAULT, END_ERROR };
enum mail_state { MAIL_NONE, MAIL_ASKED, MAIL_ANSWERED };

struct hvt {
	struct wh_vmm_machine *machine;
	struct wh_vmm_solo5 *solo5;
	struct wh_vmm_solo5_ops ops;
	void *ops_ctx;
	int dev, vm, vcpu, event;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	bool thread_started, watching, stop, done;
	struct wh_loop_fd watch;
	uint32_t state; /* mailbox: futex word */
	uint32_t call;
	uint64_t address;
	bool polling;
	uint64_t poll_address;
	struct wh_loop_timer timer;
	uint32_t end; /* enum end */
	int status;
	uint64_t fault_address, fault_rip;
	struct wh_boot_info info;
	struct wh_boot_control control;
};

static struct hvt *hvt_of(const struct wh_vmm_machine *m)
{
	return m->engine_state;
}

/* ---- the vCPU's thread ---- */

static void tell_loop(struct hvt *h)
{
	uint64_t one = 1;
	(void)!write(h->event, &one, sizeof one); /* full means it is awake */
}

static void ask(struct hvt *h)
{
	__atomic_store_n(&h->state, MAIL_ASKED, __ATOMIC_SEQ_CST);
	tell_loop(h);
	while (__atomic_load_n(&h->state, __ATOMIC_ACQUIRE) == MAIL_ASKED &&
	       !__atomic_load_n(&h->stop, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &h->state, FUTEX_WAIT_PRIVATE, MAIL_ASKED, NULL, NULL, 0);
}

static void fault(struct hvt *h, uint64_t address)
{
	struct kvm_regs r = { 0 };
	(void)ioctl(h->vcpu, KVM_GET_REGS, &r); /* zeros then */
	h->fault_address = address;
	h->fault_rip = r.rip;
	h->end = END_FAULT;
}

static void fails(struct hvt *h, const char *what, uint64_t detail)
{
	wh_format(h->machine->failure, sizeof h->machine->failure, "%s %llu", what,
		  (unsigned long long)detail);
	h->end = END_ERROR;
}

static void handle_exit(struct hvt *h)
{
	const struct kvm_run *run = h->run;
	switch (run->exit_reason) {
	case KVM_EXIT_IO: {
		uint32_t value = 0;
		if (run->io.direction != KVM_EXIT_IO_OUT || run->io.size != 4 ||
		    run->io.count != 1 || run->io.port - PORT_CALL > CALL_HALT) {
			fails(h, "the guest used port", run->io.port);
			break;
		}
		memcpy(&value, (const uint8_t *)run + run->io.data_offset, 4);
		h->call = run->io.port - PORT_CALL;
		h->address = value;
		ask(h);
		break;
	}
	case KVM_EXIT_MMIO: /* outside memory, or a write to read-only pages */
		fault(h, run->mmio.phys_addr);
		break;
	case KVM_EXIT_SHUTDOWN:
		fault(h, 0);
		break;
	case KVM_EXIT_INTR:
		break;
	default:
		fails(h, "kvm gave up: exit reason", run->exit_reason);
	}
}

static void *vcpu_main(void *ctx)
{
	struct hvt *h = ctx;
	vmm_thread_begins(h->machine);
	while (!h->end && !__atomic_load_n(&h->stop, __ATOMIC_ACQUIRE)) {
		if (ioctl(h->vcpu, KVM_RUN, 0) >= 0)
			handle_exit(h);
		else if (errno == EFAULT)
			fault(h, 0);
		else if (errno != EINTR && errno != EAGAIN)
			fails(h, "kvm gave up: errno", (uint64_t)errno);
	}
	__atomic_store_n(&h->state, MAIL_NONE, __ATOMIC_SEQ_CST);
	__atomic_store_n(&h->done, true, __ATOMIC_SEQ_CST); /* end is the loop's from now on */
	tell_loop(h);
	return NULL;
}

/* ---- calls, in the loop ---- */

static void answer(struct hvt *h)
{
	__atomic_store_n(&h->state, MAIL_ANSWERED, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &h->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void poll_answer(struct hvt *h)
{
	uint64_t ready = h->ops.net_ready(h->ops_ctx);
	uint8_t *a = wh_gmem_at(&h->machine->memory, h->poll_address, 20, true);
	h->polling = false;
	wh_loop_timer_stop(h->machine->loop, &h->timer);
	wh_assert(a); /* was checked */
	wh_store_le64(a + 8, ready);
	wh_store_le32(a + 16, (uint32_t)__builtin_popcountll(ready));
	answer(h);
}

static void time_over(struct wh_loop_timer *timer)
{
	struct hvt *h = timer->ctx;
	if (h->polling)
		poll_answer(h);
}

void solo5_hvt_ready(struct wh_vmm_machine *machine)
{
	struct hvt *h = hvt_of(machine);
	if (h->polling)
		poll_answer(h);
}

static uint32_t result_of(int r)
{
	return r >= 0            ? RESULT_OK
	       : r == -WH_EAGAIN ? RESULT_AGAIN
	       : r == -WH_EINVAL ? RESULT_EINVAL
				 : RESULT_EUNSPEC;
}

static const struct wh_vmm_solo5_device *device_of(struct hvt *h, uint64_t handle,
						   enum wh_vmm_solo5_kind kind)
{
	const struct wh_vmm_solo5_device *d =
		handle < 256 ? wh_vmm_solo5_device(h->solo5, (uint32_t)handle) : NULL;
	return d && d->kind == kind ? d : NULL;
}

/* false = an argument that points outside: the guest ends. */
static bool block_call(struct hvt *h, uint8_t *a, bool write)
{
	uint64_t handle = wh_load_le64(a), offset = wh_load_le64(a + 8),
		 size = wh_load_le64(a + 24);
	const struct wh_vmm_solo5_device *d = device_of(h, handle, WH_VMM_SOLO5_BLOCK);
	void *data = wh_gmem_at(&h->machine->memory, wh_load_le64(a + 16), size, !write);
	int r = -WH_EINVAL;
	if (!data)
		return false;
	if (d && solo5_block_range(d, offset, size))
		r = h->ops.block(h->ops_ctx, (uint32_t)handle, write, offset, data, size);
	wh_store_le32(a + 32, result_of(r));
	return true;
}

static bool net_call(struct hvt *h, uint8_t *a, bool write)
{
	uint64_t handle = wh_load_le64(a), size = wh_load_le64(a + 16);
	void *data = wh_gmem_at(&h->machine->memory, wh_load_le64(a + 8), size, !write);
	int r = -WH_EINVAL;
	if (!data)
		return false;
	if (device_of(h, handle, WH_VMM_SOLO5_NET))
		r = write ? h->ops.net_write(h->ops_ctx, (uint32_t)handle, data, size)
			  : h->ops.net_read(h->ops_ctx, (uint32_t)handle, data, size);
	if (!write && r >= 0)
		wh_store_le64(a + 16, (uint64_t)r);
	wh_store_le32(a + 24, result_of(r));
	return true;
}

static bool poll_call(struct hvt *h, uint8_t *a)
{
	uint64_t timeout = wh_load_le64(a);
	h->polling = true;
	h->poll_address = h->address;
	if (!timeout || h->ops.net_ready(h->ops_ctx)) {
		poll_answer(h);
		return true;
	}
	uint64_t deadline = wh_os_now() + (timeout > (1ull << 62) ? 1ull << 62 : timeout);
	wh_loop_timer_start(h->machine->loop, &h->timer, deadline);
	return true;
}

/* true = it was answered, or will be. */
static bool carry_out(struct hvt *h)
{
	static const uint8_t sizes[] = { 0, 8, 16, 20, 36, 36, 28, 28, 12 };
	uint8_t *a = h->call && h->call <= CALL_HALT
			     ? wh_gmem_at(&h->machine->memory, h->address, sizes[h->call], true)
			     : NULL;
	bool good = a != NULL;
	if (!a)
		return false;
	switch (h->call) {
	case CALL_WALLTIME:
		wh_store_le64(a, wh_os_wall_clock());
		break;
	case CALL_PUTS: {
		uint64_t size = wh_load_le64(a + 8);
		const char *text = wh_gmem_at(&h->machine->memory, wh_load_le64(a), size, false);
		if (text)
			h->ops.puts(h->ops_ctx, text, size);
		good = text || !size;
		break;
	}
	case CALL_POLL:
		return poll_call(h, a);
	case CALL_BLOCK_WRITE:
	case CALL_BLOCK_READ:
		good = block_call(h, a, h->call == CALL_BLOCK_WRITE);
		break;
	case CALL_NET_WRITE:
	case CALL_NET_READ:
		good = net_call(h, a, h->call == CALL_NET_WRITE);
		break;
	case CALL_HALT:
		h->status = (int)(wh_load_le32(a + 8) & 255);
		h->end = END_HALT;
		break;
	}
	if (good)
		answer(h);
	return good;
}

static void stop_watching(struct hvt *h)
{
	if (h->watching)
		wh_loop_remove(h->machine->loop, &h->watch);
	h->watching = false;
	wh_loop_timer_stop(h->machine->loop, &h->timer);
}

static void stop_vcpu(struct hvt *h)
{
	if (!h->thread_started)
		return;
	__atomic_store_n(&h->stop, true, __ATOMIC_SEQ_CST);
	answer(h);
	pthread_kill(h->thread, STOP_SIGNAL);
	pthread_join(h->thread, NULL);
	h->thread_started = false;
}

static void finish(struct hvt *h)
{
	struct wh_vmm_machine *m = h->machine;
	struct wh_boot_control *c = m->control;
	static const char text[] = "access outside its memory, or write to its text";
	stop_vcpu(h);
	stop_watching(h);
	if (h->end == END_HALT) {
		c->exit_kind = WH_BOOT_EXIT_STATUS;
		c->exit_value = h->status;
	} else if (h->end == END_FAULT) {
		c->exit_kind = WH_BOOT_EXIT_FAULT;
		c->exit_value = SIGSEGV;
		c->fault_vector = 14;
		c->fault_address = h->fault_address;
		c->fault_rip = h->fault_rip;
		memcpy(c->message, text, sizeof text);
	}
	vmm_machine_ended(m, h->end == END_KILLED || !h->end ? SIGKILL : 0);
}

static void vcpu_said(struct wh_loop_fd *watch, uint32_t events)
{
	struct hvt *h = watch->ctx;
	uint64_t count;
	(void)!read(h->event, &count, sizeof count);
	uint32_t state = __atomic_load_n(&h->state, __ATOMIC_ACQUIRE);
	if (state == MAIL_ASKED && !h->polling && !carry_out(h)) {
		fails(h, "the guest passed an address outside its memory to call", h->call);
		finish(h);
	} else if (__atomic_load_n(&h->done, __ATOMIC_ACQUIRE)) {
		finish(h);
	}
}

/* ---- making it ---- */

static int make_vm(struct hvt *h, struct wh_diag *diag)
{
	h->dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (h->dev < 0)
		return wh_diag_set(
			diag, -errno,
			"an hvt binary needs /dev/kvm, which cannot be opened (errno %d)", errno);
	do
		h->vm = ioctl(h->dev, KVM_CREATE_VM, 0);
	while (h->vm < 0 && errno == EINTR);
	if (h->vm < 0)
		return wh_diag_set(diag, -errno, "kvm: cannot make a machine (errno %d)", errno);
	return 0;
}

/* Device accesses to pages that the guest may not write are refused, too. */
static int map_memory(struct hvt *h, struct wh_diag *diag)
{
	struct wh_vmm_machine *m = h->machine;
	uint64_t size = m->layout.ram_size, fixed = h->solo5->fixed, fixed_end = fixed;
	if (h->solo5->fixed_size)
		fixed_end += h->solo5->fixed_size;
	else
		fixed = fixed_end = SOLO5_MIN_ADDRESS;
	const struct {
		uint64_t start, end;
		bool writable;
	} parts[] = { { 0, AT_INFO, false },
		      { AT_INFO, fixed, true },
		      { fixed, fixed_end, false },
		      { fixed_end, size, true } };
	uint32_t slot = 0;
	for (size_t i = 0; i < WH_ARRAY_COUNT(parts); i++) {
		struct kvm_userspace_memory_region r = {
			.slot = slot,
			.flags = i == 2 ? KVM_MEM_READONLY : 0,
			.guest_phys_addr = parts[i].start,
			.memory_size = parts[i].end - parts[i].start,
			.userspace_addr = (uint64_t)(uintptr_t)(m->ram + parts[i].start)
		};
		if (!r.memory_size)
			continue;
		slot++;
		if (i) /* the first pages are nobody's business but the processor's */
			wh_assert(wh_gmem_add(&m->memory, r.guest_phys_addr, r.memory_size,
					      m->ram + parts[i].start, parts[i].writable) == 0);
		if (ioctl(h->vm, KVM_SET_USER_MEMORY_REGION, &r))
			return wh_diag_set(diag, -errno, "kvm: cannot map guest memory (errno %d)",
					   errno);
	}
	return 0;
}

static void write_tables(uint8_t *ram, uint64_t size)
{
	wh_store_le64(ram + AT_GDT + 8, 0x00af9b000000ffffull);
	wh_store_le64(ram + AT_GDT + 16, 0x00cf93000000ffffull);
	wh_store_le64(ram + AT_PML4, AT_PDPT | 3);
	for (uint64_t i = 0; i < 4; i++)
		wh_store_le64(ram + AT_PDPT + 8 * i, (AT_PD + i * VMM_PAGE) | 3);
	for (uint64_t i = 1; i < size / SOLO5_PAGE_2M; i++)
		wh_store_le64(ram + AT_PD + 8 * i, i << 21 | 0x83);
	wh_store_le64(ram + AT_PD, AT_PT | 3);
	for (uint64_t page = AT_INFO / VMM_PAGE; page < 512; page++)
		wh_store_le64(ram + AT_PT + 8 * page,
			      page << 12 | (page << 12 < SOLO5_MIN_ADDRESS ? 1 : 3));
}

static void write_info(struct hvt *h, const char *command_line, uint64_t hz)
{
	uint8_t *info = h->machine->ram + AT_INFO;
	uint32_t manifest = AT_INFO + INFO_SIZE;
	uint32_t line = (uint32_t)wh_align_up(manifest + h->solo5->manifest_size, 8);
	wh_store_le64(info, h->machine->layout.ram_size);
	wh_store_le64(info + 8, h->solo5->end);
	wh_store_le64(info + 16, hz);
	wh_store_le64(info + 24, line);
	wh_store_le64(info + 32, manifest);
	solo5_manifest_fill(h->solo5);
	memcpy(h->machine->ram + manifest, h->solo5->manifest, h->solo5->manifest_size);
	memcpy(h->machine->ram + line, command_line, wh_strlen(command_line) + 1);
}

static int set_registers(struct hvt *h, struct wh_diag *diag)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = h->solo5->elf.entry,
			      .rsp = h->machine->layout.ram_size - 8,
			      .rdi = AT_INFO,
			      .rflags = 2 };
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 9, .present = 1, .s = 1, .l = 1, .g = 1
	};
	struct kvm_segment data = { .limit = 0xffffffff,
				    .selector = 16,
				    .type = 3,
				    .present = 1,
				    .s = 1,
				    .db = 1,
				    .g = 1 };
	if (ioctl(h->vcpu, KVM_GET_SREGS, &s))
		return wh_diag_set(diag, -errno,
				   "kvm: cannot read the processor's state (errno %d)", errno);
	s.cs = code;
	s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.tr = (struct kvm_segment){ .limit = 0x67, .type = 11, .present = 1 };
	s.gdt.base = AT_GDT;
	s.gdt.limit = 23;
	s.cr0 = 0x80010021;
	s.cr3 = AT_PML4;
	s.cr4 = 0x620;
	s.efer = 0x500;
	if (ioctl(h->vcpu, KVM_SET_SREGS, &s) || ioctl(h->vcpu, KVM_SET_REGS, &r))
		return wh_diag_set(diag, -errno, "kvm: cannot set the processor's state (errno %d)",
				   errno);
	return 0;
}

static int make_vcpu(struct hvt *h, struct wh_diag *diag)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[CPUID_MAX];
	} c = { .head.nent = CPUID_MAX };
	struct {
		struct kvm_signal_mask head;
		uint64_t bits;
	} __attribute__((packed))
	mask = { .head.len = KERNEL_SIGSET_SIZE, .bits = ~(1ull << (STOP_SIGNAL - 1)) };
	h->vcpu = ioctl(h->vm, KVM_CREATE_VCPU, 0);
	int size = ioctl(h->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run = h->vcpu < 0 || size < 0 ? MAP_FAILED
					    : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE,
						   MAP_SHARED, h->vcpu, 0);
	if (run == MAP_FAILED)
		return wh_diag_set(diag, -errno, "kvm: cannot make a processor (errno %d)", errno);
	h->run = run;
	h->run_size = (size_t)size;
	if (ioctl(h->dev, KVM_GET_SUPPORTED_CPUID, &c) || ioctl(h->vcpu, KVM_SET_CPUID2, &c) ||
	    ioctl(h->vcpu, KVM_SET_SIGNAL_MASK, &mask))
		return wh_diag_set(diag, -errno, "kvm: cannot set up the processor (errno %d)",
				   errno);
	return 0;
}

static int hvt_start(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	struct hvt *h = hvt_of(m);
	pthread_attr_t attributes;
	sigset_t all, before;
	h->watch = (struct wh_loop_fd){
		.fd = h->event, .events = WH_LOOP_READ, .fn = vcpu_said, .ctx = h
	};
	int error = wh_loop_add(m->loop, &h->watch);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot watch the guest (errno %d)", -error);
	h->watching = true;
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&h->thread, &attributes, vcpu_main, h);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error) {
		stop_watching(h);
		return wh_diag_set(diag, -error, "cannot start the processor's thread (errno %d)",
				   error);
	}
	h->thread_started = true;
	return 0;
}

static void hvt_kill(struct wh_vmm_machine *m)
{
	struct hvt *h = hvt_of(m);
	stop_vcpu(h);
	h->end = END_KILLED;
	tell_loop(h);
}

static void hvt_signal(struct wh_vmm_machine *m, int signal)
{
	hvt_kill(m);
}

static void hvt_fini(struct wh_vmm_machine *m)
{
	struct hvt *h = hvt_of(m);
	if (!h)
		return;
	stop_vcpu(h);
	stop_watching(h);
	if (h->run)
		munmap(h->run, h->run_size);
	wh_os_close(&h->vcpu);
	wh_os_close(&h->vm);
	wh_os_close(&h->dev);
	wh_os_close(&h->event);
	free(h);
	m->engine_state = NULL;
}

const struct vmm_engine_ops solo5_engine_hvt = {
	.name = "kvm",
	.id = WH_VMM_ENGINE_KVM,
	.boot_id = WH_BOOT_ENGINE_KVM,
	.transport = WH_BOOT_TRANSPORT_PCI, /* no slots are added */
	.memory_max = WH_VMM_SOLO5_MEMORY_MAX,
	.start = hvt_start,
	.kill = hvt_kill,
	.fini = hvt_fini,
	.signal = hvt_signal,
};

int solo5_hvt_build(struct wh_vmm_machine *m, const struct wh_vmm_solo5_config *config,
		    struct wh_vmm_solo5 *solo5, struct wh_diag *diag)
{
	struct hvt *h = calloc(1, sizeof *h);
	const char *line = config->command_line ? config->command_line : "";
	if (!h)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a machine");
	m->engine_state = h;
	m->info = &h->info;
	m->control = &h->control;
	h->machine = m;
	h->solo5 = solo5;
	h->ops = *config->ops;
	h->ops_ctx = config->ops_ctx;
	h->dev = h->vm = h->vcpu = -1;
	wh_loop_timer_init(&h->timer, time_over, h);
	h->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (h->event < 0)
		return wh_diag_set(diag, -errno, "no descriptor for events (errno %d)", errno);
	if (m->layout.ram_size < wh_align_up(solo5->end, SOLO5_PAGE_2M))
		return wh_diag_set(
			diag, -WH_ENOMEM,
			"too little memory: it needs %llu MiB; say more with --memory",
			(unsigned long long)(wh_align_up(solo5->end, SOLO5_PAGE_2M) >> 20));
	int error = m->ram_fd = vmm_ram_open(diag);
	if (error >= 0)
		error = vmm_ram_map(m, diag);
	if (error >= 0)
		error = solo5_load(solo5, m->ram, diag);
	if (error >= 0)
		error = make_vm(h, diag);
	if (error >= 0)
		error = map_memory(h, diag);
	if (error >= 0)
		error = make_vcpu(h, diag);
	if (error < 0)
		return error;
	int khz = ioctl(h->vcpu, KVM_GET_TSC_KHZ);
	write_tables(m->ram, m->layout.ram_size);
	write_info(h, line, khz > 0 ? (uint64_t)khz * 1000 : 1000000000u);
	return set_registers(h, diag);
}
