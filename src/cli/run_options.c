/* SPDX-License-Identifier: ISC */
/*
 * The options of `wherry run`.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/errors.h>

#include <wherry/pc.h>

#include "programs.h"
#include "machine_api.h"
#include "run.h"

enum {
	OPT_ENGINE = 1,
	OPT_MEMORY,
	OPT_STACK,
	OPT_DISK,
	OPT_VOLUME,
	OPT_ENV,
	OPT_NAME,
	OPT_FROM,
	OPT_SANDBOX,
	OPT_TIMELINE,
	OPT_VERBOSE,
	OPT_INITRD,
	OPT_APPEND,
	OPT_CPUS,
	OPT_TRACE_EXITS,
	OPT_TRACE,
	OPT_PROFILE,
	OPT_WORKDIR,
	OPT_HERE,
	OPT_STORE,
	OPT_NET,
	OPT_NET_RATE,
	OPT_SERIAL,
	OPT_VSOCK,
	OPT_BALLOON,
	OPT_SNAPSHOT,
	OPT_CONFINE,
	OPT_GDB,
	OPT_LAZY,
	OPT_CORE,
};

static const struct cli_option options[] = {
	{ OPT_ENGINE, "engine", 0, "ENGINE", "auto, proc (a confined process) or kvm" },
	{ OPT_MEMORY, "memory", 0, "SIZE", "RAM of the guest: 64M, 2G..." },
	{ OPT_STACK, "stack", 0, "SIZE", "stack of an image's first thread: 32K to 64M" },
	GATEWAY_OPTIONS,
	{ OPT_DISK, "disk", 0, "NAME=FILE[,format=raw|qcow2][,ro][,...]",
	  "a disk, /dev/NAME in the guest" },
	{ OPT_VOLUME, "volume", 'v', "DIR:PATH[:ro]", "share a folder with the guest" },
	{ OPT_STORE, "store", 0, "NAME=REPO[@BRANCH]:PATH[,ro]", "share a store (wherry store)" },
	{ OPT_ENV, "env", 'e', "K=V", "set a variable of the guest's environment" },
	{ OPT_WORKDIR, "workdir", 'w', "PATH", "where the program starts, instead of /" },
	{ OPT_HERE, "here", 0, NULL,
	  "as a program of the host: its working directory and environment" },
	{ OPT_NAME, "name", 0, "NAME", "the machine's and host's name" },
	{ OPT_FROM, "from", 0, "FILE", "go on from a snapshot, instead of an image" },
	{ OPT_LAZY, "lazy", 0, NULL, "kernels, --from: read memory when it is touched" },
	{ OPT_SANDBOX, "sandbox", 0, "LEVEL", "proc engine: auto, strict or minimal" },
	{ OPT_CONFINE, "confine", 0, "on|off|log",
	  "what the monitor gives up when all is open (default: on)" },
	{ OPT_CORE, "core", 0, "FILE", "write a core file there when the guest breaks" },
	{ OPT_GDB, "gdb", 0, "WHERE",
	  "let gdb debug the guest: unix:PATH, tcp:ADDRESS:PORT or stdio" },
	{ OPT_INITRD, "initrd", 0, "FILE", "kernels: initial RAM disk, or first module" },
	{ OPT_APPEND, "append", 0, "TEXT", "kernels: command line (default: console=ttyS0)" },
	{ OPT_CPUS, "cpus", 0, "N", "kernels: processors" },
	{ OPT_NET, "net", 0, "WHERE", "kernels: gateway, none, tap=NAME, unix=PATH or fd=N" },
	{ OPT_NET_RATE, "net-rate", 0, "SIZE", "kernels: bytes a second of network, each way" },
	{ OPT_SERIAL, "serial", 0, "WHERE",
	  "kernels: stdio, null, hvc, pty[=LINK] or unix=PATH[,log=FILE]" },
	{ OPT_VSOCK, "vsock", 0, "PATH[,cid=N]", "kernels: sockets to the guest's ports" },
	{ OPT_BALLOON, "balloon", 0, "SIZE", "kernels: memory that the guest shall give up" },
	{ OPT_SNAPSHOT, "snapshot", 0, "FILE", "kernels: save the machine there at SIGUSR1" },
	{ OPT_TRACE_EXITS, "trace-exits", 0, NULL,
	  "kernels: count exits by cause, told at the end" },
	{ OPT_TRACE, "trace", 0, "WHAT",
	  "show calls: all, file, net, poll... or their names, with commas" },
	{ OPT_PROFILE, "profile", 0, "FILE",
	  "sample where time goes: folded stacks, or a flame graph (.svg)" },
	{ OPT_TIMELINE, "timeline", 0, NULL, "show the stages of the start in microseconds" },
	{ OPT_VERBOSE, "verbose", 0, NULL, "say what is done and what could not be had" },
};

const struct cli_command cli_command_run = {
	.name = "run",
	.synopsis = "[OPTIONS] IMAGE|KERNEL [-- ARGUMENTS]",
	.summary = "start an image and be its standard input and output",
	.details =
		"Exit status: the guest's; 124 the guest broke, 125 wherry could not do its part,\n"
		"126 not an image, 127 no such file, 128+n the guest ended by signal n.",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = cmd_run,
};

static int choose(const char *text, const char *const *names, const char *option)
{
	for (int i = 0; names[i]; i++)
		if (wh_streq(text, names[i]))
			return i;
	cli_error("--%s is %s, %s or %s, not %s", option, names[0], names[1], names[2], text);
	return CLI_BAD;
}

static bool copy(char *to, size_t size, const char *from, size_t length)
{
	if (!length || length >= size)
		return false;
	memcpy(to, from, length);
	to[length] = 0;
	return true;
}

/* NAME=VALUE of a disk that is not about its format. 0 or CLI_BAD. */
static int disk_word(struct run_disk *d, const char *word, size_t size)
{
	char text[64], *value;
	if (!copy(text, sizeof text, word, size) || !(value = strchr(text, '=')))
		return CLI_BAD;
	*value++ = '\0';
	if (!strcmp(text, "serial"))
		return copy(d->serial, sizeof d->serial, value, strlen(value)) ? 0 : CLI_BAD;
	if (!strcmp(text, "iops"))
		return cli_parse_number(value, strlen(value), UINT32_MAX, &d->requests_per_s) < 0 ||
				       !d->requests_per_s
			       ? CLI_BAD
			       : 0;
	if (!strcmp(text, "bps"))
		return cli_parse_size(value, &d->bytes_per_s) < 0 || !d->bytes_per_s ? CLI_BAD : 0;
	if (!strcmp(text, "queues"))
		return cli_parse_number(value, strlen(value), 4, &d->queues) < 0 || !d->queues
			       ? CLI_BAD
			       : 0;
	if (!strcmp(text, "discard")) {
		d->no_discard = !strcmp(value, "off");
		return d->no_discard || !strcmp(value, "on") ? 0 : CLI_BAD;
	}
	if (!strcmp(text, "cache"))
		return wh_block_cache_parse(value, &d->cache) < 0 ? CLI_BAD : 0;
	return CLI_BAD;
}

