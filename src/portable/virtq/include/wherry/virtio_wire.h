/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_VIRTIO_WIRE_H
#define WHERRY_VIRTIO_WIRE_H

/*
 * Numbers and layouts of virtio 1.2 that devices and drivers share. Layouts are byte
 * offsets (little-endian): use wherry/base/bytes.h on a copy.
 */

/* Device ids (section 5). */
#define WH_VIRTIO_ID_NET 1u
#define WH_VIRTIO_ID_BLK 2u
#define WH_VIRTIO_ID_CONSOLE 3u
#define WH_VIRTIO_ID_RNG 4u
#define WH_VIRTIO_ID_9P 9u
#define WH_VIRTIO_ID_BALLOON 5u
#define WH_VIRTIO_ID_VSOCK 19u

/* Device status (2.1). */
#define WH_VIRTIO_STATUS_ACKNOWLEDGE 1u
#define WH_VIRTIO_STATUS_DRIVER 2u
#define WH_VIRTIO_STATUS_DRIVER_OK 4u
#define WH_VIRTIO_STATUS_FEATURES_OK 8u
#define WH_VIRTIO_STATUS_NEEDS_RESET 64u
#define WH_VIRTIO_STATUS_FAILED 128u

/* Interrupt causes (4.2.2: InterruptStatus). */
#define WH_VIRTIO_INTERRUPT_QUEUE 1u
#define WH_VIRTIO_INTERRUPT_CONFIG 2u

/* Features of every device (6); INDIRECT and EVENT_IDX are in wherry/virtq.h. */
#define WH_VIRTIO_F_VERSION_1 (1ull << 32)
#define WH_VIRTIO_F_ACCESS_PLATFORM (1ull << 33)

/* Network (5.1). Queues: 0 receive, 1 transmit. */
#define WH_VIRTIO_NET_F_CSUM (1ull << 0)       /* device takes NEEDS_CSUM */
#define WH_VIRTIO_NET_F_GUEST_CSUM (1ull << 1) /* driver takes NEEDS_CSUM */
#define WH_VIRTIO_NET_F_MTU (1ull << 3)
#define WH_VIRTIO_NET_F_MAC (1ull << 5)
#define WH_VIRTIO_NET_F_GUEST_TSO4 (1ull << 7)
#define WH_VIRTIO_NET_F_GUEST_TSO6 (1ull << 8)
#define WH_VIRTIO_NET_F_HOST_TSO4 (1ull << 11)
#define WH_VIRTIO_NET_F_HOST_TSO6 (1ull << 12)
#define WH_VIRTIO_NET_F_MRG_RXBUF (1ull << 15)
#define WH_VIRTIO_NET_F_STATUS (1ull << 16)
#define WH_VIRTIO_NET_F_MQ (1ull << 22)
#define WH_VIRTIO_NET_F_GUEST_USO4 (1ull << 54)
#define WH_VIRTIO_NET_F_GUEST_USO6 (1ull << 55)
#define WH_VIRTIO_NET_F_HOST_USO (1ull << 56)

#define WH_VIRTIO_NET_CONFIG_MAC 0u    /* 6 bytes */
#define WH_VIRTIO_NET_CONFIG_STATUS 6u /* le16, bit 0 = link up */
#define WH_VIRTIO_NET_CONFIG_MTU 10u   /* le16 */
#define WH_VIRTIO_NET_CONFIG_SIZE 12u

/* struct virtio_net_hdr (5.1.6), in front of each frame. flags and gso_type have the
 * values of wherry/net_frame.h. */
#define WH_VIRTIO_NET_HDR_FLAGS 0u        /* u8 */
#define WH_VIRTIO_NET_HDR_GSO_TYPE 1u     /* u8 */
#define WH_VIRTIO_NET_HDR_HDR_LEN 2u      /* le16 */
#define WH_VIRTIO_NET_HDR_GSO_SIZE 4u     /* le16 */
#define WH_VIRTIO_NET_HDR_CSUM_START 6u   /* le16 */
#define WH_VIRTIO_NET_HDR_CSUM_OFFSET 8u  /* le16 */
#define WH_VIRTIO_NET_HDR_NUM_BUFFERS 10u /* le16 */
#define WH_VIRTIO_NET_HDR_SIZE 12u

