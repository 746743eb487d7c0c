/* SPDX-License-Identifier: ISC */
/*
 * A full journal becomes a pack: its objects are there as loose files, but most of those are only in the page cache
 * still. One pack is one sequential write with two syncs, and a loose file that is removed before the kernel
 * wrote it costs no write at all. So what reaches the disk for a commit is its journal record and its share of a pack.
 *
 * gitformat-pack(5): version 2, no deltas (`gc` makes those); index version 2.
 */
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <wherry/base/bytes.h>
#include <zlib.h>

#include "store_priv.h"

#define PACK_HEADER 12u
#define TREE_STORED 1024u /* bytes */
#define INDEX_HEADER (8u + 256 * 4)

struct packed {
	uint8_t id[ID_SIZE];
	uint32_t offset, crc;
};

struct pack {
	z_stream z, stored; /* large trees are mostly hashes: those are not worth the time */
	uint8_t *data;
	size_t size, room;
	struct packed *entry;
	uint32_t count, entry_room;
	uint32_t *bucket; /* index + 1, open addressing */
	uint32_t bucket_count;
};

void pack_free(struct pack *p)
{
	if (!p)
		return;
	deflateEnd(&p->z);
	deflateEnd(&p->stored);
	free(p->data);
	free(p->entry);
	free(p->bucket);
	free(p);
}

struct pack *pack_new(void)
{
	struct pack *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	if (deflateInit(&p->z, 1) != Z_OK || deflateInit(&p->stored, 0) != Z_OK) {
		pack_free(p);
		return NULL;
	}
	p->size = PACK_HEADER;
	return p;
}

static int room_for(struct pack *p, size_t size)
{
	if (p->size + size > p->room) {
		size_t room = (p->size + size) * 2;
		uint8_t *more = realloc(p->data, room);
		if (!more)
			return -WH_ENOMEM;
		p->data = more;
		p->room = room;
	}
	if (p->count == p->entry_room) {
		uint32_t room = p->entry_room * 2 + 256;
		struct packed *more = realloc(p->entry, room * sizeof *more);
		if (!more)
			return -WH_ENOMEM;
		p->entry = more;
		p->entry_room = room;
	}
	return 0;
}

static uint32_t *place(struct pack *p, const uint8_t *id)
{
	uint32_t i = wh_load_le32(id) & (p->bucket_count - 1);
	while (p->bucket[i] && memcmp(p->entry[p->bucket[i] - 1].id, id, ID_SIZE))
		i = (i + 1) & (p->bucket_count - 1);
	return &p->bucket[i];
}

static int grow(struct pack *p)
{
	if (p->count * 2 < p->bucket_count)
		return 0;
	uint32_t count = p->bucket_count ? p->bucket_count * 4 : 1024;
	uint32_t *bucket = calloc(count, sizeof *bucket);
	if (!bucket)
		return -WH_ENOMEM;
	free(p->bucket);
	p->bucket = bucket;
	p->bucket_count = count;
	for (uint32_t i = 0; i < p->count; i++)
		*place(p, p->entry[i].id) = i + 1;
	return 0;
}

static size_t put_head(uint8_t *to, git_object_t type, size_t size)
{
	size_t n = 0;
	uint8_t byte = (uint8_t)(type << 4 | (size & 15));
	for (size >>= 4; size; size >>= 7) {
		to[n++] = byte | 0x80;
		byte = size & 0x7f;
	}
	to[n++] = byte;
	return n;
}

