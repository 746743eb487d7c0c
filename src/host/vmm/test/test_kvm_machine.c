/* SPDX-License-Identifier: ISC */
/*
 * The kvm engine with a real virtual machine: register accesses, kicks, the serial port, ways to
 * end, and ending it in the middle of each. The guest (kvm_guest.S) needs no SSE, so any
 * /dev/kvm will do. usage: test-kvm-machine KVM-GUEST
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>
#include <wherry/test.h>
#include <wherry/vmm.h>

/* What kvm_guest.S has as numbers. */
_Static_assert(offsetof(struct wh_boot_info, control) == 104, "");
_Static_assert(offsetof(struct wh_boot_info, devices) == 112, "");
_Static_assert(offsetof(struct wh_boot_info, strings) == 128, "");
_Static_assert(offsetof(struct wh_boot_info, image_base) == 24, "");
_Static_assert(offsetof(struct wh_boot_device, regs) == 16, "");
_Static_assert(offsetof(struct wh_boot_control, guest_sleeping) == 64, "");
_Static_assert(offsetof(struct wh_boot_control, exit_kind) == 68, "");
_Static_assert(offsetof(struct wh_boot_control, exit_value) == 72, "");
#define ROUNDS 20000u

static struct wh_vmm_image *image;
static struct {
	struct wh_loop *loop;
	struct wh_vmm_machine *machine;
	struct wh_vmm_slot *slot;
	struct wh_vmm_exit how;
	struct wh_loop_timer timer;
	bool ended, kill_on_write, interrupt_on_write;
	uint64_t regs[0x200 / 8];
	uint32_t reads, writes, odd_notifies, notified[2], drained;
	char text[2048];
	size_t text_size;
} t;

static uint64_t mmio_read(void *ctx, uint64_t offset, uint32_t size)
{
	uint64_t value = 0;
	CHECK(offset + size <= sizeof t.regs);
	memcpy(&value, (uint8_t *)t.regs + offset, size);
	t.reads++;
	return value;
}

static void mmio_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	CHECK(offset + size <= sizeof t.regs);
	memcpy((uint8_t *)t.regs + offset, &value, size);
	t.writes++;
	t.odd_notifies += offset == 0x50;
	if (t.kill_on_write)
		wh_vmm_machine_kill(t.machine);
	if (t.interrupt_on_write)
		wh_vmm_slot_interrupt(t.slot, 1);
}

static void notified(void *ctx, uint32_t queue)
{
	CHECK(queue < 2);
	t.notified[queue]++;
}

static void drain(void *ctx)
{
	t.drained++;
}

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	t.how = *how;
	t.ended = true;
	wh_loop_stop(t.loop, 0);
}

static void serial(void *ctx, struct wh_vmm_machine *machine, const char *text, size_t size)
{
	CHECK(t.text_size + size <= sizeof t.text);
	memcpy(t.text + t.text_size, text, size);
	t.text_size += size;
}

static void make(const char *what)
{
	static const struct wh_vmm_slot_ops ops = { .mmio_read = mmio_read,
						    .mmio_write = mmio_write,
						    .notified = notified,
						    .drain = drain };
	const char *const arguments[] = { what, NULL };
	struct wh_vmm_config config = { .size = sizeof config,
					.engine = WH_VMM_ENGINE_KVM,
					.memory_size = 2u << 20,
					.argv = arguments,
					.exited = ended,
					.serial = serial };
	struct wh_vmm_slot_config slot = { .size = sizeof slot, .virtio_id = 4, .queue_count = 2 };
	struct wh_diag diag = { "" };
	memset(&t, 0, sizeof t);
	CHECK_EQ(wh_loop_new(&t.loop), 0);
	if (wh_vmm_machine_new(&config, image, t.loop, &t.machine, &diag) < 0) {
		wh_loop_free(t.loop);
		test_skip(diag.text);
	}
	CHECK_EQ(wh_vmm_slot_add(t.machine, &slot, &ops, NULL, &t.slot, &diag), 0);
	CHECK_EQ(wh_vmm_machine_start(t.machine, &diag), 0);
}

static void give_up(struct wh_loop_timer *timer)
{
	wh_loop_stop(t.loop, -1);
}

static void finish(void)
{
	wh_vmm_machine_free(t.machine);
	wh_loop_free(t.loop);
}

static void run(const char *what)
{
	make(what);
	wh_loop_timer_init(&t.timer, give_up, NULL);
	wh_loop_timer_start(t.loop, &t.timer, wh_os_now() + 30000000000ull);
	int status = wh_loop_run(t.loop);
	if (t.ended && strstr(t.how.message, "cannot run kernel-mode"))
		test_skip("this KVM emulates too little");
	CHECK_EQ(status, 0);
	CHECK(t.ended);
	CHECK_EQ(t.drained, 1);
}

static void exits(void)
{
	run("e");
	CHECK_EQ(t.how.kind, WH_BOOT_EXIT_STATUS);
	CHECK_EQ(t.how.value, 7);
	finish();
}

