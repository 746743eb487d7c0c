/* SPDX-License-Identifier: ISC */
/*
 * Objects that were made but not yet written are staged: libgit2 sees them through a backend of ours, others
 * do not. The flush writes them as loose objects, in the form that any Git reads.
 */
#include <errno.h>
#include <fcntl.h>
#include <git2/sys/odb_backend.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "store_priv.h"

#define SMALL 65536u /* up to here compressing pays */

static struct staged *find(const struct wh_store *s, const git_oid *id)
{
	struct staged *o = s->bucket[oid_bucket(id, STAGED_BUCKETS)];
	while (o && !oid_eq(&o->id, id))
		o = o->next;
	return o;
}

/* ---- libgit2's view of what is staged ---- */

struct backend {
	git_odb_backend parent;
	struct wh_store *store;
};

static int backend_read(void **data, size_t *size, git_object_t *type, git_odb_backend *b,
			const git_oid *id)
{
	struct staged *o = find(((struct backend *)b)->store, id);
	if (!o)
		return GIT_ENOTFOUND;
	*data = git_odb_backend_data_alloc(b, o->size + 1);
	if (!*data)
		return -1;
	memcpy(*data, o->data, o->size + 1);
	*size = o->size;
	*type = o->type;
	return 0;
}

static int backend_header(size_t *size, git_object_t *type, git_odb_backend *b, const git_oid *id)
{
	struct staged *o = find(((struct backend *)b)->store, id);
	if (!o)
		return GIT_ENOTFOUND;
	*size = o->size;
	*type = o->type;
	return 0;
}

static int backend_exists(git_odb_backend *b, const git_oid *id)
{
	return find(((struct backend *)b)->store, id) != NULL;
}

static void backend_free(git_odb_backend *b)
{
	free(b);
}

int object_backend_add(struct wh_store *s)
{
	struct backend *b = calloc(1, sizeof *b);
	if (!b)
		return -1;
	git_odb_init_backend(&b->parent, GIT_ODB_BACKEND_VERSION);
	b->store = s;
	b->parent.read = backend_read;
	b->parent.read_header = backend_header;
	b->parent.exists = backend_exists;
	b->parent.free = backend_free;
	return git_odb_add_backend(s->odb, &b->parent, 1000);
}

/* ---- staging ---- */

static size_t header_of(git_object_t type, size_t size, char *to, size_t max)
{
	return (size_t)snprintf(to, max, "%s %zu", git_object_type2string(type), size) + 1;
}

void object_hash(git_object_t type, const void *data, size_t size, git_oid *ret_id)
{
	/* Contents that others choose are hashed with libgit2's collision detection, what we build
	 * ourselves with the processor's instructions. */
	if (type == GIT_OBJECT_BLOB) {
		wh_assert(!git_odb_hash(ret_id, data, size, type));
		return;
	}
	char header[64];
	unsigned n = 0;
	unsigned char digest[EVP_MAX_MD_SIZE];
	static __thread EVP_MD_CTX *c;
	if (!c)
		c = EVP_MD_CTX_new();
	wh_assert(c && EVP_DigestInit_ex(c, EVP_sha1(), NULL));
	EVP_DigestUpdate(c, header, header_of(type, size, header, sizeof header));
	EVP_DigestUpdate(c, data, size);
	EVP_DigestFinal_ex(c, digest, &n);
	memcpy(ret_id->id, digest, ID_SIZE);
}

static void loose_path(const struct wh_store *s, const git_oid *id, char *to, size_t max)
{
	char hex[41];
	git_oid_tostr(hex, sizeof hex, id);
	snprintf(to, max, "%sobjects/%.2s/%s", s->path, hex, hex + 2);
}

int object_stage(struct wh_store *s, git_object_t type, void *data, size_t size, git_oid *ret_id)
{
	object_hash(type, data, size, ret_id);
	if (find(s, ret_id)) {
		free(data);
		return 0;
	}
	struct staged *o = malloc(sizeof *o);
	if (!o) {
		free(data);
		return -WH_ENOMEM;
	}
	*o = (struct staged){ .id = *ret_id, .type = type, .size = size, .data = data };
	struct staged **b = &s->bucket[oid_bucket(ret_id, STAGED_BUCKETS)];
	o->next = *b;
	*b = o;
	wh_list_push_back(&s->staged, &o->order);
	s->staged_bytes += size;
	return 0;
}

static void staged_free(struct wh_store *s, struct staged *o)
{
	struct staged **p = &s->bucket[oid_bucket(&o->id, STAGED_BUCKETS)];
	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	wh_list_remove(&o->order);
	s->staged_bytes -= o->size;
	free(o->data);
	free(o);
}

void batch_drop(struct wh_store *s)
{
	WH_LIST_FOR_EACH_SAFE(n, &s->staged)
		staged_free(s, WH_LIST_ENTRY(n, struct staged, order));
	WH_LIST_FOR_EACH_SAFE(n, &s->staged_refs)
		ref_unstage(s, WH_LIST_ENTRY(n, struct staged_ref, order));
	s->need_syncfs = false;
}

