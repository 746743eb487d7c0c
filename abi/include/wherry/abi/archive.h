/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_ABI_ARCHIVE_H
#define WHERRY_ABI_ARCHIVE_H

/*
 * The embedded archive, version 1: the files that an image brings along as the
 * first content of its root file system. It lies in the image's constant data
 * between the symbols wh_archive_start and wh_archive_end and is read in place.
 * docs/spec/archive.md has the drawing and the rules for writers.
 *
 *	struct wh_archive_header
 *	struct wh_archive_entry[entry_count]	entry 0 is the root directory
 *	names				not NUL-terminated
 *	contents			each begins at a multiple of 16
 *
 * Offsets count from the header's first byte. Little-endian, naturally aligned.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WH_ARCHIVE_MAGIC 0x3156484352414857ull /* "WHARCHV1" */
#define WH_ARCHIVE_ENTRIES_MAX (1u << 20)
#define WH_ARCHIVE_NAME_MAX 255u
#define WH_ARCHIVE_ALIGN 16u

struct wh_archive_header {
	uint64_t magic;       /* WH_ARCHIVE_MAGIC */
	uint64_t size;        /* bytes of the whole archive */
	uint32_t entry_count; /* at least 1: the root */
	uint32_t reserved;    /* 0 */
	uint64_t mtime;       /* seconds; of every entry that has none of its own */
};

/* The children of a directory are contiguous entries, sorted by name as unsigned
 * bytes (the shorter first), and lie behind it: first_child > its own index. */
struct wh_archive_entry {
	uint32_t name_offset; /* root: 0 */
	uint32_t name_size;   /* 1..WH_ARCHIVE_NAME_MAX; root: 0 */
	uint32_t mode;        /* S_IFDIR, S_IFREG or S_IFLNK, and permission bits */
	uint32_t reserved;    /* 0 */
	uint64_t offset;      /* file: contents; link: target; directory: index of first child */
	uint64_t size;        /* file and link: bytes; directory: number of children */
	uint64_t mtime;       /* seconds, 0 = the header's */
};

#ifdef __cplusplus
}
#endif
#endif
