/* SPDX-License-Identifier: ISC */
/*
 * wherry disk check, repair, resize, compact, snapshot: verbs that change an image in place.
 */
#include <string.h>
#include <time.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>

#include "disk_control.h"
#include "disk.h"

enum {
	OPTION_REPAIR = DISK_OWN,
	OPTION_SHRINK,
	OPTION_LIST,
	OPTION_CREATE,
	OPTION_APPLY,
	OPTION_DELETE,
	OPTION_CONTROL
};

#define COMPACT_STEP (16u << 20) /* bytes copied between two looks at the clock */

static int run_check(int argc, char **argv);
static int run_repair(int argc, char **argv);
static int run_resize(int argc, char **argv);
static int run_compact(int argc, char **argv);
static int run_snapshot(int argc, char **argv);

static const struct cli_option check_options[] = {
	DISK_OPTION_FORMAT("of FILE (qcow2)"),
	{ OPTION_REPAIR, "repair", 'r', "WHAT", "mend leaks, or all" },
	DISK_OPTION_SHARE,
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
	DISK_OPTIONS_PROGRESS,
};
const struct cli_command disk_command_check = {
	.name = "disk check",
	.synopsis = "[-r leaks|all] [--json] FILE",
	.summary = "look for errors in an image",
	.details = "Exit status: 0 clean, 2 corruptions, 3 leaked clusters only, 63 not a format "
		   "that can be checked,\n125 could not be done.",
	.options = check_options,
	.option_count = WH_ARRAY_COUNT(check_options),
	.run = run_check,
};

static const struct cli_option repair_options[] = {
	DISK_OPTION_FORMAT("of FILE (qcow2)"),
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
	DISK_OPTIONS_PROGRESS,
};
const struct cli_command disk_command_repair = {
	.name = "disk repair",
	.synopsis = "FILE",
	.summary = "mend an image: check -r all",
	.options = repair_options,
	.option_count = WH_ARRAY_COUNT(repair_options),
	.run = run_repair,
};

static const struct cli_option resize_options[] = {
	DISK_OPTION_FORMAT("of FILE"),
	{ OPTION_SHRINK, "shrink", 0, NULL, "allow to lose what is behind the new end" },
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
};
const struct cli_command disk_command_resize = {
	.name = "disk resize",
	.synopsis = "[--shrink] FILE [+]SIZE",
	.summary = "make a disk larger or smaller",
	.options = resize_options,
	.option_count = WH_ARRAY_COUNT(resize_options),
	.run = run_resize,
};

static const struct cli_option compact_options[] = {
	DISK_OPTION_FORMAT("of FILE (qcow2)"),
	{ OPTION_CONTROL, "control", 0, "PATH", "of a running serve: compacts its EXPORT" },
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
	DISK_OPTIONS_PROGRESS,
};
const struct cli_command disk_command_compact = {
	.name = "disk compact",
	.synopsis = "FILE | --control PATH [EXPORT]",
	.summary = "move clusters into holes and cut the file",
	.details = "May be interrupted at any time; the image is consistent. With --control, "
		   "clients of the "
		   "server go on\nusing the disk meanwhile (see: wherry disk serve --control).",
	.options = compact_options,
	.option_count = WH_ARRAY_COUNT(compact_options),
	.run = run_compact,
};

static const struct cli_option snapshot_options[] = {
	DISK_OPTION_FORMAT("of FILE (qcow2)"),
	{ OPTION_LIST, "list", 'l', NULL, "list snapshots (what is done unless said)" },
	{ OPTION_CREATE, "create", 'c', "NAME", "keep the disk as it is now" },
	{ OPTION_APPLY, "apply", 'a', "NAME", "make the disk again what it was then" },
	{ OPTION_DELETE, "delete", 'd', "NAME", "forget a snapshot" },
	DISK_OPTION_SHARE,
	DISK_OPTION_FOLLOW,
	DISK_OPTION_JSON,
	DISK_OPTION_QUIET,
};
const struct cli_command disk_command_snapshot = {
	.name = "disk snapshot",
	.synopsis = "[-l | -c NAME | -a NAME | -d NAME] FILE",
	.summary = "keep, apply and delete states of a disk",
	.options = snapshot_options,
	.option_count = WH_ARRAY_COUNT(snapshot_options),
	.run = run_snapshot,
};

/* What a library function that has a diag answered. */
static int failed(const char *path, int error, const struct wh_diag *diag)
{
	if (error == -WH_ECANCELED)
		cli_error("%s: interrupted; the image is consistent", path);
	else
		cli_error("%s: %s", path, diag->text[0] ? diag->text : strerror(-error));
	return CLI_ERROR;
}

