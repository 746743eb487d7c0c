/* SPDX-License-Identifier: ISC */
#ifndef CLI_IMAGE_CALLS_H
#define CLI_IMAGE_CALLS_H

/* Linux's system calls and what becomes of them: src/guest/posix/syscalls.tbl. */
struct image_call {
	int number;
	const char *name, *status, *note; /* status: done, partial, refused, missing */
};
extern const struct image_call image_calls[];
extern const unsigned image_call_count;

#endif
