/* SPDX-License-Identifier: ISC */
/*
 * From the API call to the first instruction of a guest on kvm, beside the calls that no monitor can leave out: make a
 * machine, give it memory and a vCPU with its state, and let it run until its first exit. Both end with an exit that the guest
 * makes by its first instructions; ours contains the image, boot info, page tables, a thread and the loop besides.
 * `with CPUID`: the floor with the question for the supported CPUID, which monitors usually ask.
 * usage: bench-kvm-start KVM-GUEST [RUNS]
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <wherry/os.h>
#include <wherry/vmm.h>

#define RUNS_MAX 2000u
#define MEMORY (2u << 20)

static struct wh_loop *loop;
static struct wh_vmm_image *image;
static struct wh_vmm_exit result;

static double us(void)
{
	return (double)wh_os_now() / 1000;
}

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	result = *how;
	wh_loop_stop(loop, 0);
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* out %al, $0x10, in real mode: CS base 0, IP 0x1000. */
static double floor_run(bool ask_cpuid)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[128];
	} cpuid;
	double from = us();
	int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = ioctl(dev, KVM_CREATE_VM, 0);
	uint8_t *ram =
		mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = { .memory_size = MEMORY,
						    .userspace_addr = (uintptr_t)ram };
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	size_t size = (size_t)ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = 0x1000, .rflags = 2 };
	if (ram == MAP_FAILED || run == MAP_FAILED || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot))
		fail("kvm");
	memcpy(ram + 0x1000, "\xe6\x10\xf4", 3);
	if (ask_cpuid) {
		cpuid.head.nent = 128;
		if (ioctl(dev, KVM_GET_SUPPORTED_CPUID, &cpuid) ||
		    ioctl(vcpu, KVM_SET_CPUID2, &cpuid))
			fail("CPUID");
	}
	if (ioctl(vcpu, KVM_GET_SREGS, &s))
		fail("registers");
	s.cs.base = s.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &s) || ioctl(vcpu, KVM_SET_REGS, &r) ||
	    ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO)
		fail("run");
	double took = us() - from;
	munmap(run, size);
	munmap(ram, MEMORY);
	close(vcpu);
	close(vm);
	close(dev);
	return took;
}

static uint64_t mmio_read(void *ctx, uint64_t offset, uint32_t size)
{
	return 0;
}

static void mmio_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
}

static void nothing(void *ctx)
{
}

static void notified(void *ctx, uint32_t queue)
{
}

/* With one device, whose place the guest looks up. */
static double our_run(void)
{
	static const struct wh_vmm_slot_ops ops = { .mmio_read = mmio_read,
						    .mmio_write = mmio_write,
						    .notified = notified,
						    .drain = nothing };
	struct wh_vmm_slot_config slot_config = { .size = sizeof slot_config,
						  .virtio_id = 4,
						  .queue_count = 2 };
	struct wh_vmm_slot *slot;
	static const char *const argv[] = { "exit", NULL };
	struct wh_diag diag = { "" };
	struct wh_vmm_machine *m;
	struct wh_vmm_config config = { .size = sizeof config,
					.engine = WH_VMM_ENGINE_KVM,
					.memory_size = MEMORY,
					.argv = argv,
					.exited = ended };
	double from = us();
	if (wh_vmm_machine_new(&config, image, loop, &m, &diag) < 0 ||
	    wh_vmm_slot_add(m, &slot_config, &ops, NULL, &slot, &diag) < 0 ||
	    wh_vmm_machine_start(m, &diag) < 0) {
		fprintf(stderr, "%s\n", diag.text);
		exit(1);
	}
	wh_loop_run(loop);
	double took = us() - from;
	if (result.kind != WH_BOOT_EXIT_STATUS || result.value != 7)
		fail("the guest did not run");
	wh_vmm_machine_free(m);
	return took;
}

static int by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;
	return d < 0 ? -1 : d > 0;
}

static double show(const char *name, double *v, unsigned runs, double floor)
{
	qsort(v, runs, sizeof *v, by_value);
	printf("| %-30s | %7.0f | %7.0f | %7.0f | %5.2f |\n", name, v[0], v[runs / 2],
	       v[runs * 9 / 10], floor ? v[runs / 2] / floor : 1.0);
	return v[runs / 2];
}

int main(int argc, char **argv)
{
	static double v[3][RUNS_MAX];
	struct wh_diag diag = { "" };
	unsigned runs = argc > 2 ? (unsigned)atoi(argv[2]) : 200;
	if (argc < 2 || !runs || runs > RUNS_MAX) {
		fprintf(stderr, "usage: bench-kvm-start KVM-GUEST [RUNS]\n");
		return 2;
	}
	if (access("/dev/kvm", R_OK | W_OK)) {
		printf("skipped: no /dev/kvm\n");
		return 77;
	}
	if (wh_vmm_image_open(argv[1], &image, &diag) < 0 || wh_loop_new(&loop) < 0) {
		fprintf(stderr, "%s\n", diag.text);
		return 1;
	}
	(void)floor_run(true);
	(void)our_run();
	for (unsigned i = 0; i < runs; i++) {
		v[0][i] = floor_run(false);
		v[1][i] = floor_run(true);
		v[2][i] = our_run();
	}
	printf("| kvm, us                        |     min |  median |     p90 | ratio "
	       "|\n|---|---|---|---|---|\n");
	double floor = show("the calls, to the first exit", v[0], runs, 0);
	show("the calls, with CPUID", v[1], runs, floor);
	show("wherry: API call to first exit", v[2], runs, floor);
	return 0;
}
