/* SPDX-License-Identifier: ISC */
#ifndef CLI_OBSERVE_H
#define CLI_OBSERVE_H

/*
 * `wherry run --trace, --profile`: parts of wherry-run, which `wherry run` becomes for them. The guest writes records into its
 * memory (wherry/abi/observe.h); this takes them out, with the image's symbols.
 */

#include <wherry/abi/observe.h>
#include <wherry/elf.h>

#include "run.h"

/* A call's name and how its arguments are shown, a letter each (observe_calls.c); and its group. */
struct observe_call {
	const char *name, *arguments, *group;
};
/* Never NULL: what is not in the table is shown as three numbers. */
const struct observe_call *observe_call_find(const char *name);
bool observe_group_known(const char *name);

/* One line, without its end. The record is a private copy. */
size_t observe_call_format(char *to, size_t size, const char *name,
			   const struct wh_observe_record *r);
/* "ENOENT", or NULL. */
const char *observe_error_name(int error);

/* Counts samples by stack; at the end writes folded stacks, or a flame graph when the file ends in .svg. */
struct observe_profile;
/* `path` is opened at once: later the monitor may be confined. NULL after a message. */
struct observe_profile *observe_profile_new(const char *path,
					    const struct wh_elf_symbols *symbols_of,
					    const struct wh_elf *elf);
void observe_profile_add(struct observe_profile *p, const uint64_t *frames, uint32_t count,
			 uint64_t image_base);
int observe_profile_write(struct observe_profile *p, uint32_t lost);

#endif
