/* SPDX-License-Identifier: ISC */
/*
 * wherry disk create, measure.
 */
#include <wherry/base/checked.h>

#include "disk.h"

enum {
	OPTION_OPTIONS = DISK_OWN,
	OPTION_CLUSTER,
	OPTION_BACKING,
	OPTION_BACKING_FORMAT,
	OPTION_UNSAFE,
	OPTION_PREALLOCATION,
	OPTION_OUT_FORMAT,
	OPTION_SIZE
};

static int run_create(int argc, char **argv);
static int run_measure(int argc, char **argv);

static const struct cli_option create_options[] = {
	DISK_OPTION_FORMAT("raw or qcow2 (qcow2)"),
	{ OPTION_OPTIONS, "options", 'o', "NAME=VALUE,...", "of the format; see the manual page" },
	{ OPTION_CLUSTER, "cluster-size", 0, "SIZE", "qcow2: 512 to 2M (64K)" },
	{ OPTION_PREALLOCATION, "preallocation", 0, "HOW", "off, metadata, falloc or full (off)" },
	{ OPTION_BACKING, "backing", 'b', "FILE", "what is not written reads as in there" },
	{ OPTION_BACKING_FORMAT, "backing-format", 'F', "FORMAT", "of the backing file" },
	{ OPTION_UNSAFE, "unsafe", 'u', NULL, "do not look at the backing file" },
	DISK_OPTION_QUIET,
	DISK_OPTION_JSON,
};

const struct cli_command disk_command_create = {
	.name = "disk create",
	.synopsis = "[-f FORMAT] [-o OPTIONS] [-b FILE -F FORMAT] FILE [SIZE]",
	.summary = "make an empty disk image",
	.options = create_options,
	.option_count = WH_ARRAY_COUNT(create_options),
	.run = run_create,
};

static const struct cli_option measure_options[] = {
	DISK_OPTION_FORMAT("of FILE"),
	{ OPTION_OUT_FORMAT, "output-format", 'O', "FORMAT", "of the image to be made (qcow2)" },
	{ OPTION_OPTIONS, "options", 'o', "NAME=VALUE,...", "of the image to be made" },
	{ OPTION_SIZE, "size", 0, "SIZE", "of an empty disk, instead of FILE" },
	DISK_OPTION_SHARE,
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
};

const struct cli_command disk_command_measure = {
	.name = "disk measure",
	.synopsis = "[-O FORMAT] [-o OPTIONS] FILE | --size SIZE",
	.summary = "tell how large an image would be",
	.options = measure_options,
	.option_count = WH_ARRAY_COUNT(measure_options),
	.run = run_measure,
};

static int target_option(void *ctx, int id, const char *value)
{
	struct disk_target *t = ctx;
	char text[64];
	switch (id) {
	case OPTION_OPTIONS:
		return disk_target_option(t, value);
	case OPTION_CLUSTER:
		wh_format(text, sizeof text, "cluster_size=%s", value);
		return disk_target_option(t, text);
	case OPTION_PREALLOCATION:
		wh_format(text, sizeof text, "preallocation=%s", value);
		return disk_target_option(t, text);
	case OPTION_BACKING:
		t->qcow2.backing_name = value;
		return 0;
	case OPTION_BACKING_FORMAT:
		return disk_parse_format(value, &t->qcow2.backing_format);
	case OPTION_OUT_FORMAT:
		return disk_parse_format(value, &t->format);
	case OPTION_SIZE:
		return disk_parse_size("--size", value, &t->qcow2.disk_size);
	default:
		t->unchecked_backing = true;
		return 0;
	}
}

