/* SPDX-License-Identifier: ISC */

/*
 * virtio-console, output half and shared state; input is console_input.c.
 *
 * Output buffer: one ring of bytes, cut into chunks that are contiguous and begin
 * with the stream header. head and tail count bytes for ever; a chunk's cookie
 * is the head behind it, and the device completes chunks in order, so a cookie that
 * comes back is the new tail.
 */

#include <drv/console.h>
#include "console_priv.h"
#include <kern/poll.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <kern/sched.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/virtio_wire.h>

#define TX_ENTRIES 32u
#define TX_SIZE 8192u /* bytes in flight before a writer waits; a power of two */
#define CHUNK_MIN 64u /* do not start a chunk in a smaller rest before the wrap */

struct drv_console drv_console;

DRV_VIRTIO_RING(tx_memory, TX_ENTRIES);
static uint8_t tx_buffer[TX_SIZE];
static uint64_t tx_head, tx_tail;
static bool tx_waited; /* somebody waits for room: completions should interrupt */

static bool tx_reclaim(void)
{
	void *cookie;
	uint32_t written;
	bool any = false;
	while (wh_virtq_driver_get(&drv_console.tx, &cookie, &written) > 0) {
		tx_tail = (uintptr_t)cookie;
		any = true;
	}
	return any;
}

/* Contiguous bytes free at the head, after skipping a rest that is too small. */
static uint32_t tx_room(void)
{
	uint32_t at = tx_head % TX_SIZE, used = (uint32_t)(tx_head - tx_tail);
	wh_assert(used <= TX_SIZE);
	if (TX_SIZE - at < CHUNK_MIN && TX_SIZE - used > TX_SIZE - at) {
		tx_head += TX_SIZE - at;
		used += TX_SIZE - at;
		at = 0;
	}
	uint32_t room = TX_SIZE - used, to_end = TX_SIZE - at;
	return room < to_end ? room : to_end;
}

/* Copies what fits of iov behind `offset` into one chunk; returns its bytes, 0 = full. */
static size_t tx_put(enum wh_console_stream stream, const struct wh_iov *iov, int count,
		     size_t offset)
{
	uint32_t header = drv_console.streams ? sizeof(struct wh_console_header) : 0;
	if (!wh_virtq_driver_free_count(&drv_console.tx))
		return 0;
	uint32_t room = tx_room();
	if (room <= header)
		return 0;
	uint8_t *at = tx_buffer + tx_head % TX_SIZE;
	size_t n = wh_iov_read(iov, (size_t)count, offset, at + header, room - header);
	if (!n)
		return 0;
	if (header) {
		struct wh_console_header h = { .stream = (uint8_t)stream };
		memcpy(at, &h, sizeof h);
	}
	struct wh_iov out = { at, n + header };
	void *cookie = (void *)(uintptr_t)(tx_head + out.size);
	if (wh_virtq_driver_add(&drv_console.tx, &out, 1, 0, cookie) < 0)
		return 0;
	tx_head += out.size;
	return n;
}

static void tx_kick(void)
{
	drv_virtio_kick(&drv_console.dev, 1, &drv_console.tx);
}

/* Waits for room. */
static int tx_wait(void)
{
	tx_kick();
	tx_waited = true;
	if (wh_virtq_driver_interrupts_on(&drv_console.tx))
		return 0;
	return kern_wait(&drv_console.waitq, KERN_FOREVER);
}

int64_t drv_console_write(enum wh_console_stream stream, const struct wh_iov *iov, int count,
			  bool nonblock)
{
	size_t size = wh_iov_size(iov, (size_t)count), done = 0;
	int r = 0;
	if (!drv_console.open) {
		for (int i = 0; i < count; i++)
			kern_console_write(iov[i].base, (uint32_t)iov[i].size);
		return (int64_t)size;
	}
	while (done < size) {
		size_t n = tx_put(stream, iov, count, done);
		done += n;
		if (n || tx_reclaim())
			continue;
		r = nonblock ? -WH_EAGAIN : tx_wait();
		if (r < 0)
			break;
	}
	tx_kick();
	return done ? (int64_t)done : r;
}

void drv_console_write_raw(const char *text, uint32_t size)
{
	if (!drv_console.open)
		return;
	struct wh_iov iov = { (void *)(uintptr_t)text, size };
	(void)drv_console_write(WH_CONSOLE_STDERR, &iov, 1, true); /* what fits */
}

uint32_t drv_console_poll(void)
{
	uint32_t events = LX_POLLOUT | LX_POLLWRNORM;
	if (drv_console.open) {
		tx_reclaim();
		if (!wh_virtq_driver_free_count(&drv_console.tx) || tx_room() <= CHUNK_MIN) {
			events = 0;
			tx_waited = true;
			if (wh_virtq_driver_interrupts_on(&drv_console.tx) && tx_reclaim())
				events = LX_POLLOUT | LX_POLLWRNORM;
		}
	}
	return events | drv_console_input_poll();
}

void drv_console_window(uint16_t *cols, uint16_t *rows)
{
	uint16_t size[2];
	if (!drv_console.open || !(drv_console.dev.features & WH_CONSOLE_F_SIZE))
		return;
	drv_console.dev.transport->config_read(&drv_console.dev, 0, size, sizeof size);
	if (size[0] && size[1]) {
		*cols = size[0];
		*rows = size[1];
	}
}

void drv_console_on_ready(void (*fn)(uint32_t events))
{
	drv_console.on_ready = fn;
}

static uint64_t poll(struct kern_poller *poller, uint64_t now_ns)
{
	uint32_t events = 0;
	if (tx_waited && tx_reclaim()) {
		tx_waited = false;
		wh_virtq_driver_interrupts_off(&drv_console.tx);
		events |= LX_POLLOUT | LX_POLLWRNORM;
	}
	if (drv_console.rx_started && wh_virtq_driver_pending(&drv_console.rx))
		events |= LX_POLLIN | LX_POLLRDNORM;
	if (events) {
		kern_waitq_wake(&drv_console.waitq, events, UINT32_MAX);
		if (drv_console.on_ready)
			drv_console.on_ready(events);
	}
	return KERN_FOREVER;
}

int drv_console_init(void)
{
	static struct kern_poller poller = { .poll = poll };
	struct drv_console *c = &drv_console;
	kern_waitq_init(&c->waitq);
	const struct wh_boot_device *boot = drv_virtio_find(WH_VIRTIO_ID_CONSOLE, 0);
	if (!boot)
		return 0;
	int r = drv_virtio_open(&c->dev, boot);
	if (r >= 0)
		r = drv_virtio_start(&c->dev, WH_CONSOLE_F_STREAMS | WH_CONSOLE_F_SIZE);
	if (r >= 0)
		r = drv_virtio_queue(&c->dev, 0, &c->rx, DRV_CONSOLE_RX_ENTRIES, c->rx_ring,
				     c->rx_slots);
	if (r >= 0)
		r = drv_virtio_queue(&c->dev, 1, &c->tx, TX_ENTRIES, tx_memory.ring,
				     tx_memory.slots);
	if (r < 0)
		return r;
	c->streams = c->dev.features & WH_CONSOLE_F_STREAMS;
	wh_virtq_driver_interrupts_off(&c->tx);
	c->dev.transport->driver_ok(&c->dev);
	c->open = true;
	kern_console_hook = drv_console_write_raw;
	kern_poller_add(&poller);
	return 0;
}
