/* SPDX-License-Identifier: ISC */
#ifndef KIT_H
#define KIT_H

/* Images of every kind in memory: with a backing file, a data file, a codec. */

#include "mem_file.h"

struct kit_options {
	uint32_t version, cluster, refcount_bits;
	uint64_t disk;
	uint32_t cache;
	bool extended, lazy, zstd, data_raw;
	bool data; /* data file */
	enum { KIT_NO_BACKING, KIT_RAW_BACKING, KIT_QCOW2_BACKING } backing;
	enum wh_block_preallocation preallocation;
};

struct kit {
	struct kit_options o;
	struct mem_file image, data, base, base2; /* base2: below a qcow2 base */
	struct wh_block_resolver resolver;
	struct wh_block *block;
	int opened; /* links that are open */
};

extern const struct kit_options kit_all[];
extern const unsigned kit_count;
const char *kit_name(const struct kit_options *o);

/* Packs clusters whose 512-byte parts each repeat one 4-byte word; others do not fit. */
extern const struct wh_block_codec kit_codec;

/* An image with nothing in it; `below` (o->disk bytes) is the content of what is below, if there is. */
void kit_init(struct kit *k, const struct kit_options *o, const uint8_t *below);
void kit_fini(struct kit *k);
/* 0 or the error; flags: WH_BLOCK_OPEN_*. */
int kit_open(struct kit *k, bool read_only, uint32_t flags, const char *snapshot,
	     struct wh_diag *diag);
/* Opens, or the test fails. */
void kit_must_open(struct kit *k, bool read_only);
/* Check by the library, which must find no corruption and (leaks = false) no leaks. */
void kit_expect_clean(struct kit *k, bool leaks);

#endif
