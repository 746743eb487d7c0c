/* SPDX-License-Identifier: ISC */
/* What wherry/block.h declares and qcow2_*.c does not do yet: each says so. */
#include "block_priv.h"

int wh_block_compact_begin(struct wh_block *block, struct wh_block_compaction **ret_compaction,
			   struct wh_diag *diag)
{
	return wh_diag_set(diag, -WH_EOPNOTSUPP, "not supported yet");
}

int wh_block_compact_step(struct wh_block_compaction *compaction, uint64_t bytes,
			  uint64_t *ret_done, uint64_t *ret_total)
{
	return -WH_EOPNOTSUPP;
}

void wh_block_compact_end(struct wh_block_compaction *compaction)
{
}
