/* SPDX-License-Identifier: ISC */
#ifndef CLI_RUN_H
#define CLI_RUN_H

/*
 * `wherry run`, in parts: cmd_run.c reads the options and leads through start and end,
 * run_devices.c makes what the options ask for, run_report.c tells people how it went.
 */

#include <wherry/block_file.h>
#include <wherry/os.h>
#include <wherry/vmm.h>

#include "cli.h"
#include "gateway_options.h"

#define RUN_DISKS_MAX 16u
#define RUN_VOLUMES_MAX WH_BOOT_MOUNTS_MAX
#define RUN_ENV_MAX 1024u
/* From the first request to stop until the guest is killed. */
#define RUN_GRACE_MS 10000u

struct run_disk {
	char name[WH_BOOT_NAME_SIZE];
	char file[1024];
	enum wh_block_format
		format; /* NONE = not said: raw, unless the file looks like another one */
	bool read_only, no_discard;
	char serial[24];                              /* "" = the name */
	uint64_t requests_per_s, bytes_per_s, queues; /* 0 = no limit; 1 queue */
	enum wh_block_cache cache;
};

struct run_volume {
	char folder[1024];
	char path[WH_BOOT_PATH_SIZE];
	bool read_only;
	bool store;                   /* folder is REPO[@BRANCH], served by wherry-store */
	char name[WH_BOOT_NAME_SIZE]; /* of a store: its mount tag */
};

enum run_confine { RUN_CONFINE_ON, RUN_CONFINE_OFF, RUN_CONFINE_LOG };

struct run_options {
	enum wh_vmm_engine engine;
	enum run_confine confine;
	enum wh_vmm_sandbox sandbox;
	uint64_t memory_size, stack_size;
	struct run_disk *disks; /* parsed, RUN_DISKS_MAX; NULL = none */
	unsigned disk_count;
	struct run_volume *volumes; /* RUN_VOLUMES_MAX; NULL = none */
	unsigned volume_count;
	unsigned env_count;
	const char *name;
	const char *workdir; /* absolute; NULL = / */
	bool timeline, verbose, here;
	/* kernels only */
	const char *initrd, *append, *net, *serial, *vsock, *snapshot;
	uint64_t net_rate, balloon;
	unsigned cpus;
	bool trace_exits, lazy;
	const char *trace, *profile; /* wherry-run */
	const char *core;            /* where a core file goes; NULL = none */
	const char *gdb;             /* where gdb comes from; NULL = none */
	const char *from;            /* a snapshot, instead of an image */
	const char *image;
	const char *const *argv; /* of the guest, argv[0] first */
	int replaced_at;         /* the word of our own argv that this took, and what it was */
	char *replaced;
	struct gateway_options gateway;
	const char *env[RUN_ENV_MAX + 1]; /* NULL-terminated; last: most of it is never touched */
};

struct run_devices;
struct wh_net_port;

struct run {
	struct wh_log log;
	struct wh_vmm_config config;
	struct wh_loop *loop;
	struct wh_vmm_snapshot *snapshot;
	struct wh_vmm_image *image; /* NULL: it runs a kernel */
	struct wh_vmm_machine *machine;
	struct run_devices *devices;
	/* For the API of a named machine: what runs in it, for people; types on its console, returns how much was taken. */
	const char *title;
	size_t (*console_input)(struct run *r, const char *text, size_t size);
	/* Puts something between the network device and the gateway; NULL = nothing. */
	struct wh_net_port *(*net_filter)(struct run *r, struct wh_net_port *port);
	struct wh_os_signals signals;
	struct wh_loop_timer grace;
	struct wh_loop_hook timeline_hook;
	bool asked_to_stop, timeline_shown, reply_shown;
	bool ended, console_tty;
	bool none_inherited;    /* no descriptors of others are left */
	bool gateway;           /* there is one */
	const char *api_socket; /* of a named machine, or NULL */
	struct wh_vmm_exit how;
	struct run_options options;
};

