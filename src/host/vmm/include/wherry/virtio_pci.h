/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_VIRTIO_PCI_H
#define WHERRY_VIRTIO_PCI_H

/*
 * Where things lie in the one memory BAR of a virtio device on PCI (virtio 1.2, 4.1.4): the machine makes
 * the capabilities of this and keeps the MSI-X table, the transport (host/dev) answers the rest.
 */
#define WH_VIRTIO_PCI_COMMON 0x0000u
#define WH_VIRTIO_PCI_COMMON_SIZE 0x38u
#define WH_VIRTIO_PCI_ISR 0x0800u
#define WH_VIRTIO_PCI_CONFIG 0x1000u
#define WH_VIRTIO_PCI_CONFIG_SIZE 0x1000u
#define WH_VIRTIO_PCI_NOTIFY 0x2000u
#define WH_VIRTIO_PCI_NOTIFY_STRIDE 4u /* bytes from one queue's place to the next */
#define WH_VIRTIO_PCI_NOTIFY_SIZE 0x1000u
#define WH_VIRTIO_PCI_MSIX 0x3000u
#define WH_VIRTIO_PCI_PBA 0x3800u
#define WH_VIRTIO_PCI_BAR_SIZE 0x4000u

#define WH_VIRTIO_PCI_NO_VECTOR 0xffffu

#endif
