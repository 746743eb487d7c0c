/* SPDX-License-Identifier: ISC */
/*
 * The vCPU and its thread: it enters the guest, decodes exits, and hands what a device must see to
 * the loop's thread. It touches nothing of the machine but the mailbox and its own end.
 *
 * The thread blocks all signals; KVM_RUN alone lets STOP_SIGNAL end it (KVM_SET_SIGNAL_MASK), so no
 * handler is needed and the signal is never delivered.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/abi/vm.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#include "kvm_priv.h"

#define MSR_IA32_TSC 0x10u
#define SPIN_COUNT 4000u /* pauses; some 50 us, what a wake-up costs */
#define PORT_STATUS (WH_VM_SERIAL_PORT + 5)
#define STATUS_EMPTY 0x60u /* transmitter can take a byte */
#define VECTOR_DOUBLE_FAULT 8u
#define VECTOR_PAGE_FAULT 14u
#define KERNEL_SIGSET_SIZE 8u

static int set_cpuid(struct kvm *k, uint32_t tsc_khz)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[KVM_CPUID_MAX];
	} c = { 0 };
	c.head.nent = kvm_cpuid_make(&kvm_cpuid_host, tsc_khz, c.entry);
	wh_assert(c.head.nent <= KVM_CPUID_MAX);
	return ioctl(k->vcpu, KVM_SET_CPUID2, &c);
}

/* Guest and host share one time-stamp counter: stamps and boot times compare. */
static void set_tsc(struct kvm *k)
{
	uint64_t offset = 0;
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
					.attr = KVM_VCPU_TSC_OFFSET,
					.addr = (uint64_t)(uintptr_t)&offset };
	if (ioctl(k->vcpu, KVM_SET_DEVICE_ATTR, &attr) == 0)
		return;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1,
		.entry = { .index = MSR_IA32_TSC, .data = __builtin_ia32_rdtsc() } };
	(void)ioctl(k->vcpu, KVM_SET_MSRS, &m); /* older kernels: nearly the same */
}

/* Single steps on or off; kvm forgets them when it emulates an instruction, so on is said at every exit. */
static int step(struct kvm *k, bool on)
{
	struct kvm_guest_debug debug = {
		.control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0,
	};
	return ioctl(k->vcpu, KVM_SET_GUEST_DEBUG, &debug);
}

int kvm_vcpu_prepare(struct kvm *k, struct wh_diag *diag)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = k->entry, .rbx = KVM_START_INFO, .rflags = 2 };
	int khz = ioctl(k->vcpu, KVM_GET_TSC_KHZ);
	if (khz > 0)
		k->machine->info->tsc_hz = k->machine->tsc_hz = (uint64_t)khz * 1000;
	if (set_cpuid(k, khz > 0 ? (uint32_t)khz : 0) || ioctl(k->vcpu, KVM_GET_SREGS, &s))
		return wh_diag_set(diag, -errno, "kvm: cannot set up the processor (errno %d)",
				   errno);
	set_tsc(k);
	struct kvm_segment flat = { .limit = 0xffffffff, .present = 1, .s = 1, .db = 1, .g = 1 };
	s.cs = s.ds = s.es = s.ss = s.fs = s.gs = flat;
	s.cs.type = 11;
	s.cs.selector = 8;
	s.ds.type = s.es.type = s.ss.type = s.fs.type = s.gs.type = 3;
	s.ds.selector = s.es.selector = s.ss.selector = 16;
	s.tr = (struct kvm_segment){ .limit = 0x67, .type = 11, .present = 1 };
	s.cr0 = 0x11; /* PE, ET */
	s.cr4 = s.efer = 0;
	if (ioctl(k->vcpu, KVM_SET_SREGS, &s) || ioctl(k->vcpu, KVM_SET_REGS, &r))
		return wh_diag_set(diag, -errno, "kvm: cannot set the processor's state (errno %d)",
				   errno);
	struct {
		struct kvm_signal_mask head;
		uint64_t bits;
	} __attribute__((packed))
	mask = { .head.len = KERNEL_SIGSET_SIZE, .bits = ~(1ull << (KVM_STOP_SIGNAL - 1)) };
	if (ioctl(k->vcpu, KVM_SET_SIGNAL_MASK, &mask))
		return wh_diag_set(diag, -errno, "kvm: no signal mask (errno %d)", errno);
	if (k->count_steps && step(k, true))
		return wh_diag_set(diag, -errno, "kvm: no single steps (errno %d)", errno);
	return 0;
}