int run_disk_parse(const char *text, struct run_disk *ret_disk)
{
	struct run_disk d = { .read_only = false };
	const char *equals = strchr(text, '=');
	size_t end = strcspn(text, ",");
	if (!equals || (size_t)(equals - text) >= end ||
	    !copy(d.name, sizeof d.name, text, (size_t)(equals - text)) ||
	    !copy(d.file, sizeof d.file, equals + 1, end - (size_t)(equals - text) - 1) ||
	    memchr(d.name, '/', strlen(d.name))) {
		cli_error("--disk %s: say NAME=FILE, with a NAME under %u bytes and without slash",
			  text, WH_BOOT_NAME_SIZE);
		return CLI_BAD;
	}
	for (const char *p = text + end; *p; p += strcspn(p, ",")) {
		p++;
		size_t n = strcspn(p, ",");
		if (n == 2 && !memcmp(p, "ro", 2)) {
			d.read_only = true;
		} else if (n == 12 && !memcmp(p, "format=qcow2", 12)) {
			d.format = WH_BLOCK_FORMAT_QCOW2;
		} else if (n == 10 && !memcmp(p, "format=raw", 10)) {
			d.format = WH_BLOCK_FORMAT_RAW;
		} else if (disk_word(&d, p, n)) {
			cli_error("--disk %s: known are format=raw, format=qcow2, ro, serial=TEXT, "
				  "iops=N, bps=SIZE, discard=on|off, queues=1..4, "
				  "cache=writeback|none|unsafe",
				  text);
			return CLI_BAD;
		}
	}
	*ret_disk = d;
	return 0;
}

