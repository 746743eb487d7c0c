/* SPDX-License-Identifier: ISC */
/* Codec, client and server; the server's files are two pretended ones that can answer late. */
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/ninep.h>
#include <wherry/test.h>

/* ---- codec ---- */

static struct wh_p9_str str(const char *s)
{
	return wh_p9_str(s, wh_strnlen(s, 65535));
}

/* Fills every member that any type can have. */
static struct wh_p9_msg full(uint8_t type, uint64_t *state)
{
	struct wh_p9_msg m;
	uint8_t *p = (uint8_t *)&m;
	for (size_t i = 0; i < sizeof m; i++)
		p[i] = (uint8_t)wh_random_next(state);
	m.type = type;
	m.name = str("name");
	m.name2 = str("another name");
	m.name_count = (uint16_t)(wh_random_next(state) % 17);
	m.data = "payload!";
	m.count = 8;
	if (type == WH_P9_TWALK)
		for (int i = 0; i < 16; i++)
			m.names[i] = str("step");
	if ((type & ~1) == WH_P9_TSTAT || (type & ~1) == WH_P9_TWSTAT)
		m.stat.name = m.stat.uid = m.stat.gid = m.stat.muid = m.stat.extension = str("s");
	return m;
}

/* What is encoded decodes to what encodes to the same bytes; cut anywhere it is refused. */
static void round_trips(void)
{
	uint64_t state = test_seed();
	unsigned types = 0;
	for (int dialect = 0; dialect < 3; dialect++) {
		for (unsigned type = 0; type < 256; type++) {
			uint8_t a[2048], b[2048];
			struct wh_p9_msg m = full((uint8_t)type, &state), back;
			int n = wh_p9_encode((enum wh_p9_dialect)dialect, &m, a, sizeof a);
			if (n == -WH_EINVAL)
				continue;
			types++;
			CHECK(n >= 7);
			CHECK_EQ(wh_load_le32(a), n);
			uint8_t *exact = test_guarded((size_t)n);
			memcpy(exact, a, (size_t)n);
			CHECK_EQ(wh_p9_decode((enum wh_p9_dialect)dialect, exact, (size_t)n, &back),
				 n);
			CHECK_EQ(wh_p9_encode((enum wh_p9_dialect)dialect, &back, b, sizeof b), n);
			CHECK_MEM(a, b, (size_t)n);
			CHECK_EQ(wh_p9_encode((enum wh_p9_dialect)dialect, &m, b, (size_t)n - 1),
				 -WH_EMSGSIZE);
			for (int cut = 0; cut < n; cut++) {
				wh_store_le32(exact, (uint32_t)cut);
				CHECK_EQ(wh_p9_decode((enum wh_p9_dialect)dialect, exact, (size_t)n,
						      &back),
					 -WH_EBADMSG);
			}
			test_guarded_free(exact, (size_t)n);
			CHECK(wh_p9_type_name((uint8_t)type)[0] != '?');
		}
	}
	CHECK(types > 100);
}

static void bad_bytes(void)
{
	/* Twalk with 17 names */
	uint8_t b[7 + 10 + 17 * 3];
	struct wh_p9_msg m;
	memset(b, 0, sizeof b);
	wh_store_le32(b, sizeof b);
	b[4] = WH_P9_TWALK;
	wh_store_le16(b + 15, 17);
	for (int i = 0; i < 17; i++)
		b[17 + 3 * i] = 1, b[17 + 3 * i + 2] = 'x';
	CHECK_EQ(wh_p9_decode(WH_P9_DIALECT_2000L, b, sizeof b, &m), -WH_EBADMSG);
	wh_store_le16(b + 15, 16);
	wh_store_le32(b, sizeof b - 3);
	CHECK_EQ(wh_p9_decode(WH_P9_DIALECT_2000L, b, sizeof b, &m), (int)sizeof b - 3);
	b[19] = 0; /* NUL in a name */
	CHECK_EQ(wh_p9_decode(WH_P9_DIALECT_2000L, b, sizeof b, &m), -WH_EBADMSG);
	CHECK_EQ(wh_p9_decode(WH_P9_DIALECT_2000L, b, 6, &m), -WH_EBADMSG);
}

