/* SPDX-License-Identifier: ISC */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

/* Numbers and offsets of the NBD protocol; all big-endian. Names follow proto.md. */

#define NBD_INIT_MAGIC 0x4e42444d41474943ull
#define NBD_OPTION_MAGIC 0x49484156454f5054ull
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ull
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_EXTENDED_REPLY_MAGIC 0x6e8a278cu

/* Handshake and client flags. */
#define NBD_FLAG_FIXED_NEWSTYLE 1u
#define NBD_FLAG_NO_ZEROES 2u

/* The greeting: two magics, flags. An option: magic, number, size of data. A reply: magic, option, kind, size. */
#define NBD_GREETING_SIZE 18u
#define NBD_CLIENT_FLAGS_SIZE 4u
#define NBD_OPTION_HEAD_SIZE 16u
#define NBD_OPTION_REPLY_SIZE 20u
#define NBD_EXPORT_REPLY_SIZE \
	10u /* of EXPORT_NAME: size, flags, then 124 zeroes unless NO_ZEROES */
#define NBD_EXPORT_REPLY_ZEROES 124u

enum {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11
};

#define NBD_REP_ERROR 0x80000000u
enum { NBD_REP_ACK = 1, NBD_REP_SERVER = 2, NBD_REP_INFO = 3, NBD_REP_META_CONTEXT = 4 };
#define NBD_REP_ERR_UNSUP (NBD_REP_ERROR | 1u)
#define NBD_REP_ERR_POLICY (NBD_REP_ERROR | 2u)
#define NBD_REP_ERR_INVALID (NBD_REP_ERROR | 3u)
#define NBD_REP_ERR_TLS_REQD (NBD_REP_ERROR | 5u)
#define NBD_REP_ERR_UNKNOWN (NBD_REP_ERROR | 6u)
#define NBD_REP_ERR_TOO_BIG (NBD_REP_ERROR | 9u)
#define NBD_REP_ERR_EXT_HEADER_REQD (NBD_REP_ERROR | 10u)

enum { NBD_INFO_EXPORT = 0, NBD_INFO_NAME = 1, NBD_INFO_DESCRIPTION = 2, NBD_INFO_BLOCK_SIZE = 3 };

/* Transmission flags. */
#define NBD_FLAG_HAS_FLAGS 0x001u
#define NBD_FLAG_READ_ONLY 0x002u
#define NBD_FLAG_SEND_FLUSH 0x004u
#define NBD_FLAG_SEND_FUA 0x008u
#define NBD_FLAG_SEND_TRIM 0x020u
#define NBD_FLAG_SEND_WRITE_ZEROES 0x040u
#define NBD_FLAG_SEND_DF 0x080u
#define NBD_FLAG_CAN_MULTI_CONN 0x100u
#define NBD_FLAG_SEND_FAST_ZERO 0x800u

enum nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7
};

#define NBD_CMD_FLAG_FUA 1u
#define NBD_CMD_FLAG_NO_HOLE 2u
#define NBD_CMD_FLAG_DF 4u
#define NBD_CMD_FLAG_REQ_ONE 8u
#define NBD_CMD_FLAG_FAST_ZERO 16u
#define NBD_CMD_FLAG_PAYLOAD_LEN 32u /* extended: the length counts bytes that follow */

/* A request: magic 4, flags 2, type 2, cookie 8, offset 8, length 4 (extended: 8). */
#define NBD_REQUEST_SIZE 28u
#define NBD_EXTENDED_REQUEST_SIZE 32u
/* Simple: magic 4, error 4, cookie 8. Structured: magic 4, flags 2, type 2, cookie 8, length 4.
 * Extended: magic 4, flags 2, type 2, cookie 8, offset 8, length 8. */
#define NBD_SIMPLE_REPLY_SIZE 16u
#define NBD_STRUCTURED_REPLY_SIZE 20u
#define NBD_EXTENDED_REPLY_SIZE 32u

#define NBD_REPLY_FLAG_DONE 1u
enum {
	NBD_REPLY_NONE = 0,
	NBD_REPLY_OFFSET_DATA = 1,
	NBD_REPLY_OFFSET_HOLE = 2,
	NBD_REPLY_BLOCK_STATUS = 5,
	NBD_REPLY_BLOCK_STATUS_EXT = 6,
	NBD_REPLY_ERROR = 0x8001
};

/* base:allocation */
#define NBD_STATE_HOLE 1u
#define NBD_STATE_ZERO 2u

/* Errors on the wire. */
enum {
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108
};

#endif