/* ---- check ---- */

static void json_check(const char *path, const struct wh_block_check *c)
{
	struct disk_json j = { 0 };
	disk_json_open(&j, NULL, '{');
	disk_json_text(&j, "filename", path);
	disk_json_text(&j, "format", "qcow2");
	disk_json_number(&j, "check-errors", c->errors);
	disk_json_number(&j, "corruptions", c->corruptions);
	disk_json_number(&j, "leaks", c->leaks);
	disk_json_number(&j, "corruptions-fixed", c->corruptions_fixed);
	disk_json_number(&j, "leaks-fixed", c->leaks_fixed);
	disk_json_number(&j, "image-end-offset", c->image_end);
	disk_json_number(&j, "total-clusters", c->clusters_total);
	disk_json_number(&j, "allocated-clusters", c->clusters_allocated);
	disk_json_number(&j, "compressed-clusters", c->clusters_compressed);
	disk_json_number(&j, "fragmented-clusters", c->clusters_fragmented);
	if (c->first[0])
		disk_json_text(&j, "first", c->first);
	disk_json_close(&j, '}');
}

static void text_check(const struct wh_block_check *c)
{
	if (c->first[0])
		printf("first: %s\n", c->first);
	if (c->leaks_fixed || c->corruptions_fixed)
		printf("mended: %llu leaked clusters, %llu corruptions\n",
		       (unsigned long long)c->leaks_fixed,
		       (unsigned long long)c->corruptions_fixed);
	if (c->errors || c->corruptions || c->leaks)
		printf("found: %llu corruptions, %llu leaked clusters, %llu places that cannot be "
		       "read\n",
		       (unsigned long long)c->corruptions, (unsigned long long)c->leaks,
		       (unsigned long long)c->errors);
	else
		printf("no errors\n");
	printf("%llu of %llu clusters allocated, %llu compressed, %llu fragmented; the file ends "
	       "at %llu\n",
	       (unsigned long long)c->clusters_allocated, (unsigned long long)c->clusters_total,
	       (unsigned long long)c->clusters_compressed,
	       (unsigned long long)c->clusters_fragmented, (unsigned long long)c->image_end);
}

static int check_option(void *ctx, int id, const char *value)
{
	uint32_t *repair = ctx;
	if (wh_streq(value, "leaks"))
		*repair = WH_BLOCK_REPAIR_LEAKS;
	else if (wh_streq(value, "all"))
		*repair = WH_BLOCK_REPAIR_ALL | WH_BLOCK_REPAIR_LEAKS;
	else {
		cli_error("disk check: -r is leaks or all, not %s", value);
		return CLI_BAD;
	}
	return 0;
}

static int check(const struct cli_command *command, int argc, char **argv, uint32_t repair)
{
	struct disk_common common = { 0 };
	const char *path;
	struct disk_parse p = { .command = command,
				.common = &common,
				.own = check_option,
				.ctx = &repair,
				.operands = &path,
				.operand_max = 1,
				.operand_min = 1 };
	struct wh_block_image *image;
	struct wh_block_check c = { 0 };
	struct wh_diag diag = { "" };
	struct disk_progress progress;
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (!common.format)
		common.format = WH_BLOCK_FORMAT_QCOW2;
	if (disk_open(path, &common, !repair, WH_BLOCK_OPEN_CHECK, NULL, &image))
		return CLI_ERROR;
	disk_progress_init(&progress, &common);
	r = wh_block_check(wh_block_image_block(image), repair, &progress.hook, &c, &diag);
	disk_progress_end(&progress);
	int status = CLI_OK;
	if (r == -WH_EOPNOTSUPP && common.format == WH_BLOCK_FORMAT_RAW) {
		cli_error("%s: a raw disk has nothing to check", path);
		status = DISK_UNCHECKED;
	} else if (r < 0) {
		status = failed(path, r, &diag);
	}
	int closed = repair ? disk_close(path, image) : (wh_block_image_close(image), CLI_OK);
	if (status || closed)
		return status ? status : closed;
	if (common.json)
		json_check(path, &c);
	else if (!common.quiet)
		text_check(&c);
	if (fflush(stdout) || c.errors)
		return CLI_ERROR;
	/* What was mended is not there any more. */
	if (c.corruptions > c.corruptions_fixed)
		return DISK_CORRUPT;
	return c.leaks > c.leaks_fixed ? DISK_LEAKS : CLI_OK;
}

static int run_check(int argc, char **argv)
{
	return check(&disk_command_check, argc, argv, 0);
}

