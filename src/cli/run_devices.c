/* SPDX-License-Identifier: ISC */
/*
 * The devices of `wherry run`, made only when the options or the image need them.
 *
 * Two steps around the making of the machine: prepare settles what must be in boot info (network
 * addresses, mounts), attach opens and plugs in. The guest's process is made meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/block_file.h>
#include <wherry/dev_9p.h>
#include <wherry/dev_blk.h>
#include <wherry/dev_console.h>
#include <wherry/dev_net.h>
#include <wherry/dev_rng.h>
#include <wherry/gateway.h>

#include "machine_console.h"
#include "programs.h"
#include "run.h"

/* What the gateway's stack takes from a device. */
#define OFFLOADS (WH_NET_LINK_CSUM | WH_NET_LINK_TSO4 | WH_NET_LINK_TSO6 | WH_NET_LINK_USO)

/* How long a client may take to fetch what the guest sent before it ended. */
#define NETWORK_FINISH_MS 3000u

struct disk {
	struct wh_block_image *image;
	struct wh_dev_blk *device;
};

struct volume {
	struct wh_p9_hostdir *folder;
	struct wh_dev_9p *device;
	struct wh_dev_9p_relay *relay; /* a store's */
};

struct run_devices {
	struct wh_dev_console *console;
	struct wh_dev_rng *rng;
	bool network;
	struct wh_gateway *gateway;
	struct wh_dev_net *net;
	struct wh_boot_net addresses;
	uint8_t guest_mac[6];
	struct wh_blockio *io; /* of all disks */
	struct disk *disks;
	struct volume *volumes;
	struct wh_boot_mount *mounts;
};

/* ---- network ---- */

static void *no_memory(void)
{
	cli_error("no memory");
	return NULL;
}

static struct wh_gateway_config gateway_config(const struct run *r)
{
	struct wh_gateway_config c = WH_GATEWAY_CONFIG_INIT;
	c.log = r->log;
	gateway_options_config(&r->options.gateway, &c);
	c.hostname = r->options.name ? r->options.name
		     : r->image      ? wh_vmm_image_manifest(r->image)->name
				     : "linux";
	return c;
}

/* The addresses that the guest is told at boot. */
static int prepare_network(struct run *r, struct wh_vmm_config *config)
{
	struct run_devices *d = r->devices;
	struct wh_gateway_config gateway = gateway_config(r);
	struct wh_gateway_addresses a;
	struct wh_diag diag = { "" };
	if (wh_gateway_config_addresses(&gateway, &a, &diag) < 0) {
		cli_error("network: %s", diag.text);
		return CLI_ERROR;
	}
	d->addresses = (struct wh_boot_net){ .prefix4 = a.prefix4, .prefix6 = a.prefix6 };
	memcpy(d->addresses.ip4, a.guest_ip4, 4);
	memcpy(d->addresses.gw4, a.gateway_ip4, 4);
	memcpy(d->addresses.dns4, a.dns_ip4, 4);
	memcpy(d->addresses.gw_mac, a.gateway_mac, 6);
	memcpy(d->addresses.ip6, a.guest_ip6, 16);
	memcpy(d->addresses.gw6, a.gateway_ip6, 16);
	memcpy(d->addresses.dns6, a.dns_ip6, 16);
	memcpy(d->guest_mac, a.guest_mac, 6);
	config->net = &d->addresses;
	d->network = true;
	return CLI_OK;
}

static int attach_network(struct run *r)
{
	struct run_devices *d = r->devices;
	struct wh_diag diag = { "" };
	struct wh_dev_net_config config = { .size = sizeof config,
					    .offloads = OFFLOADS,
					    .log = r->log };
	memcpy(config.mac, d->guest_mac, 6);
	struct wh_gateway_config gateway = gateway_config(r);
	int error = wh_gateway_new(&gateway, r->loop, &d->gateway, &diag);
	r->gateway = error >= 0;
	if (error >= 0)
		error = wh_dev_net_new(&config, r->machine, &d->net, &diag);
	if (error >= 0) {
		struct wh_net_port *port = wh_dev_net_port(d->net);
		error = wh_gateway_attach(d->gateway,
					  r->net_filter ? r->net_filter(r, port) : port);
	}
	if (error < 0) {
		cli_error("network: %s (errno %d)", diag.text, -error);
		return CLI_ERROR;
	}
	return gateway_options_start(&r->options.gateway, d->gateway, r->loop,
				     r->options.verbose || r->options.timeline);
}

