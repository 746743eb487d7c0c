/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DEV_VSOCK_H
#define WHERRY_DEV_VSOCK_H

/*
 * virtio-vsock (virtio 1.2, 5.10), streams, with the host's side on Unix sockets in one of two conventions:
 *
 * `path` is a name (Firecracker's): a socket is made there. Who connects and writes "CONNECT PORT\n" reaches that
 * port of the guest and reads "OK HOSTPORT\n" first; if nobody listens there the connection ends. A
 * guest that connects to port P of the host (CID 2) reaches who listens on `path`_P.
 *
 * `path` is a folder (HyperKit's): the socket is `path`/connect, who connects writes "CID.PORT\n", both
 * as 8 hexadecimal digits, and reads no answer; the guest reaches `path`/00000002.PPPPPPPP.
 *
 * Threads: the loop's.
 */

#include <wherry/base/diag.h>
#include <wherry/base/log.h>
#include <wherry/loop.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_dev_vsock;

#define WH_DEV_VSOCK_CONNECTIONS_MAX 1024u /* more are refused: each is a descriptor of the host */
#define WH_DEV_VSOCK_BUFFER (64u << 10)    /* bytes from a guest that wait for their reader */
#define WH_DEV_VSOCK_CID_DEFAULT 3u

struct wh_dev_vsock_config {
	size_t size;      /* sizeof(struct wh_dev_vsock_config) */
	uint64_t cid;     /* the guest's, from 3 on; 0 = WH_DEV_VSOCK_CID_DEFAULT */
	const char *path; /* copied; at most 90 bytes */
	struct wh_log log;
};

/* Plugs the device into a machine that has not started. 0, -WH_EADDRINUSE (somebody has the socket), other
 * -errno; a socket that nobody listens on any more is replaced. */
int wh_dev_vsock_new(const struct wh_dev_vsock_config *config, struct wh_vmm_machine *machine,
		     struct wh_loop *loop, struct wh_dev_vsock **ret_vsock, struct wh_diag *diag);
/* After the machine is freed; removes the socket. */
void wh_dev_vsock_free(struct wh_dev_vsock *vsock);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
