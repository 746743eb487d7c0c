/* SPDX-License-Identifier: ISC */
/*
 * wherry disk info, map. JSON has qemu-img's names.
 */
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "disk.h"

enum { OPTION_START = DISK_OWN, OPTION_LENGTH };

static int run_info(int argc, char **argv);
static int run_map(int argc, char **argv);

static const struct cli_option info_options[] = {
	DISK_OPTION_FORMAT("raw or qcow2 (what it looks like)"),
	DISK_OPTION_SHARE,
	DISK_OPTION_JSON,
};

const struct cli_command disk_command_info = {
	.name = "disk info",
	.synopsis = "[-f FORMAT] [--json] FILE",
	.summary = "describe a disk image",
	.options = info_options,
	.option_count = WH_ARRAY_COUNT(info_options),
	.run = run_info,
};

static const struct cli_option map_options[] = {
	DISK_OPTION_FORMAT("of FILE"),
	{ OPTION_START, "start-offset", 's', "OFFSET", "begin there" },
	{ OPTION_LENGTH, "max-length", 'l', "SIZE", "look at so much of the disk" },
	DISK_OPTION_SHARE,
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
};

const struct cli_command disk_command_map = {
	.name = "disk map",
	.synopsis = "[-f FORMAT] [--json] FILE",
	.summary = "tell where the data of a disk is",
	.options = map_options,
	.option_count = WH_ARRAY_COUNT(map_options),
	.run = run_map,
};

/* ---- info ---- */

static void json_snapshots(struct disk_json *j, struct wh_block *b, uint32_t count)
{
	struct wh_block_snapshot s;
	disk_json_open(j, "snapshots", '[');
	for (uint32_t i = 0; i < count && wh_block_snapshot_get(b, i, &s) >= 0; i++) {
		disk_json_open(j, NULL, '{');
		disk_json_text(j, "id", s.id);
		disk_json_text(j, "name", s.name);
		disk_json_number(j, "vm-state-size", s.vm_state_size);
		disk_json_number(j, "date-sec", s.date_s);
		disk_json_number(j, "date-nsec", s.date_ns);
		disk_json_number(j, "vm-clock-sec", s.vm_clock_ns / 1000000000u);
		disk_json_number(j, "vm-clock-nsec", s.vm_clock_ns % 1000000000u);
		disk_json_close(j, '}');
	}
	disk_json_close(j, ']');
}

static void json_info(const char *path, struct wh_block *b, const struct wh_block_info *i,
		      uint64_t used)
{
	struct disk_json j = { 0 };
	disk_json_open(&j, NULL, '{');
	disk_json_text(&j, "filename", path);
	disk_json_text(&j, "format", wh_block_format_name(i->format));
	disk_json_number(&j, "virtual-size", i->size);
	disk_json_number(&j, "actual-size", used);
	disk_json_number(&j, "file-size", i->file_size);
	if (i->format == WH_BLOCK_FORMAT_QCOW2) {
		disk_json_number(&j, "cluster-size", i->cluster_size);
		disk_json_bool(&j, "dirty-flag", i->dirty);
		if (i->backing_name[0])
			disk_json_text(&j, "backing-filename", i->backing_name);
		if (i->backing_name[0] && i->backing_format)
			disk_json_text(&j, "backing-filename-format",
				       wh_block_format_name(i->backing_format));
		if (i->snapshot_count)
			json_snapshots(&j, b, i->snapshot_count);
		disk_json_open(&j, "format-specific", '{');
		disk_json_text(&j, "type", "qcow2");
		disk_json_open(&j, "data", '{');
		disk_json_text(&j, "compat", i->version == 2 ? "0.10" : "1.1");
		disk_json_text(&j, "compression-type",
			       i->compression == WH_BLOCK_COMPRESSION_ZSTD ? "zstd" : "zlib");
		disk_json_bool(&j, "lazy-refcounts", i->lazy_refcounts);
		disk_json_number(&j, "refcount-bits", i->refcount_bits);
		disk_json_bool(&j, "corrupt", i->corrupt);
		disk_json_bool(&j, "extended-l2", i->extended_l2);
		if (i->data_file_name[0]) {
			disk_json_text(&j, "data-file", i->data_file_name);
			disk_json_bool(&j, "data-file-raw", i->data_file_raw);
		}
		disk_json_close(&j, '}');
		disk_json_close(&j, '}');
	}
	disk_json_close(&j, '}');
}

static void text_info(const char *path, struct wh_block *b, const struct wh_block_info *i,
		      uint64_t used)
{
	printf("file: %s\nformat: %s\ndisk size: %llu bytes\nfile: %llu bytes, takes %llu\n", path,
	       wh_block_format_name(i->format), (unsigned long long)i->size,
	       (unsigned long long)i->file_size, (unsigned long long)used);
	if (i->format != WH_BLOCK_FORMAT_QCOW2)
		return;
	printf("qcow2: version %u, clusters of %u bytes, %u-bit reference counts%s%s%s%s%s\n",
	       i->version, i->cluster_size, i->refcount_bits, i->dirty ? ", dirty" : "",
	       i->corrupt ? ", CORRUPT" : "", i->lazy_refcounts ? ", lazy reference counts" : "",
	       i->extended_l2 ? ", subclusters" : "",
	       i->compression == WH_BLOCK_COMPRESSION_ZSTD ? ", zstd" : "");
	if (i->backing_name[0])
		printf("backing file: %s (%s)\n", i->backing_name,
		       i->backing_format ? wh_block_format_name(i->backing_format)
					 : "format not recorded");
	if (i->data_file_name[0])
		printf("data file: %s%s\n", i->data_file_name, i->data_file_raw ? " (raw)" : "");
	if (i->bitmap_count)
		printf("bitmaps: %u\n", i->bitmap_count);
	for (uint32_t n = 0; n < i->snapshot_count; n++) {
		struct wh_block_snapshot s;
		if (wh_block_snapshot_get(b, n, &s) >= 0)
			printf("snapshot %s: %s\n", s.id, s.name);
	}
}

