/* SPDX-License-Identifier: ISC */

/* Console input: buffers go to the device at the first read or poll, and each
 * goes back as soon as it is read empty. */

#include <drv/console.h>
#include "console_priv.h"
#include <kern/poll.h>
#include <kern/plat.h>
#include <wherry/base/errors.h>

#define RX_SIZE 512u /* bytes of one input buffer */

static uint8_t rx_buffer[DRV_CONSOLE_RX_ENTRIES][RX_SIZE];
static uint8_t *rx_at; /* unread rest of the current buffer */
static uint32_t rx_left;
static uint32_t rx_current;

static void rx_post(uint32_t i)
{
	struct wh_iov in = { rx_buffer[i], RX_SIZE };
	(void)wh_virtq_driver_add(&drv_console.rx, &in, 0, 1, rx_buffer[i]); /* room for all */
	drv_virtio_kick(&drv_console.dev, 0, &drv_console.rx);
}

static void rx_start(void)
{
	drv_console.rx_started = true;
	if (!drv_console.open || (kern_boot()->flags & WH_BOOT_STDIN_EOF)) {
		drv_console.rx_eof = true;
		return;
	}
	for (uint32_t i = 0; i < DRV_CONSOLE_RX_ENTRIES && i < drv_console.rx.size; i++)
		rx_post(i);
}

/* Makes a buffer with unread bytes current, when there is one. */
static void rx_fill(void)
{
	void *cookie;
	uint32_t size;
	if (!drv_console.rx_started)
		rx_start();
	while (!rx_left && !drv_console.rx_eof) {
		int r = wh_virtq_driver_get(&drv_console.rx, &cookie, &size);
		if (r == 0 && wh_virtq_driver_interrupts_on(&drv_console.rx))
			continue;
		if (r <= 0)
			return;
		rx_current = (uint32_t)((uint8_t *)cookie - rx_buffer[0]) / RX_SIZE;
		rx_at = cookie;
		rx_left = size < RX_SIZE ? size : RX_SIZE;
		if (!rx_left && drv_console.streams)
			drv_console.rx_eof = true;
		else if (!rx_left)
			rx_post(rx_current);
	}
}

int64_t drv_console_read(void *to, size_t size, bool nonblock)
{
	for (;;) {
		rx_fill();
		if (rx_left) {
			uint32_t n = size < rx_left ? (uint32_t)size : rx_left;
			memcpy(to, rx_at, n);
			rx_at += n;
			rx_left -= n;
			if (!rx_left)
				rx_post(rx_current);
			return n;
		}
		if (drv_console.rx_eof)
			return 0;
		if (nonblock)
			return -WH_EAGAIN;
		int r = kern_wait(&drv_console.waitq, KERN_FOREVER);
		if (r < 0)
			return r;
	}
}

uint32_t drv_console_pending(void)
{
	rx_fill();
	return rx_left;
}

uint32_t drv_console_input_poll(void)
{
	rx_fill();
	return rx_left || drv_console.rx_eof ? LX_POLLIN | LX_POLLRDNORM : 0;
}
