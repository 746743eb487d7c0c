/* SPDX-License-Identifier: ISC */
/* What wherry/block.h declares and qcow2_*.c does not do yet: each says so. The file goes away function
 * by function. */
#include "block_priv.h"

static int pending(struct wh_diag *diag)
{
	return wh_diag_set(diag, -WH_EOPNOTSUPP, "not supported yet");
}

int wh_block_map(struct wh_block *block, uint64_t offset, uint64_t size, uint32_t depth_max,
		 struct wh_block_extent *ret_extent)
{
	return -WH_EOPNOTSUPP;
}

int wh_block_resize(struct wh_block *block, uint64_t size, uint32_t flags, struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_check(struct wh_block *block, uint32_t repair,
		   const struct wh_block_progress *progress, struct wh_block_check *ret_check,
		   struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_compact_begin(struct wh_block *block, struct wh_block_compaction **ret_compaction,
			   struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_compact_step(struct wh_block_compaction *compaction, uint64_t bytes,
			  uint64_t *ret_done, uint64_t *ret_total)
{
	return -WH_EOPNOTSUPP;
}

void wh_block_compact_end(struct wh_block_compaction *compaction)
{
}

int wh_block_snapshot_get(struct wh_block *block, uint32_t index,
			  struct wh_block_snapshot *ret_snapshot)
{
	return -WH_ENOENT;
}

int wh_block_snapshot_create(struct wh_block *block, const struct wh_block_snapshot *snapshot,
			     struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_snapshot_apply(struct wh_block *block, const char *which, struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_snapshot_delete(struct wh_block *block, const char *which, struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_set_backing(struct wh_block *block, const char *name, enum wh_block_format format,
			 struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_empty(struct wh_block *block, struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_amend(struct wh_block *block, const struct wh_block_amend *amend, struct wh_diag *diag)
{
	return pending(diag);
}

int wh_block_write_packed(struct wh_block *block, uint64_t offset, const void *data, uint32_t size)
{
	return -WH_EOPNOTSUPP;
}

int wh_block_qcow2_measure(const struct wh_block_qcow2_config *config, uint64_t allocated,
			   uint64_t *ret_required, uint64_t *ret_full, struct wh_diag *diag)
{
	return pending(diag);
}
