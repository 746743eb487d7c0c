/* SPDX-License-Identifier: ISC */
/*
 * 9P server for one connection. A request goes through four hands:
 *
 *	take      copy the head once, decode, find fids, check names and limits: nothing is changed
 *	invoke    one operation of the backend, or one of ours (version, flush, clunk, walk to itself)
 *	finish    what success means for fids; encode the answer
 *	release   drop references, answer flushes that waited
 *
 * Between invoke and finish any time may pass (WH_P9_LATER). A request holds references on its fids
 * meanwhile, so a clunk only takes the number away. A fid that is being made is in the table
 * (so that nobody takes its number) but busy (so that nobody uses it).
 */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/diag.h>
#include <wherry/base/errors.h>
#include <wherry/ninep.h>

#define BUCKETS 256u
#define O_ACCMODE_ 3u
#define O_WRONLY_ 1u
#define O_RDWR_ 2u
#define O_CREAT_ 0100u
#define O_TRUNC_ 01000u

struct wh_p9_server {
	struct wh_p9_server_config c;
	bool versioned;
	enum wh_p9_dialect dialect;
	uint32_t msize;
	struct wh_p9_fid *bucket[BUCKETS];
	uint32_t fid_count;
	struct wh_list pending; /* answered later, oldest first */
	struct wh_list idle;    /* request memory kept for the next ones */
	uint32_t request_count; /* in both lists and under way */
};

/* What must hold before an operation is called. */
#define FID 1u     /* t.fid is known */
#define FID2 2u    /* t.fid2 is known */
#define NEW2 4u    /* t.fid2 becomes a new fid */
#define CHANGES 8u /* refused when read-only */
#define NAME 16u   /* t.name is the name of a file */
#define NAME2 32u
#define DIR1 64u /* fid is a directory */
#define DIR2 128u
#define OPEN 256u     /* fid is open */
#define CLOSED 512u   /* fid is not open */
#define GRANTED 1024u /* without an operation: succeeds */

#define OP(member) (uint16_t) offsetof(struct wh_p9_fs_ops, member)

static const struct rule {
	uint8_t type;
	uint16_t needs, op;
} rules[] = {
	{ WH_P9_TREAD, FID | OPEN, OP(read) },
	{ WH_P9_TWRITE, FID | OPEN | CHANGES, OP(write) },
	{ WH_P9_TWALK, FID | NEW2, OP(walk) },
	{ WH_P9_TGETATTR, FID, OP(getattr) },
	{ WH_P9_TLOPEN, FID | CLOSED, OP(open) },
	{ WH_P9_TREADDIR, FID | OPEN | DIR1, OP(readdir) },
	{ WH_P9_TLCREATE, FID | CLOSED | CHANGES | NAME | DIR1, OP(create) },
	{ WH_P9_TSETATTR, FID | CHANGES, OP(setattr) },
	{ WH_P9_TSTATFS, FID, OP(statfs) },
	{ WH_P9_TREADLINK, FID, OP(readlink) },
	{ WH_P9_TSYMLINK, FID | CHANGES | NAME | DIR1, OP(symlink) },
	{ WH_P9_TMKNOD, FID | CHANGES | NAME | DIR1, OP(mknod) },
	{ WH_P9_TMKDIR, FID | CHANGES | NAME | DIR1, OP(mkdir) },
	{ WH_P9_TLINK, FID | FID2 | CHANGES | NAME | DIR1, OP(link) },
	{ WH_P9_TRENAME, FID | FID2 | CHANGES | NAME | DIR2, OP(rename) },
	{ WH_P9_TRENAMEAT, FID | FID2 | CHANGES | NAME | NAME2 | DIR1 | DIR2, OP(renameat) },
	{ WH_P9_TUNLINKAT, FID | CHANGES | NAME | DIR1, OP(unlinkat) },
	{ WH_P9_TREMOVE, FID, OP(remove) },
	{ WH_P9_TOPEN, FID | CLOSED, OP(open) },
	{ WH_P9_TCREATE, FID | CLOSED | CHANGES | NAME | DIR1, OP(create9) },
	{ WH_P9_TSTAT, FID, OP(stat) },
	{ WH_P9_TWSTAT, FID | CHANGES, OP(wstat) },
	{ WH_P9_TFSYNC, FID | OPEN | GRANTED, OP(fsync) },
	{ WH_P9_TLOCK, FID | OPEN | GRANTED, OP(lock) },
	{ WH_P9_TXATTRWALK, FID | NEW2, OP(xattrwalk) },
	{ WH_P9_TXATTRCREATE, FID | CHANGES, OP(xattrcreate) },
};

