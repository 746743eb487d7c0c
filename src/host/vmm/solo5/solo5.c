/* SPDX-License-Identifier: ISC */
/*
 * What machines of both of Solo5's targets share.
 */
#include <stdlib.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>

#include "solo5_priv.h"

bool solo5_block_range(const struct wh_vmm_solo5_device *d, uint64_t offset, uint64_t size)
{
	return size && size % d->block_size == 0 && offset % d->block_size == 0 &&
	       wh_range_inside(offset, size, d->capacity);
}

void wh_vmm_solo5_ready(struct wh_vmm_machine *m)
{
	if (m->engine == &solo5_engine_hvt)
		solo5_hvt_ready(m);
	else
		solo5_spt_ready(m);
}

static int check(const struct wh_vmm_solo5_config *config, uint64_t memory_size,
		 const struct wh_vmm_solo5 *solo5, struct wh_diag *diag)
{
	if (config->size != sizeof *config)
		return wh_diag_set(diag, -WH_EINVAL, "config of another version");
	if (memory_size > WH_VMM_SOLO5_MEMORY_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "a Solo5 guest gets at most 4 GiB of memory");
	if (config->command_line && wh_strlen(config->command_line) >= SOLO5_COMMAND_LINE)
		return wh_diag_set(diag, -WH_E2BIG, "the arguments are over %u bytes",
				   SOLO5_COMMAND_LINE - 1);
	for (uint32_t i = 0; i < solo5->device_count; i++)
		if (!solo5->device[i].attached)
			return wh_diag_set(diag, -WH_ENODEV, "its %s %s is not attached",
					   solo5->device[i].kind == WH_VMM_SOLO5_BLOCK ? "disk"
										       : "network",
					   solo5->device[i].name);
	return 0;
}

int wh_vmm_machine_new_solo5(const struct wh_vmm_solo5_config *config, struct wh_vmm_solo5 *solo5,
			     struct wh_loop *loop, struct wh_vmm_machine **ret_machine,
			     struct wh_diag *diag)
{
	bool hvt = solo5->target == WH_VMM_SOLO5_HVT;
	uint64_t size = config->memory_size ? config->memory_size : WH_VMM_SOLO5_MEMORY_DEFAULT;
	int error = check(config, size, solo5, diag);
	if (error < 0)
		return error;
	struct wh_vmm_machine *m = calloc(1, sizeof *m);
	if (!m)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a machine");
	m->ram_fd = -1;
	m->loop = loop;
	m->log = config->log;
	m->exited = config->exited;
	m->thread_begins = config->thread_begins;
	m->ctx = config->ctx;
	m->sandbox = config->sandbox;
	m->engine = hvt ? &solo5_engine_hvt : &solo5_engine_spt;
	m->layout.ram_size = wh_align_down(size, hvt ? SOLO5_PAGE_2M : VMM_PAGE);
	error = hvt ? solo5_hvt_build(m, config, solo5, diag)
		    : solo5_spt_build(m, config, solo5, diag);
	if (error < 0) {
		wh_vmm_machine_free(m);
		return error;
	}
	*ret_machine = m;
	return 0;
}
