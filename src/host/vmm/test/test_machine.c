/* SPDX-License-Identifier: ISC */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>
#include <wherry/vmm.h>

static const char *guest_path;

struct run {
	struct wh_loop *loop;
	struct wh_vmm_image *image;
	struct wh_vmm_machine *machine;
	struct wh_vmm_exit how;
	int ended;
};

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct run *r = ctx;
	r->how = *how;
	r->ended++;
	wh_loop_stop(r->loop, 0);
}

static struct wh_vmm_config config_of(struct run *r, const char *const *argv,
				      const char *const *envp)
{
	return (struct wh_vmm_config){
		.size = sizeof(struct wh_vmm_config),
		.engine = WH_VMM_ENGINE_PROC,
		.argv = argv,
		.envp = envp,
		.exited = ended,
		.ctx = r,
	};
}

static void prepare(struct run *r, const char *what, const char *value)
{
	const char *argv[] = { "guest", what, NULL }, *envp[] = { value, NULL };
	struct wh_vmm_config config = config_of(r, argv, envp);
	struct wh_diag diag = { "" };
	CHECK_EQ(wh_vmm_image_open(guest_path, &r->image, &diag), 0);
	int error = wh_vmm_machine_new(&config, r->image, r->loop, &r->machine, &diag);
	if (error < 0)
		test_fail(__FILE__, __LINE__, "machine_new: %d %s", error, diag.text);
}

static void start(struct run *r)
{
	struct wh_diag diag = { "" };
	int error = wh_vmm_machine_start(r->machine, &diag);
	if (error < 0)
		test_fail(__FILE__, __LINE__, "machine_start: %d %s", error, diag.text);
}

static void finish(struct run *r)
{
	wh_vmm_machine_free(r->machine);
	wh_vmm_image_close(r->image);
	wh_loop_free(r->loop);
}

static struct wh_vmm_exit run_guest(const char *what, const char *value)
{
	struct run r = { 0 };
	CHECK_EQ(wh_loop_new(&r.loop), 0);
	prepare(&r, what, value);
	start(&r);
	wh_loop_run(r.loop);
	CHECK_EQ(r.ended, 1);
	finish(&r);
	return r.how;
}

static unsigned descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void gives_the_boot_contract(void)
{
	struct wh_vmm_exit how = run_guest("check", "KEY=value");
	CHECK_STR(how.message, "");
	CHECK_EQ(how.host_signal, 0);
	CHECK_EQ(how.kind, WH_BOOT_EXIT_STATUS);
	CHECK_EQ(how.value, 42);
}

static void passes_the_exit_status(void)
{
	CHECK_EQ(run_guest("exit", "0").value, 0);
	CHECK_EQ(run_guest("exit", "123").value, 123);
	struct wh_vmm_exit how = run_guest("signal", "");
	CHECK_EQ(how.kind, WH_BOOT_EXIT_SIGNAL);
	CHECK_EQ(how.value, 6);
}

static void does_not_believe_the_guest(void)
{
	CHECK_EQ(run_guest("liar", "").kind, WH_BOOT_EXIT_NONE);
}

static void hands_over_signals(void)
{
	struct run r = { 0 };
	CHECK_EQ(wh_loop_new(&r.loop), 0);
	prepare(&r, "wait", "");
	start(&r);
	wh_vmm_machine_signal(r.machine, SIGTERM);
	wh_loop_run(r.loop);
	CHECK_EQ(r.how.kind, WH_BOOT_EXIT_SIGNAL);
	CHECK_EQ(r.how.value, SIGTERM);
	finish(&r);
}

static void kills_a_guest_that_never_answers(void)
{
	struct run r = { 0 };
	CHECK_EQ(wh_loop_new(&r.loop), 0);
	prepare(&r, "spin", "");
	start(&r);
	wh_vmm_machine_signal(r.machine, SIGTERM);
	CHECK_EQ(wh_loop_step(r.loop, 0) >= 0, 1);
	wh_vmm_machine_kill(r.machine);
	wh_loop_run(r.loop);
	CHECK_EQ(r.how.kind, WH_BOOT_EXIT_NONE);
	CHECK_EQ(r.how.host_signal, SIGKILL);
	finish(&r);
}

static void frees_in_every_state(void)
{
	struct run r = { 0 };
	wh_vmm_machine_free(NULL);
	CHECK_EQ(wh_loop_new(&r.loop), 0);
	prepare(&r, "spin", "");
	wh_vmm_machine_free(r.machine);
	wh_vmm_image_close(r.image);
	prepare(&r, "spin", "");
	start(&r);
	wh_vmm_machine_free(r.machine);
	wh_vmm_image_close(r.image);
	wh_loop_free(r.loop);
	CHECK_EQ(r.ended, 0);
}