/* ---- the disk ---- */

static int deflated(git_object_t type, const void *data, size_t size, uint8_t **ret_out,
		    size_t *ret_size)
{
	char header[64];
	size_t n = header_of(type, size, header, sizeof header);
	z_stream z = { 0 };
	if (deflateInit(&z, size <= SMALL ? 1 : 0) != Z_OK)
		return -WH_ENOMEM;
	size_t room = deflateBound(&z, n + size) + 64;
	uint8_t *out = malloc(room);
	if (!out || size > UINT32_MAX / 2) {
		deflateEnd(&z);
		free(out);
		return out ? -WH_EFBIG : -WH_ENOMEM;
	}
	z.next_out = out;
	z.avail_out = (uInt)room;
	z.next_in = (Bytef *)header;
	z.avail_in = (uInt)n;
	int r = deflate(&z, Z_NO_FLUSH);
	z.next_in = (Bytef *)(uintptr_t)data;
	z.avail_in = (uInt)size;
	if (r == Z_OK)
		r = deflate(&z, Z_FINISH);
	*ret_size = room - z.avail_out;
	deflateEnd(&z);
	wh_assert(r == Z_STREAM_END);
	*ret_out = out;
	return 0;
}

int object_write_loose(struct wh_store *s, const git_oid *id, git_object_t type, const void *data,
		       size_t size, bool sync)
{
	char path[4200];
	uint8_t *out;
	size_t out_size;
	loose_path(s, id, path, sizeof path);
	int r = deflated(type, data, size, &out, &out_size);
	if (r < 0)
		return r;
	r = s->io->create(s->io->ctx, path, out, out_size, sync);
	free(out);
	s->stats.objects_written++;
	s->stats.bytes_written += out_size;
	return r;
}

bool object_is_whole(struct wh_store *s, const git_oid *id)
{
	void *data;
	size_t size;
	git_oid check;
	git_odb_object *o = NULL;
	/* Checked against the name: a file that a power cut emptied or tore must not count. */
	git_odb_refresh(s->odb);
	if (git_odb_read(&o, s->odb, id))
		return false;
	data = (void *)(uintptr_t)git_odb_object_data(o);
	size = git_odb_object_size(o);
	object_hash(git_odb_object_type(o), data, size, &check);
	git_odb_object_free(o);
	return oid_eq(&check, id);
}

int object_read(struct wh_store *s, const git_oid *id, git_object_t type, void **ret_data,
		size_t *ret_size)
{
	struct staged *o = find(s, id);
	git_odb_object *g = NULL;
	const void *from;
	size_t size;
	if (o && o->type != type)
		return -WH_EINVAL;
	if (o) {
		from = o->data;
		size = o->size;
	} else {
		int r = git_odb_read(&g, s->odb, id);
		if (r)
			return r == GIT_ENOTFOUND ? -WH_ENOENT : -WH_EIO;
		if (git_odb_object_type(g) != type) {
			git_odb_object_free(g);
			return -WH_EINVAL;
		}
		from = git_odb_object_data(g);
		size = git_odb_object_size(g);
	}
	uint8_t *data = malloc(size + 1);
	if (data) {
		memcpy(data, from, size);
		data[size] = 0;
		*ret_data = data;
		*ret_size = size;
	}
	git_odb_object_free(g);
	return data ? 0 : -WH_ENOMEM;
}

int wh_store_blob_read(struct wh_store *s, const struct wh_store_id *id, void **ret_data,
		       size_t *ret_size)
{
	git_oid o = oid_of(id);
	return object_read(s, &o, GIT_OBJECT_BLOB, ret_data, ret_size);
}

int wh_store_blob_size(struct wh_store *s, const struct wh_store_id *id, uint64_t *ret_size)
{
	git_oid o = oid_of(id);
	size_t size;
	git_object_t type;
	int r = git_odb_read_header(&size, &type, s->odb, &o);
	if (r)
		return r == GIT_ENOTFOUND ? -WH_ENOENT : -WH_EIO;
	if (type != GIT_OBJECT_BLOB)
		return -WH_EINVAL;
	*ret_size = size;
	return 0;
}

int wh_store_object_kind(struct wh_store *s, const struct wh_store_id *id)
{
	git_oid o = oid_of(id);
	size_t size;
	git_object_t type;
	int r = git_odb_read_header(&size, &type, s->odb, &o);
	if (r)
		return r == GIT_ENOTFOUND ? -WH_ENOENT : -WH_EIO;
	return type == GIT_OBJECT_COMMIT ? WH_STORE_OBJECT_COMMIT
	       : type == GIT_OBJECT_TREE ? WH_STORE_OBJECT_TREE
	       : type == GIT_OBJECT_BLOB ? WH_STORE_OBJECT_BLOB
					 : WH_STORE_OBJECT_TAG;
}
