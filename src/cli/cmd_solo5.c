/* SPDX-License-Identifier: ISC */
/*
 * wherry run for Solo5's unikernels: disks by their names in the manifest, network devices on the gateway.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/block_file.h>
#include <wherry/dev_solo5.h>
#include <wherry/gateway.h>
#include <wherry/net_switch.h>

#include "machine_api.h"
#include "machine_console.h"
#include "run.h"

#define FINISH_MS 3000u
#define ARGUMENTS_MAX 8192u

/* One per process. */
static struct {
	struct wh_vmm_solo5 *solo5;
	struct wh_dev_solo5 *devices;
	struct wh_block_image *images[RUN_DISKS_MAX];
	struct wh_gateway *gateway;
	struct wh_net_switch *net_switch;
	char arguments[ARGUMENTS_MAX];
} own;

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct run *r = ctx;
	r->how = *how;
	r->ended = true;
	wh_loop_stop(r->loop, 0);
}

static void text_came(void *ctx, const char *text, size_t size)
{
	machine_console_output(text, size);
	(void)wh_os_write_all(STDOUT_FILENO, text, size); /* nowhere to complain to */
}

static void signal_came(struct wh_os_signals *signals, int signal)
{
	struct run *r = signals->ctx;
	r->asked_to_stop = true;
	wh_vmm_machine_signal(r->machine, signal);
}

/* Bytes of the file are bytes of the disk, through the page cache. */
static bool is_plain(const struct run_disk *d, const struct wh_block_image *image)
{
	struct stat st;
	return (d->format == WH_BLOCK_FORMAT_RAW || d->format == WH_BLOCK_FORMAT_NONE) &&
	       d->cache != WH_BLOCK_CACHE_NONE && !fstat(wh_block_image_descriptor(image), &st) &&
	       (uint64_t)st.st_size == wh_block_size(wh_block_image_block(image));
}

static int attach_disks(struct run *r)
{
	struct wh_diag diag = { "" };
	for (unsigned i = 0; i < r->options.disk_count; i++) {
		const struct run_disk *d = &r->options.disks[i];
		struct wh_block_image_config c = { .size = sizeof c,
						   .path = d->file,
						   .format = d->format,
						   .flags = d->read_only ? WH_BLOCK_FILE_READ_ONLY
									 : 0,
						   .cache = d->cache,
						   .log = r->log };
		int error = wh_block_image_open(&c, &own.images[i], &diag);
		if (error < 0) {
			cli_error("--disk %s: %s", d->name, diag.text);
			return CLI_ERROR;
		}
		error = wh_dev_solo5_block(own.devices, d->name,
					   wh_block_image_block(own.images[i]));
		if (error < 0) {
			cli_error("--disk %s: %s", d->name,
				  error == -WH_ENOENT ? "the guest has no disk of this name"
						      : "its size is no multiple of 512");
			return CLI_ERROR;
		}
		if (is_plain(d, own.images[i]))
			wh_dev_solo5_block_direct(own.devices, d->name,
						  wh_block_image_descriptor(own.images[i]));
	}
	return CLI_OK;
}

static unsigned networks(void)
{
	const struct wh_vmm_solo5_device *d;
	unsigned count = 0;
	for (uint32_t handle = 1; (d = wh_vmm_solo5_device(own.solo5, handle)); handle++)
		count += d->kind == WH_VMM_SOLO5_NET;
	return count;
}

/* Each network device is a guest of its own on a switch, with the first one's MAC and a number. */
static int attach_ports(struct run *r, const uint8_t first_mac[6])
{
	struct wh_net_port *port;
	struct wh_net_guest *guest;
	unsigned count = networks();
	uint8_t mac[6];
	int error = count > 1 ? wh_net_switch_new(own.gateway, r->loop, NULL, &own.net_switch) : 0;
	memcpy(mac, first_mac, sizeof mac);
	for (unsigned i = 0; error >= 0 && i < count; i++, mac[5]++) {
		error = wh_dev_solo5_net(own.devices, NULL, mac, &port);
		if (error >= 0)
			error = count > 1 ? wh_net_switch_add(own.net_switch, port, mac, &guest)
					  : wh_gateway_attach(own.gateway, port);
	}
	return error;
}

static int attach_network(struct run *r)
{
	struct wh_diag diag = { "" };
	struct wh_gateway_config config = WH_GATEWAY_CONFIG_INIT;
	struct wh_gateway_addresses addresses;
	config.log = r->log;
	gateway_options_config(&r->options.gateway, &config);
	config.hostname = r->options.name ? r->options.name : "solo5";
	int error = wh_gateway_config_addresses(&config, &addresses, &diag);
	if (error >= 0)
		error = wh_gateway_new(&config, r->loop, &own.gateway, &diag);
	r->gateway = error >= 0;
	if (error >= 0)
		error = attach_ports(r, addresses.guest_mac);
	if (error >= 0)
		return gateway_options_start(&r->options.gateway, own.gateway, r->loop,
					     r->options.verbose);
	cli_error("network: %s (errno %d)", diag.text, -error);
	return CLI_ERROR;
}

