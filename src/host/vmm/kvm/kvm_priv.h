/* SPDX-License-Identifier: ISC */
#ifndef VMM_KVM_PRIV_H
#define VMM_KVM_PRIV_H

/*
 * What the files of the kvm engine share. kvm.c has the theory of operation.
 */

#include <linux/kvm.h>
#include <pthread.h>

#include "../engine.h"

/*
 * Guest-physical addresses, which are also the image's own. All of it lies below 4 GiB, because
 * PVH enters in 32-bit mode.
 *
 *	0x7000        start info, module list, memory map, command line (one page)
 *	16..512 MiB   the image, at a random page; RAM follows its text
 *	3 GiB + 256 MiB   registers of the devices, a page each
 */
#define KVM_START_INFO 0x7000ull
#define KVM_IMAGE_LOW (16ull << 20)
#define KVM_IMAGE_HIGH (512ull << 20)
#define KVM_RAM_END (3ull << 30)
#define KVM_MMIO_BASE 0xd0000000ull
#define KVM_MMIO_STRIDE VMM_PAGE
#define KVM_TSS_ADDRESS 0xfffbd000ull /* three pages Intel wants, used by nobody */

#define KVM_CPUID_MAX 24u
#define KVM_TEXT_MAX 256u
#define KVM_STOP_SIGNAL 10 /* SIGUSR1, blocked in the vCPU's thread */

/* One question of the vCPU's thread to the loop's; there is never more than one. */
enum kvm_mail_state { KVM_MAIL_NONE, KVM_MAIL_ASKED, KVM_MAIL_ASKED_ASLEEP, KVM_MAIL_ANSWERED };
enum kvm_mail_kind { KVM_MAIL_READ, KVM_MAIL_WRITE, KVM_MAIL_SERIAL };

struct kvm_mail {
	uint32_t state; /* futex word */
	enum kvm_mail_kind kind;
	uint64_t address;
	uint32_t size;
	uint64_t value;
	char text[KVM_TEXT_MAX];
};

/* Why the vCPU stopped; written by its thread before it says so. */
enum kvm_end {
	KVM_END_NONE,
	KVM_END_EXIT,   /* the guest asked for it */
	KVM_END_KILLED, /* we asked for it */
	KVM_END_FAULT, /* fault fields are valid: access outside memory, write to text, triple fault */
	KVM_END_ERROR, /* kvm gave up; machine->failure says why */
};

struct kvm_queue_watch {
	struct wh_loop_fd watch;
	struct wh_vmm_slot *slot;
	uint32_t queue;
};

struct kvm {
	struct wh_vmm_machine *machine;
	int dev, vm, vcpu, wake, event; /* descriptors; wake: irqfd; event: vCPU thread -> loop */
	struct kvm_run *run;
	size_t run_size;
	void *start_info; /* host page at KVM_START_INFO */
	wh_gaddr entry;
	pthread_t thread;
	bool thread_started, watching, stop, ended;
	bool spin; /* another CPU is there for the other thread */
	uint64_t spin_until_ns;

	struct wh_loop_fd event_watch;
	struct wh_loop_hook hook;
	uint32_t loop_sleeping;
	struct kvm_mail mail;
	struct kvm_queue_watch *queues;
	uint32_t queue_count;

	char text[KVM_TEXT_MAX]; /* serial output, until the end of a line */
	uint32_t text_size;

	enum kvm_end end;
	uint32_t fault_vector;
	uint64_t fault_address, fault_rip, fault_rsp, fault_rbp;

	bool count_steps;
	uint64_t steps[WH_BOOT_STAGE_COUNT]; /* instructions until each stage, from KERNEL on */
};

static inline struct kvm *kvm_of(const struct wh_vmm_machine *m)
{
	return m->engine_state;
}

/* Asks the loop's thread and waits. false: the machine is being ended. vcpu.c calls, kvm.c answers. */
bool kvm_ask(struct kvm *k);
/* The vCPU thread's main. */
void *kvm_vcpu_main(void *k);

/* Registers at the PVH entry, time-stamp counter, CPUID. 0 or -errno. */
int kvm_vcpu_prepare(struct kvm *k, struct wh_diag *diag);

/* Fills the start info page. */
void kvm_start_info_write(void *page, const struct wh_vmm_machine *m);
/* The image's PVH entry as a file address. -WH_ENOEXEC: it has none. */
int kvm_image_entry(const struct wh_vmm_image *image, uint64_t *ret_address, struct wh_diag *diag);

/* What the guest's CPUID says. `host` gives the processor's (a test its own). */
struct kvm_cpuid_source {
	void (*read)(void *ctx, uint32_t leaf, uint32_t subleaf, uint32_t *ret_abcd);
	uint64_t (*xcr0)(void *ctx);
	void *ctx;
};
uint32_t kvm_cpuid_make(const struct kvm_cpuid_source *host, uint32_t tsc_khz,
			struct kvm_cpuid_entry2 *to);
extern const struct kvm_cpuid_source kvm_cpuid_host;

/* For counting harnesses, before start: the guest runs one instruction at a time until main;
 * afterwards kvm->steps says how many it took. */
void kvm_count_steps(struct wh_vmm_machine *m);
uint64_t kvm_steps_at(const struct wh_vmm_machine *m, enum wh_boot_stage stage);

#endif