/* The payload may be elsewhere. */
static void split(void)
{
	uint8_t head[WH_P9_WRITE_HEAD_SIZE];
	struct wh_p9_msg t = { .type = WH_P9_TWRITE, .fid = 1, .offset = 77, .count = 100000 }, m;
	CHECK_EQ(wh_p9_encode(WH_P9_DIALECT_2000L, &t, head, sizeof head), WH_P9_WRITE_HEAD_SIZE);
	CHECK_EQ(wh_load_le32(head), WH_P9_WRITE_HEAD_SIZE + 100000);
	CHECK_EQ(wh_p9_decode(WH_P9_DIALECT_2000L, head, sizeof head, &m),
		 WH_P9_WRITE_HEAD_SIZE + 100000);
	CHECK(!m.data);
	CHECK_EQ(m.count, 100000);
	wh_store_le32(head, WH_P9_WRITE_HEAD_SIZE + 99999);
	CHECK_EQ(wh_p9_decode(WH_P9_DIALECT_2000L, head, sizeof head, &m), -WH_EBADMSG);
}

static void directory_entries(void)
{
	uint8_t b[64];
	struct wh_p9_dirent e = { .offset = 5,
				  .type = 4,
				  .qid = { 1, 2, 0x80 },
				  .name = str("file") },
			    back;
	int n = wh_p9_dirent_encode(&e, b, sizeof b);
	CHECK_EQ(n, 24 + 4);
	CHECK_EQ(wh_p9_dirent_decode(b, sizeof b, &back), n);
	CHECK_EQ(back.offset, 5);
	CHECK_EQ(back.name.size, 4);
	CHECK_EQ(wh_p9_dirent_encode(&e, b, 27), 0);
	CHECK_EQ(wh_p9_dirent_decode(b, 27, &back), -WH_EBADMSG);
	CHECK_EQ(wh_p9_dirent_decode(b, 0, &back), 0);
}

/* ---- a backend: folder "/" with "a" (a file of 3000 bytes) and folder "d" with itself as child ---- */

#define ROOT ((void *)1)
#define FILE_A ((void *)2)
#define DIR_D ((void *)3)

static struct {
	unsigned clunks, flushed;
	bool late; /* reads answer later */
	struct wh_p9_request *waiting[8];
	unsigned waiting_count;
	uint8_t data[3000];
} fs;

static struct wh_p9_qid qid_of(const void *node)
{
	return (struct wh_p9_qid){ (uintptr_t)node, 0, node == FILE_A ? 0 : WH_P9_QID_DIR };
}

static int fs_attach(void *ctx, struct wh_p9_request *q)
{
	q->fid->node = ROOT;
	q->r.qid = qid_of(ROOT);
	return 0;
}

static int fs_walk(void *ctx, struct wh_p9_request *q)
{
	void *node = q->fid->node;
	for (uint16_t i = 0; i < q->t.name_count; i++) {
		char c = q->t.names[i].text[0];
		node = node == FILE_A ? 0 : c == 'a' ? FILE_A : c == 'd' ? DIR_D : 0;
		if (!node) {
			q->r.name_count = i;
			return i ? 0 : -WH_ENOENT;
		}
		q->r.qids[i] = qid_of(node);
	}
	q->r.name_count = q->t.name_count;
	q->fid2->node = node;
	return 0;
}

static int fs_open(void *ctx, struct wh_p9_request *q)
{
	q->r.qid = qid_of(q->fid->node);
	return 0;
}

static int fs_read(void *ctx, struct wh_p9_request *q)
{
	if (fs.late) {
		fs.waiting[fs.waiting_count++] = q;
		return WH_P9_LATER;
	}
	uint64_t n = q->t.offset < sizeof fs.data ? sizeof fs.data - q->t.offset : 0;
	q->r.count = (uint32_t)(n < q->payload_size ? n : q->payload_size);
	wh_iov_write(q->payload, q->payload_count, 0, fs.data + q->t.offset, q->r.count);
	return 0;
}

static int fs_write(void *ctx, struct wh_p9_request *q)
{
	if (q->t.offset > sizeof fs.data || q->payload_size > sizeof fs.data - q->t.offset)
		return -WH_EFBIG;
	q->r.count = (uint32_t)wh_iov_read(q->payload, q->payload_count, 0, fs.data + q->t.offset,
					   q->payload_size);
	return 0;
}

static int fs_readdir(void *ctx, struct wh_p9_request *q)
{
	for (uint64_t i = q->t.offset; i < 100; i++) {
		struct wh_p9_dirent e = { .offset = i + 1, .name = str("entry") };
		if (!wh_p9_request_dirent(q, &e))
			break;
	}
	return 0;
}

