/* SPDX-License-Identifier: ISC */
#ifndef CC_H
#define CC_H

/* Parts of `wherry cc`. */

#include <stddef.h>
#include <stdint.h>

/* An embedded archive (wherry/abi/archive.h) in temporary files; paths, or NULL. */
struct cc_archive {
	char *data;
	char *object; /* for the linker: an assembler source that includes `data` */
};

/* Packs the folder `root`. 0, or an exit status after printing why. */
int cc_archive_build(const char *root, struct cc_archive *ret_archive);
void cc_archive_remove(struct cc_archive *archive);

/* Reads the linker's map: ret_text is the content of section .wherry.units (free it);
 * `missing` is called for each system call that is used and not implemented, with the
 * program's symbol that leads to it. The compiler's temporary objects are called as
 * `sources`, in the order of the command line. 0 or an exit status. */
int cc_units_read(const char *map_path, const char *const *sources, size_t source_count,
		  char **ret_text, void (*missing)(void *ctx, const char *call, const char *symbol),
		  void *ctx);

/* Adds a section that is not loaded to an ELF file, in place. 0, or an exit status
 * after printing why. */
int cc_section_add(const char *path, const char *name, const void *data, size_t size);

/* Writes the name and those of memory_min, memory_default and stack_size that are not 0
 * into the image's manifest. */
struct wh_manifest;
int cc_manifest_set(const char *path, const struct wh_manifest *values);

#endif
