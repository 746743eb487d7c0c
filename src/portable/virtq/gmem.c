/* SPDX-License-Identifier: ISC */
#include <wherry/base/assert.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/gmem.h>

void *wh_gmem_at(const struct wh_gmem *m, wh_gaddr address, uint64_t size, bool write)
{
	for (uint32_t i = 0; i < m->count; i++) {
		const struct wh_gmem_region *r = &m->region[i];
		if (address < r->start || address - r->start >= r->size)
			continue;
		if (!size || size > r->size - (address - r->start) || (write && !r->writable))
			return 0;
		return r->host + (address - r->start);
	}
	return 0;
}

int wh_gmem_add(struct wh_gmem *m, wh_gaddr start, uint64_t size, void *host, bool writable)
{
	uint64_t end;
	wh_assert(m->count <= WH_GMEM_REGIONS_MAX);
	if (!size || !host || wh_add_overflows(start, size, &end))
		return -WH_EINVAL;
	for (uint32_t i = 0; i < m->count; i++) {
		const struct wh_gmem_region *r = &m->region[i];
		if (start < r->start + r->size && r->start < end)
			return -WH_EINVAL;
	}
	if (m->count == WH_GMEM_REGIONS_MAX)
		return -WH_ENOSPC;
	m->region[m->count++] = (struct wh_gmem_region){
		.start = start, .size = size, .host = host, .writable = writable
	};
	return 0;
}