static int join_arguments(const struct run *r)
{
	size_t at = 0;
	for (int i = 1; r->options.argv[i]; i++) {
		at += wh_format(own.arguments + at, sizeof own.arguments - at, "%s%s",
				i > 1 ? " " : "", r->options.argv[i]);
		if (at >= sizeof own.arguments) {
			cli_error("the arguments are over %u bytes", ARGUMENTS_MAX - 1);
			return CLI_ERROR;
		}
	}
	return CLI_OK;
}

static int report(const struct run *r)
{
	const struct wh_vmm_exit *how = &r->how;
	if (how->kind == WH_BOOT_EXIT_STATUS)
		return how->value;
	if (how->kind == WH_BOOT_EXIT_FAULT && !how->fault_rip) {
		cli_error("guest fault: %s", how->message);
		return CLI_GUEST_BROKE;
	}
	if (how->kind == WH_BOOT_EXIT_FAULT) {
		cli_error("guest fault: %s: 0x%llx, at 0x%llx", how->message,
			  (unsigned long long)how->fault_address,
			  (unsigned long long)how->fault_rip);
		return CLI_GUEST_BROKE;
	}
	if (how->host_signal == SIGKILL)
		return CLI_SIGNAL_BASE + SIGKILL;
	if (how->host_signal == SIGSYS) {
		cli_error("the guest made a forbidden system call and was ended");
		return CLI_GUEST_BROKE;
	}
	cli_error("%s", how->message[0] ? how->message : "the guest ended without a word");
	return CLI_GUEST_BROKE;
}

static int prepare(struct run *r)
{
	struct wh_diag diag = { "" };
	int error = wh_vmm_solo5_open(r->options.image, &own.solo5, &diag);
	if (error < 0) {
		cli_error("%s: %s", r->options.image, diag.text);
		return error == -WH_ENOEXEC ? CLI_CANNOT_START : CLI_ERROR;
	}
	if (wh_loop_new(&r->loop) < 0 ||
	    wh_dev_solo5_new(own.solo5, text_came, r, &own.devices) < 0) {
		cli_error("no memory");
		return CLI_ERROR;
	}
	int status = join_arguments(r);
	if (!status)
		status = attach_disks(r);
	if (!status && networks())
		status = attach_network(r);
	if (status)
		return status;
	struct wh_vmm_solo5_config config = { .size = sizeof config,
					      .memory_size = r->options.memory_size,
					      .command_line = own.arguments,
					      .ops = &wh_dev_solo5_ops,
					      .ops_ctx = own.devices,
					      .log = r->log,
					      .sandbox = r->options.sandbox,
					      .exited = ended,
					      .thread_begins = run_confine_vcpu,
					      .ctx = r };
	error = wh_vmm_machine_new_solo5(&config, own.solo5, r->loop, &r->machine, &diag);
	if (error >= 0) {
		wh_dev_solo5_machine(own.devices, r->machine);
		return CLI_OK;
	}
	cli_error("%s: %s", r->options.image, diag.text);
	return CLI_ERROR;
}

static int run_guest(struct run *r)
{
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct wh_diag diag = { "" };
	sigaction(SIGPIPE, &ignore, NULL);
	r->signals.fn = signal_came;
	r->signals.ctx = r;
	int error = wh_os_signals_attach(&r->signals, r->loop, stops, WH_ARRAY_COUNT(stops));
	if (error >= 0)
		error = wh_vmm_machine_start(r->machine, &diag);
	if (error < 0) {
		cli_error("%s (errno %d)", diag.text, -error);
		return CLI_ERROR;
	}
	r->console_input = NULL; /* it has none */
	if (machine_api_start(r) || run_confine(r))
		return CLI_ERROR;
	error = wh_loop_run(r->loop);
	if (error < 0 || !r->ended) {
		cli_error("cannot wait for the guest (errno %d)", -error);
		return CLI_ERROR;
	}
	return report(r);
}

int run_solo5(struct run *r)
{
	int status = prepare(r);
	if (!status)
		status = run_guest(r);
	gateway_options_end(own.gateway);
	if (own.gateway && r->ended)
		(void)wh_gateway_finish(own.gateway, FINISH_MS); /* best effort */
	wh_vmm_machine_free(r->machine);
	for (unsigned i = 0; i < r->options.disk_count; i++)
		if (own.images[i] && wh_block_image_close(own.images[i]) < 0) {
			cli_error("--disk %s: the last writes did not reach the file",
				  r->options.disks[i].name);
			status = CLI_ERROR;
		}
	return status;
}