static int run_repair(int argc, char **argv)
{
	return check(&disk_command_repair, argc, argv, WH_BLOCK_REPAIR_ALL | WH_BLOCK_REPAIR_LEAKS);
}

/* ---- resize ---- */

static int resize_option(void *ctx, int id, const char *value)
{
	*(uint32_t *)ctx |= WH_BLOCK_SHRINK;
	return 0;
}

static int run_resize(int argc, char **argv)
{
	struct disk_common common = { 0 };
	uint32_t flags = 0;
	const char *operands[2];
	struct disk_parse p = { .command = &disk_command_resize,
				.common = &common,
				.own = resize_option,
				.ctx = &flags,
				.operands = operands,
				.operand_max = 2,
				.operand_min = 2 };
	struct wh_block_image *image;
	struct wh_diag diag = { "" };
	uint64_t size, old;
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	bool more = operands[1][0] == '+';
	if (disk_parse_size("SIZE", operands[1] + more, &size) ||
	    disk_open(operands[0], &common, false, 0, NULL, &image))
		return CLI_ERROR;
	struct wh_block *b = wh_block_image_block(image);
	old = wh_block_size(b);
	if (more && __builtin_add_overflow(size, old, &size))
		size = UINT64_MAX;
	if (size > WH_BLOCK_SIZE_MAX || !size)
		r = wh_diag_set(&diag, -WH_EFBIG, "%s is no size of a disk", operands[1]);
	else if (size < old && !(flags & WH_BLOCK_SHRINK))
		r = wh_diag_set(&diag, -WH_EINVAL,
				"the disk is larger now (%llu bytes): say --shrink to lose what is "
				"behind the new end",
				(unsigned long long)old);
	else
		r = wh_block_resize(b, wh_align_up(size, WH_BLOCK_SECTOR), flags, &diag);
	int status = r < 0 ? failed(operands[0], r, &diag) : CLI_OK;
	size = wh_block_size(b);
	int closed = disk_close(operands[0], image);
	if (!status && !closed && common.json) {
		struct disk_json j = { 0 };
		disk_json_open(&j, NULL, '{');
		disk_json_text(&j, "filename", operands[0]);
		disk_json_number(&j, "virtual-size-before", old);
		disk_json_number(&j, "virtual-size", size);
		disk_json_close(&j, '}');
		return fflush(stdout) ? CLI_ERROR : CLI_OK;
	}
	return status ? status : closed;
}

/* ---- compact ---- */

static int compact(struct wh_block *b, struct disk_progress *progress, struct wh_diag *diag)
{
	struct wh_block_compaction *c;
	uint64_t done, total;
	int r = wh_block_compact_begin(b, &c, diag);
	if (r < 0)
		return r;
	do {
		r = wh_block_compact_step(c, COMPACT_STEP, &done, &total);
		if (r >= 0)
			disk_progress_show(progress, done, total);
		if (r > 0 && disk_interrupted())
			r = -WH_ECANCELED;
	} while (r > 0);
	wh_block_compact_end(c);
	return r;
}

static int compact_file(const char *path, struct disk_common *common, uint64_t *ret_before,
			uint64_t *ret_after)
{
	struct wh_block_image *image;
	struct wh_block_info info;
	struct disk_progress progress;
	struct wh_diag diag = { "" };
	if (!common->format)
		common->format = WH_BLOCK_FORMAT_QCOW2;
	if (disk_open(path, common, false, 0, NULL, &image))
		return CLI_ERROR;
	struct wh_block *b = wh_block_image_block(image);
	wh_block_info(b, &info);
	*ret_before = info.file_size;
	disk_progress_init(&progress, common);
	int r = compact(b, &progress, &diag);
	disk_progress_end(&progress);
	wh_block_info(b, &info);
	*ret_after = info.file_size;
	int status = r < 0 ? failed(path, r, &diag) : CLI_OK;
	int closed = disk_close(path, image);
	return status ? status : closed;
}

static int compact_option(void *ctx, int id, const char *value)
{
	*(const char **)ctx = value;
	return 0;
}

static int run_compact(int argc, char **argv)
{
	struct disk_common common = { 0 };
	const char *path = NULL, *control = NULL;
	struct disk_parse p = { .command = &disk_command_compact,
				.common = &common,
				.own = compact_option,
				.ctx = &control,
				.operands = &path,
				.operand_max = 1 };
	struct disk_progress progress;
	uint64_t before = 0, after = 0;
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	if (!path && !control)
		return disk_usage(&disk_command_compact);
	if (control) {
		disk_progress_init(&progress, &common);
		r = disk_control_compact(control, path ? path : "", &progress, &before, &after);
		disk_progress_end(&progress);
	} else {
		r = compact_file(path, &common, &before, &after);
	}
	if (r)
		return r;
	if (common.json) {
		struct disk_json j = { 0 };
		disk_json_open(&j, NULL, '{');
		disk_json_text(&j, control ? "export" : "filename", path ? path : "");
		disk_json_number(&j, "file-size-before", before);
		disk_json_number(&j, "file-size", after);
		disk_json_close(&j, '}');
	} else if (!common.quiet) {
		printf("%llu bytes, before %llu\n", (unsigned long long)after,
		       (unsigned long long)before);
	}
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}

