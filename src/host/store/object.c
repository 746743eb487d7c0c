/* SPDX-License-Identifier: ISC */
/*
 * Objects that were made but not yet written are staged: libgit2 sees them through a backend of ours, others
 * do not. The flush writes them as loose objects, in the form that any Git reads.
 *
 * Loose objects are also read here: libgit2 1.5 loops forever on one that was cut off, as power cuts leave them.
 */
#include <errno.h>
#include <fcntl.h>
#include <git2/odb_backend.h>
#include <git2/sys/odb_backend.h>
#include <git2/sys/repository.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <zlib.h>

#include "store_priv.h"

#define BLOCK_MAX 65535u /* of a stored deflate block */

static struct staged *find(const struct wh_store *s, const git_oid *id)
{
	struct staged *o = s->bucket[oid_bucket(id, STAGED_BUCKETS)];
	while (o && !oid_eq(&o->id, id))
		o = o->next;
	return o;
}

static void loose_path(const struct wh_store *s, const git_oid *id, char *to, size_t max)
{
	char hex[41];
	git_oid_tostr(hex, sizeof hex, id);
	snprintf(to, max, "%sobjects/%.2s/%s", s->path, hex, hex + 2);
}

/* ---- loose objects ---- */

struct loose {
	git_object_t type;
	size_t size;
	uint8_t *data; /* malloc'd, with a NUL behind; NULL: only the header was wanted */
};

/* "blob 123" NUL; its length, or 0. */
static size_t header_parse(const uint8_t *p, size_t n, struct loose *l)
{
	const uint8_t *nul = memchr(p, 0, n),
		      *space = nul ? memchr(p, ' ', (size_t)(nul - p)) : NULL;
	char word[16];
	if (!space || space - p >= (long)sizeof word || nul == space + 1)
		return 0;
	memcpy(word, p, (size_t)(space - p));
	word[space - p] = 0;
	l->type = git_object_string2type(word);
	l->size = 0;
	for (const uint8_t *d = space + 1; d < nul; d++) {
		if (*d < '0' || *d > '9' || l->size > (SIZE_MAX >> 8))
			return 0;
		l->size = l->size * 10 + (size_t)(*d - '0');
	}
	return l->type < GIT_OBJECT_COMMIT || l->type > GIT_OBJECT_TAG ? 0 : (size_t)(nul + 1 - p);
}

static int inflate_object(const uint8_t *raw, size_t raw_size, bool header_only, struct loose *l)
{
	uint8_t head[128];
	z_stream z = { .next_in = (Bytef *)(uintptr_t)raw,
		       .avail_in = (uInt)raw_size,
		       .next_out = head,
		       .avail_out = sizeof head };
	if (raw_size > UINT32_MAX / 2 || inflateInit(&z) != Z_OK)
		return -WH_EIO;
	int r = inflate(&z, Z_NO_FLUSH);
	size_t have = sizeof head - z.avail_out,
	       n = r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR ? header_parse(head, have, l)
								      : 0;
	bool good = n && have - n <= l->size && l->size < WH_STORE_FILE_SIZE_MAX * 2;
	if (good && !header_only) {
		l->data = malloc(l->size + 1);
		if (l->data) {
			memcpy(l->data, head + n, have - n);
			z.next_out = l->data + (have - n);
			z.avail_out = (uInt)(l->size - (have - n));
			if (r != Z_STREAM_END)
				r = inflate(&z, Z_FINISH);
			/* a byte more than was said must not come */
			good = r == Z_STREAM_END && !z.avail_out;
			l->data[l->size] = 0;
		}
	}
	inflateEnd(&z);
	if (good && !header_only && !l->data)
		return -WH_ENOMEM;
	if (!good) {
		free(l->data);
		l->data = NULL;
		return -WH_EIO;
	}
	return 0;
}

