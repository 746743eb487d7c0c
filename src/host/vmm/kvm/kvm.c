/* SPDX-License-Identifier: ISC */
/*
 * The kvm engine: the guest is ring 0 of a virtual machine with one vCPU.
 *
 * Goals: the same image, boot info and devices as on proc; the isolation of the processor's
 * second level of page tables; few exits. Non-goals here: firmware, other
 * kernels' platforms (interrupt controllers, PCI): an image needs none (wherry/abi/vm.h).
 *
 * Memory: the image's pages that are never written, and RELRO, are read-only slots: not even ring 0
 * can change them. RAM is another slot. The guest's own page tables say what may be executed.
 *
 * Threads: the vCPU has a thread of its own. Devices stay in the loop's thread; there is no lock. A
 * register access becomes a question in a mailbox with one place: the vCPU's thread writes
 * it, tells the loop when that sleeps, spins a little and then sleeps on a futex; the loop's
 * thread answers. Register accesses are rare (device set-up): what is frequent, kicks,
 * goes through ioeventfds and never comes here. Until main has been reached the loop's
 * thread spins before it sleeps, because set-up asks many questions in a row.
 *
 * Interrupts: counted in control.host_events; when the guest sleeps, one irqfd sends its vector.
 *
 * End: the vCPU's thread says why and ends; the loop's thread joins it and tells the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/abi/vm.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "kvm_priv.h"

#define DEVICE "/dev/kvm"
#define THREAD_STACK_SIZE (64u << 10)
#define MMIO_QUEUE_NOTIFY 0x50u
#define SPIN_NS 50000u           /* what a wake-up costs */
#define SPIN_TOTAL_NS 100000000u /* a guest that takes longer to main is not worth it */
#define WAKE_GSI 0u

static int open_device(int *ret_fd, struct wh_diag *diag)
{
	static const struct {
		int number;
		const char *name;
	} needed[] = {
		{ KVM_CAP_READONLY_MEM, "read-only memory" },
		{ KVM_CAP_IRQFD, "irqfd" },
		{ KVM_CAP_IOEVENTFD, "ioeventfd" },
		{ KVM_CAP_SPLIT_IRQCHIP, "split irqchip" },
		{ KVM_CAP_TSC_DEADLINE_TIMER, "TSC deadline" },
	};
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return wh_diag_set(diag, -errno, "this host has no " DEVICE ": use --engine proc");
	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return wh_diag_set(diag, -errno,
				   "no permission for " DEVICE
				   ": add yourself to the group that owns "
				   "it, or use --engine proc");
	if (fd < 0)
		return wh_diag_set(diag, -errno,
				   "cannot open " DEVICE " (errno %d): use --engine proc", errno);
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		close(fd);
		return wh_diag_set(diag, -WH_ENODEV,
				   DEVICE
				   " is not KVM or another version of it: use --engine proc");
	}
	for (size_t i = 0; i < WH_ARRAY_COUNT(needed); i++)
		if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i].number) <= 0) {
			close(fd);
			return wh_diag_set(
				diag, -WH_ENODEV,
				"this host's KVM is too old, it lacks %s: use --engine proc",
				needed[i].name);
		}
	*ret_fd = fd;
	return 0;
}

/* Everything is found out in init, so that the device is opened once. */
static int kvm_probe(struct wh_diag *diag)
{
	return 0;
}

static int kvm_init(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	uint64_t random, entry;
	cpu_set_t cpus;
	struct kvm *k = calloc(1, sizeof *k);
	if (!k)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the engine");
	k->machine = m;
	k->dev = k->vm = k->vcpu = k->wake = k->event = -1;
	m->engine_state = k;
	int error = kvm_image_entry(m->image, &entry, diag);
	if (error < 0)
		return error;
	error = open_device(&k->dev, diag);
	if (error < 0)
		return error;
	do
		k->vm = ioctl(k->dev, KVM_CREATE_VM, 0);
	while (k->vm < 0 && errno == EINTR);
	if (k->vm < 0)
		return wh_diag_set(diag, -errno, "kvm: cannot make a machine (errno %d)", errno);
	wh_os_random(&random, sizeof random);
	uint64_t places = (KVM_IMAGE_HIGH - KVM_IMAGE_LOW) / VMM_PAGE;
	m->layout.image_base = KVM_IMAGE_LOW + random % places * VMM_PAGE;
	k->entry = m->layout.image_base + entry;
	k->spin = sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
	return 0;
}

static int kvm_slot_add(struct wh_vmm_machine *m, struct wh_vmm_slot *slot, struct wh_diag *diag)
{
	slot->regs = KVM_MMIO_BASE + slot->index * KVM_MMIO_STRIDE;
	slot->irq = 0;
	return 0;
}

