/* SPDX-License-Identifier: ISC */
/*
 * wherry disk: makes and describes disk images.
 */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/checked.h>
#include <wherry/base/mem.h>
#include <wherry/block_file.h>

#include "cli.h"

enum { OPTION_FORMAT = 1, OPTION_JSON, OPTION_CLUSTER };

static const struct cli_option options[] = {
	{ OPTION_FORMAT, "format", 'f', "FORMAT", "raw or qcow2 (create: qcow2 unless said)" },
	{ OPTION_CLUSTER, "cluster-size", 0, "SIZE", "create: qcow2 cluster, 512 to 2M (64K)" },
	{ OPTION_JSON, "json", 0, NULL, "info: print one JSON object" },
};

const struct cli_command cli_command_disk = {
	.name = "disk",
	.synopsis = "create [-f FORMAT] FILE SIZE | info [-f FORMAT] [--json] FILE",
	.summary = "make and describe disk images",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = cmd_disk,
};

struct arguments {
	enum wh_block_format format; /* FORMAT_NONE = not said */
	uint64_t cluster_size;
	bool json;
	const char *operand[3]; /* verb, FILE, SIZE */
	unsigned count;
};

static int parse(int argc, char **argv, struct arguments *a)
{
	struct cli_parser parser;
	const char *value;
	int id;
	cli_parser_init(&parser, &cli_command_disk, argc, argv);
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		switch (id) {
		case CLI_BAD:
		case CLI_HELP:
			return id;
		case OPTION_JSON:
			a->json = true;
			break;
		case OPTION_FORMAT:
			a->format = wh_block_format_parse(value);
			if (!a->format) {
				cli_error("disk: format is raw or qcow2, not %s", value);
				return CLI_BAD;
			}
			break;
		case OPTION_CLUSTER:
			if (cli_parse_size(value, &a->cluster_size)) {
				cli_error("disk: %s is no size", value);
				return CLI_BAD;
			}
			break;
		default:
			if (a->count == WH_ARRAY_COUNT(a->operand)) {
				cli_error("disk: what is %s for? (see: wherry disk --help)", value);
				return CLI_BAD;
			}
			a->operand[a->count++] = value;
		}
	}
	return 0;
}

static int create(const struct arguments *a)
{
	const char *path = a->operand[1];
	enum wh_block_format format = a->format ? a->format : WH_BLOCK_FORMAT_QCOW2;
	struct wh_block_file file;
	struct wh_diag diag = { "" };
	uint64_t size;
	int error;
	if (a->count != 3) {
		cli_error("disk: create takes FILE and SIZE (see: wherry disk --help)");
		return CLI_ERROR;
	}
	if (cli_parse_size(a->operand[2], &size) || !size) {
		cli_error("disk: %s is no size of a disk", a->operand[2]);
		return CLI_ERROR;
	}
	if (a->cluster_size > UINT32_MAX || (a->cluster_size && format == WH_BLOCK_FORMAT_RAW)) {
		cli_error("disk: a cluster size is for qcow2, 512 to 2M");
		return CLI_ERROR;
	}
	struct wh_block_file_config fc = { .size = sizeof fc,
					   .path = path,
					   .flags = WH_BLOCK_FILE_CREATE };
	error = wh_block_file_open(&fc, &file, &diag);
	if (error) {
		cli_error("%s", diag.text);
		return CLI_ERROR;
	}
	if (format == WH_BLOCK_FORMAT_QCOW2) {
		struct wh_block_qcow2_config config = { .size = sizeof config,
							.disk_size = size,
							.cluster_size = (uint32_t)a->cluster_size };
		error = wh_block_qcow2_create(&file, &config, &wh_block_malloc, &diag);
	} else {
		struct wh_block_io io = { .kind = WH_BLOCK_IO_RESIZE,
					  .flags = WH_BLOCK_IO_NOW,
					  .offset = wh_align_up(size, WH_BLOCK_SECTOR) };
		error = file.ops->submit(file.ctx, &io);
		if (error)
			wh_diag_set(&diag, error, "cannot make it %llu bytes long (errno %d)",
				    (unsigned long long)io.offset, -error);
	}
	wh_block_file_close(&file);
	if (error) {
		unlink(path); /* it is ours: it did not exist before */
		cli_error("%s: %s", path, diag.text);
		return CLI_ERROR;
	}
	return CLI_OK;
}

