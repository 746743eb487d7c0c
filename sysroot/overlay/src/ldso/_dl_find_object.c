/* SPDX-License-Identifier: ISC */
/*
 * How the unwinder of compilers that were built for glibc 2.35 or newer finds the
 * tables of the code at `pc`. There is one object, and every address is in it.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>

struct dl_find_object {
	unsigned long long flags;
	void *map_start;
	void *map_end;
	struct link_map *link_map;
	void *eh_frame;
	unsigned long long reserved[7];
};

static int take(struct dl_phdr_info *info, size_t size, void *context)
{
	struct dl_find_object *to = context;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = info->dlpi_phdr + i;
		char *start = (char *)info->dlpi_addr + p->p_vaddr;
		if (p->p_type == PT_GNU_EH_FRAME)
			to->eh_frame = start;
		if (p->p_type != PT_LOAD)
			continue;
		if (!to->map_start)
			to->map_start = start;
		to->map_end = start + p->p_memsz;
	}
	return 1;
}

int _dl_find_object(void *pc, struct dl_find_object *result)
{
	*result = (struct dl_find_object){ 0 };
	dl_iterate_phdr(take, result);
	return result->eh_frame ? 0 : -1;
}
