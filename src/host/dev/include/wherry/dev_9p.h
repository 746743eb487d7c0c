/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DEV_9P_H
#define WHERRY_DEV_9P_H

/*
 * virtio-9p: a mount tag in the configuration, requests in queue 0, a wherry/ninep.h server
 * behind it. And the server's usual backend: a folder of the host, to which it is strictly
 * confined. Threads: the loop's.
 */

#include <wherry/loop.h>
#include <wherry/ninep.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_dev_9p;

struct wh_dev_9p_config {
	size_t size;     /* sizeof(struct wh_dev_9p_config) */
	const char *tag; /* at most WH_BOOT_NAME_SIZE - 1 bytes */
	const struct wh_p9_fs_ops *ops;
	void *ctx;
	bool read_only;
	struct wh_log log;
};

int wh_dev_9p_new(const struct wh_dev_9p_config *config, struct wh_vmm_machine *machine,
		  struct wh_dev_9p **ret_9p, struct wh_diag *diag);
void wh_dev_9p_free(struct wh_dev_9p *p9); /* after the machine is freed */

/* ---- a server in another process ---- */

struct wh_dev_9p_relay;

struct wh_dev_9p_relay_config {
	size_t size;     /* sizeof(struct wh_dev_9p_relay_config) */
	const char *tag; /* as above */
	int fd; /* a connected stream socket with a 9P server at its end; the relay owns it once it was made */
	struct wh_loop *loop;
	struct wh_log log;
};

int wh_dev_9p_relay_new(const struct wh_dev_9p_relay_config *config, struct wh_vmm_machine *machine,
			struct wh_dev_9p_relay **ret_relay, struct wh_diag *diag);
void wh_dev_9p_relay_free(struct wh_dev_9p_relay *relay); /* after the machine is freed */

/* ---- a folder of the host ---- */

struct wh_p9_hostdir;

/* Operations on files of `path` as whoever runs this. Symbolic links are never followed here (the client
 * follows them in its own tree), ".." is refused, other than regular files, folders and links are
 * not opened. -errno, diag says which folder. */
int wh_p9_hostdir_open(const char *path, struct wh_p9_hostdir **ret_dir, struct wh_diag *diag);
void wh_p9_hostdir_close(struct wh_p9_hostdir *dir); /* after the device is freed */
extern const struct wh_p9_fs_ops wh_p9_hostdir_ops;  /* ctx = the hostdir */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