typedef int (*operation)(void *ctx, struct wh_p9_request *q);

static const struct rule *rule_of(uint8_t type)
{
	for (size_t i = 0; i < WH_ARRAY_COUNT(rules); i++)
		if (rules[i].type == type)
			return &rules[i];
	return 0;
}

static operation operation_of(const struct wh_p9_server *s, uint16_t op)
{
	operation fn;
	memcpy(&fn, (const uint8_t *)s->c.ops + op, sizeof fn);
	return fn;
}

/* ---- fids ---- */

static struct wh_p9_fid **fid_place(struct wh_p9_server *s, uint32_t id)
{
	struct wh_p9_fid **p = &s->bucket[(id ^ id >> 8) % BUCKETS];
	while (*p && (*p)->id != id)
		p = &(*p)->next;
	return p;
}

static struct wh_p9_fid *fid_get(struct wh_p9_server *s, uint32_t id)
{
	struct wh_p9_fid *f = *fid_place(s, id);
	if (!f || f->busy)
		return 0;
	f->refs++;
	return f;
}

static void fid_put(struct wh_p9_server *s, struct wh_p9_fid *f)
{
	if (!f || --f->refs)
		return;
	wh_assert(s->fid_count);
	s->fid_count--;
	if (f->node)
		s->c.ops->clunk(s->c.ctx, f);
	wh_free(s->c.alloc, f, sizeof *f);
}

/* A busy one; the table's reference and the caller's. */
static int fid_new(struct wh_p9_server *s, uint32_t id, bool in_table, struct wh_p9_fid **ret_fid)
{
	if (id == WH_P9_NOFID || (in_table && *fid_place(s, id)))
		return -WH_EBADF;
	if (s->fid_count >= s->c.fids_max)
		return -WH_EMFILE;
	struct wh_p9_fid *f = wh_alloc_zero(s->c.alloc, sizeof *f);
	if (!f)
		return -WH_ENOMEM;
	f->id = id;
	f->refs = 1;
	f->busy = true;
	s->fid_count++;
	if (in_table) {
		*fid_place(s, id) = f;
		f->refs++;
	}
	*ret_fid = f;
	return 0;
}

/* Takes the number away; whoever uses the fid goes on. */
static void fid_remove(struct wh_p9_server *s, struct wh_p9_fid *f)
{
	struct wh_p9_fid **p = fid_place(s, f->id);
	if (*p != f)
		return; /* another request was faster */
	*p = f->next;
	f->next = 0;
	fid_put(s, f);
}

static void fids_clear(struct wh_p9_server *s)
{
	for (uint32_t i = 0; i < BUCKETS; i++)
		while (s->bucket[i])
			fid_remove(s, s->bucket[i]);
}

/* ---- requests ---- */

static struct wh_p9_request *request_get(struct wh_p9_server *s)
{
	struct wh_list *n = wh_list_pop_front(&s->idle);
	if (n)
		return WH_LIST_ENTRY(n, struct wh_p9_request, node);
	if (s->request_count == s->c.requests_max)
		return 0;
	struct wh_p9_request *q = wh_alloc(s->c.alloc, sizeof *q);
	if (q) {
		q->server = s;
		wh_list_init(&q->node);
		s->request_count++;
	}
	return q;
}

