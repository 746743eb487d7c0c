/* SPDX-License-Identifier: ISC */
/* The guest's memory as the front end gives it: descriptors, mapped where we like. */
#include "vhost_priv.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <wherry/base/checked.h>
#include <wherry/os.h>

#define SIZE_MAX_OF_REGION (1ull << 44)

/* wh_gmem takes no region back: it is made anew. */
static int gmem_build(struct wh_vhost_port *v)
{
	v->mem.count = 0;
	for (uint32_t i = 0; i < VHOST_REGIONS_MAX; i++) {
		const struct vhost_region *r = &v->regions[i];
		if (!r->map)
			continue;
		int error = wh_gmem_add(&v->mem, r->guest, r->size, r->map + r->skip, true);
		if (error)
			return error;
	}
	return 0;
}

/* Could touching this file make us wait, or end early? */
static const char *file_check(int fd, uint64_t end, uint64_t *ret_page)
{
	struct stat st;
	struct statfs fs;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || fstatfs(fd, &fs))
		return "memory that is no file";
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)
		return "memory that is not shared memory (use memory-backend-memfd)";
	if (end > (uint64_t)st.st_size)
		return "memory beyond the end of its file";
	*ret_page = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : 4096;
	return NULL;
}

static const char *region_map(struct vhost_region *r, const uint8_t *region, int fd)
{
	uint64_t offset = vhost_u64(region + 24), end, page;
	r->guest = vhost_u64(region);
	r->size = vhost_u64(region + 8);
	r->user = vhost_u64(region + 16);
	if (!r->size || r->size > SIZE_MAX_OF_REGION || wh_add_overflows(offset, r->size, &end) ||
	    end > INT64_MAX || r->user + r->size < r->user)
		return "a memory region of no sense";
	const char *why = file_check(fd, end, &page);
	if (why)
		return why;
	r->skip = (size_t)(offset % page);
	r->map_size = (size_t)((r->skip + r->size + page - 1) / page * page);
	void *map = mmap(NULL, r->map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
			 (off_t)(offset - r->skip));
	if (map == MAP_FAILED)
		return "memory that cannot be mapped";
	/* A core of ours is no place for a guest's memory. */
	(void)madvise(map, r->map_size, MADV_DONTDUMP);
	r->map = map;
	return NULL;
}

int vhost_memory_add(struct wh_vhost_port *v, const uint8_t *region, int fd, const char **ret_why)
{
	struct vhost_region *r = v->regions;
	struct vhost_region made = { 0 };
	const char *why = NULL;
	while (r < v->regions + VHOST_REGIONS_MAX && r->map)
		r++;
	if (r == v->regions + VHOST_REGIONS_MAX)
		why = "too many memory regions";
	else
		why = region_map(&made, region, fd);
	wh_os_close(&fd);
	for (uint32_t i = 0; !why && i < VHOST_REGIONS_MAX; i++) {
		const struct vhost_region *other = &v->regions[i];
		if (other->map && made.user < other->user + other->size &&
		    other->user < made.user + made.size)
			why = "memory regions that overlap";
	}
	if (!why) {
		*r = made;
		if (!gmem_build(v))
			return 0;
		r->map = NULL;
		(void)gmem_build(v); /* as before */
		why = "memory regions that overlap";
	}
	if (made.map)
		(void)munmap(made.map, made.map_size);
	*ret_why = why;
	return -WH_EINVAL;
}

int vhost_memory_remove(struct wh_vhost_port *v, const uint8_t *region)
{
	for (uint32_t i = 0; i < VHOST_REGIONS_MAX; i++) {
		struct vhost_region *r = &v->regions[i];
		if (!r->map || r->guest != vhost_u64(region) || r->size != vhost_u64(region + 8) ||
		    r->user != vhost_u64(region + 16))
			continue;
		(void)munmap(r->map, r->map_size);
		*r = (struct vhost_region){ 0 };
		(void)gmem_build(v); /* one less cannot fail */
		return 0;
	}
	return -WH_ENOENT;
}

void vhost_memory_clear(struct wh_vhost_port *v)
{
	for (uint32_t i = 0; i < VHOST_REGIONS_MAX; i++)
		if (v->regions[i].map)
			(void)munmap(v->regions[i].map, v->regions[i].map_size);
	memset(v->regions, 0, sizeof v->regions);
	v->mem.count = 0;
}

bool vhost_memory_find(const struct wh_vhost_port *v, uint64_t user, wh_gaddr *ret_guest)
{
	for (uint32_t i = 0; i < VHOST_REGIONS_MAX; i++) {
		const struct vhost_region *r = &v->regions[i];
		if (!r->map || user < r->user || user - r->user >= r->size)
			continue;
		*ret_guest = r->guest + (user - r->user);
		return true;
	}
	return false;
}

bool wh_vhost_port_fault(struct wh_vhost_port *vhost, const void *address)
{
	const uint8_t *at = address;
	for (uint32_t i = 0; i < VHOST_REGIONS_MAX; i++) {
		const struct vhost_region *r = &vhost->regions[i];
		if (!r->map || at < r->map || at >= r->map + r->map_size)
			continue;
		/* All of it: whoever took one page has no claim to the others. */
		if (mmap(r->map, r->map_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
			 0) == MAP_FAILED)
			return false;
		vhost->faulted = true;
		return true;
	}
	return false;
}