static void leaks_no_descriptor(void)
{
	struct run r = { 0 };
	unsigned before = descriptors();
	for (int i = 0; i < 1000; i++) {
		r = (struct run){ 0 };
		CHECK_EQ(wh_loop_new(&r.loop), 0);
		prepare(&r, "exit", "1");
		if (i % 10 == 0) {
			start(&r);
			if (i % 20 == 0)
				wh_loop_run(r.loop);
		}
		finish(&r);
	}
	CHECK_EQ(descriptors(), before);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
	CHECK_EQ(errno, ECHILD);
}

struct echo {
	struct wh_vmm_slot *slot;
	unsigned count;
};

static void echo_kicked(void *ctx)
{
	struct echo *e = ctx;
	if (__atomic_exchange_n(&wh_vmm_slot_shm(e->slot)->kick, 0, __ATOMIC_SEQ_CST) != 1)
		return;
	e->count++;
	wh_vmm_slot_interrupt(e->slot, 1);
}

static void wakes_both_sides(void)
{
	struct run r = { 0 };
	struct echo e = { 0 };
	struct wh_vmm_slot_config slot = { .size = sizeof slot, .virtio_id = 4, .queue_count = 1 };
	struct wh_vmm_slot_ops ops = { .kicked = echo_kicked };
	CHECK_EQ(wh_loop_new(&r.loop), 0);
	prepare(&r, "echo", "2000");
	CHECK_EQ(wh_vmm_slot_add(r.machine, &slot, &ops, &e, &e.slot, NULL), 0);
	start(&r);
	wh_loop_run(r.loop);
	CHECK_EQ(r.how.value, 7);
	CHECK_EQ(e.count, 2000);
	finish(&r);
}

/* With each level that this host grants, and with none. */
static void confines_as_far_as_the_host_lets(void)
{
	static const enum wh_vmm_sandbox levels[] = { WH_VMM_SANDBOX_AUTO, WH_VMM_SANDBOX_MINIMAL,
						      WH_VMM_SANDBOX_STRICT };
	const char *argv[] = { "guest", "exit", NULL }, *envp[] = { "4", NULL };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(levels); i++) {
		struct run r = { 0 };
		struct wh_diag diag = { "" };
		CHECK_EQ(wh_loop_new(&r.loop), 0);
		struct wh_vmm_config config = config_of(&r, argv, envp);
		config.sandbox = levels[i];
		CHECK_EQ(wh_vmm_image_open(guest_path, &r.image, &diag), 0);
		int error = wh_vmm_machine_new(&config, r.image, r.loop, &r.machine, &diag);
		if (error >= 0)
			error = wh_vmm_machine_start(r.machine, &diag);
		if (error < 0) {
			CHECK_EQ(levels[i], WH_VMM_SANDBOX_STRICT);
			CHECK(diag.text[0]);
		} else {
			wh_loop_run(r.loop);
			CHECK_EQ(r.how.value, 4);
		}
		finish(&r);
	}
}

/* In a child that has used up its user namespaces: strict fails with a reason, auto goes on. */
static void lives_without_namespaces(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		FILE *f;
		if (unshare(CLONE_NEWUSER) ||
		    !(f = fopen("/proc/sys/user/max_user_namespaces", "w")))
			_exit(77);
		if (fputs("0", f) < 0 || fclose(f))
			_exit(77);
		const char *argv[] = { "guest", "exit", NULL }, *envp[] = { "4", NULL };
		struct run r = { 0 };
		struct wh_diag diag = { "" };
		int bad = wh_loop_new(&r.loop);
		struct wh_vmm_config config = config_of(&r, argv, envp);
		bad |= wh_vmm_image_open(guest_path, &r.image, &diag);
		config.sandbox = WH_VMM_SANDBOX_STRICT;
		bad |= wh_vmm_machine_new(&config, r.image, r.loop, &r.machine, &diag) >= 0;
		bad |= !diag.text[0];
		config.sandbox = WH_VMM_SANDBOX_AUTO;
		bad |= wh_vmm_machine_new(&config, r.image, r.loop, &r.machine, &diag);
		bad |= wh_vmm_machine_start(r.machine, &diag) < 0;
		if (!bad)
			wh_loop_run(r.loop);
		_exit(bad || r.how.value != 4);
	}
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		test_skip("no user namespaces to take away");
	CHECK_EQ(status, 0);
}

static const struct {
	const char *attack, *value;
	int signal;     /* 0 = the guest's own handler reports a page fault */
	uint64_t error; /* bits that must be set: 2 write, 16 fetch */
} attacks[] = {
	{ "write-text", "", 0, 2 },
	{ "write-rodata", "", 0, 2 },
	{ "write-relro", "", 0, 2 },
	{ "execute-data", "", 0, 16 },
	{ "execute-stack", "", 0, 16 },
	{ "execute-heap", "", 0, 16 },
	{ "read-null", "", 0, 0 },
	{ "read-outside", "", 0, 0 },
	{ "read-below", "", 0, 0 },
	{ "overflow-stack", "", 0, 2 },
	{ "system-call", "39", SIGSYS, 0 },
	{ "system-call", "41", SIGSYS, 0 },
	{ "system-call", "1073741863", SIGSYS, 0 },
	{ "system-call-32", "", SIGSYS, 0 },
	{ "write-other", "", SIGSYS, 0 },
	{ "futex-other", "", SIGSYS, 0 },
	{ "futex-wake", "", SIGSYS, 0 },
	{ "clock-other", "", SIGSYS, 0 },
};