static void release(struct wh_p9_request *q)
{
	struct wh_p9_server *s = q->server;
	fid_put(s, q->fid);
	fid_put(s, q->fid2);
	q->fid = q->fid2 = 0;
	wh_list_remove(&q->node);
	/* Those who wait for the end of this one, after its own answer. */
	for (;;) {
		struct wh_p9_request *waiter = 0;
		WH_LIST_FOR_EACH(n, &s->pending) {
			struct wh_p9_request *w = WH_LIST_ENTRY(n, struct wh_p9_request, node);
			if (w->flushes == q) {
				waiter = w;
				break;
			}
		}
		if (!waiter)
			break;
		waiter->flushes = 0;
		wh_p9_request_done(waiter, 0);
	}
	wh_list_push_back(&s->idle, &q->node);
}

/* The fid that attach, walk or xattrwalk made: it starts to exist, or goes. */
static int settle_new(struct wh_p9_request *q, struct wh_p9_fid *f, int result)
{
	struct wh_p9_server *s = q->server;
	bool walk = q->t.type == WH_P9_TWALK, whole = !walk || q->r.name_count == q->t.name_count;
	if (!f) /* refused before it was made, or a walk of no names to itself */
		return result;
	if (result >= 0 && !whole && !q->r.name_count)
		result = -WH_ENOENT;
	if (result < 0 || !whole) {
		fid_remove(s, f);
		return result;
	}
	if (walk && q->t.fid2 == q->t.fid) { /* the new place takes the old one's number */
		fid_remove(s, q->fid);
		if (*fid_place(s, f->id))
			return -WH_EBADF;
		*fid_place(s, f->id) = f;
		f->refs++;
	}
	f->busy = false;
	if (q->t.type == WH_P9_TATTACH)
		f->qid = q->r.qid;
	else
		f->qid = walk && q->t.name_count ? q->r.qids[q->t.name_count - 1] : q->fid->qid;
	return result;
}

/* What the end of an operation means for fids. Returns the result, which may have become an error. */
static int settle(struct wh_p9_request *q, int result)
{
	switch (q->t.type) {
	case WH_P9_TATTACH:
		return settle_new(q, q->fid, result);
	case WH_P9_TWALK:
	case WH_P9_TXATTRWALK:
		return settle_new(q, q->fid2, result);
	case WH_P9_TLOPEN:
	case WH_P9_TLCREATE:
	case WH_P9_TOPEN:
	case WH_P9_TCREATE:
		if (result >= 0) {
			q->fid->open = true;
			q->fid->open_flags = q->t.flags;
			q->fid->qid = q->r.qid;
		}
		return result;
	case WH_P9_TREMOVE:
		if (q->fid)
			fid_remove(q->server, q->fid);
		return result;
	default:
		return result;
	}
}

/* The older dialects have words for errors; what does not fit is cut. */
static int error_answer(struct wh_p9_request *q, uint32_t error)
{
	struct wh_p9_server *s = q->server;
	struct wh_p9_msg e = { .type = WH_P9_RLERROR, .tag = q->t.tag, .error = error };
	if (s->dialect != WH_P9_DIALECT_2000L) {
		const char *text = q->error_text ? q->error_text : wh_p9_error_text(error);
		size_t room = q->answer_max - WH_P9_HEADER_SIZE - 2;
		room -= s->dialect == WH_P9_DIALECT_2000U ? 4 : 0;
		e.type = WH_P9_RERROR;
		e.name = wh_p9_str(text, wh_strnlen(text, room < 1024 ? room : 1024));
	}
	return wh_p9_encode(s->dialect, &e, q->head, sizeof q->head);
}