static int run_info(int argc, char **argv)
{
	struct disk_common common = { 0 };
	const char *path;
	struct disk_parse p = { .command = &disk_command_info,
				.common = &common,
				.operands = &path,
				.operand_max = 1,
				.operand_min = 1 };
	struct wh_block_image *image;
	struct wh_block_info info;
	struct stat st;
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (!common.format && disk_detect(path, &common.format) < 0)
		return CLI_ERROR;
	common.share = true; /* looking harms nobody, and what is in use can be looked at */
	if (disk_open(path, &common, true, WH_BLOCK_OPEN_ALONE, NULL, &image))
		return CLI_ERROR;
	struct wh_block *b = wh_block_image_block(image);
	wh_block_info(b, &info);
	uint64_t used = stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512;
	if (common.json)
		json_info(path, b, &info, used);
	else
		text_info(path, b, &info, used);
	(void)wh_block_image_close(image); /* read-only: nothing to flush */
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}

/* ---- map ---- */

struct map {
	uint64_t start, length;
};

static int map_option(void *ctx, int id, const char *value)
{
	struct map *m = ctx;
	return id == OPTION_START ? disk_parse_size("--start-offset", value, &m->start)
				  : disk_parse_size("--max-length", value, &m->length);
}

static void json_extent(struct disk_json *j, const struct wh_block_extent *x)
{
	disk_json_open(j, NULL, '{');
	disk_json_number(j, "start", x->offset);
	disk_json_number(j, "length", x->size);
	disk_json_number(j, "depth", x->depth);
	disk_json_bool(j, "present", x->flags & WH_BLOCK_MAP_PRESENT);
	disk_json_bool(j, "zero", !(x->flags & WH_BLOCK_MAP_DATA));
	disk_json_bool(j, "data", x->flags & WH_BLOCK_MAP_DATA);
	disk_json_bool(j, "compressed", x->flags & WH_BLOCK_MAP_COMPRESSED);
	if (x->flags & WH_BLOCK_MAP_HOST && !(x->flags & WH_BLOCK_MAP_COMPRESSED))
		disk_json_number(j, "offset", x->host);
	disk_json_close(j, '}');
}

/* Alike and, where they have a place, one behind the other. */
static bool goes_on(const struct wh_block_extent *a, const struct wh_block_extent *b)
{
	return a->flags == b->flags && a->depth == b->depth &&
	       !(a->flags & WH_BLOCK_MAP_COMPRESSED) &&
	       (!(a->flags & WH_BLOCK_MAP_HOST) || a->host + a->size == b->host);
}

static void show_extent(struct disk_json *j, bool json, const struct wh_block_extent *x)
{
	if (json)
		json_extent(j, x);
	else if (x->flags & WH_BLOCK_MAP_DATA)
		printf("%#18llx %#18llx %6u %#18llx%s\n", (unsigned long long)x->offset,
		       (unsigned long long)x->size, x->depth, (unsigned long long)x->host,
		       x->flags & WH_BLOCK_MAP_COMPRESSED ? " compressed" : "");
}

static int show_map(struct wh_block *b, const struct map *m, bool json)
{
	struct disk_json j = { 0 };
	struct wh_block_extent now, next;
	uint64_t end = wh_block_size(b);
	if (m->length && m->start < end && m->length < end - m->start)
		end = m->start + m->length;
	if (json)
		disk_json_open(&j, NULL, '[');
	else
		printf("%18s %18s %6s %18s\n", "offset", "length", "depth", "in file at");
	bool any = false;
	for (uint64_t at = m->start; at < end;) {
		int r = wh_block_map(b, at, end - at, WH_BLOCK_CHAIN_MAX, &next);
		if (r < 0)
			return r;
		at += next.size;
		if (any && goes_on(&now, &next)) {
			now.size += next.size;
			continue;
		}
		if (any)
			show_extent(&j, json, &now);
		now = next;
		any = true;
	}
	if (any)
		show_extent(&j, json, &now);
	if (json)
		disk_json_close(&j, ']');
	return 0;
}

static int run_map(int argc, char **argv)
{
	struct disk_common common = { 0 };
	struct map m = { 0 };
	const char *path;
	struct disk_parse p = { .command = &disk_command_map,
				.common = &common,
				.own = map_option,
				.ctx = &m,
				.operands = &path,
				.operand_max = 1,
				.operand_min = 1 };
	struct wh_block_image *image;
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (disk_open(path, &common, true, 0, NULL, &image))
		return CLI_ERROR;
	r = show_map(wh_block_image_block(image), &m, common.json);
	if (r < 0)
		cli_error("%s: cannot be read: %s", path, strerror(-r));
	(void)wh_block_image_close(image); /* read-only: nothing to flush */
	return r < 0 || fflush(stdout) ? CLI_ERROR : CLI_OK;
}
