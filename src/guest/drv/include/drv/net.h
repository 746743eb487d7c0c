/* SPDX-License-Identifier: ISC */
#ifndef DRV_NET_H
#define DRV_NET_H

/*
 * virtio-net (virtio 1.2, 5.1): the first network device as a port. Frames to send
 * are copied into a ring of bytes; received ones are handed out in the device's buffers,
 * segments of up to 64 KiB over several of them.
 */

#include <wherry/net_frame.h>

int drv_net_init(void); /* called by the kernel's start-up when linked */

/* NULL: there is no device. The provider's part is filled in. */
struct wh_net_port *drv_net_port(void);
void drv_net_mac(uint8_t ret_mac[6]);
/* Frames that came go to port->receive, room that came to port->writable. */
void drv_net_poll(void);

#endif