/* Puts the answer into out memory and gives the request back; returns the answer's size. */
static uint32_t finish(struct wh_p9_request *q, int result)
{
	struct wh_p9_server *s = q->server;
	uint8_t type = q->t.type;
	bool bulk = type == WH_P9_TREAD || type == WH_P9_TREADDIR;
	int n = -1;
	wh_assert(result <= 0);
	result = settle(q, result);
	q->r.type = (uint8_t)(type + 1);
	q->r.tag = q->t.tag;
	if (result >= 0) {
		wh_assert(!bulk || q->r.count <= q->payload_size);
		q->r.data = 0;
		n = wh_p9_encode(s->dialect, &q->r, q->head, sizeof q->head);
		if (n > 0 && (uint32_t)n > q->answer_max)
			n = -WH_EMSGSIZE;
		if (n < 0)
			result = n;
	}
	if (result < 0) {
		bulk = false;
		n = error_answer(q, (uint32_t)-result);
	}
	wh_assert(n > 0 && (uint32_t)n <= q->answer_max);
	wh_iov_write(q->out, q->out_count, 0, q->head, (size_t)n);
	uint32_t size = (uint32_t)n + (bulk ? q->r.count : 0);
	void *token = q->token;
	bool later = q->later;
	if (later && s->c.answered)
		s->c.answered(s->c.answered_ctx, token, size);
	release(q);
	return size;
}

void wh_p9_request_done(struct wh_p9_request *q, int result)
{
	wh_assert(q->later);
	(void)finish(q, result);
}

bool wh_p9_request_dirent(struct wh_p9_request *q, const struct wh_p9_dirent *entry)
{
	uint8_t b[24 + WH_P9_NAME_SIZE_MAX + 1];
	uint32_t left = q->payload_size - q->r.count;
	int n = wh_p9_dirent_encode(entry, b, sizeof b);
	if (n <= 0)
		return true; /* a name that no client could use: left out */
	if ((uint32_t)n > left)
		return false;
	wh_iov_write(q->out, q->out_count, WH_P9_READ_HEAD_SIZE + q->r.count, b, (size_t)n);
	q->r.count += (uint32_t)n;
	return true;
}

bool wh_p9_request_stat(struct wh_p9_request *q, const struct wh_p9_stat *stat)
{
	uint32_t left = q->payload_size - q->r.count;
	int n = wh_p9_stat_encode(q->dialect, stat, q->head,
				  sizeof q->head < left ? sizeof q->head : left);
	if (n <= 0)
		return false;
	wh_iov_write(q->out, q->out_count, WH_P9_READ_HEAD_SIZE + q->r.count, q->head, (size_t)n);
	q->r.count += (uint32_t)n;
	q->fid->dir_index++;
	return true;
}

int wh_p9_fail(struct wh_p9_request *q, int error, const char *text)
{
	q->error_text = text;
	return error;
}

/* ---- checks ---- */

static bool good_name(struct wh_p9_str n, bool parent_allowed)
{
	if (!n.size || n.size > WH_P9_NAME_SIZE_MAX)
		return false;
	for (uint16_t i = 0; i < n.size; i++)
		if (n.text[i] == '/' || !n.text[i])
			return false;
	if (n.size == 1 && n.text[0] == '.')
		return false;
	return parent_allowed || n.size != 2 || n.text[0] != '.' || n.text[1] != '.';
}

static int check_names(const struct wh_p9_request *q, uint32_t needs)
{
	const struct wh_p9_msg *t = &q->t;
	struct wh_p9_str name = needs & NAME ? t->name : wh_p9_str("x", 1);
	struct wh_p9_str name2 = needs & NAME2 ? t->name2 : wh_p9_str("x", 1);
	if (name.size > WH_P9_NAME_SIZE_MAX || name2.size > WH_P9_NAME_SIZE_MAX)
		return -WH_ENAMETOOLONG;
	if (!good_name(name, false) || !good_name(name2, false))
		return -WH_EINVAL;
	if (t->type == WH_P9_TSYMLINK && (!t->name2.size || t->name2.size > WH_P9_PATH_SIZE_MAX))
		return t->name2.size ? -WH_ENAMETOOLONG : -WH_EINVAL;
	for (uint16_t i = 0; t->type == WH_P9_TWALK && i < t->name_count; i++) {
		if (t->names[i].size > WH_P9_NAME_SIZE_MAX)
			return -WH_ENAMETOOLONG;
		if (!good_name(t->names[i], true))
			return -WH_ENOENT;
	}
	return 0;
}