static int fs_done(void *ctx, struct wh_p9_request *q)
{
	return 0;
}

static int fs_readlink(void *ctx, struct wh_p9_request *q)
{
	q->r.name = str("target");
	return 0;
}

static void fs_clunk(void *ctx, struct wh_p9_fid *f)
{
	CHECK(f->node);
	fs.clunks++;
}

static void fs_flush(void *ctx, struct wh_p9_request *q)
{
	fs.flushed++;
}

static const struct wh_p9_fs_ops fs_ops = { .attach = fs_attach,
					    .walk = fs_walk,
					    .open = fs_open,
					    .create = fs_open,
					    .read = fs_read,
					    .write = fs_write,
					    .readdir = fs_readdir,
					    .mkdir = fs_done,
					    .renameat = fs_done,
					    .remove = fs_done,
					    .symlink = fs_done,
					    .readlink = fs_readlink,
					    .flush = fs_flush,
					    .clunk = fs_clunk };

/* ---- a connection ---- */

static struct wh_p9_server *server;
static struct wh_p9_client client;
static uint32_t fid_bits[4];
static struct {
	void *token;
	uint32_t size;
} answers[16];
static unsigned answer_count;

static void answered(void *ctx, void *token, uint32_t size)
{
	answers[answer_count].token = token;
	answers[answer_count++].size = size;
}

static int ask(struct wh_p9_msg *t, struct wh_p9_msg *ret_r)
{
	static uint8_t head[WH_P9_HEAD_SIZE_MAX], answer[WH_P9_HEAD_SIZE_MAX];
	struct wh_p9_call call;
	int n = wh_p9_client_call(&client, &call, t, head, sizeof head);
	CHECK(n > 0);
	struct wh_iov in[2] = { { head, 5 }, { head + 5, (size_t)n - 5 } };
	struct wh_iov out[2] = { { answer, 3 }, { answer + 3, sizeof answer - 3 } };
	n = wh_p9_server_request(server, in, 2, out, 2, 0);
	CHECK(n > 0);
	return wh_p9_client_answer(&client, &call, answer, (size_t)n, ret_r);
}

static void set_up_with(bool read_only, uint32_t fids_max)
{
	struct wh_p9_server_config c = { .size = sizeof c,
					 .ops = &fs_ops,
					 .alloc = &test_allocator,
					 .read_only = read_only,
					 .fids_max = fids_max,
					 .answered = answered };
	memset(&fs, 0, sizeof fs);
	answer_count = 0;
	for (size_t i = 0; i < sizeof fs.data; i++)
		fs.data[i] = (uint8_t)(i * 11);
	CHECK_EQ(wh_p9_server_new(&c, &server), 0);
	wh_p9_client_init(&client, 8192, fid_bits, 4);
	struct wh_p9_msg t = { .type = WH_P9_TVERSION }, r;
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(client.msize, 8192);
	t = (struct wh_p9_msg){ .type = WH_P9_TATTACH, .fid = 0, .fid2 = WH_P9_NOFID };
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.qid.path, 1);
}

static void set_up(void)
{
	set_up_with(false, 0);
}

static void tear_down(void)
{
	wh_p9_server_free(server);
	CHECK_EQ(test_alloc_live(), 0);
}

static int walk(uint32_t fid, uint32_t to, const char *a, const char *b, struct wh_p9_msg *ret_r)
{
	struct wh_p9_msg t = { .type = WH_P9_TWALK, .fid = fid, .fid2 = to };
	if (a)
		t.names[t.name_count++] = str(a);
	if (b)
		t.names[t.name_count++] = str(b);
	return ask(&t, ret_r);
}

static int on(uint8_t type, uint32_t fid, uint32_t flags)
{
	struct wh_p9_msg t = { .type = type,
			       .fid = fid,
			       .flags = flags,
			       .count = 4096,
			       .name = str("n"),
			       .name2 = str("m") },
			 r;
	return ask(&t, &r);
}

