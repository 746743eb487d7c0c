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

int disk_parse_follow(const char *text, enum wh_block_follow *ret_follow)
{
	static const char *const names[] = { "folder", "none", "any" };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(names); i++)
		if (wh_streq(text, names[i])) {
			*ret_follow = (enum wh_block_follow)i;
			return 0;
		}
	cli_error("disk: --follow is folder, none or any, not %s", text);
	return CLI_BAD;
}

int disk_common(struct disk_common *c, int id, const char *value)
{
	switch (id) {
	case DISK_FORMAT:
		return disk_parse_format(value, &c->format) ? CLI_BAD : 1;
	case DISK_CACHE:
		return disk_parse_cache(value, &c->cache) ? CLI_BAD : 1;
	case DISK_FOLLOW:
		return disk_parse_follow(value, &c->follow) ? CLI_BAD : 1;
	case DISK_SNAPSHOT:
		c->snapshot = value;
		return 1;
	case DISK_SHARE:
		return c->share = true;
	case DISK_JSON:
		return c->json = true;
	case DISK_QUIET:
		return c->quiet = true;
	case DISK_BAR:
		return c->bar = true;
	case DISK_PROGRESS:
		return c->progress = true;
	default:
		return 0;
	}
}

int disk_parse(struct disk_parse *p, int argc, char **argv)
{
	struct cli_parser parser;
	const char *value = NULL;
	int id;
	cli_parser_init(&parser, p->command, argc, argv);
	p->operand_count = 0;
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		int r;
		if (id == CLI_BAD || id == CLI_HELP)
			return id;
		if (id == CLI_OPERAND)
			r = disk_operand(p->command, value, p->operands, p->operand_max,
					 &p->operand_count);
		else
			r = disk_common(p->common, id, value);
		if (!r && id != CLI_OPERAND)
			r = p->own ? p->own(p->ctx, id, value) : 0;
		if (r < 0)
			return CLI_BAD;
	}
	for (; parser.index < argc; parser.index++) /* behind "--" */
		if (disk_operand(p->command, argv[parser.index], p->operands, p->operand_max,
				 &p->operand_count))
			return CLI_BAD;
	if (p->operand_count >= p->operand_min)
		return 0;
	disk_usage(p->command);
	return CLI_BAD;
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
