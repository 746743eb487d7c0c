/* SPDX-License-Identifier: ISC */
#ifndef DISK_H
#define DISK_H

/*
 * What the verbs of `wherry disk` share. Each verb is a struct cli_command with an option table of its
 * own, named "disk VERB"; options have the letters that qemu-img's users know.
 */

#include <stdio.h>
#include <wherry/block_file.h>

#include "cli.h"

/* Exit statuses of verbs that tell more than done or error; qemu-img's numbers. */
enum disk_status {
	DISK_DIFFERENT = 1, /* compare */
	DISK_CORRUPT = 2,   /* check: corruptions (left) */
	DISK_LEAKS = 3,     /* check: leaked clusters (left), no corruptions */
	DISK_UNCHECKED = 63 /* check: not of a format that can be checked */
};

extern const struct cli_command disk_command_create, disk_command_info, disk_command_map,
	disk_command_check, disk_command_repair, disk_command_convert, disk_command_resize,
	disk_command_compact, disk_command_snapshot, disk_command_rebase, disk_command_commit,
	disk_command_measure, disk_command_compare, disk_command_serve;

/* ---- options (disk_options.c) ---- */

/* Ids of options that several verbs have; disk_common takes them. A verb's own ids begin at DISK_OWN. */
enum {
	DISK_FORMAT = 1, /* -f */
	DISK_SHARE,      /* -U */
	DISK_CACHE,      /* -t, or -T where the target has -t */
	DISK_FOLLOW,
	DISK_SNAPSHOT, /* -l */
	DISK_JSON,
	DISK_QUIET, /* -q */
	DISK_BAR,   /* -p */
	DISK_PROGRESS,
	DISK_OWN
};

#define DISK_OPTION_FORMAT(what)                           \
	{                                                  \
		DISK_FORMAT, "format", 'f', "FORMAT", what \
	}
#define DISK_OPTION_SHARE                                                             \
	{                                                                             \
		DISK_SHARE, "force-share", 'U', NULL, "read while somebody may write" \
	}
#define DISK_OPTION_FOLLOW                                                       \
	{                                                                        \
		DISK_FOLLOW, "follow", 0, "WHICH",                               \
			"files that the image names: folder, none, any (folder)" \
	}
#define DISK_OPTION_JSON                                 \
	{                                                \
		DISK_JSON, "json", 0, NULL, "print JSON" \
	}
#define DISK_OPTION_QUIET                                                  \
	{                                                                  \
		DISK_QUIET, "quiet", 'q', NULL, "print nothing but errors" \
	}
#define DISK_OPTIONS_PROGRESS                                                               \
	{ DISK_BAR, NULL, 'p', NULL, "show the progress also where there is no terminal" }, \
	{                                                                                   \
		DISK_PROGRESS, "progress", 0, NULL, "print the progress as lines of JSON"   \
	}

struct disk_common {
	enum wh_block_format format; /* NONE = not said */
	bool share, json, quiet, bar, progress;
	enum wh_block_cache cache;
	enum wh_block_follow follow;
	const char *snapshot;
};
/* 1 = taken, 0 = another option, CLI_BAD after a message. */
int disk_common(struct disk_common *c, int id, const char *value);

/* The whole loop of a verb: common options go to *common, operands to `operands`, others to `own`
 * (0 or CLI_BAD). 0, CLI_BAD or CLI_HELP. */
struct disk_parse {
	const struct cli_command *command;
	struct disk_common *common;
	int (*own)(void *ctx, int id, const char *value);
	void *ctx;
	const char **operands;
	unsigned operand_max, operand_min;
	unsigned operand_count; /* out */
};
int disk_parse(struct disk_parse *p, int argc, char **argv);

/* 0, or CLI_BAD after a message. `what` names the option. */
int disk_parse_format(const char *text, enum wh_block_format *ret_format);
int disk_parse_cache(const char *text, enum wh_block_cache *ret_cache);
int disk_parse_aio(const char *text, enum wh_blockio_kind *ret_kind);
int disk_parse_follow(const char *text, enum wh_block_follow *ret_follow);
int disk_parse_size(const char *what, const char *text, uint64_t *ret_size);
/* Operands: stores at most `max`; complains about more. */
int disk_operand(const struct cli_command *command, const char *value, const char **operands,
		 unsigned max, unsigned *count);
int disk_usage(const struct cli_command *command); /* a message; CLI_ERROR */

/* What the file looks like; -errno after a message. Only for showing: what is worked with has its format said. */
int disk_detect(const char *path, enum wh_block_format *ret_format);

/* ---- images (disk_image.c) ---- */

/* Opens as the options say; for writing unless read_only. 0 or CLI_ERROR after a message. */
int disk_open(const char *path, const struct disk_common *common, bool read_only,
	      uint32_t open_flags, struct wh_blockio *io, struct wh_block_image **ret_image);
/* CLI_OK, or CLI_ERROR after a message: the last writes were lost. */
int disk_close(const char *path, struct wh_block_image *image);
/* Compression for all images of this program. */
const struct wh_block_codec *disk_codec(void);

/* A new image: -o, -b, -F, -u, --cluster-size, --preallocation. */
struct disk_target {
	enum wh_block_format format;
	struct wh_block_qcow2_config qcow2;
	enum wh_block_preallocation preallocation;
	bool unchecked_backing;
	char *words; /* of -o, cut up; lives as long as the names in qcow2 */
};
void disk_target_init(struct disk_target *t);
/* One -o NAME=VALUE,...: 0 or CLI_BAD after a message. */
int disk_target_option(struct disk_target *t, const char *text);
/* Makes the image (and its data file) of t->qcow2.disk_size bytes; removes what it made when that fails. 0 or CLI_ERROR after
 * a message. */
int disk_target_make(struct disk_target *t, const char *path);

/* ---- output (disk_output.c) ---- */

/* JSON on standard output: `name` is NULL inside a list. */
struct disk_json {
	unsigned depth;
	bool more[8];
};
void disk_json_open(struct disk_json *j, const char *name, char bracket); /* '{' or '[' */
void disk_json_close(struct disk_json *j, char bracket);
void disk_json_number(struct disk_json *j, const char *name, uint64_t value);
void disk_json_bool(struct disk_json *j, const char *name, bool value);
void disk_json_text(struct disk_json *j, const char *name, const char *value);

/* A bar on a terminal, lines of JSON for machines, nothing otherwise; on standard error. */
struct disk_progress {
	struct wh_block_progress hook; /* for the library; ends the work after SIGINT */
	bool bar, lines, shown;
	uint64_t last_ns;
};
void disk_progress_init(struct disk_progress *p, const struct disk_common *c);
void disk_progress_show(struct disk_progress *p, uint64_t done, uint64_t total);
void disk_progress_end(struct disk_progress *p);
/* SIGINT or SIGTERM came since disk_progress_init. */
bool disk_interrupted(void);

#endif
