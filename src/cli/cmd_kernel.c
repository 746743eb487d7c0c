/* SPDX-License-Identifier: ISC */
/*
 * wherry run for kernels: a PC with its serial port on our standard streams.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <wherry/base/errors.h>
#include <wherry/pc.h>
#include <wherry/solo5.h>

#include "kernel_serial.h"
#include "machine_api.h"
#include "machine_console.h"
#include "run.h"

#define COMMAND_LINE_DEFAULT "console=ttyS0"

struct kernel_run {
	struct run run; /* r->devices and the like are shared with images */
	struct wh_vmm_kernel *kernel;
	struct kernel_serial serial;
};

static void log_line(void *ctx, enum wh_log_level level, const char *subsystem,
		     unsigned long long id, const char *text)
{
	cli_error("%s: %s", subsystem, text);
}

static void guest_ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct kernel_run *k = ctx;
	k->run.how = *how;
	k->run.ended = true;
	wh_loop_stop(k->run.loop, 0);
}

static void serial_text(void *ctx, struct wh_vmm_machine *machine, const char *text, size_t size)
{
	struct kernel_run *k = ctx;
	machine_console_output(text, size);
	kernel_serial_output(&k->serial, text, size);
}

static void serial_room(void *ctx, struct wh_vmm_machine *machine)
{
	struct kernel_run *k = ctx;
	kernel_serial_room(&k->serial);
	machine_console_room();
}

static void quit(void *ctx)
{
	struct kernel_run *k = ctx;
	wh_vmm_machine_kill(k->run.machine);
}

static void snapshot_taken(void *ctx, int error, const struct wh_diag *diag)
{
	struct run *r = ctx;
	if (error < 0)
		cli_error("%s", diag->text);
	else
		cli_error("saved the machine to %s", r->options.snapshot);
}

/* The first request to stop presses the power button; the second one, or time, ends it. */
static void signal_came(struct wh_os_signals *signals, int signal)
{
	struct run *r = signals->ctx;
	struct wh_diag diag = { "" };
	if (signal != SIGUSR1)
		run_ask_to_stop(r, signal);
	else if (run_snapshot(r, r->options.snapshot, -1, snapshot_taken, r, &diag) < 0)
		cli_error("%s", diag.text);
}

static size_t type(struct run *r, const char *text, size_t size)
{
	struct kernel_run *k = WH_CONTAINER_OF(r, struct kernel_run, run);
	bool hvc = r->options.serial && wh_streq(r->options.serial, "hvc");
	return hvc ? run_console_type(r, text, size)
		   : wh_vmm_pc_serial_input(k->run.machine, text, size);
}

static int take_signals(struct run *r)
{
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1 };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigaction(SIGPIPE, &ignore, NULL); /* a closed output is an error of write */
	r->signals.fn = signal_came;
	r->signals.ctx = r;
	int error = wh_os_signals_attach(&r->signals, r->loop, stops,
					 WH_ARRAY_COUNT(stops) - !r->options.snapshot);
	if (error < 0)
		cli_error("cannot take signals (errno %d)", -error);
	return error;
}

static int check_options(const struct run_options *o)
{
	if (o->gdb || o->core) {
		cli_error("--gdb and --core are for images, not for kernels");
		return CLI_ERROR;
	}
	if (o->engine == WH_VMM_ENGINE_PROC) {
		cli_error("%s is a kernel, which needs the kvm engine", o->image);
		return CLI_CANNOT_START;
	}
	if (!o->from && (o->argv[1] || o->env_count)) {
		cli_error("%s is a kernel: it takes --append TEXT, no arguments or variables",
			  o->image);
		return CLI_ERROR;
	}
	return CLI_OK;
}

static int open_kernel(struct kernel_run *k)
{
	struct wh_diag diag = { "" };
	struct run_options *o = &k->run.options;
	const char *path = o->image;
	if (!o->from && wh_vmm_pc_is_snapshot(path))
		o->from = path;
	if (o->from)
		return CLI_OK;
	int error = wh_vmm_kernel_open(path, &k->kernel, &diag);
	if (error >= 0)
		return CLI_OK;
	cli_error("%s: %s", path, diag.text);
	return error == -WH_ENOENT                           ? CLI_NOT_FOUND
	       : error == -WH_ENOEXEC || error == -WH_EACCES ? CLI_CANNOT_START
							     : CLI_ERROR;
}