static void walks(void)
{
	struct wh_p9_msg r;
	set_up();
	CHECK_EQ(walk(0, 1, "d", "a", &r), 0);
	CHECK_EQ(r.name_count, 2);
	CHECK_EQ(walk(0, 1, "d", 0, &r), -WH_EBADF); /* in use */
	CHECK_EQ(walk(0, 2, "d", "nothing", &r), 0);
	CHECK_EQ(r.name_count, 1); /* half way: no fid */
	CHECK_EQ(on(WH_P9_TCLUNK, 2, 0), -WH_EBADF);
	CHECK_EQ(walk(0, 2, "nothing", 0, &r), -WH_ENOENT);
	CHECK_EQ(walk(7, 2, 0, 0, &r), -WH_EBADF);
	CHECK_EQ(walk(0, WH_P9_NOFID, 0, 0, &r), -WH_EBADF);
	CHECK_EQ(walk(0, 2, 0, 0, &r), 0);
	CHECK_EQ(walk(2, 2, 0, 0, &r), 0);
	CHECK_EQ(walk(2, 2, "a", 0, &r), 0); /* moves */
	CHECK_EQ(fs.clunks, 1);
	CHECK_EQ(walk(2, 3, "a", 0, &r), -WH_ENOENT);
	CHECK_EQ(walk(0, 3, "", 0, &r), -WH_ENOENT);
	CHECK_EQ(walk(0, 3, "a/b", 0, &r), -WH_ENOENT);
	CHECK_EQ(walk(0, 3, ".", 0, &r), -WH_ENOENT);
	CHECK_EQ(on(WH_P9_TCLUNK, 1, 0), 0);
	CHECK_EQ(on(WH_P9_TCLUNK, 1, 0), -WH_EBADF);
	CHECK_EQ(fs.clunks, 2);
	tear_down();
	CHECK_EQ(fs.clunks, 4);
}

static void reads_and_writes(void)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TREAD, .fid = 1, .offset = 100, .count = 2000 };
	set_up();
	CHECK_EQ(walk(0, 1, "a", 0, &r), 0);
	CHECK_EQ(ask(&t, &r), -WH_EBADF); /* not open */
	CHECK_EQ(on(WH_P9_TLOPEN, 1, 2), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, 2), -WH_EBADF); /* twice */
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.count, 2000);
	CHECK_MEM(r.data, fs.data + 100, 2000);
	t.count = 1 << 20; /* cut to what the answer can hold */
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.count, 2900);
	t = (struct wh_p9_msg){
		.type = WH_P9_TWRITE, .fid = 1, .offset = 10, .count = 5, .data = "12345"
	};
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.count, 5);
	CHECK_MEM(fs.data + 10, "12345", 5);
	CHECK_EQ(on(WH_P9_TFSYNC, 1, 0), 0);
	CHECK_EQ(on(WH_P9_TLOCK, 1, 0), 0);
	CHECK_EQ(on(WH_P9_TGETATTR, 1, 0), -WH_EOPNOTSUPP);
	CHECK_EQ(walk(0, 2, "a", 0, &r), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 2, 0), 0);
	t.fid = 2;
	CHECK_EQ(ask(&t, &r), -WH_EBADF); /* open for reading */
	CHECK_EQ(walk(0, 3, 0, 0, &r), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 3, 0), 0);
	CHECK_EQ(on(WH_P9_TREAD, 3, 0), -WH_EISDIR);
	CHECK_EQ(on(WH_P9_TREADDIR, 1, 0), -WH_ENOTDIR);
	t = (struct wh_p9_msg){ .type = WH_P9_TREADDIR, .fid = 3, .count = 100 };
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.count, 3 * 29);
	CHECK_EQ(on(WH_P9_TREADLINK, 1, 0), 0);
	CHECK_EQ(on(WH_P9_TREMOVE, 1, 0), 0);
	CHECK_EQ(on(WH_P9_TCLUNK, 1, 0), -WH_EBADF);
	tear_down();
}

static void names(void)
{
	static const char *const bad[] = { "", ".", "..", "a/b" };
	struct wh_p9_msg r, t = { .type = WH_P9_TMKDIR, .fid = 0 };
	char longer[300];
	set_up();
	memset(longer, 'x', sizeof longer);
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		t.name = str(bad[i]);
		CHECK_EQ(ask(&t, &r), -WH_EINVAL);
	}
	t.name = wh_p9_str(longer, 256);
	CHECK_EQ(ask(&t, &r), -WH_ENAMETOOLONG);
	t.name = wh_p9_str(longer, 255);
	CHECK_EQ(ask(&t, &r), 0);
	t = (struct wh_p9_msg){ .type = WH_P9_TRENAMEAT, .name = str("a"), .name2 = str("..") };
	CHECK_EQ(ask(&t, &r), -WH_EINVAL);
	tear_down();
}

