/* SPDX-License-Identifier: ISC */
#ifndef DISK_CONTROL_H
#define DISK_CONTROL_H

/*
 * What a server of disks does for its owner while clients use them: a Unix socket for `wherry disk compact --control`.
 *
 * One line asks: "compact NAME" (an export; without a name, the first one). Lines answer: "progress DONE TOTAL" now and
 * then, at last "done BEFORE AFTER" (bytes of the file) or "error TEXT", and the connection ends. Who
 * hangs up earlier ends the work; the image is consistent. One at a time, others are told so.
 */

#include <wherry/loop.h>
#include <wherry/nbd.h>

#define DISK_CONTROL_LINE_MAX 8192u /* bytes of a request: a name and some */

struct disk_control;

/* Listens; `exports` stay the caller's. 0 or CLI_ERROR after a message. */
int disk_control_new(struct wh_loop *loop, const char *path, const struct wh_nbd_export *exports,
		     uint32_t count, struct disk_control **ret_control);
/* Ends what goes on, running the loop as long as that takes. NULL is allowed. */
void disk_control_free(struct disk_control *control);

/* The other side. Asks and shows the progress; 0 and the file's sizes, or CLI_ERROR after a message. */
struct disk_progress;
int disk_control_compact(const char *path, const char *name, struct disk_progress *progress,
			 uint64_t *ret_before, uint64_t *ret_after);
#endif