static int bad_fid(struct wh_p9_request *q, const char *format, uint32_t fid)
{
	wh_format(q->text_buffer, sizeof q->text_buffer, format, fid);
	return wh_p9_fail(q, -WH_EBADF, q->text_buffer);
}

static int check_fids(struct wh_p9_request *q, uint32_t needs)
{
	struct wh_p9_server *s = q->server;
	if (needs & FID && !(q->fid = fid_get(s, q->t.fid)))
		return bad_fid(q, "Unknown fid %u", q->t.fid);
	if (needs & FID2 && !(q->fid2 = fid_get(s, q->t.fid2)))
		return bad_fid(q, "Unknown fid %u", q->t.fid2);
	if (needs & OPEN && !q->fid->open)
		return wh_p9_fail(q, -WH_EBADF,
				  q->t.type == WH_P9_TWRITE ? "Can't write to unopened fid"
							    : "Can't read from unopened fid");
	if (needs & CLOSED && q->fid->open)
		return wh_p9_fail(q, -WH_EBADF,
				  q->t.type == WH_P9_TCREATE ? "Can't create in an opened fid"
							     : "Already open");
	if (needs & DIR1 && !(q->fid->qid.type & WH_P9_QID_DIR))
		return -WH_ENOTDIR;
	if (needs & DIR2 && !(q->fid2->qid.type & WH_P9_QID_DIR))
		return -WH_ENOTDIR;
	return 0;
}

/* Describes `size` bytes from `offset` on in q->slice; fewer where they are in too many pieces. */
static void payload(struct wh_p9_request *q, const struct wh_iov *iov, uint32_t count,
		    uint64_t offset, uint32_t size)
{
	uint32_t n = 0, done = 0;
	for (uint32_t i = 0; i < count && done < size && n < WH_ARRAY_COUNT(q->slice); i++) {
		if (offset >= iov[i].size) {
			offset -= iov[i].size;
			continue;
		}
		uint64_t take = iov[i].size - offset;
		if (take > size - done)
			take = size - done;
		q->slice[n++] = (struct wh_iov){ (uint8_t *)iov[i].base + offset, (size_t)take };
		done += (uint32_t)take;
		offset = 0;
	}
	q->payload = q->slice;
	q->payload_count = n;
	q->payload_size = done;
}

static int check_io(struct wh_p9_request *q, const struct wh_iov *in, uint32_t in_count)
{
	uint32_t access = q->fid->open_flags & O_ACCMODE_;
	uint32_t room = q->answer_max - WH_P9_READ_HEAD_SIZE;
	bool old = q->dialect != WH_P9_DIALECT_2000L, dir = q->fid->qid.type & WH_P9_QID_DIR;
	if (old) /* there the mode of open is the backend's affair */
		access = O_RDWR_;
	switch (q->t.type) {
	case WH_P9_TREAD:
		if (old && dir && q->t.offset && q->t.offset != q->fid->dir_offset)
			return wh_p9_fail(q, -WH_EINVAL, "Can't seek in a directory");
		if (old && dir && !q->t.offset)
			q->fid->dir_index = 0;
		if (!old && dir)
			return -WH_EISDIR;
		if (access == O_WRONLY_)
			return -WH_EBADF;
		break;
	case WH_P9_TREADDIR:
		break;
	default:
		if (dir)
			return wh_p9_fail(q, -WH_EISDIR, "Can't write to directories");
		if (access != O_WRONLY_ && access != O_RDWR_)
			return -WH_EBADF;
		payload(q, in, in_count, WH_P9_WRITE_HEAD_SIZE, q->t.count);
		return 0;
	}
	if (room > q->t.count)
		room = q->t.count;
	if (q->t.type == WH_P9_TREAD)
		payload(q, q->out, q->out_count, WH_P9_READ_HEAD_SIZE, room);
	else
		q->payload_size = room;
	return 0;
}

