/* SPDX-License-Identifier: ISC */
/*
 * What the monitor of a machine still may once the machine runs: `wherry run --confine`.
 */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/confine.h>

#include "run.h"

/* The host's files about names, and where they lead when they are links; looked at again while the guest runs. Whole
 * folders, because these files are replaced, not written. */
static const char *const name_folders[] = { "/etc", "/run/systemd/resolve", "/run/resolvconf",
					    "/run/NetworkManager", "/run/connman" };

#define PATHS_MAX (RUN_VOLUMES_MAX + WH_ARRAY_COUNT(name_folders) + 8)

struct paths {
	struct wh_confine_path path[PATHS_MAX];
	uint32_t count;
	char text[4096]; /* of those that are made here */
	size_t used;
};

static void allow(struct paths *p, const char *path, uint32_t access)
{
	if (path && p->count < PATHS_MAX)
		p->path[p->count++] = (struct wh_confine_path){ path, access };
}

/* The folder that a file is in. */
static void allow_folder_of(struct paths *p, const char *path, uint32_t access)
{
	if (!path)
		return;
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) + (slash == path) : 1;
	if (n >= sizeof p->text - p->used)
		return;
	char *to = p->text + p->used;
	memcpy(to, slash ? path : ".", n);
	to[n] = 0;
	p->used += n + 1;
	allow(p, to, access);
}

static uint32_t list(const struct run *r, struct paths *p)
{
	const struct run_options *o = &r->options;
	bool proc = wh_vmm_machine_engine(r->machine) == WH_VMM_ENGINE_PROC;
	uint32_t parts = WH_CONFINE_LOOP | (proc ? WH_CONFINE_PROC : WH_CONFINE_KVM);
	if (r->gateway) {
		parts |= WH_CONFINE_NETWORK;
		for (size_t i = 0; i < WH_ARRAY_COUNT(name_folders); i++)
			allow(p, name_folders[i], WH_CONFINE_READ);
	}
	if (run_net_elsewhere(o) || o->volume_count)
		parts |= WH_CONFINE_LOCAL; /* sockets that exist */
	if (o->gdb)
		parts |= WH_CONFINE_TRACE | WH_CONFINE_LOCAL;
	if (o->gdb && !strncmp(o->gdb, "unix:", 5))
		allow_folder_of(p, o->gdb + 5, WH_CONFINE_REMOVE);
	if (o->disk_count)
		parts |= WH_CONFINE_BLOCK | WH_CONFINE_THREADS;
	for (unsigned i = 0; i < o->volume_count; i++) {
		if (o->volumes[i].store)
			continue; /* another program's files */
		parts |= WH_CONFINE_FILES;
		allow(p, o->volumes[i].folder,
		      WH_CONFINE_READ | (o->volumes[i].read_only ? 0 : WH_CONFINE_WRITE));
	}
	if (o->name || o->gateway.control.path || o->vsock || o->serial)
		parts |= WH_CONFINE_LOCAL;
	allow_folder_of(p, r->api_socket, WH_CONFINE_REMOVE);
	allow_folder_of(p, o->gateway.control.path, WH_CONFINE_REMOVE);
	allow(p, o->gateway.control.settings, WH_CONFINE_READ);
	allow_folder_of(p, o->vsock, WH_CONFINE_REMOVE);
	allow_folder_of(p, o->snapshot, WH_CONFINE_WRITE);
	allow_folder_of(p, o->core, WH_CONFINE_REMOVE);
	const char *serial = o->serial ? strchr(o->serial, '=') : NULL;
	allow_folder_of(p, serial ? serial + 1 : NULL, WH_CONFINE_REMOVE);
	return parts;
}

static enum wh_confine_violation violation(const struct run *r)
{
	return r->options.confine == RUN_CONFINE_LOG ? WH_CONFINE_LOG : WH_CONFINE_TRAP;
}

/* The call was not made. No more is done than saying so: who knows why it was asked for. */
static void refused(int number, siginfo_t *info, void *context)
{
	cli_error("internal error: system call %d is not one of a monitor's; please report it "
		  "(--confine off goes on without this check)",
		  info->si_syscall);
	_exit(CLI_ERROR);
}

static void tell_missing(uint32_t missing)
{
	if (missing & WH_CONFINE_NO_LANDLOCK)
		cli_error("this kernel has no Landlock that would do: the monitor's files are not "
			  "confined");
	if (missing & WH_CONFINE_NO_FILTER)
		cli_error("this kernel has no seccomp filters: the monitor's system calls are not "
			  "confined");
	if (missing & WH_CONFINE_NO_DESCRIPTORS)
		cli_error("/proc is not there: inherited descriptors stay open");
}

void run_confine_begin(struct run *r, char **argv)
{
	/* the service manager's are passed without a word in argv */
	if (r->options.confine == RUN_CONFINE_OFF || r->options.gateway.activate)
		return;
	for (; *argv; argv++) /* fd=3, /dev/fd/63 */
		if (strstr(*argv, "fd"))
			return;
	r->none_inherited = !syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
}

int run_confine(struct run *r)
{
	struct paths paths = { .count = 0, .used = 0 };
	struct sigaction action = { .sa_sigaction = refused, .sa_flags = SA_SIGINFO };
	struct wh_diag diag = { "" };
	uint32_t missing = 0;
	if (r->options.confine == RUN_CONFINE_OFF)
		return CLI_OK;
	struct wh_confine_config config = { .size = sizeof config,
					    .violation = violation(r),
					    .paths = paths.path,
					    .none_inherited = r->none_inherited };
	config.parts = list(r, &paths);
	config.path_count = paths.count;
	sigaction(SIGSYS, &action, NULL);
	if (wh_confine_process(&config, &missing, &diag) < 0) {
		cli_error("%s (--confine off goes on without)", diag.text);
		return CLI_ERROR;
	}
	if (missing && r->options.verbose)
		tell_missing(missing);
	return CLI_OK;
}

/* What a thread cannot have the process has not either, and that is told once. */
static void confine_thread(const struct run *r, uint32_t parts)
{
	if (r->options.confine != RUN_CONFINE_OFF)
		(void)wh_confine_thread(parts, violation(r));
}

void run_confine_vcpu(void *run)
{
	confine_thread(run, WH_CONFINE_VCPU);
}

void run_confine_fetcher(void *run)
{
	confine_thread(run, WH_CONFINE_FETCH);
}

void run_confine_worker(void *run)
{
	confine_thread(run, WH_CONFINE_WORKER);
}