static void kvm_wake(struct wh_vmm_machine *m)
{
	uint64_t one = 1;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&m->control->guest_sleeping, __ATOMIC_SEQ_CST))
		(void)!write(kvm_of(m)->wake, &one, sizeof one); /* kvm takes it at once */
}

static void kvm_interrupt(struct wh_vmm_slot *slot, uint32_t bits)
{
	struct wh_vmm_machine *m = slot->machine;
	if (!bits || !m->started || m->ended)
		return;
	__atomic_fetch_add(&m->control->host_events, 1, __ATOMIC_SEQ_CST);
	kvm_wake(m);
}

static void kvm_again(struct wh_vmm_slot *slot, uint32_t queue)
{
	struct kvm *k = kvm_of(slot->machine);
	uint64_t one = 1;
	for (uint32_t i = 0; i < k->queue_count; i++)
		if (k->queues[i].slot == slot && k->queues[i].queue == queue)
			(void)!write(k->queues[i].watch.fd, &one,
				     sizeof one); /* full: set anyway */
}

/* ---- the loop's side of the mailbox ---- */

static void answer(struct kvm *k)
{
	struct wh_vmm_machine *m = k->machine;
	struct kvm_mail *mail = &k->mail;
	if (mail->kind == KVM_MAIL_SERIAL) {
		if (m->serial)
			m->serial(m->ctx, m, mail->text, mail->size);
	} else {
		uint64_t at = mail->address - KVM_MMIO_BASE;
		struct wh_vmm_slot *slot = &m->slot[at / KVM_MMIO_STRIDE];
		wh_assert(at / KVM_MMIO_STRIDE < m->slot_count);
		if (mail->kind == KVM_MAIL_WRITE)
			slot->ops.mmio_write(slot->ctx, at % KVM_MMIO_STRIDE, mail->size,
					     mail->value);
		else
			mail->value =
				slot->ops.mmio_read(slot->ctx, at % KVM_MMIO_STRIDE, mail->size);
	}
	if (__atomic_exchange_n(&mail->state, KVM_MAIL_ANSWERED, __ATOMIC_SEQ_CST) ==
	    KVM_MAIL_ASKED_ASLEEP)
		syscall(SYS_futex, &mail->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static bool answer_if_asked(struct kvm *k)
{
	uint32_t state = __atomic_load_n(&k->mail.state, __ATOMIC_ACQUIRE);
	if (state != KVM_MAIL_ASKED && state != KVM_MAIL_ASKED_ASLEEP)
		return false;
	answer(k);
	return true;
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	struct kvm *k = hook->ctx;
	struct wh_vmm_machine *m = k->machine;
	if (!k->watching)
		return false;
	if (k->spin && wh_os_now() < k->spin_until_ns &&
	    !m->control->timeline[WH_BOOT_STAGE_MAIN]) {
		uint64_t until = wh_os_now() + SPIN_NS;
		do {
			if (answer_if_asked(k))
				until = wh_os_now() + SPIN_NS;
			if (!k->watching || __atomic_load_n(&k->ended, __ATOMIC_ACQUIRE))
				break;
			__builtin_ia32_pause();
		} while (wh_os_now() < until && until < k->spin_until_ns);
	}
	__atomic_store_n(&k->loop_sleeping, 1, __ATOMIC_SEQ_CST);
	return answer_if_asked(k);
}

static void after_sleep(struct wh_loop_hook *hook)
{
	struct kvm *k = hook->ctx;
	__atomic_store_n(&k->loop_sleeping, 0, __ATOMIC_RELAXED);
}

static void stop_watching(struct kvm *k)
{
	struct wh_loop *loop = k->machine->loop;
	if (!k->watching)
		return;
	k->watching = false;
	wh_loop_remove(loop, &k->event_watch);
	wh_loop_hook_remove(loop, &k->hook);
	for (uint32_t i = 0; i < k->queue_count; i++)
		wh_loop_remove(loop, &k->queues[i].watch);
}

/* What the engine saw instead of the guest's own report. */
static void write_fault(struct kvm *k)
{
	struct wh_boot_control *c = k->machine->control;
	static const char outside[] = "access outside its memory, or write to its text";
	static const char triple[] = "triple fault";
	c->exit_kind = WH_BOOT_EXIT_FAULT;
	c->exit_value = SIGSEGV;
	c->fault_vector = k->fault_vector;
	c->fault_address = k->fault_address;
	c->fault_rip = k->fault_rip;
	c->fault_rsp = k->fault_rsp;
	c->fault_rbp = k->fault_rbp;
	c->fault_error = 0;
	c->backtrace_count = 0;
	if (k->fault_vector == 8)
		memcpy(c->message, triple, sizeof triple);
	else
		memcpy(c->message, outside, sizeof outside);
}

static void queue_kicked(struct wh_loop_fd *watch, uint32_t events)
{
	struct kvm_queue_watch *q = watch->ctx;
	q->slot->ops.notified(q->slot->ctx, q->queue);
}

static void vcpu_said(struct wh_loop_fd *watch, uint32_t events)
{
	struct kvm *k = watch->ctx;
	struct wh_vmm_machine *m = k->machine;
	uint64_t count;
	(void)!read(k->event, &count, sizeof count);
	(void)answer_if_asked(k);
	if (!__atomic_load_n(&k->ended, __ATOMIC_ACQUIRE))
		return;
	pthread_join(k->thread, NULL);
	k->thread_started = false;
	/* Kicks whose eventfds this round has not come to yet. */
	for (uint32_t i = 0; i < k->queue_count; i++)
		queue_kicked(&k->queues[i].watch, 0);
	stop_watching(k);
	if (k->end == KVM_END_FAULT)
		write_fault(k);
	if (k->end == KVM_END_ERROR)
		m->control->exit_kind = WH_BOOT_EXIT_NONE;
	vmm_machine_ended(m, k->end == KVM_END_KILLED ? SIGKILL : 0);
}

/* ---- start ---- */

static int add_memory(struct kvm *k, uint32_t slot, uint64_t start, uint64_t size, void *host,
		      bool read_only, struct wh_diag *diag)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = read_only ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = start,
		.memory_size = size,
		.userspace_addr = (uint64_t)(uintptr_t)host,
	};
	if (size && ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &r))
		return wh_diag_set(diag, -errno, "kvm: cannot map guest memory (errno %d)", errno);
	return 0;
}

