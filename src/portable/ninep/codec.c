/* SPDX-License-Identifier: ISC */
/*
 * One table says what each message looks like on the wire; encoding and decoding walk
 * it. A field is its kind and its place in struct wh_p9_msg, in 16 bits, so that the table needs no
 * relocations and is small enough for a guest.
 */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/ninep.h>

enum kind {
	END,
	U8,
	U16,
	U32,
	U64,
	STR,   /* size[2] text */
	QID,   /* type[1] version[4] path[8] */
	NAMES, /* count[2] then strings */
	QIDS,  /* count[2] then qids */
	DATA,  /* count[4] then bytes */
	STAT   /* size[2] then a 9P2000 stat, itself with a size[2] */
};

#define F(kind, member) (uint16_t)((kind) << 12 | offsetof(struct wh_p9_msg, member))
_Static_assert(sizeof(struct wh_p9_msg) < 1u << 12, "a place has 12 bits");

#define D0 1u /* 9P2000 */
#define DU 2u
#define DL 4u
#define ANY (D0 | DU | DL)
#define FIELDS_MAX 20u

static const struct layout {
	uint8_t type, dialects;
	uint16_t field[FIELDS_MAX];
} layouts[] = {
	{ WH_P9_TREAD, ANY, { F(U32, fid), F(U64, offset), F(U32, count) } },
	{ WH_P9_TREAD + 1, ANY, { F(DATA, count) } },
	{ WH_P9_TWRITE, ANY, { F(U32, fid), F(U64, offset), F(DATA, count) } },
	{ WH_P9_TWRITE + 1, ANY, { F(U32, count) } },
	{ WH_P9_TWALK, ANY, { F(U32, fid), F(U32, fid2), F(NAMES, names) } },
	{ WH_P9_TWALK + 1, ANY, { F(QIDS, qids) } },
	{ WH_P9_TCLUNK, ANY, { F(U32, fid) } },
	{ WH_P9_TGETATTR, DL, { F(U32, fid), F(U64, mask) } },
	{ WH_P9_TGETATTR + 1,
	  DL,
	  { F(U64, attr.valid),      F(QID, attr.qid),         F(U32, attr.mode),
	    F(U32, attr.uid),        F(U32, attr.gid),         F(U64, attr.nlink),
	    F(U64, attr.rdev),       F(U64, attr.size),        F(U64, attr.block_size),
	    F(U64, attr.blocks),     F(U64, attr.atime_s),     F(U64, attr.atime_ns),
	    F(U64, attr.mtime_s),    F(U64, attr.mtime_ns),    F(U64, attr.ctime_s),
	    F(U64, attr.ctime_ns),   F(U64, attr.btime_s),     F(U64, attr.btime_ns),
	    F(U64, attr.generation), F(U64, attr.data_version) } },
	{ WH_P9_RLERROR, DL, { F(U32, error) } },
	{ WH_P9_RERROR, D0, { F(STR, name) } },
	{ WH_P9_RERROR, DU, { F(STR, name), F(U32, error) } },
	{ WH_P9_TVERSION, ANY, { F(U32, msize), F(STR, name) } },
	{ WH_P9_TVERSION + 1, ANY, { F(U32, msize), F(STR, name) } },
	{ WH_P9_TAUTH, D0, { F(U32, fid), F(STR, name), F(STR, name2) } },
	{ WH_P9_TAUTH, DU | DL, { F(U32, fid), F(STR, name), F(STR, name2), F(U32, number) } },
	{ WH_P9_TAUTH + 1, ANY, { F(QID, qid) } },
	{ WH_P9_TATTACH, D0, { F(U32, fid), F(U32, fid2), F(STR, name), F(STR, name2) } },
	{ WH_P9_TATTACH,
	  DU | DL,
	  { F(U32, fid), F(U32, fid2), F(STR, name), F(STR, name2), F(U32, number) } },
	{ WH_P9_TATTACH + 1, ANY, { F(QID, qid) } },
	{ WH_P9_TFLUSH, ANY, { F(U16, flush_tag) } },
	{ WH_P9_TREMOVE, ANY, { F(U32, fid) } },
	{ WH_P9_TOPEN, D0 | DU, { F(U32, fid), F(U8, mode8) } },
	{ WH_P9_TOPEN + 1, D0 | DU, { F(QID, qid), F(U32, iounit) } },
	{ WH_P9_TCREATE, D0, { F(U32, fid), F(STR, name), F(U32, mode), F(U8, mode8) } },
	{ WH_P9_TCREATE,
	  DU,
	  { F(U32, fid), F(STR, name), F(U32, mode), F(U8, mode8), F(STR, name2) } },
	{ WH_P9_TCREATE + 1, D0 | DU, { F(QID, qid), F(U32, iounit) } },
	{ WH_P9_TSTAT, D0 | DU, { F(U32, fid) } },
	{ WH_P9_TSTAT + 1, D0 | DU, { F(STAT, stat) } },
	{ WH_P9_TWSTAT, D0 | DU, { F(U32, fid), F(STAT, stat) } },
	{ WH_P9_TSTATFS, DL, { F(U32, fid) } },
	{ WH_P9_TSTATFS + 1,
	  DL,
	  { F(U32, statfs.type), F(U32, statfs.block_size), F(U64, statfs.blocks),
	    F(U64, statfs.blocks_free), F(U64, statfs.blocks_available), F(U64, statfs.files),
	    F(U64, statfs.files_free), F(U64, statfs.fsid), F(U32, statfs.name_size_max) } },
	{ WH_P9_TLOPEN, DL, { F(U32, fid), F(U32, flags) } },
	{ WH_P9_TLOPEN + 1, DL, { F(QID, qid), F(U32, iounit) } },
	{ WH_P9_TLCREATE,
	  DL,
	  { F(U32, fid), F(STR, name), F(U32, flags), F(U32, mode), F(U32, gid) } },
	{ WH_P9_TLCREATE + 1, DL, { F(QID, qid), F(U32, iounit) } },
	{ WH_P9_TSYMLINK, DL, { F(U32, fid), F(STR, name), F(STR, name2), F(U32, gid) } },
	{ WH_P9_TSYMLINK + 1, DL, { F(QID, qid) } },
	{ WH_P9_TMKNOD,
	  DL,
	  { F(U32, fid), F(STR, name), F(U32, mode), F(U32, major), F(U32, minor), F(U32, gid) } },
	{ WH_P9_TMKNOD + 1, DL, { F(QID, qid) } },
	{ WH_P9_TRENAME, DL, { F(U32, fid), F(U32, fid2), F(STR, name) } },
	{ WH_P9_TREADLINK, DL, { F(U32, fid) } },
	{ WH_P9_TREADLINK + 1, DL, { F(STR, name) } },
	{ WH_P9_TSETATTR,
	  DL,
	  { F(U32, fid), F(U32, setattr.valid), F(U32, setattr.mode), F(U32, setattr.uid),
	    F(U32, setattr.gid), F(U64, setattr.size), F(U64, setattr.atime_s),
	    F(U64, setattr.atime_ns), F(U64, setattr.mtime_s), F(U64, setattr.mtime_ns) } },
	{ WH_P9_TXATTRWALK, DL, { F(U32, fid), F(U32, fid2), F(STR, name) } },
	{ WH_P9_TXATTRWALK + 1, DL, { F(U64, size) } },
	{ WH_P9_TXATTRCREATE, DL, { F(U32, fid), F(STR, name), F(U64, size), F(U32, flags) } },
	{ WH_P9_TREADDIR, DL, { F(U32, fid), F(U64, offset), F(U32, count) } },
	{ WH_P9_TREADDIR + 1, DL, { F(DATA, count) } },
	{ WH_P9_TFSYNC, DL, { F(U32, fid), F(U32, flags) } },
	{ WH_P9_TLOCK,
	  DL,
	  { F(U32, fid), F(U8, lock.type), F(U32, lock.flags), F(U64, lock.start),
	    F(U64, lock.length), F(U32, lock.pid), F(STR, name) } },
	{ WH_P9_TLOCK + 1, DL, { F(U8, status) } },
	{ WH_P9_TGETLOCK,
	  DL,
	  { F(U32, fid), F(U8, lock.type), F(U64, lock.start), F(U64, lock.length),
	    F(U32, lock.pid), F(STR, name) } },
	{ WH_P9_TGETLOCK + 1,
	  DL,
	  { F(U8, lock.type), F(U64, lock.start), F(U64, lock.length), F(U32, lock.pid),
	    F(STR, name) } },
	{ WH_P9_TLINK, DL, { F(U32, fid), F(U32, fid2), F(STR, name) } },
	{ WH_P9_TMKDIR, DL, { F(U32, fid), F(STR, name), F(U32, mode), F(U32, gid) } },
	{ WH_P9_TMKDIR + 1, DL, { F(QID, qid) } },
	{ WH_P9_TRENAMEAT, DL, { F(U32, fid), F(STR, name), F(U32, fid2), F(STR, name2) } },
	{ WH_P9_TUNLINKAT, DL, { F(U32, fid), F(STR, name), F(U32, flags) } },
	/* answers without fields */
	{ WH_P9_TFLUSH + 1, ANY, { 0 } },
	{ WH_P9_TCLUNK + 1, ANY, { 0 } },
	{ WH_P9_TREMOVE + 1, ANY, { 0 } },
	{ WH_P9_TWSTAT + 1, D0 | DU, { 0 } },
	{ WH_P9_TRENAME + 1, DL, { 0 } },
	{ WH_P9_TSETATTR + 1, DL, { 0 } },
	{ WH_P9_TXATTRCREATE + 1, DL, { 0 } },
	{ WH_P9_TFSYNC + 1, DL, { 0 } },
	{ WH_P9_TLINK + 1, DL, { 0 } },
	{ WH_P9_TRENAMEAT + 1, DL, { 0 } },
	{ WH_P9_TUNLINKAT + 1, DL, { 0 } },
};

