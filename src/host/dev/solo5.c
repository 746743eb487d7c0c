/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/iov.h>
#include <wherry/dev_solo5.h>

#define MTU 1500u
#define FRAME_MAX (MTU + 14u)
#define BLOCK_SIZE 512u

struct net {
	struct wh_dev_solo5 *devices;
	struct wh_net_port port;
	uint32_t first, count; /* of frames */
	bool starved;          /* send found no room */
	uint16_t size[WH_DEV_SOLO5_FRAMES];
	uint8_t frame[WH_DEV_SOLO5_FRAMES][FRAME_MAX];
};

struct wh_dev_solo5 {
	struct wh_vmm_solo5 *solo5;
	struct wh_vmm_machine *machine;
	void (*puts)(void *ctx, const char *text, size_t size);
	void *ctx;
	struct wh_block *block[WH_VMM_SOLO5_DEVICES_MAX + 1]; /* by handle */
	struct net *net[WH_VMM_SOLO5_DEVICES_MAX + 1];
};

int wh_dev_solo5_new(struct wh_vmm_solo5 *solo5,
		     void (*puts)(void *ctx, const char *text, size_t size), void *ctx,
		     struct wh_dev_solo5 **ret_devices)
{
	struct wh_dev_solo5 *d = calloc(1, sizeof *d);
	if (!d)
		return -WH_ENOMEM;
	d->solo5 = solo5;
	d->puts = puts;
	d->ctx = ctx;
	*ret_devices = d;
	return 0;
}

/* 0 = there is none. */
static uint32_t find(struct wh_dev_solo5 *d, const char *name, enum wh_vmm_solo5_kind kind)
{
	const struct wh_vmm_solo5_device *device;
	for (uint32_t handle = 1; (device = wh_vmm_solo5_device(d->solo5, handle)); handle++)
		if (device->kind == kind && !device->attached &&
		    (!name || wh_streq(device->name, name)))
			return handle;
	return 0;
}

int wh_dev_solo5_block(struct wh_dev_solo5 *d, const char *name, struct wh_block *block)
{
	uint32_t handle = find(d, name, WH_VMM_SOLO5_BLOCK);
	if (!handle)
		return -WH_ENOENT;
	if (!wh_block_size(block) || wh_block_size(block) % BLOCK_SIZE)
		return -WH_EINVAL;
	struct wh_vmm_solo5_device *device = wh_vmm_solo5_device(d->solo5, handle);
	device->attached = true;
	device->capacity = wh_block_size(block);
	device->block_size = BLOCK_SIZE;
	d->block[handle] = block;
	return 0;
}

void wh_dev_solo5_block_direct(struct wh_dev_solo5 *d, const char *name, int fd)
{
	struct wh_vmm_solo5_device *device;
	for (uint32_t handle = 1; (device = wh_vmm_solo5_device(d->solo5, handle)); handle++)
		if (device->attached && device->kind == WH_VMM_SOLO5_BLOCK &&
		    wh_streq(device->name, name)) {
			device->direct = true;
			device->fd = fd;
		}
}

static int port_send(struct wh_net_port *port, const struct wh_net_frame *f)
{
	struct net *n = port->provider;
	if (f->size > FRAME_MAX || f->gso_type != WH_NET_GSO_NONE || f->flags & WH_NET_NEEDS_CSUM)
		return -WH_EMSGSIZE;
	if (n->count == WH_DEV_SOLO5_FRAMES) {
		n->starved = true;
		return -WH_EAGAIN;
	}
	uint32_t at = (n->first + n->count++) % WH_DEV_SOLO5_FRAMES;
	n->size[at] = (uint16_t)f->size;
	wh_iov_read(f->iov, f->iov_count, 0, n->frame[at], f->size);
	return 0;
}

static void port_flush(struct wh_net_port *port)
{
	struct net *n = port->provider;
	if (n->count && n->devices->machine)
		wh_vmm_solo5_ready(n->devices->machine);
}