/* NAME=REPO[@BRANCH]:PATH[,ro] */
int run_store_parse(const char *text, struct run_volume *ret_volume)
{
	struct run_volume v = { .store = true };
	const char *equals = strchr(text, '='), *begin = equals ? equals + 1 : text;
	size_t size = strlen(begin);
	if (size > 3 && !memcmp(begin + size - 3, ",ro", 3)) {
		v.read_only = true;
		size -= 3;
	}
	const char *colon = begin + size;
	while (colon > begin && !(colon[0] == ':' && colon[1] == '/'))
		colon--;
	if (!equals || colon == begin ||
	    !copy(v.name, sizeof v.name, text, (size_t)(equals - text)) ||
	    memchr(v.name, '/', strlen(v.name)) ||
	    !copy(v.folder, sizeof v.folder, begin, (size_t)(colon - begin)) ||
	    !copy(v.path, sizeof v.path, colon + 1, size - (size_t)(colon - begin) - 1)) {
		cli_error(
			"--store %s: say NAME=REPO[@BRANCH]:PATH[,ro], PATH beginning with a slash",
			text);
		return CLI_BAD;
	}
	*ret_volume = v;
	return 0;
}

int run_volume_parse(const char *text, struct run_volume *ret_volume)
{
	struct run_volume v = { .read_only = false };
	size_t size = strlen(text);
	if (size > 3 && !memcmp(text + size - 3, ":ro", 3)) {
		v.read_only = true;
		size -= 3;
	}
	const char *colon = memchr(text, ':', size);
	if (!colon || colon[1] != '/' ||
	    memchr(colon + 1, ':', size - (size_t)(colon - text) - 1) ||
	    !copy(v.folder, sizeof v.folder, text, (size_t)(colon - text)) ||
	    !copy(v.path, sizeof v.path, colon + 1, size - (size_t)(colon - text) - 1)) {
		cli_error("-v %s: say DIR:PATH or DIR:PATH:ro, PATH beginning with a slash", text);
		return CLI_BAD;
	}
	*ret_volume = v;
	return 0;
}

static int add_disk(struct run_options *o, const char *value)
{
	if (!o->disks)
		o->disks = calloc(RUN_DISKS_MAX, sizeof *o->disks);
	if (!o->disks || o->disk_count == RUN_DISKS_MAX) {
		cli_error("more than %u disks", RUN_DISKS_MAX);
		return CLI_BAD;
	}
	struct run_disk *d = &o->disks[o->disk_count];
	if (run_disk_parse(value, d))
		return CLI_BAD;
	for (unsigned i = 0; i < o->disk_count; i++)
		if (wh_streq(o->disks[i].name, d->name)) {
			cli_error("two disks have the name %s", d->name);
			return CLI_BAD;
		}
	o->disk_count++;
	return 0;
}

static int add_volume(struct run_options *o, const char *value, bool store)
{
	if (!o->volumes)
		o->volumes = calloc(RUN_VOLUMES_MAX, sizeof *o->volumes);
	if (!o->volumes || o->volume_count == RUN_VOLUMES_MAX) {
		cli_error("more than %u folders", RUN_VOLUMES_MAX);
		return CLI_BAD;
	}
	struct run_volume *v = &o->volumes[o->volume_count];
	if (store ? run_store_parse(value, v) : run_volume_parse(value, v))
		return CLI_BAD;
	o->volume_count++;
	return 0;
}

static int add_env(struct run_options *o, const char *value)
{
	const char *equals = strchr(value, '=');
	if (!equals || equals == value) {
		cli_error("-e %s: say NAME=VALUE", value);
		return CLI_BAD;
	}
	if (o->env_count == RUN_ENV_MAX) {
		cli_error("more than %u variables", RUN_ENV_MAX);
		return CLI_BAD;
	}
	o->env[o->env_count++] = value;
	return 0;
}