static int map_memory(struct kvm *k, struct wh_diag *diag)
{
	struct wh_vmm_machine *m = k->machine;
	const struct vmm_layout *l = &m->layout;
	uint64_t relro = m->image->relro_end - m->image->ram_start;
	if (l->ram_base + l->ram_size > KVM_RAM_END)
		return wh_diag_set(diag, -WH_ENOMEM, "kvm gives at most %llu MiB of memory",
				   (unsigned long long)vmm_engine_kvm.memory_max >> 20);
	void *page =
		mmap(NULL, VMM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return wh_diag_set(diag, -errno, "no memory for the start info");
	k->start_info = page;
	kvm_start_info_write(page, m);
	int error = add_memory(k, 0, KVM_START_INFO, VMM_PAGE, page, false, diag);
	if (error >= 0)
		error = add_memory(k, 1, l->image_base + m->image->start, m->text_size, m->text,
				   true, diag);
	if (error >= 0)
		error = add_memory(k, 2, l->ram_base, relro, m->ram, true, diag);
	if (error >= 0)
		error = add_memory(k, 3, l->ram_base + relro, l->ram_size - relro, m->ram + relro,
				   false, diag);
	return error;
}

/* Local APIC in the kernel; one message-signalled interrupt behind an eventfd. */
static int make_interrupts(struct kvm *k, struct wh_diag *diag)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP };
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} route = { .head.nr = 1,
		    .entry = { .gsi = WAKE_GSI,
			       .type = KVM_IRQ_ROUTING_MSI,
			       .u.msi = { .address_lo = 0xfee00000, .data = WH_VM_WAKE_VECTOR } } };
	k->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct kvm_irqfd irqfd = { .fd = (uint32_t)k->wake, .gsi = WAKE_GSI };
	(void)ioctl(k->vm, KVM_SET_TSS_ADDR, KVM_TSS_ADDRESS); /* Intel only */
	if (k->wake < 0 || ioctl(k->vm, KVM_ENABLE_CAP, &split) ||
	    ioctl(k->vm, KVM_SET_GSI_ROUTING, &route))
		return wh_diag_set(diag, -errno, "kvm: cannot make interrupts (errno %d)", errno);
	k->vcpu = ioctl(k->vm, KVM_CREATE_VCPU, 0);
	if (k->vcpu < 0)
		return wh_diag_set(diag, -errno, "kvm: cannot make a processor (errno %d)", errno);
	if (ioctl(k->vm, KVM_IRQFD, &irqfd))
		return wh_diag_set(diag, -errno, "kvm: cannot make interrupts (errno %d)", errno);
	int size = ioctl(k->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run =
		size < 0 ? MAP_FAILED
			 : mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, k->vcpu, 0);
	if (run == MAP_FAILED)
		return wh_diag_set(diag, -errno, "kvm: cannot map the processor (errno %d)", errno);
	k->run = run;
	k->run_size = (size_t)size;
	return 0;
}

