/* SPDX-License-Identifier: ISC */
/*
 * The PC: an engine (engine.h) that runs kernels which are no images on kvm.
 *
 * Goals: a stock Linux kernel with SMP, virtio on PCI and clean power-off, without firmware; few exits after the
 * start. Non-goals: firmware, legacy devices but a serial port and a clock, interrupt lines of PCI.
 *
 * Who does what. kvm keeps local APICs, IOAPIC, 8259s and 8254. Each vCPU has a thread. Platform devices
 * (uart.c, pci.c, ports.c) are state under pc->lock, answered in the thread that asks. Virtio devices
 * belong to the loop's thread: an access to their registers becomes a question in the vCPU's
 * mailbox, and the vCPU waits for the answer; each vCPU has a mailbox, so there is no lock around devices.
 * What is frequent does not come here: kicks are ioeventfds, interrupts are messages that the loop sends by
 * one system call. Lock order: pc->lock is innermost.
 *
 * Sleep: the loop says that it will sleep, then looks into the mailboxes; a vCPU puts its question, then
 * looks whether the loop sleeps. One of them sees the other.
 *
 * End: whoever knows a reason sets pc->end first and tells the loop; the loop stops all threads, joins them
 * and tells the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "pc_priv.h"

#define DEVICE "/dev/kvm"
#define THREAD_STACK_SIZE (64u << 10)

void pc_tell_loop(struct pc *pc)
{
	uint64_t one = 1;
	(void)!write(pc->event, &one, sizeof one); /* full means it is awake */
}

void pc_ends(struct pc *pc, enum pc_end why)
{
	uint32_t none = PC_END_NONE;
	(void)__atomic_compare_exchange_n(&pc->end, &none, why, false, __ATOMIC_SEQ_CST,
					  __ATOMIC_SEQ_CST);
	pc_tell_loop(pc);
}

void pc_line(struct pc *pc, uint32_t irq, bool level)
{
	struct kvm_irq_level l = { .irq = irq, .level = level };
	(void)ioctl(pc->vm, KVM_IRQ_LINE, &l); /* fails only for lines that do not exist */
}

/* ---- making it ---- */

