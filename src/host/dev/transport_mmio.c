/* SPDX-License-Identifier: ISC */
#include <wherry/base/errors.h>
#include <wherry/virtio.h>

static int mmio_attached(struct wh_virtio_device *d)
{
	return -WH_ENOSYS;
}

const struct wh_virtio_transport wh_virtio_transport_mmio = { .attached = mmio_attached };

uint64_t wh_virtio_mmio_read(void *ctx, uint64_t offset, uint32_t size)
{
	return 0;
}

void wh_virtio_mmio_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
}