/* Only for showing: who runs a guest on an image says its format. */
static int detect(const char *path, enum wh_block_format *ret_format, struct wh_diag *diag)
{
	struct wh_block_file file;
	struct wh_block_file_config config = { .size = sizeof config,
					       .path = path,
					       .flags = WH_BLOCK_FILE_READ_ONLY |
							WH_BLOCK_FILE_NO_LOCK };
	int error = wh_block_file_open(&config, &file, diag);
	if (error)
		return error;
	error = wh_block_looks_like(&file, ret_format);
	if (error)
		wh_diag_set(diag, error, "%s: cannot be read (errno %d)", path, -error);
	else if (!*ret_format)
		*ret_format = WH_BLOCK_FORMAT_RAW;
	wh_block_file_close(&file);
	return error;
}

static void json_path(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		if ((unsigned char)*s < 32)
			printf("\\u%04x", (unsigned char)*s);
		else
			putchar(*s);
	}
	putchar('"');
}

static void show(const char *path, const struct wh_block_info *i, uint64_t used, bool json)
{
	const char *format = wh_block_format_name(i->format);
	bool qcow2 = i->format == WH_BLOCK_FORMAT_QCOW2;
	if (json) {
		printf("{\"file\": ");
		json_path(path);
		printf(", \"format\": \"%s\", \"size\": %llu, \"file_size\": %llu, \"space\": %llu",
		       format, (unsigned long long)i->size, (unsigned long long)i->file_size,
		       (unsigned long long)used);
		if (qcow2)
			printf(", \"version\": %u, \"cluster_size\": %u, \"refcount_bits\": %u, "
			       "\"dirty\": %s, \"corrupt\": %s, \"lazy_refcounts\": %s",
			       i->version, i->cluster_size, i->refcount_bits,
			       i->dirty ? "true" : "false", i->corrupt ? "true" : "false",
			       i->lazy_refcounts ? "true" : "false");
		printf("}\n");
		return;
	}
	printf("file: %s\nformat: %s\ndisk size: %llu bytes\nfile: %llu bytes, takes %llu\n", path,
	       format, (unsigned long long)i->size, (unsigned long long)i->file_size,
	       (unsigned long long)used);
	if (qcow2)
		printf("qcow2: version %u, clusters of %u bytes, %u-bit reference counts%s%s%s\n",
		       i->version, i->cluster_size, i->refcount_bits, i->dirty ? ", dirty" : "",
		       i->corrupt ? ", CORRUPT" : "",
		       i->lazy_refcounts ? ", lazy reference counts" : "");
}

static int info(const struct arguments *a)
{
	const char *path = a->operand[1];
	struct wh_block_config config = { .size = sizeof config,
					  .format = a->format,
					  .read_only = true,
					  .alloc = &wh_block_malloc };
	struct wh_block_file_config fc = { .size = sizeof fc,
					   .path = path,
					   .flags = WH_BLOCK_FILE_READ_ONLY |
						    WH_BLOCK_FILE_NO_LOCK };
	struct wh_block *block = NULL;
	struct wh_block_info result;
	struct wh_diag diag = { "" };
	struct stat st;
	int error;
	if (a->count != 2) {
		cli_error("disk: info takes one FILE (see: wherry disk --help)");
		return CLI_ERROR;
	}
	error = config.format ? 0 : detect(path, &config.format, &diag);
	if (!error)
		error = wh_block_file_open(&fc, &config.file, &diag);
	if (error) {
		cli_error("%s", diag.text);
		return CLI_ERROR;
	}
	error = wh_block_open(&config, &block, &diag);
	if (error)
		cli_error("%s: %s", path, diag.text);
	else
		wh_block_info(block, &result);
	if (block)
		(void)wh_block_close(block); /* read-only: nothing to flush */
	wh_block_file_close(&config.file);
	if (error)
		return CLI_ERROR;
	show(path, &result, stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512, a->json);
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}

int cmd_disk(int argc, char **argv)
{
	struct arguments a = { .format = WH_BLOCK_FORMAT_NONE };
	int stop = parse(argc, argv, &a);
	if (stop)
		return stop == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (a.count && wh_streq(a.operand[0], "create"))
		return create(&a);
	if (a.count && wh_streq(a.operand[0], "info"))
		return info(&a);
	cli_error("disk: create or info? (see: wherry disk --help)");
	return CLI_ERROR;
}