static bool has_variable(const struct run_options *o, const char *variable)
{
	size_t n = strcspn(variable, "=") + 1;
	for (unsigned i = 0; i < o->env_count; i++)
		if (!strncmp(o->env[i], variable, n))
			return true;
	return false;
}

/* --here: what a program of the host would find. What other options say counts more. */
static int add_surroundings(struct run_options *o)
{
	char folder[WH_BOOT_PATH_SIZE], volume[2 * WH_BOOT_PATH_SIZE];
	if (!getcwd(folder, sizeof folder) || strchr(folder, ':')) {
		cli_error("--here: the working directory's path is gone, has a colon, or is longer "
			  "than %u "
			  "bytes",
			  WH_BOOT_PATH_SIZE - 1);
		return CLI_BAD;
	}
	bool at_root = folder[1] == 0; /* sharing all of the host is more than was asked for */
	wh_format(volume, sizeof volume, "%s:%s", folder, folder);
	if (!at_root && add_volume(o, volume, false))
		return CLI_BAD;
	if (!at_root && !o->workdir)
		o->workdir = o->volumes[o->volume_count - 1].path;
	for (char **e = environ; *e && o->env_count < RUN_ENV_MAX; e++)
		if (!has_variable(o, *e))
			o->env[o->env_count++] = *e;
	return 0;
}

static int take_memory(struct run_options *o, const char *value)
{
	int error = cli_parse_size(value, &o->memory_size);
	if (!error && o->memory_size && o->memory_size <= WH_MANIFEST_MEMORY_MAX)
		return 0;
	cli_error("--memory %s: say a size such as 64M or 2G, at most %lluG", value,
		  WH_MANIFEST_MEMORY_MAX >> 30);
	return CLI_BAD;
}

static int take_name(struct run_options *o, const char *value)
{
	size_t n = strlen(value);
	for (size_t i = 0; i < n; i++)
		if (!((value[i] | 32) >= 'a' && (value[i] | 32) <= 'z') &&
		    !(value[i] >= '0' && value[i] <= '9') &&
		    !(i && (value[i] == '-' || value[i] == '.')))
			n = 0;
	if (!n || n > 63) {
		cli_error("--name %s: 1 to 63 letters, digits, dots and dashes", value);
		return CLI_BAD;
	}
	o->name = value;
	return 0;
}

static int take_size(const char *option, const char *value, uint64_t *ret_size)
{
	if (cli_parse_size(value, ret_size) >= 0 && *ret_size)
		return 0;
	cli_error("--%s %s: say a size such as 64M", option, value);
	return CLI_BAD;
}

static int take_cpus(struct run_options *o, const char *value)
{
	uint64_t cpus = 0;
	int error = cli_parse_number(value, strlen(value), WH_VMM_PC_CPUS_MAX, &cpus);
	o->cpus = (unsigned)cpus;
	if (!error && cpus)
		return 0;
	cli_error("--cpus %s: say a number from 1 to %u", value, WH_VMM_PC_CPUS_MAX);
	return CLI_BAD;
}

/* Options of kernels. 0 or CLI_BAD. */
static int take_kernel(struct run_options *o, int id, const char *value)
{
	switch (id) {
	case OPT_INITRD:
		o->initrd = value;
		return 0;
	case OPT_APPEND:
		o->append = value;
		return 0;
	case OPT_CPUS:
		return take_cpus(o, value);
	case OPT_NET:
		o->net = value;
		return 0;
	case OPT_SERIAL:
		o->serial = value;
		return 0;
	case OPT_SNAPSHOT:
		o->snapshot = value;
		return 0;
	case OPT_VSOCK:
		o->vsock = value;
		return 0;
	case OPT_NET_RATE:
	case OPT_BALLOON:
		return take_size(id == OPT_BALLOON ? "balloon" : "net-rate", value,
				 id == OPT_BALLOON ? &o->balloon : &o->net_rate);
	case OPT_TRACE_EXITS:
		o->trace_exits = true;
		return 0;
	case OPT_LAZY:
		o->lazy = true;
		return 0;
	}
	return CLI_BAD;
}