static void port_resume(struct wh_net_port *port)
{
	/* frames that found no room were dropped, as on a wire */
}

int wh_dev_solo5_net(struct wh_dev_solo5 *d, const char *name, const uint8_t mac[6],
		     struct wh_net_port **ret_port)
{
	uint32_t handle = find(d, name, WH_VMM_SOLO5_NET);
	struct net *n = handle ? calloc(1, sizeof *n) : NULL;
	if (!n)
		return handle ? -WH_ENOMEM : -WH_ENOENT;
	struct wh_vmm_solo5_device *device = wh_vmm_solo5_device(d->solo5, handle);
	device->attached = true;
	device->mtu = MTU;
	memcpy(device->mac, mac, 6);
	n->devices = d;
	n->port = (struct wh_net_port){ .send = port_send,
					.flush = port_flush,
					.resume = port_resume,
					.mtu = MTU,
					.provider = n };
	d->net[handle] = n;
	*ret_port = &n->port;
	return 0;
}

void wh_dev_solo5_machine(struct wh_dev_solo5 *d, struct wh_vmm_machine *machine)
{
	d->machine = machine;
}

void wh_dev_solo5_free(struct wh_dev_solo5 *d)
{
	for (uint32_t i = 0; d && i <= WH_VMM_SOLO5_DEVICES_MAX; i++)
		free(d->net[i]);
	free(d);
}

/* ---- what the machine asks ---- */

static void op_puts(void *ctx, const char *text, size_t size)
{
	struct wh_dev_solo5 *d = ctx;
	if (d->puts)
		d->puts(d->ctx, text, size);
}

static int op_block(void *ctx, uint32_t handle, bool write, uint64_t offset, void *data,
		    size_t size)
{
	struct wh_dev_solo5 *d = ctx;
	if (!d->block[handle])
		return -WH_EINVAL;
	return wh_block_do(d->block[handle], write ? WH_BLOCK_WRITE : WH_BLOCK_READ, offset, data,
			   size, 0);
}

static int op_net_write(void *ctx, uint32_t handle, const void *frame, size_t size)
{
	struct wh_dev_solo5 *d = ctx;
	struct net *n = d->net[handle];
	struct wh_iov iov = { (void *)(uintptr_t)frame, size };
	struct wh_net_frame f = { .iov = &iov, .iov_count = 1, .size = (uint32_t)size };
	if (!n || size < 14 || size > FRAME_MAX)
		return -WH_EINVAL;
	if (n->port.receive)
		(void)n->port.receive(&n->port, &f); /* may drop */
	if (n->port.receive_done)
		n->port.receive_done(&n->port);
	return 0;
}

static int op_net_read(void *ctx, uint32_t handle, void *frame, size_t size)
{
	struct wh_dev_solo5 *d = ctx;
	struct net *n = d->net[handle];
	if (!n)
		return -WH_EINVAL;
	if (!n->count)
		return -WH_EAGAIN;
	uint16_t have = n->size[n->first];
	if (have > size)
		return -WH_EINVAL;
	memcpy(frame, n->frame[n->first], have);
	n->first = (n->first + 1) % WH_DEV_SOLO5_FRAMES;
	n->count--;
	if (n->starved) {
		n->starved = false;
		if (n->port.writable)
			n->port.writable(&n->port);
	}
	return have;
}

static uint64_t op_net_ready(void *ctx)
{
	struct wh_dev_solo5 *d = ctx;
	uint64_t ready = 0;
	for (uint32_t i = 1; i < 64; i++)
		if (d->net[i] && d->net[i]->count)
			ready |= 1ull << i;
	return ready;
}

const struct wh_vmm_solo5_ops wh_dev_solo5_ops = { .puts = op_puts,
						   .block = op_block,
						   .net_write = op_net_write,
						   .net_read = op_net_read,
						   .net_ready = op_net_ready };