/* ---- disks ---- */

static int open_disks(struct run *r)
{
	struct run_options *o = &r->options;
	struct wh_diag diag = { "" };
	r->devices->disks = calloc(o->disk_count, sizeof *r->devices->disks);
	if (!r->devices->disks)
		return no_memory(), CLI_ERROR;
	struct wh_blockio_config io = {
		.size = sizeof io, .loop = r->loop, .thread_begins = run_confine_worker, .ctx = r
	};
	if (o->disk_count && wh_blockio_new(&io, &r->devices->io, &diag) < 0) {
		cli_error("--disk: %s", diag.text);
		return CLI_ERROR;
	}
	for (unsigned i = 0; i < o->disk_count; i++) {
		struct wh_block_image_config config = { .size = sizeof config,
							.path = o->disks[i].file,
							.format = o->disks[i].format,
							.flags = o->disks[i].read_only
									 ? WH_BLOCK_FILE_READ_ONLY
									 : 0,
							.io = r->devices->io,
							.cache = o->disks[i].cache,
							.codec = wh_block_inflate_codec(),
							.log = r->log };
		if (wh_block_image_open(&config, &r->devices->disks[i].image, &diag) < 0) {
			cli_error("--disk %s: %s", o->disks[i].name, diag.text);
			return CLI_ERROR;
		}
	}
	return CLI_OK;
}

static int attach_disks(struct run *r)
{
	struct wh_diag diag = { "" };
	for (unsigned i = 0; i < r->options.disk_count; i++) {
		struct disk *d = &r->devices->disks[i];
		struct wh_dev_blk_config config = { .size = sizeof config,
						    .block = wh_block_image_block(d->image),
						    .name = r->options.disks[i].name,
						    .log = r->log,
						    .loop = r->loop };
		const struct run_disk *o = &r->options.disks[i];
		config.serial = o->serial[0] ? o->serial : NULL;
		config.queues = (uint32_t)o->queues;
		config.no_discard = o->no_discard;
		config.requests_per_s = o->requests_per_s;
		config.bytes_per_s = o->bytes_per_s;
		if (wh_dev_blk_new(&config, r->machine, &d->device, &diag) < 0) {
			cli_error("--disk %s: %s", config.name, diag.text);
			return CLI_ERROR;
		}
	}
	return CLI_OK;
}

/* ---- folders ---- */

static int prepare_volumes(struct run *r, struct wh_vmm_config *config)
{
	struct run_options *o = &r->options;
	struct run_devices *d = r->devices;
	d->volumes = calloc(o->volume_count, sizeof *d->volumes);
	d->mounts = calloc(o->volume_count, sizeof *d->mounts);
	if (!d->volumes || !d->mounts)
		return no_memory(), CLI_ERROR;
	for (unsigned i = 0; i < o->volume_count; i++) {
		struct wh_boot_mount *m = &d->mounts[i];
		if (o->volumes[i].store)
			wh_format(m->tag, sizeof m->tag, "%s", o->volumes[i].name);
		else if (r->image)
			wh_format(m->tag, sizeof m->tag, "volume%u", i);
		else if (wh_format(m->tag, sizeof m->tag, "%s", o->volumes[i].path) >=
			 sizeof m->tag) {
			cli_error("-v %s: PATH is the mount tag of a kernel, at most %u bytes",
				  o->volumes[i].path, (unsigned)sizeof m->tag - 1);
			return CLI_ERROR;
		}
		wh_format(m->path, sizeof m->path, "%s", o->volumes[i].path);
		m->flags = o->volumes[i].read_only ? WH_BOOT_MOUNT_READONLY : 0;
	}
	config->mounts = d->mounts;
	config->mount_count = o->volume_count;
	return CLI_OK;
}

