/* SPDX-License-Identifier: ISC */
/*
 * wherry disk info.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "disk.h"

enum { OPTION_FORMAT = 1, OPTION_JSON };

static const struct cli_option options[] = {
	{ OPTION_FORMAT, "format", 'f', "FORMAT", "raw or qcow2 (what it looks like)" },
	{ OPTION_JSON, "json", 0, NULL, "print one JSON object" },
};

const struct cli_command disk_command_info = {
	.name = "disk info",
	.synopsis = "[-f FORMAT] [--json] FILE",
	.summary = "describe a disk image",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = disk_info,
};

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

int disk_info(int argc, char **argv)
{
	struct cli_parser parser;
	const char *value, *path = NULL;
	struct wh_block_image *image;
	struct wh_block_info result;
	struct wh_diag diag = { "" };
	struct stat st;
	unsigned count = 0;
	bool json = false;
	int id, error = 0;
	struct wh_block_image_config config = {
		.size = sizeof config, .flags = WH_BLOCK_FILE_READ_ONLY | WH_BLOCK_FILE_NO_LOCK
	};
	cli_parser_init(&parser, &disk_command_info, argc, argv);
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		if (id == CLI_HELP)
			return CLI_OK;
		if (id == OPTION_FORMAT)
			error = disk_parse_format(value, &config.format);
		else if (id == CLI_OPERAND)
			error = disk_operand(&disk_command_info, value, &path, 1, &count);
		json |= id == OPTION_JSON;
		if (id == CLI_BAD || error)
			return CLI_ERROR;
	}
	if (count != 1)
		return disk_usage(&disk_command_info);
	config.path = path;
	if (!config.format && disk_detect(path, &config.format) < 0)
		return CLI_ERROR;
	if (wh_block_image_open(&config, &image, &diag) < 0) {
		cli_error("%s", diag.text);
		return CLI_ERROR;
	}
	wh_block_info(wh_block_image_block(image), &result);
	show(path, &result, stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512, json);
	(void)wh_block_image_close(image); /* read-only: nothing to flush */
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}