static const struct layout *layout_of(enum wh_p9_dialect dialect, uint8_t type)
{
	for (size_t i = 0; i < WH_ARRAY_COUNT(layouts); i++)
		if (layouts[i].type == type && layouts[i].dialects & 1u << dialect)
			return &layouts[i];
	return 0;
}

uint16_t wh_p9_tag(const void *head)
{
	return wh_load_le16((const uint8_t *)head + 5);
}

/* ---- decoding: a cursor that goes bad once and stays so ---- */

struct cursor {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static const uint8_t *take(struct cursor *c, size_t size)
{
	static const uint8_t zeros[13];
	if (c->bad || size > c->left) {
		c->bad = true;
		return size <= sizeof zeros ? zeros : 0;
	}
	const uint8_t *p = c->at;
	c->at += size;
	c->left -= size;
	return p;
}

static uint16_t get16(struct cursor *c)
{
	return wh_load_le16(take(c, 2));
}

static uint32_t get32(struct cursor *c)
{
	return wh_load_le32(take(c, 4));
}

static struct wh_p9_str get_str(struct cursor *c)
{
	struct wh_p9_str s = { "", get16(c) };
	const char *text = (const char *)take(c, s.size);
	if (c->bad || !text) {
		c->bad = true;
		return (struct wh_p9_str){ "", 0 };
	}
	c->bad = wh_strnlen(text, s.size) != s.size;
	s.text = text;
	return s;
}

static struct wh_p9_qid get_qid(struct cursor *c)
{
	const uint8_t *p = take(c, 13);
	return (struct wh_p9_qid){ .type = p[0],
				   .version = wh_load_le32(p + 1),
				   .path = wh_load_le64(p + 5) };
}

static void get_stat(enum wh_p9_dialect dialect, struct cursor *c, struct wh_p9_stat *s)
{
	uint16_t inner = get16(c);
	if (inner > c->left)
		c->bad = true;
	if (c->bad)
		return;
	struct cursor in = { c->at, inner, false };
	s->kernel_type = get16(&in);
	s->kernel_dev = get32(&in);
	s->qid = get_qid(&in);
	s->mode = get32(&in);
	s->atime = get32(&in);
	s->mtime = get32(&in);
	s->length = wh_load_le64(take(&in, 8));
	s->name = get_str(&in);
	s->uid = get_str(&in);
	s->gid = get_str(&in);
	s->muid = get_str(&in);
	if (dialect == WH_P9_DIALECT_2000U) {
		s->extension = get_str(&in);
		s->n_uid = get32(&in);
		s->n_gid = get32(&in);
		s->n_muid = get32(&in);
	}
	c->bad = in.bad || in.left;
	c->at += inner;
	c->left -= inner;
}

static void get_list(struct cursor *c, struct wh_p9_msg *m, bool qids)
{
	m->name_count = get16(c);
	if (m->name_count > WH_P9_NAMES_MAX)
		c->bad = true;
	for (uint16_t i = 0; i < m->name_count && !c->bad; i++) {
		if (qids)
			m->qids[i] = get_qid(c);
		else
			m->names[i] = get_str(c);
	}
}

static void get_field(enum wh_p9_dialect dialect, struct cursor *c, uint16_t field,
		      struct wh_p9_msg *m)
{
	void *to = (uint8_t *)m + (field & 0xfffu);
	switch (field >> 12) {
	case U8:
		*(uint8_t *)to = *take(c, 1);
		break;
	case U16:
		*(uint16_t *)to = get16(c);
		break;
	case U32:
	case DATA:
		*(uint32_t *)to = get32(c);
		break;
	case U64:
		*(uint64_t *)to = wh_load_le64(take(c, 8));
		break;
	case STR:
		*(struct wh_p9_str *)to = get_str(c);
		break;
	case QID:
		*(struct wh_p9_qid *)to = get_qid(c);
		break;
	case NAMES:
	case QIDS:
		get_list(c, m, field >> 12 == QIDS);
		break;
	default:
		wh_assert(field >> 12 == STAT);
		uint16_t outer = get16(c);
		size_t left = c->left;
		get_stat(dialect, c, to);
		c->bad |= left - c->left != outer;
	}
}

int wh_p9_decode(enum wh_p9_dialect dialect, const void *head, size_t head_size,
		 struct wh_p9_msg *ret_msg)
{
	const uint8_t *p = head;
	if (head_size < WH_P9_HEADER_SIZE)
		return -WH_EBADMSG;
	uint32_t size = wh_load_le32(p), payload = 0;
	const struct layout *l = layout_of(dialect, p[4]);
	if (size < WH_P9_HEADER_SIZE || size > INT32_MAX || !l)
		return -WH_EBADMSG;
	struct wh_p9_msg m;
	memset(&m, 0, sizeof m);
	m.type = p[4];
	m.tag = wh_p9_tag(p);
	struct cursor c = { p + WH_P9_HEADER_SIZE,
			    (size < head_size ? size : head_size) - WH_P9_HEADER_SIZE, false };
	for (const uint16_t *f = l->field; f < l->field + FIELDS_MAX && *f; f++) {
		get_field(dialect, &c, *f, &m);
		if (*f >> 12 == DATA)
			payload = m.count;
	}
	/* The fields and the payload make up exactly the size that the message claims. */
	uint64_t used = (uint64_t)(c.at - p) + payload;
	if (c.bad || used != size)
		return -WH_EBADMSG;
	if (c.left >= payload && payload)
		m.data = c.at;
	else if (head_size < size && !payload)
		return -WH_EBADMSG;
	*ret_msg = m;
	return (int)size;
}

/* ---- encoding: a cursor that counts on when the room is used up ---- */

struct out {
	uint8_t *at;
	size_t max, size;
	uint8_t nowhere[16]; /* takes fields that do not fit; never read */
};

static uint8_t *put(struct out *o, size_t size)
{
	uint8_t *p = o->size + size <= o->max ? o->at + o->size : 0;
	o->size += size;
	wh_assert(size <= sizeof o->nowhere);
	return p ? p : o->nowhere;
}

static void put16(struct out *o, uint16_t v)
{
	wh_store_le16(put(o, 2), v);
}

static void put32(struct out *o, uint32_t v)
{
	wh_store_le32(put(o, 4), v);
}

static void put64(struct out *o, uint64_t v)
{
	wh_store_le64(put(o, 8), v);
}

static void put_bytes(struct out *o, const void *from, size_t size)
{
	bool fits = o->size + size <= o->max;
	if (fits && size)
		memcpy(o->at + o->size, from, size);
	o->size += size;
}

static void put_str(struct out *o, struct wh_p9_str s)
{
	put16(o, s.size);
	put_bytes(o, s.text, s.size);
}

static void put_qid(struct out *o, struct wh_p9_qid q)
{
	uint8_t *p = put(o, 13);
	p[0] = q.type;
	wh_store_le32(p + 1, q.version);
	wh_store_le64(p + 5, q.path);
}

static void put_stat(enum wh_p9_dialect dialect, struct out *o, const struct wh_p9_stat *s)
{
	size_t begin = o->size;
	put16(o, 0);
	put16(o, s->kernel_type);
	put32(o, s->kernel_dev);
	put_qid(o, s->qid);
	put32(o, s->mode);
	put32(o, s->atime);
	put32(o, s->mtime);
	put64(o, s->length);
	put_str(o, s->name);
	put_str(o, s->uid);
	put_str(o, s->gid);
	put_str(o, s->muid);
	if (dialect == WH_P9_DIALECT_2000U) {
		put_str(o, s->extension);
		put32(o, s->n_uid);
		put32(o, s->n_gid);
		put32(o, s->n_muid);
	}
	size_t size = o->size - begin;
	if (size > UINT16_MAX)
		o->max = 0; /* five strings too long for the format */
	if (o->size > o->max)
		return;
	wh_store_le16(o->at + begin, (uint16_t)(size - 2));
}

static void put_stat_field(enum wh_p9_dialect dialect, struct out *o, const struct wh_p9_stat *s)
{
	size_t begin = o->size;
	put16(o, 0);
	put_stat(dialect, o, s);
	if (o->size - begin - 2 > UINT16_MAX)
		o->max = 0;
	if (o->size <= o->max)
		wh_store_le16(o->at + begin, (uint16_t)(o->size - begin - 2));
}

static void put_field(enum wh_p9_dialect dialect, struct out *o, uint16_t field,
		      const struct wh_p9_msg *m)
{
	const void *from = (const uint8_t *)m + (field & 0xfffu);
	switch (field >> 12) {
	case U8:
		*put(o, 1) = *(const uint8_t *)from;
		break;
	case U16:
		put16(o, *(const uint16_t *)from);
		break;
	case U32:
		put32(o, *(const uint32_t *)from);
		break;
	case U64:
		put64(o, *(const uint64_t *)from);
		break;
	case STR:
		put_str(o, *(const struct wh_p9_str *)from);
		break;
	case QID:
		put_qid(o, *(const struct wh_p9_qid *)from);
		break;
	case NAMES:
		put16(o, m->name_count);
		for (uint16_t i = 0; i < m->name_count; i++)
			put_str(o, m->names[i]);
		break;
	case QIDS:
		put16(o, m->name_count);
		for (uint16_t i = 0; i < m->name_count; i++)
			put_qid(o, m->qids[i]);
		break;
	case DATA:
		put32(o, m->count);
		if (m->data)
			put_bytes(o, m->data, m->count);
		break;
	default:
		wh_assert(field >> 12 == STAT);
		put_stat_field(dialect, o, from);
	}
}

int wh_p9_encode(enum wh_p9_dialect dialect, const struct wh_p9_msg *msg, void *to, size_t to_max)
{
	const struct layout *l = layout_of(dialect, msg->type);
	struct out o = { .at = to, .max = to_max };
	bool elsewhere = false;
	if (!l || msg->name_count > WH_P9_NAMES_MAX)
		return -WH_EINVAL;
	put32(&o, 0);
	*put(&o, 1) = msg->type;
	put16(&o, msg->tag);
	for (const uint16_t *f = l->field; f < l->field + FIELDS_MAX && *f; f++) {
		put_field(dialect, &o, *f, msg);
		elsewhere = *f >> 12 == DATA && !msg->data;
	}
	uint64_t size = o.size + (elsewhere ? (uint64_t)msg->count : 0);
	if (o.size > o.max || size > INT32_MAX)
		return -WH_EMSGSIZE;
	wh_store_le32(to, (uint32_t)size);
	return (int)o.size;
}

/* ---- directory entries ---- */

int wh_p9_stat_encode(enum wh_p9_dialect dialect, const struct wh_p9_stat *stat, void *to,
		      size_t to_max)
{
	struct out o = { .at = to, .max = to_max };
	put_stat(dialect, &o, stat);
	return o.size > o.max ? 0 : (int)o.size;
}

int wh_p9_stat_decode(enum wh_p9_dialect dialect, const void *from, size_t size,
		      struct wh_p9_stat *ret_stat)
{
	struct cursor c = { from, size, false };
	struct wh_p9_stat s;
	if (!size)
		return 0;
	memset(&s, 0, sizeof s);
	get_stat(dialect, &c, &s);
	if (c.bad)
		return -WH_EBADMSG;
	*ret_stat = s;
	return (int)(size - c.left);
}

int wh_p9_dirent_decode(const void *from, size_t size, struct wh_p9_dirent *ret_entry)
{
	struct cursor c = { from, size, false };
	struct wh_p9_dirent e;
	if (!size)
		return 0;
	e.qid = get_qid(&c);
	e.offset = wh_load_le64(take(&c, 8));
	e.type = *take(&c, 1);
	e.name = get_str(&c);
	if (c.bad)
		return -WH_EBADMSG;
	*ret_entry = e;
	return (int)(size - c.left);
}

int wh_p9_dirent_encode(const struct wh_p9_dirent *entry, void *to, size_t to_max)
{
	struct out o = { .at = to, .max = to_max };
	put_qid(&o, entry->qid);
	put64(&o, entry->offset);
	*put(&o, 1) = entry->type;
	put_str(&o, entry->name);
	return o.size > o.max ? 0 : (int)o.size;
}