/* ---- invoke ---- */

/* Whoever waits (for `fid`, if given) is told that nobody wants the answer. That may end other requests as well, so each
 * search begins anew. */
static void flush_pending(struct wh_p9_server *s, const struct wh_p9_fid *fid)
{
	for (bool found = true; found && s->c.ops->flush;) {
		found = false;
		WH_LIST_FOR_EACH(n, &s->pending) {
			struct wh_p9_request *q = WH_LIST_ENTRY(n, struct wh_p9_request, node);
			if (q->t.type == WH_P9_TFLUSH || q->flushed || (fid && q->fid != fid))
				continue;
			found = q->flushed = true;
			s->c.ops->flush(s->c.ctx, q);
			break;
		}
	}
}

static int version(struct wh_p9_request *q)
{
	struct wh_p9_server *s = q->server;
	const struct wh_p9_str *name = &q->t.name;
	if (q->t.msize < WH_P9_MSIZE_MIN)
		return -WH_EINVAL;
	static const struct {
		const char *name;
		enum wh_p9_dialect dialect;
	} known[] = { { "9P2000.L", WH_P9_DIALECT_2000L },
		      { "9P2000.u", WH_P9_DIALECT_2000U },
		      { "9P2000", WH_P9_DIALECT_2000 } };
	q->r.name = wh_p9_str("unknown", 7);
	s->versioned = false;
	for (size_t i = 0; i < WH_ARRAY_COUNT(known) && !s->versioned; i++) {
		size_t n = wh_strlen(known[i].name);
		if (name->size != n || memcmp(name->text, known[i].name, n) ||
		    !(s->c.dialects & 1u << known[i].dialect))
			continue;
		s->versioned = true;
		s->dialect = known[i].dialect;
		q->r.name = wh_p9_str(known[i].name, n);
	}
	fids_clear(s);
	flush_pending(s, 0);
	s->msize = q->t.msize < s->c.msize_max ? q->t.msize : s->c.msize_max;
	q->r.msize = s->msize;
	return 0;
}

static int attach(struct wh_p9_request *q)
{
	struct wh_p9_server *s = q->server;
	if (q->t.fid2 != WH_P9_NOFID)
		return -WH_EOPNOTSUPP; /* no authentication */
	int r = fid_new(s, q->t.fid, true, &q->fid);
	if (r == -WH_EBADF)
		return bad_fid(q, "Fid %u already in use", q->t.fid);
	return r < 0 ? r : s->c.ops->attach(s->c.ctx, q);
}

static int flush(struct wh_p9_request *q)
{
	struct wh_p9_server *s = q->server;
	WH_LIST_FOR_EACH(n, &s->pending) {
		struct wh_p9_request *old = WH_LIST_ENTRY(n, struct wh_p9_request, node);
		if (old->t.tag != q->t.flush_tag)
			continue;
		/* It must be in the list before the backend may end the other one. */
		q->flushes = old;
		q->later = true;
		wh_list_push_back(&s->pending, &q->node);
		if (s->c.ops->flush && old->t.type != WH_P9_TFLUSH && !old->flushed) {
			old->flushed = true;
			s->c.ops->flush(s->c.ctx, old);
		}
		return WH_P9_LATER;
	}
	return 0;
}

static bool changes(const struct wh_p9_request *q, uint32_t needs)
{
	uint32_t flags = q->t.flags;
	if (q->t.type == WH_P9_TLOPEN)
		return flags & (O_ACCMODE_ | O_CREAT_ | O_TRUNC_);
	return needs & CHANGES || q->t.type == WH_P9_TREMOVE;
}