/* 0, -WH_ENOENT, -WH_EIO: it is broken. */
static int loose_read(const struct wh_store *s, const git_oid *id, bool header_only,
		      struct loose *ret_loose)
{
	char path[4300];
	struct stat st;
	struct loose l = { .data = NULL };
	loose_path(s, id, path, sizeof path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -WH_ENOENT : -errno;
	int r = fstat(fd, &st) ? -errno : 0;
	size_t size = r < 0 ? 0 : (size_t)st.st_size, got = 0;
	if (header_only && size > 256)
		size = 256;
	uint8_t *raw = malloc(size + 1);
	if (!raw)
		r = -WH_ENOMEM;
	while (r >= 0 && got < size) {
		ssize_t n = read(fd, raw + got, size - got);
		if (n <= 0)
			r = -WH_EIO;
		else
			got += (size_t)n;
	}
	close(fd);
	if (r >= 0)
		r = inflate_object(raw, size, header_only, &l);
	free(raw);
	if (r >= 0)
		*ret_loose = l;
	return r;
}

/* ---- libgit2's view of what is staged or loose ---- */

struct backend {
	git_odb_backend parent;
	struct wh_store *store;
};

static struct wh_store *store_of(git_odb_backend *b)
{
	return ((struct backend *)(void *)b)->store;
}

static int backend_read(void **data, size_t *size, git_object_t *type, git_odb_backend *b,
			const git_oid *id)
{
	struct staged *o = find(store_of(b), id);
	struct loose l = { .data = NULL };
	const uint8_t *from = o ? o->data : NULL;
	if (o) {
		l.type = o->type;
		l.size = o->size;
	} else {
		int r = loose_read(store_of(b), id, false, &l);
		if (r < 0)
			return r == -WH_ENOENT ? GIT_ENOTFOUND : -1;
		from = l.data;
	}
	*data = git_odb_backend_data_alloc(b, l.size + 1);
	if (*data) {
		memcpy(*data, from, l.size + 1);
		*size = l.size;
		*type = l.type;
	}
	free(l.data);
	return *data ? 0 : -1;
}

static int backend_header(size_t *size, git_object_t *type, git_odb_backend *b, const git_oid *id)
{
	struct staged *o = find(store_of(b), id);
	struct loose l;
	if (o) {
		*size = o->size;
		*type = o->type;
		return 0;
	}
	int r = loose_read(store_of(b), id, true, &l);
	if (r < 0)
		return r == -WH_ENOENT ? GIT_ENOTFOUND : -1;
	*size = l.size;
	*type = l.type;
	return 0;
}

static int backend_exists(git_odb_backend *b, const git_oid *id)
{
	char path[4300];
	if (find(store_of(b), id))
		return true;
	loose_path(store_of(b), id, path, sizeof path);
	return !access(path, F_OK);
}

static void backend_free(git_odb_backend *b)
{
	free(b);
}

static int add(struct wh_store *s, git_odb_backend *backend, int priority)
{
	int r = git_odb_add_backend(s->odb, backend, priority);
	if (r)
		backend->free(backend);
	return r;
}

/* Other repositories whose objects this one uses (`git clone --shared`). */
static int alternates_add(struct wh_store *s)
{
	char path[4300], line[4200];
	int r = 0;
	snprintf(path, sizeof path, "%sobjects/info/alternates", s->path);
	FILE *f = fopen(path, "r");
	while (f && !r && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		if (!*line || *line == '#')
			continue;
		snprintf(path, sizeof path, *line == '/' ? "%s%s" : "%sobjects/%s",
			 *line == '/' ? "" : s->path, line);
		r = git_odb_add_disk_alternate(s->odb, path);
	}
	if (f)
		fclose(f);
	return r;
}

int object_backend_add(struct wh_store *s)
{
	char path[4300];
	git_odb_backend *packs = NULL;
	struct backend *b = calloc(1, sizeof *b);
	snprintf(path, sizeof path, "%sobjects", s->path);
	if (!b || git_odb_new(&s->odb)) {
		free(b);
		return -1;
	}
	git_odb_init_backend(&b->parent, GIT_ODB_BACKEND_VERSION);
	b->store = s;
	b->parent.read = backend_read;
	b->parent.read_header = backend_header;
	b->parent.exists = backend_exists;
	b->parent.free = backend_free;
	int r = add(s, &b->parent, 1000);
	if (!r)
		r = git_odb_backend_pack(&packs, path);
	if (!r)
		r = add(s, packs, 1);
	if (!r)
		r = alternates_add(s);
	return r ? r : git_repository_set_odb(s->repo, s->odb);
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

static void staged_free(struct wh_store *s, struct staged *o);

/* A large batch, or what nobody has committed for long, goes to the disk before its time. The journal does not hold it, so
 * the commit that needs it syncs the file system. */
static int spill(struct wh_store *s)
{
	s->need_syncfs = true;
	WH_LIST_FOR_EACH_SAFE(n, &s->staged) {
		struct staged *o = WH_LIST_ENTRY(n, struct staged, order);
		int r = object_write_loose(s, &o->id, o->type, o->data, o->size, false);
		if (r < 0)
			return r;
		staged_free(s, o);
	}
	return 0;
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
	return s->staged_bytes > STAGED_BYTES_MAX ? spill(s) : 0;
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

/* A zlib stream whose blocks are stored: a loose object takes a block of the disk however small it is, so compressing it
 * would only take time at a commit; `gc` packs and compresses. */
static int stream_of(git_object_t type, const void *data, size_t size, uint8_t **ret_out,
		     size_t *ret_size)
{
	char header[64];
	size_t n = header_of(type, size, header, sizeof header), total = n + size, done = 0, at = 2;
	uint8_t *out = malloc(total + (total / BLOCK_MAX + 1) * 5 + 6);
	if (!out)
		return -WH_ENOMEM;
	out[0] = 0x78; /* deflate, 32 KiB window, fastest: as zlib has it for level 0 */
	out[1] = 0x01;
	do {
		size_t block = total - done < BLOCK_MAX ? total - done : BLOCK_MAX, head = 0;
		out[at] = done + block == total; /* the last one; stored */
		wh_store_le16(out + at + 1, (uint16_t)block);
		wh_store_le16(out + at + 3, (uint16_t)~block);
		at += 5;
		if (!done) { /* the header is shorter than a block */
			head = n;
			memcpy(out + at, header, n);
		}
		if (size)
			memcpy(out + at + head, (const uint8_t *)data + (done + head - n),
			       block - head);
		at += block;
		done += block;
	} while (done < total);
	uLong sum = adler32_z(adler32_z(1, (const Bytef *)header, n), data, size);
	if (!size) /* zlib answers 1 for no buffer */
		sum = adler32_z(1, (const Bytef *)header, n);
	wh_store_be32(out + at, (uint32_t)sum);
	*ret_out = out;
	*ret_size = at + 4;
	return 0;
}

int object_write_loose(struct wh_store *s, const git_oid *id, git_object_t type, const void *data,
		       size_t size, bool sync)
{
	char path[4200];
	uint8_t *out;
	size_t out_size;
	loose_path(s, id, path, sizeof path);
	int r = stream_of(type, data, size, &out, &out_size);
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
	struct wh_store_file *f;
	int r = object_read(s, &o, GIT_OBJECT_BLOB, ret_data, ret_size);
	if (r != -WH_EINVAL || wh_store_object_kind(s, id) != WH_STORE_OBJECT_TREE)
		return r;
	r = wh_store_file_open(s, id, &f);
	if (r < 0)
		return r;
	uint64_t size = wh_store_file_size(f);
	uint8_t *data = size > WH_STORE_FILE_SIZE_MAX ? NULL : malloc((size_t)size + 1);
	int64_t n = data                            ? wh_store_file_read(f, 0, data, (size_t)size)
		    : size > WH_STORE_FILE_SIZE_MAX ? -WH_EFBIG
						    : -WH_ENOMEM;
	wh_store_file_close(f);
	if (n < 0) {
		free(data);
		return (int)n;
	}
	data[n] = 0;
	*ret_data = data;
	*ret_size = (size_t)n;
	return 0;
}

int wh_store_blob_size(struct wh_store *s, const struct wh_store_id *id, uint64_t *ret_size)
{
	git_oid o = oid_of(id);
	size_t size;
	git_object_t type;
	int r = git_odb_read_header(&size, &type, s->odb, &o);
	if (r)
		return r == GIT_ENOTFOUND ? -WH_ENOENT : -WH_EIO;
	if (type == GIT_OBJECT_TREE) {
		struct wh_store_file *f;
		r = wh_store_file_open(s, id, &f);
		if (r >= 0)
			*ret_size = wh_store_file_size(f);
		if (r >= 0)
			wh_store_file_close(f);
		return r;
	}
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