static void holds_against_attacks(void)
{
	for (unsigned i = 0; i < WH_ARRAY_COUNT(attacks); i++) {
		struct wh_vmm_exit how = run_guest(attacks[i].attack, attacks[i].value);
		if (how.host_signal != attacks[i].signal ||
		    (!attacks[i].signal &&
		     (how.kind != WH_BOOT_EXIT_FAULT || how.fault_vector != 14 ||
		      (how.fault_error & 18) != attacks[i].error)))
			test_fail(__FILE__, __LINE__,
				  "%s %s: kind %d value %d signal %d error 0x%llx",
				  attacks[i].attack, attacks[i].value, (int)how.kind, how.value,
				  how.host_signal, (unsigned long long)how.fault_error);
	}
}

static void names_faults(void)
{
	struct wh_vmm_image *image;
	const char *name = "";
	uint64_t offset = 1;
	CHECK_EQ(wh_vmm_image_open(guest_path, &image, NULL), 0);
	CHECK_EQ(wh_vmm_image_symbol(image, wh_vmm_image_manifest(image)->trap_entry + 3, &name,
				     &offset),
		 0);
	CHECK_STR(name, "trap_entry");
	CHECK_EQ(offset, 3);
	CHECK_EQ(wh_vmm_image_symbol(image, 1ull << 40, &name, &offset), -WH_ENOENT);
	wh_vmm_image_close(image);
}

/* A program with an event loop of its own sleeps on the loop's descriptor. */
static void lives_in_another_loop(void)
{
	struct run r = { 0 };
	struct echo e = { 0 };
	struct wh_vmm_slot_config slot = { .size = sizeof slot, .virtio_id = 4, .queue_count = 1 };
	struct wh_vmm_slot_ops ops = { .kicked = echo_kicked };
	CHECK_EQ(wh_loop_new(&r.loop), 0);
	prepare(&r, "echo", "500");
	CHECK_EQ(wh_vmm_slot_add(r.machine, &slot, &ops, &e, &e.slot, NULL), 0);
	start(&r);
	while (!r.ended) {
		struct pollfd p = { .fd = wh_loop_fd(r.loop), .events = POLLIN };
		CHECK_EQ(poll(&p, 1, 10000), 1); /* a lost wake-up ends the test */
		CHECK(wh_loop_step(r.loop, 0) >= 0);
	}
	CHECK_EQ(e.count, 500);
	finish(&r);
}

static void refuses_bad_configs(void)
{
	struct run r = { 0 };
	struct wh_diag diag;
	const char *argv[] = { "guest", NULL };
	CHECK_EQ(wh_loop_new(&r.loop), 0);
	CHECK_EQ(wh_vmm_image_open(guest_path, &r.image, &diag), 0);
	struct wh_vmm_config config = config_of(&r, argv, NULL);
	config.memory_size = 64 << 10;
	CHECK_EQ(wh_vmm_machine_new(&config, r.image, r.loop, &r.machine, &diag), -WH_ENOMEM);
	config.memory_size = WH_MANIFEST_MEMORY_MAX + 1;
	CHECK_EQ(wh_vmm_machine_new(&config, r.image, r.loop, &r.machine, &diag), -WH_EINVAL);
	config.memory_size = 0;
	config.mount_count = WH_BOOT_MOUNTS_MAX + 1;
	CHECK_EQ(wh_vmm_machine_new(&config, r.image, r.loop, &r.machine, &diag), -WH_E2BIG);
	CHECK_EQ(wh_vmm_image_open("/nonexistent", &r.image, &diag), -WH_ENOENT);
	CHECK_EQ(wh_vmm_image_open("/bin/true", &r.image, &diag), -WH_ENOEXEC);
	CHECK_EQ(wh_vmm_image_open("/", &r.image, &diag), -WH_ENOEXEC);
	wh_vmm_image_close(r.image);
	wh_loop_free(r.loop);
}

int main(int argc, char **argv)
{
	guest_path = argv[1];
	RUN(gives_the_boot_contract);
	RUN(passes_the_exit_status);
	RUN(does_not_believe_the_guest);
	RUN(hands_over_signals);
	RUN(kills_a_guest_that_never_answers);
	RUN(frees_in_every_state);
	RUN(wakes_both_sides);
	RUN(lives_in_another_loop);
	RUN(leaks_no_descriptor);
	RUN(confines_as_far_as_the_host_lets);
	RUN(lives_without_namespaces);
	RUN(holds_against_attacks);
	RUN(names_faults);
	RUN(refuses_bad_configs);
	return test_end();
}