/* Modes of open as Linux's flags; reading a folder is an operation of its own. */
static int invoke_old(struct wh_p9_request *q, operation fn)
{
	struct wh_p9_server *s = q->server;
	if (q->t.type == WH_P9_TOPEN || q->t.type == WH_P9_TCREATE) {
		static const uint8_t access[4] = { 0, O_WRONLY_, O_RDWR_, 0 };
		q->t.flags = access[q->t.mode8 & 3] | (q->t.mode8 & 0x10 ? O_TRUNC_ : 0);
	}
	if (q->t.type == WH_P9_TREAD && q->fid->qid.type & WH_P9_QID_DIR) {
		if (!s->c.ops->readstat)
			return -WH_EOPNOTSUPP;
		int r = s->c.ops->readstat(s->c.ctx, q);
		wh_assert(r <= 0);
		if (r >= 0)
			q->fid->dir_offset = q->t.offset + q->r.count;
		return r;
	}
	return fn(s->c.ctx, q);
}

static int invoke(struct wh_p9_request *q, const struct wh_iov *in, uint32_t in_count)
{
	struct wh_p9_server *s = q->server;
	if (q->t.type == WH_P9_TVERSION)
		return version(q);
	if (!s->versioned)
		return -WH_EPROTO;
	switch (q->t.type) {
	case WH_P9_TATTACH:
		return attach(q);
	case WH_P9_TFLUSH:
		return flush(q);
	case WH_P9_TCLUNK:
		q->fid = fid_get(s, q->t.fid);
		if (!q->fid)
			return bad_fid(q, "Unknown fid %u", q->t.fid);
		fid_remove(s, q->fid);
		if (q->fid->refs > 1) /* a read that waits on it */
			flush_pending(s, q->fid);
		return 0;
	case WH_P9_TGETLOCK:
		q->r.lock = q->t.lock;
		q->r.lock.type = 2; /* unlocked: locks are kept by the client */
		q->r.name = q->t.name;
		return 0;
	default:
		break;
	}
	const struct rule *rule = rule_of(q->t.type);
	if (!rule)
		return -WH_EOPNOTSUPP;
	int r = check_names(q, rule->needs);
	if (r >= 0)
		r = check_fids(q, rule->needs);
	if (r >= 0 && s->c.read_only && changes(q, rule->needs))
		r = -WH_EROFS;
	if (r >= 0 && (rule->type == WH_P9_TREAD || rule->type == WH_P9_TWRITE ||
		       rule->type == WH_P9_TREADDIR))
		r = check_io(q, in, in_count);
	operation fn = operation_of(s, rule->op);
	if (r >= 0 && !fn)
		return rule->needs & GRANTED ? 0 : -WH_EOPNOTSUPP;
	if (r >= 0 && rule->needs & NEW2) {
		if (q->t.type == WH_P9_TWALK && q->t.fid == q->t.fid2 && !q->t.name_count)
			return 0;
		r = fid_new(s, q->t.fid2, q->t.fid != q->t.fid2, &q->fid2);
		if (r == -WH_EBADF)
			return bad_fid(q, "Fid %u already in use", q->t.fid2);
	}
	if (r < 0)
		return r;
	if (q->dialect != WH_P9_DIALECT_2000L)
		return invoke_old(q, fn);
	return fn(s->c.ctx, q);
}

/* ---- take ---- */

/* Copies and decodes the head. -WH_EBADMSG = not a message; other errors can be answered. */
static int take(struct wh_p9_request *q, const struct wh_iov *in, uint32_t in_count)
{
	struct wh_p9_server *s = q->server;
	uint64_t in_size = wh_iov_size(in, in_count);
	size_t n = wh_iov_read(in, in_count, 0, q->head, WH_P9_HEADER_SIZE);
	if (n < WH_P9_HEADER_SIZE)
		return -WH_EBADMSG;
	uint32_t size = wh_load_le32(q->head);
	if (size < WH_P9_HEADER_SIZE || size > in_size || size > s->msize)
		return -WH_EBADMSG;
	/* q->t is what an error answer needs. */
	q->t.type = q->head[4];
	q->t.tag = wh_p9_tag(q->head);
	size_t head = size < sizeof q->head ? size : sizeof q->head;
	if (q->t.type == WH_P9_TWRITE && head > WH_P9_WRITE_HEAD_SIZE)
		head = WH_P9_WRITE_HEAD_SIZE; /* the payload stays where it is */
	n += wh_iov_read(in, in_count, n, q->head + n, head - n);
	if (n < head)
		return -WH_EBADMSG;
	if (q->t.type & 1) /* an answer is no request */
		return -WH_EPROTO;
	if (wh_p9_decode(s->dialect, q->head, head, &q->t) < 0)
		return rule_of(q->t.type) ? -WH_EPROTO : -WH_EOPNOTSUPP;
	return 0;
}

