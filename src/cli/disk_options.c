/* SPDX-License-Identifier: ISC */
/*
 * Values of options that several verbs of `wherry disk` have.
 */
#include <wherry/base/errors.h>

#include "disk.h"

int disk_parse_format(const char *text, enum wh_block_format *ret_format)
{
	*ret_format = wh_block_format_parse(text);
	if (*ret_format)
		return 0;
	cli_error("disk: format is raw or qcow2, not %s", text);
	return CLI_BAD;
}

int disk_parse_cache(const char *text, enum wh_block_cache *ret_cache)
{
	if (wh_block_cache_parse(text, ret_cache) >= 0)
		return 0;
	cli_error("disk: cache is writeback, none or unsafe, not %s", text);
	return CLI_BAD;
}

int disk_parse_aio(const char *text, enum wh_blockio_kind *ret_kind)
{
	if (wh_streq(text, "io_uring"))
		*ret_kind = WH_BLOCKIO_URING;
	else if (wh_streq(text, "threads"))
		*ret_kind = WH_BLOCKIO_THREADS;
	else if (wh_streq(text, "auto"))
		*ret_kind = WH_BLOCKIO_AUTO;
	else {
		cli_error("disk: aio is auto, io_uring or threads, not %s", text);
		return CLI_BAD;
	}
	return 0;
}

int disk_parse_size(const char *what, const char *text, uint64_t *ret_size)
{
	if (cli_parse_size(text, ret_size) >= 0)
		return 0;
	cli_error("disk: %s: %s is no size (a number with K, M, G or T)", what, text);
	return CLI_BAD;
}

int disk_operand(const struct cli_command *command, const char *value, const char **operands,
		 unsigned max, unsigned *count)
{
	if (*count < max) {
		operands[(*count)++] = value;
		return 0;
	}
	cli_error("%s: what is %s for? (see: wherry %s --help)", command->name, value,
		  command->name);
	return CLI_BAD;
}

int disk_usage(const struct cli_command *command)
{
	cli_error("%s: usage: wherry %s %s", command->name, command->name, command->synopsis);
	return CLI_ERROR;
}

int disk_detect(const char *path, enum wh_block_format *ret_format)
{
	struct wh_block_file_config config = { .size = sizeof config,
					       .path = path,
					       .flags = WH_BLOCK_FILE_READ_ONLY |
							WH_BLOCK_FILE_NO_LOCK };
	struct wh_block_file file;
	struct wh_diag diag = { "" };
	int error = wh_block_file_open(&config, &file, &diag);
	if (error < 0) {
		cli_error("%s", diag.text);
		return error;
	}
	error = wh_block_looks_like(&file, ret_format);
	if (error < 0)
		cli_error("%s: cannot be read (errno %d)", path, -error);
	else if (!*ret_format)
		*ret_format = WH_BLOCK_FORMAT_RAW;
	wh_block_file_close(&file);
	return error;
}