/* 0 or CLI_BAD. */
static int take(struct run_options *o, int id, const char *value)
{
	static const char *const engines[] = { "auto", "proc", "kvm", NULL };
	static const char *const levels[] = { "auto", "strict", "minimal", NULL };
	static const char *const confines[] = { "on", "off", "log", NULL };
	int choice;
	if (id >= GATEWAY_PUBLISH)
		return gateway_option_take(&o->gateway, id, value);
	switch (id) {
	case OPT_ENGINE:
		choice = choose(value, engines, "engine");
		o->engine = (enum wh_vmm_engine)choice;
		return choice < 0 ? choice : 0;
	case OPT_SANDBOX:
		choice = choose(value, levels, "sandbox");
		o->sandbox = (enum wh_vmm_sandbox)choice;
		return choice < 0 ? choice : 0;
	case OPT_CONFINE:
		choice = choose(value, confines, "confine");
		o->confine = (enum run_confine)choice;
		return choice < 0 ? choice : 0;
	case OPT_CORE:
		return run_core_take(o, value);
	case OPT_GDB:
		return run_gdb_take(o, value);
	case OPT_MEMORY:
		return take_memory(o, value);
	case OPT_STACK:
		if (!cli_parse_size(value, &o->stack_size) && o->stack_size)
			return 0;
		cli_error("--stack %s: say a size such as 256K or 8M", value);
		return CLI_BAD;
	case OPT_DISK:
		return add_disk(o, value);
	case OPT_VOLUME:
		return add_volume(o, value, false);
	case OPT_STORE:
		return add_volume(o, value, true);
	case OPT_ENV:
		return add_env(o, value);
	case OPT_WORKDIR:
		if (*value != '/') {
			cli_error("--workdir %s: say a path that begins with a slash", value);
			return CLI_BAD;
		}
		o->workdir = value;
		return 0;
	case OPT_HERE:
		o->here = true;
		return 0;
	case OPT_NAME:
		return machine_api_is_here() ? take_name(o, value) : GATEWAY_ELSEWHERE;
	case OPT_FROM:
		o->from = value;
		return 0;
	case OPT_TRACE:
	case OPT_PROFILE:
		*(id == OPT_TRACE ? &o->trace : &o->profile) = value;
		return run_observe_image ? 0 : GATEWAY_ELSEWHERE;
	case OPT_TIMELINE:
		o->timeline = true;
		return 0;
	case OPT_VERBOSE:
		o->verbose = true;
		return 0;
	}
	return take_kernel(o, id, value);
}

int run_options_read(struct run_options *o, int argc, char **argv)
{
	struct cli_parser p;
	const char *value = NULL;
	int id, image_index = 0;
	o->argv = NULL; /* a write first: a page that is read first costs a second fault */
	cli_parser_init(&p, &cli_command_run, argc, argv);
	while ((id = cli_next(&p, &value)) != CLI_END) {
		if (id == CLI_BAD || id == CLI_HELP)
			return id;
		if (id != CLI_OPERAND) {
			int bad = take(o, id, value);
			if (bad == GATEWAY_ELSEWHERE) /* returns only when it failed */
				(void)program_exec("run", argv);
			if (bad)
				return CLI_BAD;
			continue;
		}
		if (o->image) {
			cli_error("unexpected argument %s: put -- before the guest's arguments",
				  value);
			return CLI_BAD;
		}
		o->image = value;
		image_index = p.index - 1;
	}
	if (o->from && (o->image || p.index < argc)) {
		cli_error("run --from: a snapshot has its image and arguments already");
		return CLI_BAD;
	}
	if (o->from)
		return CLI_END;
	if (!o->image) {
		cli_error("run: name an image (see: wherry run --help)");
		return CLI_BAD;
	}
	if (o->here && add_surroundings(o))
		return CLI_BAD;
	/* The guest's argv is the tail of ours, with the image's name put before it. */
	o->replaced_at = p.index - 1;
	o->replaced = argv[p.index - 1];
	argv[p.index - 1] = argv[image_index];
	o->argv = (const char *const *)&argv[p.index - 1];
	return CLI_END;
}