static int make_machine(struct kernel_run *k)
{
	struct run *r = &k->run;
	struct run_options *o = &r->options;
	struct wh_diag diag = { "" };
	struct wh_vmm_config shared = {
		.size = sizeof shared
	}; /* only images are told of mounts */
	int status = run_devices_prepare(r, &shared);
	if (status)
		return status;
	struct wh_vmm_pc_config config = {
		.size = sizeof config,
		.memory_size = o->memory_size,
		.cpus = o->cpus,
		.command_line = o->append ? o->append : COMMAND_LINE_DEFAULT,
		.initrd = o->initrd,
		.name = o->name,
		.log = r->log,
		.exited = guest_ended,
		.serial = serial_text,
		.serial_room = serial_room,
		.thread_begins = run_confine_vcpu,
		.from = o->from,
		.lazy = o->lazy,
		.fetcher_begins = run_confine_fetcher,
		.ctx = k,
	};
	if (wh_vmm_machine_new_pc(&config, k->kernel, r->loop, &r->machine, &diag) < 0) {
		cli_error("%s: %s", o->from ? o->from : o->image, diag.text);
		return CLI_ERROR;
	}
	status = run_devices_attach(r);
	if (!status && run_net_elsewhere(o))
		status = run_net_attach(r);
	return status ? status : run_kernel_devices_attach(r);
}

static void show_exits(const struct run *r)
{
	char text[512];
	size_t size = wh_vmm_pc_exits(r->machine, text, sizeof text - 1);
	text[sizeof text - 1] = 0;
	for (size_t at = 0; at < size && at < sizeof text;) {
		size_t n = strcspn(text + at, "\n");
		text[at + n] = 0;
		cli_error("exits %s", text + at);
		at += n + 1;
	}
}

static int report(const struct run *r)
{
	const struct wh_vmm_exit *how = &r->how;
	switch (how->kind) {
	case WH_BOOT_EXIT_STATUS:
		return how->value;
	case WH_BOOT_EXIT_FAULT:
		cli_error("the guest broke: %s", how->message);
		return CLI_GUEST_BROKE;
	default:
		if (how->host_signal == SIGKILL)
			return CLI_SIGNAL_BASE + SIGKILL;
		cli_error("%s", how->message[0] ? how->message : "the guest ended without a word");
		return CLI_ERROR;
	}
}

static int run_guest(struct kernel_run *k)
{
	struct run *r = &k->run;
	struct wh_diag diag = { "" };
	if (take_signals(r) < 0)
		return CLI_ERROR;
	k->serial.loop = r->loop;
	k->serial.machine = r->machine;
	k->serial.quit = quit;
	k->serial.ctx = k;
	if (kernel_serial_begin(&k->serial, r->options.serial) < 0)
		return CLI_ERROR;
	int started = wh_vmm_machine_start(r->machine, &diag);
	if (started < 0)
		cli_error("%s", diag.text);
	if (started < 0 || machine_api_start(r)) {
		kernel_serial_end(&k->serial);
		return CLI_ERROR;
	}
	int status = run_confine(r);
	if (status) {
		kernel_serial_end(&k->serial);
		return status;
	}
	int error = wh_loop_run(r->loop);
	kernel_serial_end(&k->serial);
	if (r->options.trace_exits)
		show_exits(r);
	if (error < 0 || !r->ended) {
		cli_error("cannot wait for the guest (errno %d)", -error);
		return CLI_ERROR;
	}
	return report(r);
}

static int run_kernel(struct kernel_run *k)
{
	struct run *r = &k->run;
	r->net_filter = run_net_limited;
	int status = check_options(&r->options);
	if (!status)
		status = open_kernel(k);
	if (status)
		return status;
	if (wh_loop_new(&r->loop) < 0) {
		cli_error("cannot make an event loop: too many open files?");
		return CLI_ERROR;
	}
	status = make_machine(k);
	wh_vmm_kernel_close(k->kernel);
	if (!status)
		status = run_guest(k);
	int finished = run_devices_finish(r);
	wh_vmm_machine_free(r->machine);
	run_kernel_devices_end();
	return status ? status : finished;
}

int cmd_run(int argc, char **argv)
{
	static struct kernel_run kernel; /* one per process */
	struct kernel_run *k = &kernel;
	struct run *r = &k->run;
	int result = run_options_read(&r->options, argc, argv);
	if (result != CLI_END)
		return result == CLI_HELP ? CLI_OK : CLI_ERROR;
	r->log = (struct wh_log){ .fn = log_line,
				  .level = r->options.verbose ? WH_LOG_INFO : WH_LOG_ERROR };
	const char *file = r->options.from ? r->options.from : r->options.image;
	r->title = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
	r->console_input = type;
	int status = machine_api_open(r);
	if (!status && !r->options.from && wh_vmm_solo5_looks_like(r->options.image))
		status = run_solo5(r);
	else if (!status)
		status = run_kernel(k);
	machine_api_close(r);
	return status;
}