static void read_only(void)
{
	struct wh_p9_msg r;
	set_up_with(true, 0);
	CHECK_EQ(walk(0, 1, "a", 0, &r), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, 1), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, 2), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, 01000), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, 0), 0);
	CHECK_EQ(on(WH_P9_TMKDIR, 0, 0), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TLCREATE, 0, 0), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TSYMLINK, 0, 0), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TRENAMEAT, 0, 0), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TREMOVE, 1, 0), -WH_EROFS);
	tear_down();
}

static void limits(void)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TVERSION };
	set_up_with(false, 5);
	for (uint32_t i = 1; i < 5; i++)
		CHECK_EQ(walk(0, i, 0, 0, &r), 0);
	CHECK_EQ(walk(0, 5, 0, 0, &r), -WH_EMFILE);
	CHECK_EQ(ask(&t, &r), 0); /* version clears them */
	CHECK_EQ(fs.clunks, 5);
	CHECK_EQ(on(WH_P9_TCLUNK, 0, 0), -WH_EBADF);
	uint8_t head[64], answer[64];
	struct wh_iov in = { head, 0 }, out = { answer, sizeof answer };
	t = (struct wh_p9_msg){ .type = WH_P9_TVERSION, .msize = 100, .name = str("9P2000.L") };
	in.size = (size_t)wh_p9_encode(WH_P9_DIALECT_2000L, &t, head, sizeof head);
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), 11);
	CHECK_EQ(answer[4], WH_P9_RLERROR);
	t = (struct wh_p9_msg){ .type = WH_P9_TVERSION, .msize = 1 << 30, .name = str("9P2000.x") };
	in.size = (size_t)wh_p9_encode(WH_P9_DIALECT_2000L, &t, head, sizeof head);
	CHECK(wh_p9_server_request(server, &in, 1, &out, 1, 0) > 0);
	CHECK_EQ(wh_p9_decode(WH_P9_DIALECT_2000L, answer, sizeof answer, &r), 13 + 7);
	CHECK_EQ(r.msize, WH_P9_MSIZE_MAX);
	CHECK_MEM(r.name.text, "unknown", 7);
	t = (struct wh_p9_msg){ .type = WH_P9_TATTACH, .fid2 = WH_P9_NOFID };
	in.size = (size_t)wh_p9_encode(WH_P9_DIALECT_2000L, &t, head, sizeof head);
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), 11); /* no version */
	tear_down();
}

static void unanswerable(void)
{
	uint8_t b[32] = { 0 }, answer[64];
	struct wh_iov in = { b, sizeof b }, out = { answer, 10 };
	set_up();
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), -WH_EBADMSG); /* no room */
	out.size = sizeof answer;
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), -WH_EBADMSG); /* size 0 */
	wh_store_le32(b, 33);
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), -WH_EBADMSG);
	wh_store_le32(b, 1 << 24);
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), -WH_EBADMSG);
	in.size = 6;
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), -WH_EBADMSG);
	in.size = sizeof b;
	wh_store_le32(b, 32); /* type 0; an R-message; garbage in a known type */
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), 11);
	b[4] = WH_P9_TREAD + 1;
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), 11);
	b[4] = WH_P9_TWALK;
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out, 1, 0), 11);
	CHECK_EQ(answer[4], WH_P9_RLERROR);
	CHECK_EQ(wh_load_le32(answer + 7), WH_EPROTO);
	tear_down();
}

/* ---- answers that come later ---- */

static uint8_t late_answer[4][8192];

static void send_later(unsigned i, uint8_t type, uint16_t tag, uint32_t fid, uint16_t flush_tag)
{
	uint8_t head[64];
	struct wh_p9_msg t = {
		.type = type, .tag = tag, .fid = fid, .count = 100, .flush_tag = flush_tag
	};
	struct wh_iov in = { head,
			     (size_t)wh_p9_encode(WH_P9_DIALECT_2000L, &t, head, sizeof head) };
	static struct wh_iov out[4]; /* stays valid until the answer */
	out[i] = (struct wh_iov){ late_answer[i], sizeof late_answer[i] };
	CHECK_EQ(wh_p9_server_request(server, &in, 1, &out[i], 1, late_answer[i]), 0);
}

