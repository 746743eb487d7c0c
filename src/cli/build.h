/* SPDX-License-Identifier: ISC */
#ifndef CLI_BUILD_H
#define CLI_BUILD_H

/* Parts of `wherry build`. */

#include "cc.h"
#include "toml.h"

/* wherry.toml, checked. Strings point into the tree. */
struct build_file {
	const char *name;    /* the image's */
	const char *output;  /* file to make or, with a command, that the command makes */
	const char *command; /* NULL: sources are compiled and linked */
	struct cc_words sources, flags, includes;
	const char *root, *memory, *memory_min, *stack;
	/* of `wherry run` */
	struct cc_words options, arguments;
};

/* Reads the tree into *ret_file. 0, -WH_EINVAL with diag ("line 3: ..."). */
int build_file_read(struct toml *root, struct build_file *ret_file, struct wh_diag *diag);

/* Writes the bill of materials (CycloneDX 1.5, JSON) of the finished image. `sysroot`: the one it was
 * linked with. 0 or an exit status after printing why. */
int build_sbom_write(const char *path, const struct build_file *file, const char *sysroot);

#endif