/* A store is served by a process of its own, which ends with the connection. */
static int attach_store(struct run *r, unsigned index)
{
	const struct run_volume *o = &r->options.volumes[index];
	struct wh_diag diag = { "" };
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
		cli_error("--store %s: %s", o->name, strerror(errno));
		return CLI_ERROR;
	}
	pid_t child = fork();
	if (!child) {
		char *argv[] = { (char[]){ "store" },
				 (char[]){ "serve" },
				 (char *)(uintptr_t)o->folder,
				 (char[]){ "--listen" },
				 (char[]){ "fd:3" },
				 o->read_only ? (char[]){ "--read-only" } : NULL,
				 NULL };
		if (pair[1] == 3)
			fcntl(3, F_SETFD, 0);
		else
			dup2(pair[1], 3);
		setpgid(0, 0); /* the guest may want to store something after a ^C */
		_exit(program_exec("store", argv));
	}
	close(pair[1]);
	struct wh_dev_9p_relay_config c = { .size = sizeof c,
					    .tag = r->devices->mounts[index].tag,
					    .fd = pair[0],
					    .loop = r->loop,
					    .log = r->log };
	if (child < 0) {
		cli_error("--store %s: %s", o->name, strerror(errno));
	} else if (wh_dev_9p_relay_new(&c, r->machine, &r->devices->volumes[index].relay, &diag) >=
		   0) {
		return CLI_OK;
	} else {
		cli_error("--store %s: %s", o->name, diag.text);
	}
	close(pair[0]);
	return CLI_ERROR;
}

static int attach_volumes(struct run *r)
{
	struct wh_diag diag = { "" };
	for (unsigned i = 0; i < r->options.volume_count; i++) {
		struct volume *v = &r->devices->volumes[i];
		if (r->options.volumes[i].store) {
			int status = attach_store(r, i);
			if (status)
				return status;
			continue;
		}
		struct wh_dev_9p_config config = { .size = sizeof config,
						   .tag = r->devices->mounts[i].tag,
						   .ops = &wh_p9_hostdir_ops,
						   .read_only = r->options.volumes[i].read_only,
						   .log = r->log };
		int error = wh_p9_hostdir_open(r->options.volumes[i].folder, &v->folder, &diag);
		config.ctx = v->folder;
		if (error >= 0)
			error = wh_dev_9p_new(&config, r->machine, &v->device, &diag);
		if (error < 0) {
			cli_error("-v %s: %s", r->options.volumes[i].folder, diag.text);
			return CLI_ERROR;
		}
	}
	return CLI_OK;
}

/* ---- all ---- */

/* Nobody reads any more: the guest ends as a process would, unless it takes care of the signal. */
static void output_closed(void *ctx, int stream, int error)
{
	struct run *r = ctx;
	if (error == -WH_EPIPE)
		wh_vmm_machine_signal(r->machine, SIGPIPE);
}

static void console_copy(void *ctx, const char *text, size_t size)
{
	machine_console_output(text, size);
}

static void console_room(void *ctx)
{
	machine_console_room();
}

size_t run_console_type(struct run *r, const char *text, size_t size)
{
	return r->devices->console ? wh_dev_console_type(r->devices->console, text, size) : size;
}

static int attach_console(struct run *r)
{
	struct wh_diag diag = { "" };
	struct wh_dev_console_config config = {
		.size = sizeof config,
		.stdin_fd = STDIN_FILENO,
		.stdout_fd = STDOUT_FILENO,
		.stderr_fd = STDERR_FILENO,
		.log = r->log,
		.output_closed = output_closed,
		.ctx = r,
		.copy = r->options.name ? console_copy : NULL,
		.room = console_room,
	};
	struct winsize window;
	if (r->console_tty && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &window)) {
		config.cols = window.ws_col;
		config.rows = window.ws_row;
	}
	if (wh_dev_console_new(&config, r->machine, r->loop, &r->devices->console, &diag) >= 0)
		return CLI_OK;
	cli_error("console: %s", diag.text);
	return CLI_ERROR;
}