static void later(void)
{
	struct wh_p9_msg r;
	set_up();
	CHECK_EQ(walk(0, 1, "a", 0, &r), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, 0), 0);
	fs.late = true;
	send_later(0, WH_P9_TREAD, 10, 1, 0);
	CHECK_EQ(on(WH_P9_TCLUNK, 1, 0),
		 0); /* in use: the backend keeps it until the read is over */
	CHECK_EQ(fs.clunks, 0);
	send_later(1, WH_P9_TFLUSH, 11, 0, 10);
	CHECK_EQ(fs.flushed, 1);
	send_later(2, WH_P9_TFLUSH, 12, 0, 10);
	CHECK_EQ(answer_count, 0);
	fs.waiting[0]->r.count = 0;
	wh_p9_request_done(fs.waiting[0], -WH_EINTR);
	CHECK_EQ(answer_count, 3); /* the read first, then those who flushed it */
	CHECK(answers[0].token == late_answer[0]);
	CHECK(answers[1].token == late_answer[1]);
	CHECK(answers[2].token == late_answer[2]);
	CHECK_EQ(late_answer[0][4], WH_P9_RLERROR);
	CHECK_EQ(late_answer[1][4], WH_P9_TFLUSH + 1);
	CHECK_EQ(fs.clunks, 1);
	fs.late = false;
	CHECK_EQ(on(WH_P9_TFLUSH, 0, 0), 0); /* of nothing */
	/* A reset waits for what is outstanding. */
	CHECK_EQ(walk(0, 1, "a", 0, &r), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, 0), 0);
	fs.late = true;
	fs.waiting_count = 0;
	send_later(0, WH_P9_TREAD, 10, 1, 0);
	CHECK(!wh_p9_server_reset(server));
	CHECK(!wh_p9_server_reset(server));
	CHECK_EQ(fs.flushed, 2);
	wh_p9_request_done(fs.waiting[0], -WH_EINTR);
	CHECK(wh_p9_server_reset(server));
	tear_down();
}

/* ---- a client with a bad server ---- */

static void bad_answers(void)
{
	uint8_t head[64], answer[64];
	struct wh_p9_call call;
	struct wh_p9_msg t = { .type = WH_P9_TREAD, .fid = 0, .count = 10 }, r, m;
	wh_p9_client_init(&client, 8192, fid_bits, 4);
	static const struct {
		uint8_t type;
		uint16_t tag_off;
		uint32_t count, error;
	} bad[] = { { WH_P9_TREAD + 1, 1, 0, 0 },  { WH_P9_TWRITE + 1, 0, 0, 0 },
		    { WH_P9_TREAD + 1, 0, 11, 0 }, { WH_P9_RLERROR, 0, 0, 0 },
		    { WH_P9_RLERROR, 0, 0, 5000 }, { WH_P9_TREAD, 0, 0, 0 } };
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		CHECK(wh_p9_client_call(&client, &call, &t, head, sizeof head) > 0);
		m = (struct wh_p9_msg){ .type = bad[i].type,
					.tag = (uint16_t)(call.tag + bad[i].tag_off),
					.count = bad[i].count,
					.data = "0123456789abcdef",
					.error = bad[i].error };
		int n = wh_p9_encode(WH_P9_DIALECT_2000L, &m, answer, sizeof answer);
		CHECK(n > 0);
		CHECK_EQ(wh_p9_client_answer(&client, &call, answer, (size_t)n, &r), -WH_EPROTO);
	}
	CHECK_EQ(client.tags, 0);
	for (uint32_t i = 0; i < WH_P9_CLIENT_TAGS_MAX; i++)
		CHECK(wh_p9_client_call(&client, &call, &t, head, sizeof head) > 0);
	CHECK_EQ(wh_p9_client_call(&client, &call, &t, head, sizeof head), -WH_EAGAIN);
	for (uint32_t i = 0; i < 128; i++)
		CHECK(wh_p9_client_fid_get(&client) < 128);
	CHECK_EQ(wh_p9_client_fid_get(&client), WH_P9_NOFID);
	wh_p9_client_fid_put(&client, 77);
	CHECK_EQ(wh_p9_client_fid_get(&client), 77);
}

int main(void)
{
	RUN(round_trips);
	RUN(bad_bytes);
	RUN(split);
	RUN(directory_entries);
	RUN(walks);
	RUN(reads_and_writes);
	RUN(names);
	RUN(read_only);
	RUN(limits);
	RUN(unanswerable);
	RUN(later);
	RUN(bad_answers);
	return test_end();
}
