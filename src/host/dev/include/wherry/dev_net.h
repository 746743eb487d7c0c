/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_DEV_NET_H
#define WHERRY_DEV_NET_H

/*
 * virtio-net (virtio 1.2, 5.1) as the provider of a struct wh_net_port: frames from the guest
 * come to port->receive without a copy, port->send copies into the guest's buffers.
 * Threads: the loop's.
 */

#include <wherry/net_frame.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_dev_net;

struct wh_dev_net_config {
	size_t size;    /* sizeof(struct wh_dev_net_config) */
	uint8_t mac[6]; /* the guest's */
	uint16_t mtu;   /* bytes of IP packet; 0 = 1500 */
	/* WH_NET_LINK_* that port->receive's user takes: offered to the guest. */
	uint32_t offloads;
	struct wh_log log;
};

int wh_dev_net_new(const struct wh_dev_net_config *config, struct wh_vmm_machine *machine,
		   struct wh_dev_net **ret_net, struct wh_diag *diag);
/* The port that this device provides; set its receive, writable and user before the machine starts.
 * link_features follows what the guest negotiates: they are 0 before it does. */
struct wh_net_port *wh_dev_net_port(struct wh_dev_net *net);
void wh_dev_net_free(struct wh_dev_net *net); /* after the machine is freed */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