/* One eventfd per queue behind its QueueNotify value. */
static int make_kicks(struct kvm *k, struct wh_diag *diag)
{
	struct wh_vmm_machine *m = k->machine;
	uint32_t count = 0;
	for (uint32_t i = 0; i < m->slot_count; i++)
		count += m->slot[i].queue_count;
	k->queues = calloc(count ? count : 1, sizeof *k->queues);
	if (!k->queues)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for queues");
	for (uint32_t i = 0; i < m->slot_count; i++)
		for (uint32_t n = 0; n < m->slot[i].queue_count; n++) {
			struct kvm_queue_watch *q = &k->queues[k->queue_count];
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
			k->queue_count++;
			struct kvm_ioeventfd io = {
				.datamatch = n,
				.addr = q->slot->regs + MMIO_QUEUE_NOTIFY,
				.len = 4,
				.fd = fd,
				.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
			};
			if (ioctl(k->vm, KVM_IOEVENTFD, &io))
				return wh_diag_set(diag, -errno, "kvm: no ioeventfd (errno %d)",
						   errno);
		}
	return 0;
}

static int watch(struct kvm *k, struct wh_diag *diag)
{
	struct wh_loop *loop = k->machine->loop;
	k->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (k->event < 0)
		return wh_diag_set(diag, -errno, "no descriptor for events (errno %d)", errno);
	k->event_watch = (struct wh_loop_fd){
		.fd = k->event, .events = WH_LOOP_READ, .fn = vcpu_said, .ctx = k
	};
	uint32_t added = 0;
	int error = wh_loop_add(loop, &k->event_watch);
	for (; error >= 0 && added < k->queue_count; added++)
		error = wh_loop_add(loop, &k->queues[added].watch);
	if (error < 0) {
		for (uint32_t i = 0; i + 1 < added; i++)
			wh_loop_remove(loop, &k->queues[i].watch);
		if (added)
			wh_loop_remove(loop, &k->event_watch);
		return wh_diag_set(diag, error, "cannot watch the guest (errno %d)", -error);
	}
	k->hook = (struct wh_loop_hook){ .before_sleep = before_sleep,
					 .after_sleep = after_sleep,
					 .ctx = k };
	wh_loop_hook_add(loop, &k->hook);
	k->watching = true;
	k->spin_until_ns = wh_os_now() + SPIN_TOTAL_NS;
	return 0;
}

static int start_thread(struct kvm *k, struct wh_diag *diag)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&k->thread, &attributes, kvm_vcpu_main, k);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error)
		return wh_diag_set(diag, -error, "cannot start the processor's thread (errno %d)",
				   error);
	k->thread_started = true;
	return 0;
}

static int kvm_start(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	struct kvm *k = kvm_of(m);
	int error = map_memory(k, diag);
	if (error >= 0)
		error = make_interrupts(k, diag);
	if (error >= 0)
		error = make_kicks(k, diag);
	if (error >= 0)
		error = kvm_vcpu_prepare(k, diag);
	if (error >= 0)
		error = watch(k, diag);
	if (error >= 0)
		error = start_thread(k, diag);
	if (error < 0)
		stop_watching(k);
	return error;
}

static void kvm_kill(struct wh_vmm_machine *m)
{
	struct kvm *k = kvm_of(m);
	if (!k->thread_started)
		return;
	__atomic_store_n(&k->stop, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(&k->mail.state, KVM_MAIL_ANSWERED, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &k->mail.state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	pthread_kill(k->thread, KVM_STOP_SIGNAL);
}

static void kvm_fini(struct wh_vmm_machine *m)
{
	struct kvm *k = kvm_of(m);
	if (!k)
		return;
	if (k->thread_started) {
		kvm_kill(m);
		pthread_join(k->thread, NULL);
	}
	stop_watching(k);
	if (k->run)
		munmap(k->run, k->run_size);
	wh_os_close(&k->vcpu);
	wh_os_close(&k->vm);
	wh_os_close(&k->dev);
	for (uint32_t i = 0; i < k->queue_count; i++)
		wh_os_close(&k->queues[i].watch.fd);
	wh_os_close(&k->wake);
	wh_os_close(&k->event);
	if (k->start_info)
		munmap(k->start_info, VMM_PAGE);
	free(k->queues);
	free(k);
	m->engine_state = NULL;
}

const struct vmm_engine_ops vmm_engine_kvm = {
	.name = "kvm",
	.id = WH_VMM_ENGINE_KVM,
	.boot_id = WH_BOOT_ENGINE_KVM,
	.transport = WH_BOOT_TRANSPORT_MMIO,
	.guard_hole = true,
	.relocate = true,
	.memory_max = KVM_RAM_END - KVM_IMAGE_HIGH,
	.probe = kvm_probe,
	.init = kvm_init,
	.slot_add = kvm_slot_add,
	.start = kvm_start,
	.interrupt = kvm_interrupt,
	.wake = kvm_wake,
	.kill = kvm_kill,
	.fini = kvm_fini,
	.again = kvm_again,
};
