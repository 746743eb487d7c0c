/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_GMEM_H
#define WHERRY_GMEM_H

/*
 * Guest memory as the host sees it: a few regions, one checked accessor. Guest
 * addresses are a distinct type; nothing but wh_gmem_at turns one into a
 * pointer, and only for a range that lies inside one region. The bytes behind the
 * pointer are shared with the guest and may change at any moment: copy what
 * you check.
 *
 * Threads: regions are set before the machine runs; look-ups are then read-only
 * and may run in any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_GMEM_REGIONS_MAX 32u /* a monitor with memory to plug has one per module */

typedef uint64_t wh_gaddr;

struct wh_gmem_region {
	wh_gaddr start;
	uint64_t size;
	uint8_t *host;
	bool writable; /* by devices on the guest's behalf */
};

struct wh_gmem {
	struct wh_gmem_region region[WH_GMEM_REGIONS_MAX];
	uint32_t count;
};

/* NULL when the range is not wholly inside one region or (write) not writable. size 0 is NULL. */
void *wh_gmem_at(const struct wh_gmem *m, wh_gaddr address, uint64_t size, bool write);

/* 0 or -WH_ENOSPC (too many), -WH_EINVAL (empty, wraps, overlaps). */
int wh_gmem_add(struct wh_gmem *m, wh_gaddr start, uint64_t size, void *host, bool writable);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