/* Confines this process to what the running machine needs (wherry/confine.h), when everything is open and before the
 * loop looks at what the guest wrote. kvm: the machine's threads have confined themselves. 0 or an exit status. */
int run_confine(struct run *r);
/* Before anything is opened: closes what was inherited, unless an argument may name a descriptor. */
void run_confine_begin(struct run *r, char **argv);
/* For wh_vmm_config.thread_begins and for disks; ctx is the struct run. */
void run_confine_vcpu(void *run);
void run_confine_worker(void *run);
void run_confine_fetcher(void *run);

/* --core, in wherry-run only (run_core.c). */
int run_core_take(struct run_options *o, const char *value);
int run_core_open(struct run *r);
void run_core_write(struct run *r); /* when the guest has ended or will not run */

/* --gdb, in wherry-run only (run_gdb.c): the option's value; its socket, before the console is made; before the machine
 * starts; at SIGCHLD; when the guest has ended. 0, or an exit status or CLI_BAD. */
int run_gdb_take(struct run_options *o, const char *value);
int run_gdb_open(struct run *r);
int run_gdb_start(struct run *r);
void run_gdb_look(struct run *r);
void run_gdb_ended(struct run *r);

/* As if this signal had come: the first one goes to the guest (kernels: presses the power button); the second one, or time,
 * ends it. */
void run_ask_to_stop(struct run *r, int signal);
/* Reads argv. CLI_END, or what the command returns at once: CLI_BAD, CLI_HELP. */
int run_options_read(struct run_options *o, int argc, char **argv);
int run_disk_parse(const char *text, struct run_disk *ret_disk);
int run_volume_parse(const char *text, struct run_volume *ret_volume);
int run_store_parse(const char *text, struct run_volume *ret_volume);

/* Writes the machine to a new file, or to `fd` that somebody has opened (taken over; -1 = none); `done` is called then, perhaps before this returns. < 0: not begun, diag says why. */
int run_snapshot(struct run *r, const char *path, int fd,
		 void (*done)(void *ctx, int error, const struct wh_diag *diag), void *ctx,
		 struct wh_diag *diag);
void run_snapshot_end(void); /* the machine has ended */
/* The virtio console's input, besides our standard input; returns how much was taken. */
size_t run_console_type(struct run *r, const char *text, size_t size);

/* Runs a Solo5 binary (wherry/solo5.h); returns an exit status. */
int run_solo5(struct run *r);
/* Does --net lead the network elsewhere than to the gateway? */
static inline bool run_net_elsewhere(const struct run_options *o)
{
	return o->net && !wh_streq(o->net, "gateway");
}
/* Plugs the network device in and leads it there. */
int run_net_attach(struct run *r);
/* The port behind --net-rate, or the port itself. */
struct wh_net_port *run_net_limited(struct run *r, struct wh_net_port *port);
/* What kernels have besides: balloon, vsock. */
int run_kernel_devices_attach(struct run *r);
void run_kernel_devices_end(void); /* after the machine is freed */

/* What is needed before there is a machine (gateway, mounts); then the devices. Messages are
 * printed; 0 or an exit status. */
int run_devices_prepare(struct run *r, struct wh_vmm_config *config);
int run_devices_attach(struct run *r);
/* Brings disks to rest, for which it frees the machine. The end of the process gives back everything
 * else. CLI_OK or CLI_ERROR. */
int run_devices_finish(struct run *r);

/* observe.c, in wherry-run only: the image's file before it is used, the machine that has started, its end.
 * An exit status, after a message. */
int run_observe_image(struct run *r, int *fd) __attribute__((weak));
int run_observe_start(struct run *r) __attribute__((weak));
int run_observe_end(struct run *r) __attribute__((weak));

/* Tells how the guest ended, if that needs telling; returns the exit status. */
int run_report_exit(struct run *r);
void run_report_timeline(struct run *r);

#endif