/* ---- snapshots ---- */

struct snapshot_options {
	int what;
	const char *name;
};

static int snapshot_option(void *ctx, int id, const char *value)
{
	struct snapshot_options *o = ctx;
	if (o->what && o->what != id) {
		cli_error("disk snapshot: one of -l, -c, -a and -d");
		return CLI_BAD;
	}
	*o = (struct snapshot_options){ id, value };
	return 0;
}

static void list_snapshots(struct wh_block *b, bool json)
{
	struct wh_block_snapshot s;
	struct disk_json j = { 0 };
	if (json)
		disk_json_open(&j, NULL, '[');
	for (uint32_t i = 0; wh_block_snapshot_get(b, i, &s) >= 0; i++) {
		char date[32] = "";
		time_t t = (time_t)s.date_s;
		struct tm tm;
		if (localtime_r(&t, &tm))
			strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &tm);
		if (json) {
			disk_json_open(&j, NULL, '{');
			disk_json_text(&j, "id", s.id);
			disk_json_text(&j, "name", s.name);
			disk_json_number(&j, "vm-state-size", s.vm_state_size);
			disk_json_number(&j, "date-sec", s.date_s);
			disk_json_number(&j, "date-nsec", s.date_ns);
			disk_json_number(&j, "virtual-size", s.disk_size);
			disk_json_close(&j, '}');
		} else {
			printf("%-8s %-24s %s  disk %llu, machine state %llu bytes\n", s.id, s.name,
			       date, (unsigned long long)s.disk_size,
			       (unsigned long long)s.vm_state_size);
		}
	}
	if (json)
		disk_json_close(&j, ']');
}

static int change_snapshots(struct wh_block *b, const struct snapshot_options *o,
			    struct wh_diag *diag)
{
	struct wh_block_snapshot s = { 0 };
	struct timespec now;
	switch (o->what) {
	case OPTION_CREATE:
		clock_gettime(CLOCK_REALTIME, &now);
		if (!o->name[0] || strlen(o->name) >= sizeof s.name)
			return wh_diag_set(diag, -WH_EINVAL, "a name has 1 to %zu bytes",
					   sizeof s.name - 1);
		wh_format(s.name, sizeof s.name, "%s", o->name);
		s.date_s = (uint64_t)now.tv_sec;
		s.date_ns = (uint32_t)now.tv_nsec;
		return wh_block_snapshot_create(b, &s, diag);
	case OPTION_APPLY:
		return wh_block_snapshot_apply(b, o->name, diag);
	default:
		return wh_block_snapshot_delete(b, o->name, diag);
	}
}

static int run_snapshot(int argc, char **argv)
{
	struct disk_common common = { 0 };
	struct snapshot_options o = { 0 };
	const char *path;
	struct disk_parse p = { .command = &disk_command_snapshot,
				.common = &common,
				.own = snapshot_option,
				.ctx = &o,
				.operands = &path,
				.operand_max = 1,
				.operand_min = 1 };
	struct wh_block_image *image;
	struct wh_diag diag = { "" };
	int r = disk_parse(&p, argc, argv);
	if (r)
		return r == CLI_HELP ? CLI_OK : CLI_ERROR;
	bool list = !o.what || o.what == OPTION_LIST;
	if (!common.format)
		common.format = WH_BLOCK_FORMAT_QCOW2;
	if (disk_open(path, &common, list, list ? WH_BLOCK_OPEN_ALONE : 0, NULL, &image))
		return CLI_ERROR;
	struct wh_block *b = wh_block_image_block(image);
	if (list) {
		list_snapshots(b, common.json);
		(void)wh_block_image_close(image); /* read-only */
		return fflush(stdout) ? CLI_ERROR : CLI_OK;
	}
	r = change_snapshots(b, &o, &diag);
	int status = r < 0 ? failed(path, r, &diag) : CLI_OK;
	if (!status && common.json)
		list_snapshots(b, true); /* as they are now */
	int closed = disk_close(path, image);
	return status ? status : closed ? closed : fflush(stdout) ? CLI_ERROR : CLI_OK;
}
