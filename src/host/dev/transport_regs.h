/* SPDX-License-Identifier: ISC */
#ifndef DEV_TRANSPORT_REGS_H
#define DEV_TRANSPORT_REGS_H

/*
 * What the register transports (mmio, pci) have in common: status, features and queues that are written
 * piece by piece, kept in d->mmio.
 *
 * States (status): 0 -> ... -> FEATURES_OK (features are fixed, and were acceptable) -> DRIVER_OK
 * (running) -> NEEDS_RESET (broken, silent). Writing 0 resets from any of them; until the
 * model has dropped its requests the status keeps its bits, so that the driver waits.
 */

#include <wherry/virtio.h>

/* The selected queue while it may still be set up, else NULL. */
struct wh_virtio_queue_setup *regs_open_queue(struct wh_virtio_device *d);
void regs_set_half(uint64_t *to, bool high, uint32_t value);
void regs_write_status(struct wh_virtio_device *d, uint32_t value);
void regs_write_features(struct wh_virtio_device *d, uint32_t value); /* half driver_features_sel */
uint32_t regs_read_features(const struct wh_virtio_device *d);        /* half device_features_sel */
/* Device configuration, any size up to 8 at any place. */
uint64_t regs_read_config(const struct wh_virtio_device *d, uint64_t offset, uint32_t size);
void regs_write_config(struct wh_virtio_device *d, uint64_t offset, uint32_t size, uint64_t value);

#endif