int wh_p9_server_request(struct wh_p9_server *s, const struct wh_iov *in, uint32_t in_count,
			 const struct wh_iov *out, uint32_t out_count, void *token)
{
	uint64_t room = wh_iov_size(out, out_count);
	if (room < WH_P9_READ_HEAD_SIZE)
		return -WH_EBADMSG;
	struct wh_p9_request *q = request_get(s);
	if (!q)
		return -WH_EBADMSG; /* more requests at once than any client of ours makes */
	memset(q, 0, offsetof(struct wh_p9_request, slice));
	q->server = s;
	q->dialect = s->dialect;
	q->token = token;
	wh_list_init(&q->node);
	q->out = out;
	q->out_count = out_count;
	q->answer_max = room < s->msize ? (uint32_t)room : s->msize;
	int r = take(q, in, in_count);
	if (r == -WH_EBADMSG) {
		wh_list_push_back(&s->idle, &q->node);
		return r;
	}
	bool is_flush = q->t.type == WH_P9_TFLUSH;
	if (r >= 0)
		r = invoke(q, in, in_count);
	if (r != WH_P9_LATER)
		return (int)finish(q, r);
	if (!is_flush) { /* a flush has put itself there, and may be over by now */
		q->later = true;
		wh_list_push_back(&s->pending, &q->node);
	}
	return 0;
}

/* ---- life ---- */

int wh_p9_server_new(const struct wh_p9_server_config *config, struct wh_p9_server **ret_server)
{
	wh_assert(config->size == sizeof *config && config->ops->clunk && config->ops->attach);
	struct wh_p9_server *s = wh_alloc_zero(config->alloc, sizeof *s);
	if (!s)
		return -WH_ENOMEM;
	s->c = *config;
	if (!s->c.msize_max || s->c.msize_max > WH_P9_MSIZE_MAX)
		s->c.msize_max = WH_P9_MSIZE_MAX;
	if (!s->c.fids_max)
		s->c.fids_max = WH_P9_FIDS_MAX;
	if (!s->c.requests_max)
		s->c.requests_max = WH_P9_REQUESTS_MAX;
	if (!s->c.dialects)
		s->c.dialects = 1u << WH_P9_DIALECT_2000L;
	s->dialect = WH_P9_DIALECT_2000L;
	wh_assert(s->c.msize_max >= WH_P9_MSIZE_MIN);
	s->msize = s->c.msize_max;
	wh_list_init(&s->pending);
	wh_list_init(&s->idle);
	*ret_server = s;
	return 0;
}

bool wh_p9_server_reset(struct wh_p9_server *s)
{
	fids_clear(s);
	s->versioned = false;
	s->dialect = WH_P9_DIALECT_2000L;
	s->msize = s->c.msize_max;
	flush_pending(s, 0);
	return wh_list_empty(&s->pending);
}

void wh_p9_server_free(struct wh_p9_server *s)
{
	if (!s)
		return;
	wh_assert(wh_list_empty(&s->pending));
	fids_clear(s);
	for (struct wh_list *n; (n = wh_list_pop_front(&s->idle));)
		wh_free(s->c.alloc, WH_LIST_ENTRY(n, struct wh_p9_request, node),
			sizeof(struct wh_p9_request));
	wh_assert(!s->fid_count);
	wh_free(s->c.alloc, s, sizeof *s);
}
