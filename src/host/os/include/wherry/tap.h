/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_TAP_H
#define WHERRY_TAP_H

/*
 * A tap interface with the virtio-net header: how a network namespace becomes a guest.
 * wh_tap_open makes the interface in the calling thread's network namespace, gives it addresses and
 * default routes, and brings it and loopback up; nothing but system calls is used (raw
 * netlink, no programs). The descriptor works from every namespace afterwards.
 *
 * Each read and write is one frame behind a header of WH_TAP_HEADER_SIZE bytes (virtio 1.2,
 * 5.1.6 without num_buffers, in the machine's byte order). With checksums and segmentation left to the
 * reader, frames are up to 64 KiB whatever the MTU.
 *
 * Privileges: CAP_NET_ADMIN in the namespace, which whoever made it by
 * unshare(CLONE_NEWUSER | CLONE_NEWNET) has, and read-write access to /dev/net/tun (mode 0666 on
 * usual systems). Threads: none; no state. Errors are -errno with a sentence in diag.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_TAP_HEADER_SIZE 10u
#define WH_TAP_MTU_MAX 65520u
#define WH_TAP_NAME_SIZE 16u
/* Frames that the interface holds for the reader; more are lost, as on a wire. 64 KiB
 * segments of TCP are bounded by its windows, so this is for bursts of datagrams. */
#define WH_TAP_QUEUE 4096u

/* What the kernel was found to leave to the reader. */
#define WH_TAP_CSUM 1u
#define WH_TAP_TSO 2u /* both versions */
#define WH_TAP_USO 4u /* Linux 6.2 */

struct wh_tap_config {
	size_t size;                          /* sizeof(struct wh_tap_config) */
	const char *name;                     /* NULL = "eth0" */
	uint32_t mtu;                         /* 1280 to WH_TAP_MTU_MAX; 0 = 1500 */
	uint8_t mac[6];                       /* all zero = the kernel's choice */
	uint8_t ip4[4], gateway4[4], prefix4; /* prefix 0 = no IPv4 */
	uint8_t ip6[16], gateway6[16], prefix6;
	/* Static neighbour for the gateways, so that nothing waits for ARP; all zero = none. */
	uint8_t gateway_mac[6];
	bool no_uso; /* datagrams are cut by the kernel */
};

/* ret_fd: non-blocking and close-on-exec; the interface goes when it is closed. ret_offloads:
 * WH_TAP_*. -WH_ENOENT or -WH_EACCES (no /dev/net/tun), -WH_EPERM, -WH_EBUSY (the name is taken). */
int wh_tap_open(const struct wh_tap_config *config, int *ret_fd, uint32_t *ret_offloads,
		struct wh_diag *diag);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