/* Block (5.2). Sectors of 512 bytes. */
#define WH_VIRTIO_BLK_F_SIZE_MAX (1ull << 1)
#define WH_VIRTIO_BLK_F_SEG_MAX (1ull << 2)
#define WH_VIRTIO_BLK_F_RO (1ull << 5)
#define WH_VIRTIO_BLK_F_BLK_SIZE (1ull << 6)
#define WH_VIRTIO_BLK_F_FLUSH (1ull << 9)
#define WH_VIRTIO_BLK_F_TOPOLOGY (1ull << 10)
#define WH_VIRTIO_BLK_F_CONFIG_WCE (1ull << 11)
#define WH_VIRTIO_BLK_F_MQ (1ull << 12)
#define WH_VIRTIO_BLK_F_DISCARD (1ull << 13)
#define WH_VIRTIO_BLK_F_WRITE_ZEROES (1ull << 14)

#define WH_VIRTIO_BLK_CONFIG_CAPACITY 0u             /* le64 sectors */
#define WH_VIRTIO_BLK_CONFIG_SIZE_MAX 8u             /* le32 */
#define WH_VIRTIO_BLK_CONFIG_SEG_MAX 12u             /* le32 */
#define WH_VIRTIO_BLK_CONFIG_BLK_SIZE 20u            /* le32 */
#define WH_VIRTIO_BLK_CONFIG_PHYSICAL_EXP 24u        /* u8: log2 of logical blocks per physical */
#define WH_VIRTIO_BLK_CONFIG_ALIGNMENT_OFFSET 25u    /* u8 */
#define WH_VIRTIO_BLK_CONFIG_MIN_IO 26u              /* le16 */
#define WH_VIRTIO_BLK_CONFIG_OPT_IO 28u              /* le32 */
#define WH_VIRTIO_BLK_CONFIG_NUM_QUEUES 34u          /* le16 */
#define WH_VIRTIO_BLK_CONFIG_DISCARD_SECTORS_MAX 36u /* le32 */
#define WH_VIRTIO_BLK_CONFIG_DISCARD_SEG_MAX 40u     /* le32 */
#define WH_VIRTIO_BLK_CONFIG_DISCARD_ALIGN 44u       /* le32 sectors */
#define WH_VIRTIO_BLK_CONFIG_WRITE_ZEROES_SECTORS_MAX 48u /* le32 */
#define WH_VIRTIO_BLK_CONFIG_WRITE_ZEROES_SEG_MAX 52u     /* le32 */
#define WH_VIRTIO_BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP 56u   /* u8 */
#define WH_VIRTIO_BLK_CONFIG_BYTES 60u

#define WH_VIRTIO_BLK_T_IN 0u
#define WH_VIRTIO_BLK_T_OUT 1u
#define WH_VIRTIO_BLK_T_FLUSH 4u
#define WH_VIRTIO_BLK_T_GET_ID 8u
#define WH_VIRTIO_BLK_T_DISCARD 11u
#define WH_VIRTIO_BLK_T_WRITE_ZEROES 13u

#define WH_VIRTIO_BLK_REQ_TYPE 0u   /* le32 */
#define WH_VIRTIO_BLK_REQ_SECTOR 8u /* le64 */
#define WH_VIRTIO_BLK_REQ_SIZE 16u

#define WH_VIRTIO_BLK_SEGMENT_SECTOR 0u /* le64 */
#define WH_VIRTIO_BLK_SEGMENT_COUNT 8u  /* le32 sectors */
#define WH_VIRTIO_BLK_SEGMENT_FLAGS 12u /* le32, bit 0 = unmap */
#define WH_VIRTIO_BLK_SEGMENT_SIZE 16u

#define WH_VIRTIO_BLK_S_OK 0u
#define WH_VIRTIO_BLK_S_IOERR 1u
#define WH_VIRTIO_BLK_S_UNSUPP 2u
#define WH_VIRTIO_BLK_ID_SIZE 20u

/* Console (5.3). Queues: 0 receive, 1 transmit. Our extension is wherry/abi/console.h. */
#define WH_VIRTIO_CONSOLE_F_SIZE (1ull << 0)
#define WH_VIRTIO_CONSOLE_CONFIG_COLS 0u /* le16 */
#define WH_VIRTIO_CONSOLE_CONFIG_ROWS 2u /* le16 */
#define WH_VIRTIO_CONSOLE_CONFIG_SIZE 4u

/* 9P (no section; Linux include/uapi/linux/virtio_9p.h). Queue 0: one request a chain, out =
 * T-message, in = room for the R-message. */
#define WH_VIRTIO_9P_F_MOUNT_TAG (1ull << 0)
#define WH_VIRTIO_9P_CONFIG_TAG_LEN 0u /* le16 */
#define WH_VIRTIO_9P_CONFIG_TAG 2u     /* not terminated */

#endif