static int run_create(int argc, char **argv)
{
	struct disk_common common = { 0 };
	struct disk_target t;
	const char *operands[2];
	struct disk_parse p = { .command = &disk_command_create,
				.common = &common,
				.own = target_option,
				.ctx = &t,
				.operands = operands,
				.operand_max = 2,
				.operand_min = 1 };
	disk_target_init(&t);
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	t.format = common.format ? common.format : WH_BLOCK_FORMAT_QCOW2;
	if (p.operand_count == 2 && disk_parse_size("SIZE", operands[1], &t.qcow2.disk_size))
		return CLI_ERROR;
	if (p.operand_count == 2 && !t.qcow2.disk_size) {
		cli_error("disk: %s is no size of a disk", operands[1]);
		return CLI_ERROR;
	}
	if (t.format == WH_BLOCK_FORMAT_RAW && t.qcow2.cluster_size) {
		cli_error("disk: a cluster size is for qcow2, 512 to 2M");
		return CLI_ERROR;
	}
	if (disk_target_make(&t, operands[0]))
		return CLI_ERROR;
	if (common.json) {
		struct disk_json j = { 0 };
		disk_json_open(&j, NULL, '{');
		disk_json_text(&j, "filename", operands[0]);
		disk_json_text(&j, "format", wh_block_format_name(t.format));
		disk_json_number(&j, "virtual-size",
				 wh_align_up(t.qcow2.disk_size, WH_BLOCK_SECTOR));
		disk_json_close(&j, '}');
	}
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}

/* Bytes of data in clusters of the new image. */
static int count_data(struct wh_block *b, uint64_t cluster, uint64_t *ret_bytes)
{
	uint64_t size = wh_block_size(b), bytes = 0, counted = 0;
	for (uint64_t at = 0; at < size;) {
		struct wh_block_extent x;
		int r = wh_block_map(b, at, size - at, WH_BLOCK_CHAIN_MAX, &x);
		if (r < 0)
			return r;
		if (x.flags & WH_BLOCK_MAP_DATA) {
			uint64_t from = wh_align_down(at, cluster);
			uint64_t to = wh_align_up(at + x.size, cluster);
			from = from < counted ? counted : from;
			bytes += to > from ? to - from : 0;
			counted = to > counted ? to : counted;
		}
		at += x.size;
	}
	*ret_bytes = bytes;
	return 0;
}

static int run_measure(int argc, char **argv)
{
	struct disk_common common = { 0 };
	struct disk_target t;
	struct wh_block_image *image;
	struct wh_diag diag = { "" };
	const char *path = NULL;
	uint64_t data = 0, required, full;
	struct disk_parse p = { .command = &disk_command_measure,
				.common = &common,
				.own = target_option,
				.ctx = &t,
				.operands = &path,
				.operand_max = 1 };
	disk_target_init(&t);
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (!path == !t.qcow2.disk_size)
		return disk_usage(&disk_command_measure);
	if (path) {
		if (disk_open(path, &common, true, 0, NULL, &image))
			return CLI_ERROR;
		struct wh_block *b = wh_block_image_block(image);
		t.qcow2.disk_size = wh_block_size(b);
		r = count_data(b, t.qcow2.cluster_size ? t.qcow2.cluster_size : 65536, &data);
		(void)wh_block_image_close(image); /* read-only */
		if (r < 0) {
			cli_error("%s: cannot be read (errno %d)", path, -r);
			return CLI_ERROR;
		}
	}
	if (t.format == WH_BLOCK_FORMAT_RAW) {
		required = full = wh_align_up(t.qcow2.disk_size, WH_BLOCK_SECTOR);
	} else if (wh_block_qcow2_measure(&t.qcow2, data, &required, &full, &diag) < 0) {
		cli_error("disk measure: %s", diag.text);
		return CLI_ERROR;
	}
	if (common.json) {
		struct disk_json j = { 0 };
		disk_json_open(&j, NULL, '{');
		disk_json_number(&j, "required", required);
		disk_json_number(&j, "fully-allocated", full);
		disk_json_close(&j, '}');
	} else {
		printf("required size: %llu\nfully allocated size: %llu\n",
		       (unsigned long long)required, (unsigned long long)full);
	}
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}
