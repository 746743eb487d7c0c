/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_GATEWAY_SETTINGS_H
#define WHERRY_GATEWAY_SETTINGS_H

/*
 * Settings of a gateway as files of a folder, followed while it runs: each line of each file is a request of the
 * control (docs/spec/gateway-control.md), such as "expose 8080:80", "policy deny *", "dns forward corp.test 10.1.1.1".
 * Files are taken in the order of their names, which do not begin with a dot; blank lines and lines
 * that begin with # say nothing. Whoever may write there may do what the control's clients may.
 *
 * What a line has done is undone when the line goes; a published port or forward whose line stays is not touched. A
 * line that cannot be carried out is reported (log level error, and the event "settings") and the others count.
 * Changes are seen by inotify, and on filesystems that tell nothing (9P, FUSE, NFS) by looking every two
 * seconds.
 *
 * Threads: those of the gateway's loop; control, gateway and loop outlive the settings. Memory: the files' text, up
 * to WH_SETTINGS_SIZE_MAX, twice. One descriptor.
 */

#include <wherry/gateway_control.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#pragma GCC visibility push(default)

struct wh_gateway_settings;

#define WH_SETTINGS_FILES_MAX 64u
#define WH_SETTINGS_LINES_MAX 1024u
#define WH_SETTINGS_SIZE_MAX (256u << 10) /* of all files; what is more is left out, and reported */

/* -errno (the folder), -WH_ENOTDIR, -WH_ENOMEM; diag has a sentence. Lines that fail do not fail the call. */
int wh_gateway_settings_new(struct wh_gateway_control *control, const char *path,
			    struct wh_gateway_settings **ret_settings, struct wh_diag *diag);
/* Leaves the gateway as it is. NULL is allowed. Before wh_gateway_control_free. */
void wh_gateway_settings_free(struct wh_gateway_settings *settings);
/* Lines that are in force, and lines that failed. */
void wh_gateway_settings_count(const struct wh_gateway_settings *settings, uint32_t *ret_lines,
			       uint32_t *ret_failed);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