static int open_kvm(struct pc *pc, struct wh_diag *diag)
{
	static const int needed[] = { KVM_CAP_IRQCHIP, KVM_CAP_IOEVENTFD, KVM_CAP_SIGNAL_MSI,
				      KVM_CAP_PIT2, KVM_CAP_EXT_CPUID };
	pc->dev = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (pc->dev < 0)
		return wh_diag_set(
			diag, -errno, "a kernel needs " DEVICE ", and %s (errno %d)",
			errno == ENOENT ? "this host has none"
			: errno == EACCES
				? "you have no permission: add yourself to the group that owns it"
				: "it cannot be opened",
			errno);
	if (ioctl(pc->dev, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return wh_diag_set(diag, -WH_ENODEV, DEVICE " is not KVM or another version of it");
	for (size_t i = 0; i < WH_ARRAY_COUNT(needed); i++)
		if (ioctl(pc->dev, KVM_CHECK_EXTENSION, needed[i]) <= 0)
			return wh_diag_set(
				diag, -WH_ENODEV,
				"this host's KVM lacks extension %d, which a kernel needs",
				needed[i]);
	do
		pc->vm = ioctl(pc->dev, KVM_CREATE_VM, 0);
	while (pc->vm < 0 && errno == EINTR);
	if (pc->vm < 0)
		return wh_diag_set(diag, -errno, "kvm: cannot make a machine (errno %d)", errno);
	return 0;
}

static int make_chips(struct pc *pc, struct wh_diag *diag)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity = PC_IDENTITY_MAP;
	(void)ioctl(pc->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity); /* both are Intel's only */
	(void)ioctl(pc->vm, KVM_SET_TSS_ADDR, PC_TSS);
	if (ioctl(pc->vm, KVM_CREATE_IRQCHIP, 0) || ioctl(pc->vm, KVM_CREATE_PIT2, &pit))
		return wh_diag_set(diag, -errno,
				   "kvm: cannot make interrupt controllers (errno %d)", errno);
	return 0;
}

static int set_cpuid(struct pc *pc, struct wh_diag *diag)
{
	struct table {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[PC_CPUID_MAX];
	} host = { .head.nent = PC_CPUID_MAX - 2 }, own;
	if (ioctl(pc->dev, KVM_GET_SUPPORTED_CPUID, &host))
		return wh_diag_set(diag, -errno, "kvm: cannot read CPUID (errno %d)", errno);
	for (uint32_t i = 0; i < pc->vcpu_count; i++) {
		own = host;
		own.head.nent = pc_cpuid_make(own.entry, host.head.nent, i, pc->vcpu_count);
		if (ioctl(pc->vcpu[i].fd, KVM_SET_CPUID2, &own))
			return wh_diag_set(diag, -errno, "kvm: cannot set CPUID (errno %d)", errno);
	}
	return 0;
}

static int make_vcpus(struct pc *pc, struct wh_diag *diag)
{
	int size = ioctl(pc->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < 0)
		return wh_diag_set(diag, -errno, "kvm: no size of a processor (errno %d)", errno);
	pc->run_size = (size_t)size;
	for (uint32_t i = 0; i < pc->vcpu_count; i++) {
		struct pc_vcpu *v = &pc->vcpu[i];
		v->fd = ioctl(pc->vm, KVM_CREATE_VCPU, i);
		if (v->fd < 0)
			return wh_diag_set(
				diag, -errno,
				"kvm: cannot make processor %u (errno %d); say less with "
				"--cpus",
				i, errno);
		void *run = mmap(NULL, pc->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
		if (run == MAP_FAILED)
			return wh_diag_set(diag, -errno, "kvm: cannot map a processor (errno %d)",
					   errno);
		v->run = run;
	}
	return set_cpuid(pc, diag);
}

static int add_memory(struct pc *pc, uint32_t slot, uint64_t start, uint64_t size, uint8_t *host,
		      struct wh_diag *diag)
{
	struct kvm_userspace_memory_region r = { .slot = slot,
						 .guest_phys_addr = start,
						 .memory_size = size,
						 .userspace_addr = (uint64_t)(uintptr_t)host };
	if (!size)
		return 0;
	wh_assert(wh_gmem_add(&pc->machine->memory, start, size, host, true) == 0);
	if (ioctl(pc->vm, KVM_SET_USER_MEMORY_REGION, &r))
		return wh_diag_set(diag, -errno, "kvm: cannot map guest memory (errno %d)", errno);
	return 0;
}

static int make_memory(struct pc *pc, struct wh_diag *diag)
{
	struct wh_vmm_machine *m = pc->machine;
	uint64_t size = m->layout.ram_size;
	int error = !pc->from.cpus   ? vmm_ram_map(m, diag)
		    : pc->wants_lazy ? pc_lazy_new(&pc->from, m, &pc->lazy, diag)
				     : pc_snapshot_map(&pc->from, m, diag);
	if (error < 0)
		return error;
	pc->low_size = size < PC_BAR_BASE ? size : PC_BAR_BASE;
	pc->high_size = size - pc->low_size;
	error = add_memory(pc, 0, 0, pc->low_size, m->ram, diag);
	if (error >= 0)
		error = add_memory(pc, 1, PC_ABOVE_4G, pc->high_size, m->ram + pc->low_size, diag);
	return error;
}

static int pc_init(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	struct pc *pc = m->engine_state;
	int error = open_kvm(pc, diag);
	if (error >= 0)
		error = make_memory(pc, diag);
	if (error >= 0)
		error = make_chips(pc, diag);
	if (error >= 0)
		pc_pci_init(pc);
	return error;
}

static int pc_slot_add(struct wh_vmm_machine *m, struct wh_vmm_slot *slot, struct wh_diag *diag)
{
	struct pc *pc = pc_of(m);
	struct pc_function *f = &pc->function[slot->index + 1];
	_Static_assert(WH_BOOT_DEVICES_MAX <= 32, "a bus has 32 devices");
	_Static_assert(WH_SHM_QUEUES_MAX < 64, "pending messages are bits of 64");
	if (slot->index + 1 >= 32)
		return wh_diag_set(diag, -WH_ENOSPC, "more than 31 devices on the PCI bus");
	f->msix = calloc(slot->queue_count + 1, sizeof *f->msix);
	if (!f->msix)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a device's messages");
	for (uint32_t i = 0; i <= slot->queue_count; i++)
		f->msix[i].control = 1; /* masked */
	pc_pci_add(pc, slot);
	return 0;
}

/* ---- kicks ---- */

static void queue_kicked(struct wh_loop_fd *watch, uint32_t events)
{
	struct pc_queue_watch *q = watch->ctx;
	q->slot->ops.notified(q->slot->ctx, q->queue);
}

static int kick_at(struct pc *pc, const struct pc_queue_watch *q, uint64_t bar, uint32_t flags)
{
	struct kvm_ioeventfd io = {
		.addr = bar + WH_VIRTIO_PCI_NOTIFY + q->queue * WH_VIRTIO_PCI_NOTIFY_STRIDE,
		.len = 2,
		.fd = q->watch.fd,
		.flags = flags,
	};
	return ioctl(pc->vm, KVM_IOEVENTFD, &io) ? -errno : 0;
}

void pc_kicks_move(struct pc *pc, struct pc_function *f, uint64_t bar)
{
	for (uint32_t i = 0; i < pc->queue_count; i++) {
		const struct pc_queue_watch *q = &pc->queues[i];
		if (q->slot != f->slot)
			continue;
		/* Without it a kick is an ordinary access to the BAR. */
		(void)kick_at(pc, q, f->kicks_at, KVM_IOEVENTFD_FLAG_DEASSIGN);
		(void)kick_at(pc, q, bar, 0);
	}
	f->kicks_at = bar;
}

static int make_kicks(struct pc *pc, struct wh_diag *diag)
{
	struct wh_vmm_machine *m = pc->machine;
	uint32_t count = 0;
	for (uint32_t i = 0; i < m->slot_count; i++)
		count += m->slot[i].queue_count;
	pc->queues = calloc(count ? count : 1, sizeof *pc->queues);
	if (!pc->queues)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for queues");
	for (uint32_t i = 0; i < m->slot_count; i++) {
		struct pc_function *f = &pc->function[i + 1];
		f->kicks_at = PC_BAR_BASE + (uint64_t)i * WH_VIRTIO_PCI_BAR_SIZE;
		for (uint32_t n = 0; n < m->slot[i].queue_count; n++) {
			struct pc_queue_watch *q = &pc->queues[pc->queue_count];
			int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			if (fd < 0)
				return wh_diag_set(diag, -errno,
						   "no descriptor for a queue (errno %d)", errno);
			q->slot = &m->slot[i];
			q->queue = n;
			q->watch = (struct wh_loop_fd){ .fd = fd,
							.events = WH_LOOP_READ | WH_LOOP_EDGE,
							.fn = queue_kicked,
							.ctx = q };
			pc->queue_count++;
			int error = kick_at(pc, q, f->kicks_at, 0);
			if (error < 0)
				return wh_diag_set(diag, error, "kvm: no ioeventfd (errno %d)",
						   -error);
		}
	}
	return 0;
}

/* ---- the loop's side ---- */

static void answer(struct pc *pc, struct pc_mail *mail)
{
	struct wh_vmm_machine *m = pc->machine;
	if (mail->kind != PC_MAIL_SERIAL) {
		wh_assert(mail->slot < m->slot_count);
		const struct wh_vmm_slot *slot = &m->slot[mail->slot];
		if (mail->kind == PC_MAIL_WRITE)
			slot->ops.mmio_write(slot->ctx, mail->offset, mail->size, mail->value);
		else
			mail->value = slot->ops.mmio_read(slot->ctx, mail->offset, mail->size);
	}
	if (__atomic_exchange_n(&mail->state, PC_MAIL_ANSWERED, __ATOMIC_SEQ_CST) ==
	    PC_MAIL_ASKED_ASLEEP)
		syscall(SYS_futex, &mail->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* A guest that stands still or ends gets rid of what it has in hand in any case. */
static bool serial_is_held(const struct pc *pc)
{
	return pc->serial_held && !__atomic_load_n(&pc->pause, __ATOMIC_ACQUIRE) &&
	       !__atomic_load_n(&pc->end, __ATOMIC_ACQUIRE);
}

/* Hands over what the guest wrote, and says that there is room for input. */
static void serve_serial(struct pc *pc)
{
	struct wh_vmm_machine *m = pc->machine;
	char text[PC_UART_OUTPUT];
	bool held = serial_is_held(pc);
	pthread_mutex_lock(&pc->lock);
	uint32_t size = held ? 0 : pc->uart.output_count;
	bool room = pc->uart.room;
	memcpy(text, pc->uart.output, size);
	if (!held) {
		pc->uart.output_count = 0;
		pc->uart.told = false; /* held: it need not tell again */
	}
	pc->uart.room = false;
	pthread_mutex_unlock(&pc->lock);
	if (size && m->serial)
		m->serial(m->ctx, m, text, size);
	if (room && pc->serial_room)
		pc->serial_room(m->ctx, m);
}

static bool answer_if_asked(struct pc *pc)
{
	bool any = false;
	for (uint32_t i = 0; i < pc->vcpu_count; i++) {
		struct pc_mail *mail = &pc->vcpu[i].mail;
		uint32_t state = __atomic_load_n(&mail->state, __ATOMIC_ACQUIRE);
		if (state != PC_MAIL_ASKED && state != PC_MAIL_ASKED_ASLEEP)
			continue;
		if (mail->kind == PC_MAIL_SERIAL && serial_is_held(pc))
			continue; /* the guest waits for whoever reads */
		any = true;
		if (mail->kind == PC_MAIL_SERIAL)
			serve_serial(pc);
		answer(pc, mail);
	}
	return any;
}

void pc_answer_all(struct pc *pc)
{
	(void)answer_if_asked(pc);
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	struct pc *pc = hook->ctx;
	if (!pc->watching)
		return false;
	__atomic_store_n(&pc->loop_sleeping, 1, __ATOMIC_SEQ_CST);
	return answer_if_asked(pc);
}

static void after_sleep(struct wh_loop_hook *hook)
{
	struct pc *pc = hook->ctx;
	__atomic_store_n(&pc->loop_sleeping, 0, __ATOMIC_RELAXED);
}

static void stop_watching(struct pc *pc)
{
	struct wh_loop *loop = pc->machine->loop;
	if (!pc->watching)
		return;
	pc->watching = false;
	wh_loop_remove(loop, &pc->event_watch);
	wh_loop_hook_remove(loop, &pc->hook);
	for (uint32_t i = 0; i < pc->queue_count; i++)
		wh_loop_remove(loop, &pc->queues[i].watch);
}

static void stop_vcpus(struct pc *pc)
{
	__atomic_store_n(&pc->stop, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(&pc->pause, 0, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &pc->pause, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	for (uint32_t i = 0; i < pc->vcpu_count; i++) {
		struct pc_vcpu *v = &pc->vcpu[i];
		if (!v->thread_started)
			continue;
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&v->mail.state, PC_MAIL_ANSWERED, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &v->mail.state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		pthread_kill(v->thread, PC_STOP_SIGNAL);
	}
	for (uint32_t i = 0; i < pc->vcpu_count; i++)
		if (pc->vcpu[i].thread_started) {
			pthread_join(pc->vcpu[i].thread, NULL);
			pc->vcpu[i].thread_started = false;
		}
}

static void finish(struct pc *pc)
{
	static const char triple[] = "triple fault";
	struct wh_vmm_machine *m = pc->machine;
	struct wh_boot_control *c = m->control;
	stop_vcpus(pc);
	serve_serial(pc);
	for (uint32_t i = 0; i < pc->queue_count; i++)
		queue_kicked(&pc->queues[i].watch, 0);
	stop_watching(pc);
	switch ((enum pc_end)pc->end) {
	case PC_END_OFF:
	case PC_END_RESET:
		c->exit_kind = WH_BOOT_EXIT_STATUS;
		c->exit_value = pc->end == PC_END_OFF ? WH_VMM_PC_OFF : WH_VMM_PC_RESET;
		break;
	case PC_END_TRIPLE:
		c->exit_kind = WH_BOOT_EXIT_FAULT;
		c->exit_value = SIGSEGV;
		c->fault_vector = 8;
		memcpy(c->message, triple, sizeof triple);
		break;
	default:
		c->exit_kind = WH_BOOT_EXIT_NONE;
	}
	vmm_machine_ended(m, pc->end == PC_END_KILLED ? SIGKILL : 0);
}

static void vcpu_said(struct wh_loop_fd *watch, uint32_t events)
{
	struct pc *pc = watch->ctx;
	uint64_t count;
	(void)!read(pc->event, &count, sizeof count);
	(void)answer_if_asked(pc);
	serve_serial(pc);
	if (__atomic_load_n(&pc->end, __ATOMIC_ACQUIRE))
		finish(pc);
}

static int watch(struct pc *pc, struct wh_diag *diag)
{
	struct wh_loop *loop = pc->machine->loop;
	pc->event_watch = (struct wh_loop_fd){
		.fd = pc->event, .events = WH_LOOP_READ, .fn = vcpu_said, .ctx = pc
	};
	uint32_t added = 0;
	int error = wh_loop_add(loop, &pc->event_watch);
	for (; error >= 0 && added < pc->queue_count; added++)
		error = wh_loop_add(loop, &pc->queues[added].watch);
	if (error < 0) {
		for (uint32_t i = 0; i + 1 < added; i++)
			wh_loop_remove(loop, &pc->queues[i].watch);
		if (added)
			wh_loop_remove(loop, &pc->event_watch);
		return wh_diag_set(diag, error, "cannot watch the guest (errno %d)", -error);
	}
	pc->hook = (struct wh_loop_hook){ .before_sleep = before_sleep,
					  .after_sleep = after_sleep,
					  .ctx = pc };
	wh_loop_hook_add(loop, &pc->hook);
	pc->watching = true;
	return 0;
}

static int start_threads(struct pc *pc, struct wh_diag *diag)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int error = 0;
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (uint32_t i = 0; !error && i < pc->vcpu_count; i++) {
		struct pc_vcpu *v = &pc->vcpu[i];
		error = pthread_create(&v->thread, &attributes, pc_vcpu_main, v);
		v->thread_started = !error;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (!error)
		return 0;
	stop_vcpus(pc);
	return wh_diag_set(diag, -error, "cannot start a processor's thread (errno %d)", error);
}

static int pc_start(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	struct pc *pc = pc_of(m);
	int khz;
	int error = make_kicks(pc, diag);
	for (uint32_t i = 0; error >= 0 && i < pc->vcpu_count; i++)
		error = pc_vcpu_prepare(&pc->vcpu[i], diag);
	khz = ioctl(pc->vcpu[0].fd, KVM_GET_TSC_KHZ);
	if (khz > 0)
		m->tsc_hz = (uint64_t)khz * 1000;
	if (error >= 0)
		error = watch(pc, diag);
	m->started = true; /* devices that go on may send interrupts */
	if (error >= 0 && pc->from.cpus)
		error = pc_state_restore(pc, &pc->from, diag);
	pc_snapshot_close(&pc->from);
	if (error >= 0)
		error = start_threads(pc, diag);
	if (error < 0)
		stop_watching(pc);
	return error;
}

static void pc_kill(struct wh_vmm_machine *m)
{
	pc_ends(pc_of(m), PC_END_KILLED);
}

static void pc_signal(struct wh_vmm_machine *m, int signal)
{
	pc_power_button(pc_of(m));
}

static void pc_vector(struct wh_vmm_slot *slot, uint32_t vector)
{
	struct pc *pc = pc_of(slot->machine);
	pthread_mutex_lock(&pc->lock);
	pc_msix_send(pc, &pc->function[slot->index + 1], vector);
	pthread_mutex_unlock(&pc->lock);
}

static void pc_again(struct wh_vmm_slot *slot, uint32_t queue)
{
	struct pc *pc = pc_of(slot->machine);
	uint64_t one = 1;
	for (uint32_t i = 0; i < pc->queue_count; i++)
		if (pc->queues[i].slot == slot && pc->queues[i].queue == queue)
			(void)!write(pc->queues[i].watch.fd, &one,
				     sizeof one); /* full: set anyway */
}

static void pc_fini(struct wh_vmm_machine *m)
{
	struct pc *pc = pc_of(m);
	if (!pc)
		return;
	stop_vcpus(pc);
	stop_watching(pc);
	for (uint32_t i = 0; pc->vcpu && i < pc->vcpu_count; i++) {
		if (pc->vcpu[i].run)
			munmap(pc->vcpu[i].run, pc->run_size);
		wh_os_close(&pc->vcpu[i].fd);
	}
	wh_os_close(&pc->vm);
	wh_os_close(&pc->dev);
	wh_os_close(&pc->event);
	for (uint32_t i = 0; i < pc->queue_count; i++)
		wh_os_close(&pc->queues[i].watch.fd);
	for (size_t i = 0; i < WH_ARRAY_COUNT(pc->function); i++)
		free(pc->function[i].msix);
	pthread_mutex_destroy(&pc->lock);
	pc_lazy_free(pc->lazy);
	pc_snapshot_close(&pc->from);
	free(pc->queues);
	free(pc->vcpu);
	free(pc);
	m->engine_state = NULL;
}

const struct vmm_engine_ops vmm_engine_pc = {
	.name = "kvm",
	.id = WH_VMM_ENGINE_KVM,
	.boot_id = WH_BOOT_ENGINE_KVM,
	.transport = WH_BOOT_TRANSPORT_PCI,
	.memory_max = WH_VMM_PC_MEMORY_MAX,
	.init = pc_init,
	.slot_add = pc_slot_add,
	.start = pc_start,
	.kill = pc_kill,
	.fini = pc_fini,
	.again = pc_again,
	.vector = pc_vector,
	.signal = pc_signal,
	.pause = pc_pause,
	.snapshot = pc_save,
};

/* ---- public ---- */

static int check_config(const struct wh_vmm_pc_config *c, const struct wh_vmm_kernel *kernel,
			struct wh_diag *diag)
{
	if (c->size != sizeof *c)
		return wh_diag_set(diag, -WH_EINVAL, "config of another version");
	wh_assert(kernel || c->from);
	if (c->cpus > WH_VMM_PC_CPUS_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "more than %u processors", WH_VMM_PC_CPUS_MAX);
	if (c->memory_size &&
	    (c->memory_size < WH_VMM_PC_MEMORY_MIN || c->memory_size > WH_VMM_PC_MEMORY_MAX))
		return wh_diag_set(diag, -WH_EINVAL, "a kernel gets %llu MiB to %llu GiB of memory",
				   WH_VMM_PC_MEMORY_MIN >> 20, WH_VMM_PC_MEMORY_MAX >> 30);
	return 0;
}

static int make_state(struct wh_vmm_machine *m, const struct wh_vmm_pc_config *config,
		      struct wh_diag *diag)
{
	struct pc *pc = calloc(1, sizeof *pc);
	if (!pc)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a machine");
	m->engine_state = pc;
	pc->machine = m;
	pc->dev = pc->vm = pc->event = pc->from.fd = -1;
	if (config->from) {
		int error = pc_snapshot_open(config->from, &pc->from, diag);
		if (error < 0)
			return error;
		m->layout.ram_size = pc->from.ram_size;
	}
	pthread_mutex_init(&pc->lock, NULL);
	pc->serial_room = config->serial_room;
	pc->wants_lazy = config->lazy;
	pc->fetcher_begins = config->fetcher_begins;
	m->info = &pc->info;
	m->control = &pc->control;
	pc->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pc->event < 0)
		return wh_diag_set(diag, -errno, "no descriptor for events (errno %d)", errno);
	pc->vcpu_count = pc->from.cpus ? pc->from.cpus : config->cpus ? config->cpus : 1;
	pc->vcpu = calloc(pc->vcpu_count, sizeof *pc->vcpu);
	if (!pc->vcpu)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for processors");
	for (uint32_t i = 0; i < pc->vcpu_count; i++) {
		pc->vcpu[i].pc = pc;
		pc->vcpu[i].index = i;
		pc->vcpu[i].fd = -1;
	}
	return 0;
}

int wh_vmm_machine_new_pc(const struct wh_vmm_pc_config *config, const struct wh_vmm_kernel *kernel,
			  struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			  struct wh_diag *diag)
{
	int error = check_config(config, kernel, diag);
	if (error < 0)
		return error;
	struct wh_vmm_machine *m = calloc(1, sizeof *m);
	if (!m)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a machine");
	m->ram_fd = -1;
	m->loop = loop;
	m->log = config->log;
	m->exited = config->exited;
	m->thread_begins = config->thread_begins;
	m->serial = config->serial;
	m->ctx = config->ctx;
	m->engine = &vmm_engine_pc;
	m->layout.ram_size = wh_align_down(
		config->memory_size ? config->memory_size : WH_VMM_PC_MEMORY_DEFAULT, 2u << 20);
	error = make_state(m, config, diag);
	if (error >= 0)
		error = m->ram_fd = vmm_ram_open(diag);
	if (error >= 0)
		error = pc_init(m, diag);
	if (error >= 0 && !config->from)
		error = pc_boot_load(pc_of(m), kernel,
				     config->command_line ? config->command_line : "",
				     config->initrd, diag);
	if (error >= 0)
		error = make_vcpus(pc_of(m), diag);
	if (error < 0) {
		wh_vmm_machine_free(m);
		return error;
	}
	*ret_machine = m;
	return 0;
}

void wh_vmm_pc_serial_hold(struct wh_vmm_machine *machine, bool on)
{
	struct pc *pc = pc_of(machine);
	pc->serial_held = on;
	if (on)
		return;
	serve_serial(pc);
	pc_answer_all(pc);
}

size_t wh_vmm_pc_serial_input(struct wh_vmm_machine *machine, const char *text, size_t size)
{
	struct pc *pc = pc_of(machine);
	pthread_mutex_lock(&pc->lock);
	size_t room = PC_UART_INPUT - pc->uart.input_count;
	if (size > room)
		size = room;
	memcpy(pc->uart.input + pc->uart.input_count, text, size);
	pc->uart.input_count += (uint32_t)size;
	pc_uart_update(pc);
	pthread_mutex_unlock(&pc->lock);
	return size;
}

size_t wh_vmm_pc_exits(const struct wh_vmm_machine *machine, char *to, size_t size)
{
	static const char *const names[] = { "device", "msix", "pci",    "serial", "clock",
					     "power",  "port", "memory", "signal", "other" };
	_Static_assert(WH_ARRAY_COUNT(names) == PC_EXIT_CAUSES, "a name each");
	const struct pc *pc = pc_of(machine);
	size_t length = 0;
	for (uint32_t cause = 0; cause < PC_EXIT_CAUSES; cause++) {
		uint64_t sum = 0;
		for (uint32_t i = 0; i < pc->vcpu_count; i++)
			sum += __atomic_load_n(&pc->vcpu[i].exits[cause], __ATOMIC_RELAXED);
		length += wh_format(to + (length < size ? length : size),
				    length < size ? size - length : 0, "%s %llu\n", names[cause],
				    (unsigned long long)sum);
	}
	return length;
}