static int attach_rng(struct run *r)
{
	struct wh_diag diag = { "" };
	if (wh_dev_rng_new(r->machine, &r->log, &r->devices->rng, &diag) >= 0)
		return CLI_OK;
	cli_error("rng: %s", diag.text);
	return CLI_ERROR;
}

/* A kernel may have any driver. */
static uint32_t uses_of(const struct run *r)
{
	if (r->image)
		return wh_vmm_image_manifest(r->image)->flags;
	return (run_net_elsewhere(&r->options) ? 0 : WH_MANIFEST_USES_NET) | WH_MANIFEST_USES_RNG;
}

int run_devices_prepare(struct run *r, struct wh_vmm_config *config)
{
	uint32_t uses = uses_of(r);
	int status = CLI_OK;
	r->devices = calloc(1, sizeof *r->devices);
	if (!r->devices)
		return no_memory(), CLI_ERROR;
	r->console_tty = isatty(STDOUT_FILENO);
	if (r->console_tty)
		config->boot_flags |= WH_BOOT_CONSOLE_TTY;
	if (isatty(STDIN_FILENO))
		config->boot_flags |= WH_BOOT_STDIN_TTY;
	if (isatty(STDERR_FILENO))
		config->boot_flags |= WH_BOOT_STDERR_TTY;
	if (r->options.volume_count)
		status = prepare_volumes(r, config);
	if (!status && (r->options.gateway.publish_count || (uses & WH_MANIFEST_USES_NET)))
		status = prepare_network(r, config);
	if (!status && !r->devices->network && r->options.gateway.given) {
		cli_error("options of the network: this image has no network");
		status = CLI_ERROR;
	}
	return status;
}

int run_devices_attach(struct run *r)
{
	bool console = r->image || (r->options.serial && wh_streq(r->options.serial, "hvc"));
	int status = console ? attach_console(r) : CLI_OK;
	if (!status && r->devices->network)
		status = attach_network(r);
	if (!status && r->options.disk_count)
		status = open_disks(r);
	if (!status && r->options.disk_count)
		status = attach_disks(r);
	if (!status && r->options.volume_count)
		status = attach_volumes(r);
	if (!status && (uses_of(r) & WH_MANIFEST_USES_RNG))
		status = attach_rng(r);
	return status;
}

int run_devices_finish(struct run *r)
{
	int status = CLI_OK;
	gateway_options_end(r->devices ? r->devices->gateway : NULL);
	if (r->devices && r->devices->gateway && r->ended)
		(void)wh_gateway_finish(r->devices->gateway, NETWORK_FINISH_MS); /* best effort */
	if (!r->devices || !r->devices->disks)
		return CLI_OK;
	/* Requests under way use the guest's memory. */
	for (unsigned i = 0; i < r->options.disk_count; i++)
		while (r->devices->disks[i].device && wh_dev_blk_busy(r->devices->disks[i].device))
			if (wh_loop_step(r->loop, -1) < 0)
				break;
	wh_vmm_machine_free(r->machine);
	r->machine = NULL;
	for (unsigned i = 0; i < r->options.disk_count; i++) {
		struct disk *d = &r->devices->disks[i];
		wh_dev_blk_free(d->device);
		int error = wh_block_image_close(d->image);
		if (error < 0) {
			cli_error("--disk %s: the last writes did not reach the file (errno %d)",
				  r->options.disks[i].name, -error);
			status = CLI_ERROR;
		}
		*d = (struct disk){ 0 };
	}
	wh_blockio_free(r->devices->io);
	r->devices->io = NULL;
	return status;
}
