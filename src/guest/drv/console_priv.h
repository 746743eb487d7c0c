/* SPDX-License-Identifier: ISC */
#ifndef DRV_CONSOLE_PRIV_H
#define DRV_CONSOLE_PRIV_H

/* State that the console's two halves share. */

#include <drv/virtio.h>
#include <kern/sched.h>

#define DRV_CONSOLE_RX_ENTRIES 4u

struct drv_console {
	struct drv_virtio dev;
	struct wh_virtq_driver rx, tx;
	struct kern_waitq waitq; /* blocked readers and writers */
	void (*on_ready)(uint32_t events);
	bool open;       /* there is a device */
	bool streams;    /* WH_CONSOLE_F_STREAMS */
	bool rx_started; /* input buffers are with the device */
	bool rx_eof;
	uint64_t rx_ring[(26 * DRV_CONSOLE_RX_ENTRIES + 15) / 8 + 1] __attribute__((aligned(16)));
	struct wh_virtq_driver_slot rx_slots[DRV_CONSOLE_RX_ENTRIES];
};

extern struct drv_console drv_console;

uint32_t drv_console_input_poll(void);

#endif