static void registers_reach_the_device(void)
{
	run("m");
	CHECK_EQ(t.how.value, 7);
	CHECK_EQ(t.reads, ROUNDS + 1);
	CHECK_EQ(t.writes, ROUNDS + 1);
	finish();
}

static void kicks_come_by_eventfd(void)
{
	run("n");
	CHECK_EQ(t.how.value, 7);
	CHECK_EQ(t.odd_notifies, 1);
	CHECK_EQ(t.writes, 1);
	CHECK(t.notified[0] >= 1); /* once more at the end */
	CHECK(t.notified[1] >= 1);
	finish();
}

static void repeats_a_kick(void)
{
	make("l");
	wh_vmm_slot_again(t.slot, 1);
	for (int i = 0; i < 100 && !t.notified[1]; i++)
		CHECK(wh_loop_step(t.loop, 100) >= 0);
	CHECK_EQ(t.notified[1], 1);
	CHECK_EQ(t.notified[0], 0);
	finish();
}

static void serial_port_writes(void)
{
	run("s");
	CHECK_EQ(t.how.value, 0x60); /* line status: ready */
	CHECK_EQ(t.text_size, 602);
	CHECK_EQ(t.text[599], 'a');
	CHECK_EQ(t.text[600], '\n');
	CHECK_EQ(t.text[601], 'z');
	finish();
}

static void interrupts_are_counted(void)
{
	make("w");
	t.interrupt_on_write = true;
	CHECK_EQ(wh_loop_run(t.loop), 0);
	CHECK_EQ(t.how.value, 7);
	finish();
}

static void faults_are_told(void)
{
	static const char *const modes[] = { "o", "t", "f" };
	for (size_t i = 0; i < WH_ARRAY_COUNT(modes); i++) {
		run(modes[i]);
		CHECK_EQ(t.how.kind, WH_BOOT_EXIT_FAULT);
		CHECK(strstr(t.how.message, i == 2 ? "triple fault" : "outside its memory"));
		finish();
	}
}

static void killed_wherever_it_is(void)
{
	static const char *const modes[] = { "l", "h", "m" };
	for (size_t i = 0; i < WH_ARRAY_COUNT(modes); i++) {
		make(modes[i]);
		while (!t.writes)
			CHECK(wh_loop_step(t.loop, 1000) >= 0);
		wh_vmm_machine_kill(t.machine);
		while (!t.ended)
			CHECK(wh_loop_step(t.loop, 1000) >= 0);
		CHECK_EQ(t.how.kind, WH_BOOT_EXIT_NONE);
		CHECK_EQ(t.how.host_signal, SIGKILL);
		finish();
	}
	make("m"); /* by the device, in the middle of an access */
	t.kill_on_write = true;
	while (!t.ended)
		CHECK(wh_loop_step(t.loop, 1000) >= 0);
	CHECK_EQ(t.how.host_signal, SIGKILL);
	finish();
}

static void freed_wherever_it_is(void)
{
	static const char *const modes[] = { "l", "h", "m", "e" };
	for (size_t i = 0; i < WH_ARRAY_COUNT(modes); i++)
		for (int steps = 0; steps < 3; steps++) {
			make(modes[i]);
			for (int n = 0; n < steps; n++)
				CHECK(wh_loop_step(t.loop, 1) >= 0);
			finish();
		}
	/* never started */
	make("e");
	finish();
}

static void refuses_too_much_memory(void)
{
	struct wh_vmm_config config = { .size = sizeof config,
					.engine = WH_VMM_ENGINE_KVM,
					.memory_size = 3ull << 30 };
	struct wh_diag diag = { "" };
	memset(&t, 0, sizeof t);
	CHECK_EQ(wh_loop_new(&t.loop), 0);
	if (wh_vmm_machine_new(&config, image, t.loop, &t.machine, &diag) < 0) {
		wh_loop_free(t.loop);
		test_skip(diag.text);
	}
	CHECK_EQ(wh_vmm_machine_start(t.machine, &diag), -WH_ENOMEM);
	CHECK(strstr(diag.text, "2560 MiB"));
	finish();
}

int main(int argc, char **argv)
{
	struct wh_diag diag = { "" };
	if (argc < 2 || wh_vmm_image_open(argv[1], &image, &diag) < 0) {
		printf("usage: test-kvm-machine KVM-GUEST: %s\n", diag.text);
		return 2;
	}
	RUN(exits);
	RUN(registers_reach_the_device);
	RUN(kicks_come_by_eventfd);
	RUN(repeats_a_kick);
	RUN(serial_port_writes);
	RUN(interrupts_are_counted);
	RUN(faults_are_told);
	RUN(killed_wherever_it_is);
	RUN(freed_wherever_it_is);
	RUN(refuses_too_much_memory);
	wh_vmm_image_close(image);
	return test_end();
}
