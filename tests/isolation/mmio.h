/* SPDX-License-Identifier: ISC */
#ifndef MMIO_H
#define MMIO_H

/* Registers of a virtio-mmio device, in words (virtio 1.2, 4.2.2), for guests that attack it by hand. */
enum {
	DRIVER_FEATURES = 0x20 / 4,
	DRIVER_FEATURES_SEL = 0x24 / 4,
	QUEUE_SEL = 0x30 / 4,
	QUEUE_SIZE = 0x38 / 4,
	QUEUE_READY = 0x44 / 4,
	QUEUE_NOTIFY = 0x50 / 4,
	STATUS = 0x70 / 4,
	QUEUE_DESC = 0x80 / 4,
	QUEUE_DRIVER = 0x90 / 4,
	QUEUE_DEVICE = 0xa0 / 4,
};

#endif
