/* SPDX-License-Identifier: ISC */
/*
 * Counts the guest's instructions from the first one to main(), exactly: the virtual machine runs
 * one instruction at a time (KVM_GUESTDBG_SINGLESTEP). A repeated string
 * instruction counts each time it is interrupted in between, as the processor does.
 *
 * usage: count IMAGE [KERNEL_MAX MAIN_MAX [MEMORY_MIB]]
 * Prints both counts. Status 1: over a bound. 77: kvm cannot do it here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/loop.h>

#include "../../src/host/vmm/kvm/kvm_priv.h"

void wh_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct wh_loop *loop = ctx;
	if (how->message[0])
		fprintf(stderr, "guest: %s\n", how->message);
	wh_loop_stop(loop, how->kind == WH_BOOT_EXIT_NONE ? 77 : 0);
}

static uint64_t limit(int argc, char **argv, int at)
{
	return argc > at ? strtoull(argv[at], NULL, 10) : UINT64_MAX;
}

int main(int argc, char **argv)
{
	struct wh_diag diag = { "" };
	struct wh_vmm_image *image;
	struct wh_vmm_machine *machine;
	struct wh_loop *loop;
	const char *const arguments[] = { "count", NULL };
	if (argc < 2 || wh_vmm_image_open(argv[1], &image, &diag) < 0 || wh_loop_new(&loop) < 0) {
		fprintf(stderr, "count: %s\n", diag.text);
		return 2;
	}
	struct wh_vmm_config config = { .size = sizeof config,
					.engine = WH_VMM_ENGINE_KVM,
					.memory_size = (argc > 4 ? limit(argc, argv, 4) : 64) << 20,
					.argv = arguments,
					.exited = ended,
					.ctx = loop };
	if (wh_vmm_machine_new(&config, image, loop, &machine, &diag) < 0) {
		printf("skipped: %s\n", diag.text);
		return 77;
	}
	kvm_count_steps(machine);
	if (wh_vmm_machine_start(machine, &diag) < 0) {
		printf("skipped: %s\n", diag.text);
		return 77;
	}
	int status = wh_loop_run(loop);
	uint64_t kernel = kvm_steps_at(machine, WH_BOOT_STAGE_KERNEL);
	uint64_t to_main = kvm_steps_at(machine, WH_BOOT_STAGE_MAIN);
	printf("%s: %llu instructions to the C library, %llu to main\n", argv[1],
	       (unsigned long long)kernel, (unsigned long long)to_main);
	wh_vmm_machine_free(machine);
	wh_vmm_image_close(image);
	wh_loop_free(loop);
	if (status)
		return status;
	return !to_main || kernel > limit(argc, argv, 2) || to_main > limit(argc, argv, 3);
}