int pack_add(struct pack *p, git_object_t type, const uint8_t *id, const uint8_t *data, size_t size)
{
	int r = grow(p);
	if (r >= 0)
		r = room_for(p, deflateBound(&p->z, size) + 16);
	if (r < 0)
		return r;
	uint32_t *slot = place(p, id);
	if (*slot)
		return 0;
	uint8_t *begin = p->data + p->size;
	size_t head = put_head(begin, type, size);
	z_stream *z = type == GIT_OBJECT_TREE && size > TREE_STORED ? &p->stored : &p->z;
	deflateReset(z);
	z->next_in = (Bytef *)(uintptr_t)data;
	z->avail_in = (uInt)size;
	z->next_out = begin + head;
	z->avail_out = (uInt)(p->room - p->size - head);
	r = deflate(z, Z_FINISH);
	wh_assert(r == Z_STREAM_END);
	size_t packed = (size_t)(z->next_out - begin);
	if (p->size + packed > INT32_MAX) /* offsets of four bytes do */
		return -WH_EFBIG;
	struct packed *e = &p->entry[p->count++];
	memcpy(e->id, id, ID_SIZE);
	e->offset = (uint32_t)p->size;
	e->crc = (uint32_t)crc32_z(0, begin, packed);
	*slot = p->count;
	p->size += packed;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return memcmp(((const struct packed *)a)->id, ((const struct packed *)b)->id, ID_SIZE);
}

static int sha1(const uint8_t *data, size_t size, uint8_t *ret_digest)
{
	unsigned n = 0;
	return EVP_Digest(data, size, ret_digest, &n, EVP_sha1(), NULL) ? 0 : -WH_EIO;
}

static uint8_t *index_of(const struct pack *p, size_t *ret_size)
{
	size_t size = INDEX_HEADER + (ID_SIZE + 8ull) * p->count + 2 * ID_SIZE;
	uint8_t *index = calloc(1, size), *at = index + INDEX_HEADER;
	if (!index)
		return NULL;
	memcpy(index, "\377tOc\0\0\0\2", 8);
	for (uint32_t i = 0, next = 0; i < 256; i++) {
		while (next < p->count && p->entry[next].id[0] <= i)
			next++;
		wh_store_be32(index + 8 + 4 * i, next);
	}
	for (uint32_t i = 0; i < p->count; i++, at += ID_SIZE)
		memcpy(at, p->entry[i].id, ID_SIZE);
	for (uint32_t i = 0; i < p->count; i++, at += 4)
		wh_store_be32(at, p->entry[i].crc);
	for (uint32_t i = 0; i < p->count; i++, at += 4)
		wh_store_be32(at, p->entry[i].offset);
	memcpy(at, p->data + p->size - ID_SIZE, ID_SIZE);
	*ret_size = size;
	return index;
}

int pack_write(struct pack *p, const struct store_io *io, const char *objects)
{
	char path[4300], hex[41];
	git_oid name;
	size_t index_size = 0;
	uint8_t *index = NULL;
	if (!p->count)
		return 0;
	int r = room_for(p, ID_SIZE);
	if (r < 0)
		return r;
	memcpy(p->data, "PACK\0\0\0\2", 8);
	wh_store_be32(p->data + 8, p->count);
	r = sha1(p->data, p->size, p->data + p->size);
	if (r < 0)
		return r;
	memcpy(name.id, p->data + p->size, ID_SIZE);
	p->size += ID_SIZE;
	qsort(p->entry, p->count, sizeof *p->entry, compare);
	index = index_of(p, &index_size);
	if (!index)
		return -WH_ENOMEM;
	r = sha1(index, index_size - ID_SIZE, index + index_size - ID_SIZE);
	git_oid_tostr(hex, sizeof hex, &name);
	/* Git looks for indexes: the pack is there before its own. */
	snprintf(path, sizeof path, "%spack/pack-%s.pack", objects, hex);
	if (r >= 0)
		r = io->create(io->ctx, path, p->data, p->size, true);
	snprintf(path, sizeof path, "%spack/pack-%s.idx", objects, hex);
	if (r >= 0)
		r = io->create(io->ctx, path, index, index_size, true);
	free(index);
	return r;
}

void pack_remove_loose(struct pack *p, const struct store_io *io, const char *objects)
{
	char path[4300], hex[41];
	for (uint32_t i = 0; i < p->count; i++) {
		git_oid id;
		memcpy(id.id, p->entry[i].id, ID_SIZE);
		git_oid_tostr(hex, sizeof hex, &id);
		snprintf(path, sizeof path, "%s%.2s/%s", objects, hex, hex + 2);
		(void)io->unlink(io->ctx, path); /* who left it is as well served */
	}
}
