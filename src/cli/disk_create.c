/* SPDX-License-Identifier: ISC */
/*
 * wherry disk create.
 */
#include <string.h>
#include <unistd.h>
#include <wherry/base/checked.h>

#include "disk.h"

enum { OPTION_FORMAT = 1, OPTION_CLUSTER };

static const struct cli_option options[] = {
	{ OPTION_FORMAT, "format", 'f', "FORMAT", "raw or qcow2 (qcow2)" },
	{ OPTION_CLUSTER, "cluster-size", 0, "SIZE", "qcow2: 512 to 2M (64K)" },
};

const struct cli_command disk_command_create = {
	.name = "disk create",
	.synopsis = "[-f FORMAT] FILE SIZE",
	.summary = "make an empty disk image",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = disk_create,
};

int disk_create(int argc, char **argv)
{
	struct cli_parser parser;
	enum wh_block_format format = WH_BLOCK_FORMAT_QCOW2;
	const char *value, *operands[2];
	struct wh_block_file file;
	struct wh_diag diag = { "" };
	uint64_t size, cluster = 0;
	unsigned count = 0;
	int id, error = 0;
	cli_parser_init(&parser, &disk_command_create, argc, argv);
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		if (id == CLI_HELP)
			return CLI_OK;
		if (id == OPTION_FORMAT)
			error = disk_parse_format(value, &format);
		else if (id == OPTION_CLUSTER)
			error = disk_parse_size("--cluster-size", value, &cluster);
		else if (id == CLI_OPERAND)
			error = disk_operand(&disk_command_create, value, operands, 2, &count);
		if (id == CLI_BAD || error)
			return CLI_ERROR;
	}
	if (count != 2)
		return disk_usage(&disk_command_create);
	if (disk_parse_size("SIZE", operands[1], &size))
		return CLI_ERROR;
	if (!size) {
		cli_error("disk: %s is no size of a disk", operands[1]);
		return CLI_ERROR;
	}
	if (cluster > UINT32_MAX || (cluster && format == WH_BLOCK_FORMAT_RAW)) {
		cli_error("disk: a cluster size is for qcow2, 512 to 2M");
		return CLI_ERROR;
	}
	struct wh_block_file_config fc = { .size = sizeof fc,
					   .path = operands[0],
					   .flags = WH_BLOCK_FILE_CREATE };
	if (wh_block_file_open(&fc, &file, &diag) < 0) {
		cli_error("%s", diag.text);
		return CLI_ERROR;
	}
	if (format == WH_BLOCK_FORMAT_QCOW2) {
		struct wh_block_qcow2_config config = { .size = sizeof config,
							.disk_size = size,
							.cluster_size = (uint32_t)cluster };
		error = wh_block_qcow2_create(&file, &config, &wh_block_malloc, &diag);
	} else {
		error = wh_block_file_preallocate(&file, 0, wh_align_up(size, WH_BLOCK_SECTOR),
						  WH_BLOCK_PREALLOCATION_OFF, &diag);
	}
	wh_block_file_close(&file);
	if (error < 0) {
		unlink(operands[0]); /* it is ours: it did not exist before */
		cli_error("%s: %s", operands[0], diag.text);
		return CLI_ERROR;
	}
	return CLI_OK;
}