static void notify_loop(struct kvm *k)
{
	uint64_t one = 1;
	(void)!write(k->event, &one, sizeof one); /* full means it is awake */
}

bool kvm_ask(struct kvm *k)
{
	uint32_t *state = &k->mail.state, asked = KVM_MAIL_ASKED;
	__atomic_store_n(state, KVM_MAIL_ASKED, __ATOMIC_SEQ_CST);
	/* Whoever ends the machine sets stop, then answers: one of us sees the other. */
	if (__atomic_load_n(&k->stop, __ATOMIC_SEQ_CST))
		return false;
	if (__atomic_load_n(&k->loop_sleeping, __ATOMIC_SEQ_CST))
		notify_loop(k);
	for (uint32_t i = 0; k->spin && i < SPIN_COUNT; i++) {
		if (__atomic_load_n(state, __ATOMIC_ACQUIRE) == KVM_MAIL_ANSWERED)
			break;
		__builtin_ia32_pause();
	}
	if (__atomic_compare_exchange_n(state, &asked, KVM_MAIL_ASKED_ASLEEP, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		while (__atomic_load_n(state, __ATOMIC_ACQUIRE) == KVM_MAIL_ASKED_ASLEEP)
			syscall(SYS_futex, state, FUTEX_WAIT_PRIVATE, KVM_MAIL_ASKED_ASLEEP, NULL,
				NULL, 0);
	return !__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE);
}

static void flush_text(struct kvm *k)
{
	if (!k->text_size)
		return;
	k->mail.kind = KVM_MAIL_SERIAL;
	k->mail.size = k->text_size;
	memcpy(k->mail.text, k->text, k->text_size);
	k->text_size = 0;
	(void)kvm_ask(k);
}

static void stop_with_fault(struct kvm *k, uint32_t vector, uint64_t address)
{
	struct kvm_regs r = { 0 };
	(void)ioctl(k->vcpu, KVM_GET_REGS, &r); /* zeros then */
	k->end = KVM_END_FAULT;
	k->fault_vector = vector;
	k->fault_address = address;
	k->fault_rip = r.rip;
	k->fault_rsp = r.rsp;
	k->fault_rbp = r.rbp;
}

static void port_access(struct kvm *k)
{
	struct kvm_run *run = k->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	uint64_t size = (uint64_t)run->io.size * run->io.count;
	if (run->io.direction == KVM_EXIT_IO_IN) {
		memset(data, run->io.port == PORT_STATUS ? STATUS_EMPTY : 0xff, size);
		return;
	}
	if (run->io.port == WH_VM_EXIT_PORT)
		k->end = KVM_END_EXIT;
	if (run->io.port != WH_VM_SERIAL_PORT || run->io.size != 1)
		return;
	for (uint32_t i = 0; i < run->io.count; i++) {
		k->text[k->text_size++] = (char)data[i];
		if (k->text_size == sizeof k->text || data[i] == '\n')
			flush_text(k);
	}
}

static void memory_access(struct kvm *k)
{
	struct kvm_run *run = k->run;
	struct kvm_mail *mail = &k->mail;
	uint64_t address = run->mmio.phys_addr;
	uint32_t size = run->mmio.len;
	uint64_t devices = (uint64_t)k->machine->slot_count * KVM_MMIO_STRIDE;
	/* Between the page tables' rights and this lie no mappings: a broken page table or text. */
	if (address < KVM_MMIO_BASE || address - KVM_MMIO_BASE >= devices || size > 8) {
		stop_with_fault(k, VECTOR_PAGE_FAULT, address);
		return;
	}
	mail->address = address;
	mail->size = size;
	mail->value = 0;
	mail->kind = run->mmio.is_write ? KVM_MAIL_WRITE : KVM_MAIL_READ;
	if (run->mmio.is_write)
		memcpy(&mail->value, run->mmio.data, size);
	if (!kvm_ask(k)) {
		k->end = KVM_END_KILLED;
		return;
	}
	if (!run->mmio.is_write)
		memcpy(run->mmio.data, &mail->value, size);
}

static void internal_error(struct kvm *k)
{
	struct wh_vmm_machine *m = k->machine;
	k->end = KVM_END_ERROR;
	if (k->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		wh_format(m->failure, sizeof m->failure,
			  "this host's KVM cannot run kernel-mode SSE: use --engine proc");
	else
		wh_format(m->failure, sizeof m->failure, "kvm gave up: internal error %u",
			  k->run->internal.suberror);
}

static void count_step(struct kvm *k)
{
	struct wh_boot_control *c = k->machine->control;
	k->steps[WH_BOOT_STAGE_ENTRY]++;
	for (int i = WH_BOOT_STAGE_KERNEL; i <= WH_BOOT_STAGE_MAIN; i++)
		if (!k->steps[i] && __atomic_load_n(&c->timeline[i], __ATOMIC_RELAXED))
			k->steps[i] = k->steps[WH_BOOT_STAGE_ENTRY];
}

static void keep_stepping(struct kvm *k)
{
	k->count_steps = !k->steps[WH_BOOT_STAGE_MAIN];
	(void)step(k, k->count_steps); /* fails: the count is 0 */
}

/* One exit; k->end says when it was the last. */
static void handle_exit(struct kvm *k)
{
	struct wh_vmm_machine *m = k->machine;
	struct kvm_run *run = k->run;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		port_access(k);
		break;
	case KVM_EXIT_MMIO:
		memory_access(k);
		break;
	case KVM_EXIT_DEBUG:
		count_step(k);
		break;
	case KVM_EXIT_SHUTDOWN:
		stop_with_fault(k, VECTOR_DOUBLE_FAULT, 0);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		internal_error(k);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	default:
		k->end = KVM_END_ERROR;
		wh_format(m->failure, sizeof m->failure, "kvm gave up: exit reason %u (0x%llx)",
			  run->exit_reason,
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
	}
}

void *kvm_vcpu_main(void *ctx)
{
	struct kvm *k = ctx;
	vmm_thread_begins(k->machine);
	while (k->end == KVM_END_NONE) {
		int r = ioctl(k->vcpu, KVM_RUN, 0);
		if (__atomic_load_n(&k->stop, __ATOMIC_ACQUIRE)) {
			k->end = KVM_END_KILLED;
		} else if (r >= 0) {
			handle_exit(k);
			if (k->count_steps)
				keep_stepping(k);
		} else if (errno == EFAULT) {
			/* kvm's other answer to a write to a read-only slot */
			stop_with_fault(k, VECTOR_PAGE_FAULT, 0);
		} else if (errno != EINTR && errno != EAGAIN) {
			k->end = KVM_END_ERROR;
			wh_format(k->machine->failure, sizeof k->machine->failure,
				  "kvm gave up (errno %d)", errno);
		}
	}
	if (k->end != KVM_END_KILLED)
		flush_text(k);
	__atomic_store_n(&k->mail.state, KVM_MAIL_NONE, __ATOMIC_RELEASE);
	__atomic_store_n(&k->ended, true, __ATOMIC_SEQ_CST);
	notify_loop(k);
	return NULL;
}

void kvm_count_steps(struct wh_vmm_machine *m)
{
	kvm_of(m)->count_steps = true;
}

uint64_t kvm_steps_at(const struct wh_vmm_machine *m, enum wh_boot_stage stage)
{
	return kvm_of(m)->steps[stage];
}
