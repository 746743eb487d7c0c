/* SPDX-License-Identifier: ISC */
/*
 * wherry run: a machine for one image, with its console on our descriptors.
 *
 * Starting is the product: nothing here touches what the options and the image do
 * not need, and nothing goes through stdio.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/errors.h>

#include "programs.h"
#include "machine_api.h"
#include "run.h"
#include "settings_store.h"

static void log_line(void *ctx, enum wh_log_level level, const char *subsystem,
		     unsigned long long id, const char *text)
{
	cli_error("%s: %s", subsystem, text);
}

static void guest_ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct run *r = ctx;
	r->how = *how;
	r->ended = true;
	if (r->options.gdb)
		run_gdb_ended(r);
	wh_loop_stop(r->loop, 0);
}

/* What a virtual machine's kernel says outside its console. */
static void serial_text(void *ctx, struct wh_vmm_machine *machine, const char *text, size_t size)
{
	(void)wh_os_write_all(STDERR_FILENO, text, size); /* nowhere to complain to */
}

static void signal_came(struct wh_os_signals *signals, int signal)
{
	if (signal == SIGCHLD)
		run_gdb_look(signals->ctx);
	else
		run_ask_to_stop(signals->ctx, signal);
}

static int take_signals(struct run *r)
{
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigaction(SIGPIPE, &ignore, NULL); /* a closed output is an error of write */
	r->signals.fn = signal_came;
	r->signals.ctx = r;
	int error = wh_os_signals_attach(&r->signals, r->loop, stops,
					 WH_ARRAY_COUNT(stops) - !r->options.gdb);
	if (error < 0)
		cli_error("cannot take signals (errno %d)", -error);
	return error;
}

/* Status for an error before the guest runs. */
static int status_of(int error)
{
	return error == -WH_ENOENT    ? CLI_NOT_FOUND
	       : error == -WH_ENOEXEC ? CLI_CANNOT_START
				      : CLI_ERROR;
}

/* Linux's boot header, or an ELF file that is no position-independent program of 64 bits, or a Multiboot header:
 * wherry-kernel knows more. */
static bool looks_like_kernel(const char *path)
{
	static const uint8_t multiboot[4] = { 0x02, 0xb0, 0xad, 0x1b };
	uint8_t head[8192];
	bool result = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
	if (n >= 0x206 && !memcmp(head + 0x202, "HdrS", 4))
		result = true;
	else if (n >= 8 && !memcmp(head, "WHPCSNP1", 8)) /* a snapshot of one */
		result = true;
	else if (n >= 20 && !memcmp(head, "\177ELF\2", 5) && head[16] == 2 /* ET_EXEC */)
		result = true;
	for (ssize_t i = 0; !result && i + 12 <= n; i += 4)
		result = !memcmp(head + i, multiboot, sizeof multiboot);
	wh_os_close(&fd);
	return result;
}

static bool is_position_independent(int fd)
{
	uint8_t type = 0;
	return pread(fd, &type, 1, 16) == 1 && type == 3; /* ET_DYN */
}

static int image_error(const struct run *r, int error, const struct wh_diag *diag)
{
	cli_error("%s: %s", r->options.from ? r->options.from : r->options.image, diag->text);
	return error == -WH_EACCES ? CLI_CANNOT_START : status_of(error);
}

static int open_snapshot(struct run *r, int fd, struct wh_diag *diag)
{
	int error = wh_vmm_snapshot_open_fd(fd, &r->snapshot, diag);
	if (error >= 0)
		r->image = wh_vmm_snapshot_image(r->snapshot);
	return error;
}

/* Opens the image. The guest's process begins before the file is read: it takes longest. */
static int open_image(struct run *r, char **argv)
{
	const struct run_options *o = &r->options;
	struct wh_diag diag = { "" };
	int fd = wh_vmm_image_file(o->from ? o->from : o->image, &diag);
	if (fd < 0)
		return image_error(r, fd, &diag);
	if ((o->trace || o->profile) && run_observe_image(r, &fd))
		return CLI_ERROR;
	int error = 0;
	if (o->from || is_position_independent(fd)) /* else it is none, and a process for nothing */
		error = wh_vmm_spare_new(&r->config, fd, &r->config.spare, &diag);
	if (error >= 0)
		error = o->from ? open_snapshot(r, fd, &diag)
				: wh_vmm_image_open_fd(fd, &r->image, &diag);
	if (error >= 0 && (o->initrd || o->append || o->cpus || o->trace_exits || o->lazy)) {
		cli_error("--initrd, --append, --cpus, --lazy and --trace-exits are for kernels; "
			  "%s is an "
			  "image",
			  o->image ? o->image : o->from);
		return CLI_ERROR;
	}
	if (error >= 0)
		return CLI_OK;
	if (error == -WH_ENOEXEC && looks_like_kernel(o->from ? o->from : o->image)) {
		wh_vmm_spare_free(r->config.spare);
		r->config.spare = NULL;
		if (!o->from)
			argv[o->replaced_at] = o->replaced;
		return program_exec("kernel", argv);
	}
	return image_error(r, error, &diag);
}

