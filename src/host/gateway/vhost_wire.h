/* SPDX-License-Identifier: ISC */
#ifndef GATEWAY_VHOST_WIRE_H
#define GATEWAY_VHOST_WIRE_H

/* Numbers and layouts of vhost-user (QEMU docs/interop/vhost-user.rst). Fields are in the machine's byte order:
 * both sides are on one machine. */

#include <stdint.h>
#include <string.h>

/* Header: request, flags, size of the payload. */
#define VHOST_HEADER_SIZE 12u
#define VHOST_PAYLOAD_MAX 1024u /* the largest of ours is a memory table, 264 */
#define VHOST_FDS_MAX 8u        /* of one message: a memory table's regions */

#define VHOST_VERSION 1u
#define VHOST_VERSION_MASK 3u
#define VHOST_REPLY (1u << 2)
#define VHOST_NEED_REPLY (1u << 3)

enum vhost_request {
	VHOST_GET_FEATURES = 1,
	VHOST_SET_FEATURES = 2,
	VHOST_SET_OWNER = 3,
	VHOST_RESET_OWNER = 4,
	VHOST_SET_MEM_TABLE = 5,
	VHOST_SET_LOG_BASE = 6,
	VHOST_SET_LOG_FD = 7,
	VHOST_SET_VRING_NUM = 8,
	VHOST_SET_VRING_ADDR = 9,
	VHOST_SET_VRING_BASE = 10,
	VHOST_GET_VRING_BASE = 11,
	VHOST_SET_VRING_KICK = 12,
	VHOST_SET_VRING_CALL = 13,
	VHOST_SET_VRING_ERR = 14,
	VHOST_GET_PROTOCOL_FEATURES = 15,
	VHOST_SET_PROTOCOL_FEATURES = 16,
	VHOST_GET_QUEUE_NUM = 17,
	VHOST_SET_VRING_ENABLE = 18,
	VHOST_SEND_RARP = 19,
	VHOST_NET_SET_MTU = 20,
	VHOST_GET_MAX_MEM_SLOTS = 36,
	VHOST_ADD_MEM_REG = 37,
	VHOST_REM_MEM_REG = 38
};

#define VHOST_F_LOG_ALL (1ull << 26)
#define VHOST_F_PROTOCOL_FEATURES (1ull << 30)

#define VHOST_PROTOCOL_MQ (1ull << 0)
#define VHOST_PROTOCOL_REPLY_ACK (1ull << 3)
#define VHOST_PROTOCOL_NET_MTU (1ull << 4)
#define VHOST_PROTOCOL_MEM_SLOTS (1ull << 15)

/* u64 of SET_VRING_KICK, _CALL, _ERR. */
#define VHOST_VRING_INDEX_MASK 0xffu
#define VHOST_VRING_NO_FD 0x100u

/* struct vhost_vring_state, vhost_vring_addr, a memory region. */
#define VHOST_STATE_SIZE 8u
#define VHOST_ADDR_SIZE 40u
#define VHOST_ADDR_LOG 1u
#define VHOST_TABLE_HEAD 8u /* count, padding */
#define VHOST_REGION_SIZE 32u
#define VHOST_REGION_HEAD 8u /* padding of ADD_MEM_REG */

static inline uint32_t vhost_u32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline uint64_t vhost_u64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

#endif
