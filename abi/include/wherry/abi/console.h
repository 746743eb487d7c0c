/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_ABI_CONSOLE_H
#define WHERRY_ABI_CONSOLE_H

/*
 * What Wherry's virtio-console adds to virtio 1.2, 5.3: two output streams and an
 * end of input, on the two queues of the plain device (0 receive, 1 transmit).
 * docs/spec/console.md says why.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Feature bit. When negotiated (never together with MULTIPORT):
 *  - every transmit buffer begins with struct wh_console_header;
 *  - a receive buffer that comes back with 0 bytes is the end of input. */
#define WH_CONSOLE_F_STREAMS (1ull << 23)

#define WH_CONSOLE_F_SIZE (1ull << 0) /* config: uint16_t cols, rows (virtio 1.2, 5.3.4) */

enum wh_console_stream { WH_CONSOLE_STDOUT = 1, WH_CONSOLE_STDERR = 2 };

struct wh_console_header {
	uint8_t stream;      /* enum wh_console_stream; another value: the buffer is dropped */
	uint8_t reserved[3]; /* 0 */
};

#ifdef __cplusplus
}
#endif
#endif