static int make_machine(struct run *r, uint64_t started, uint64_t opened)
{
	struct wh_diag diag = { "" };
	int status = run_devices_prepare(r, &r->config);
	if (status)
		return status;
	int error = r->snapshot
			    ? wh_vmm_machine_restore(&r->config, r->snapshot, r->loop, &r->machine,
						     &diag)
			    : wh_vmm_machine_new(&r->config, r->image, r->loop, &r->machine, &diag);
	r->config.spare = NULL;
	if (error < 0) {
		cli_error("%s: %s", r->options.from ? r->options.from : r->options.image,
			  diag.text);
		return CLI_ERROR;
	}
	wh_vmm_machine_mark(r->machine, WH_BOOT_STAGE_START, started);
	wh_vmm_machine_mark(r->machine, WH_BOOT_STAGE_IMAGE, opened);
	status = r->options.core ? run_core_open(r) : CLI_OK;
	if (!status && r->options.gdb)
		status = run_gdb_open(r);
	if (!status)
		status = run_devices_attach(r);
	wh_vmm_machine_mark(r->machine, WH_BOOT_STAGE_MACHINE, __builtin_ia32_rdtsc());
	return status;
}

/* Shows the stages as soon as the guest listens: a server never ends by itself. */
static bool watch_timeline(struct wh_loop_hook *hook)
{
	struct run *r = hook->ctx;
	uint64_t hz;
	const uint64_t *t = wh_vmm_machine_timeline(r->machine, &hz);
	if (t[WH_BOOT_STAGE_LISTEN] && !r->timeline_shown)
		run_report_timeline(r);
	else if (t[WH_BOOT_STAGE_REPLY] && !r->reply_shown)
		run_report_timeline(r);
	return false;
}

static int run_guest(struct run *r)
{
	struct wh_diag diag = { "" };
	if (take_signals(r) < 0)
		return CLI_ERROR;
	if (r->options.gdb && run_gdb_start(r))
		return CLI_ERROR;
	int error = wh_vmm_machine_start(r->machine, &diag);
	if (error < 0) {
		cli_error("%s", diag.text);
		return CLI_ERROR;
	}
	r->title = wh_vmm_image_manifest(r->image)->name;
	r->console_input = run_console_type;
	if ((r->config.observe_records && run_observe_start(r)) || machine_api_start(r)) {
		wh_vmm_machine_kill(r->machine);
		return CLI_ERROR;
	}
	if (run_confine(r)) {
		wh_vmm_machine_kill(r->machine);
		return CLI_ERROR;
	}
	if (r->options.timeline) {
		r->timeline_hook =
			(struct wh_loop_hook){ .before_sleep = watch_timeline, .ctx = r };
		wh_loop_hook_add(r->loop, &r->timeline_hook);
	}
	error = wh_loop_run(r->loop);
	if (error < 0 || !r->ended) {
		cli_error("cannot wait for the guest (errno %d)", -error);
		return CLI_ERROR;
	}
	int observed = r->config.observe_records ? run_observe_end(r) : CLI_OK;
	int status = run_report_exit(r);
	return status ? status : observed;
}

static void configure(struct run *r)
{
	struct run_options *o = &r->options;
	r->log =
		(struct wh_log){ .fn = log_line, .level = o->verbose ? WH_LOG_INFO : WH_LOG_ERROR };
	r->config = (struct wh_vmm_config){
		.size = sizeof r->config,
		.engine = o->engine,
		.sandbox = o->sandbox,
		.memory_size = o->memory_size,
		.stack_size = o->stack_size,
		.name = o->name,
		.argv = o->argv,
		.envp = o->env,
		.workdir = o->workdir,
		.log = r->log,
		.exited = guest_ended,
		.serial = serial_text,
		.thread_begins = run_confine_vcpu,
		.ctx = r,
	};
}

static int run_image(struct run *r, char **argv, uint64_t started)
{
	int status = machine_api_open(r);
	if (!status)
		status = open_image(r, argv);
	uint64_t opened = __builtin_ia32_rdtsc();
	if (!status && wh_loop_new(&r->loop) < 0) {
		cli_error("cannot make an event loop: too many open files?");
		status = CLI_ERROR;
	}
	if (!status)
		status = make_machine(r, started, opened);
	if (!status)
		status = run_guest(r);
	wh_vmm_spare_free(r->config.spare);
	return status;
}

int cmd_run(int argc, char **argv)
{
	static struct run run; /* one per process */
	struct run *r = &run;
	uint64_t started = __builtin_ia32_rdtsc();
	if (settings_expand(&argc, &argv))
		return CLI_ERROR;
	int result = run_options_read(&r->options, argc, argv);
	if (result != CLI_END)
		return result == CLI_HELP ? CLI_OK : CLI_ERROR;
	configure(r);
	run_confine_begin(r, argv);
	int status = run_image(r, argv, started);
	machine_api_close(r);
	if (r->options.core)
		run_core_write(r);
	if (!r->ended) { /* a guest that runs must not outlive us */
		wh_vmm_machine_free(r->machine);
		r->machine = NULL;
	}
	int finished = run_devices_finish(r);
	return status ? status : finished;
}
