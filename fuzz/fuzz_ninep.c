/* SPDX-License-Identifier: ISC */
/*
 * A stream of 9P messages, each with its own size field, to a server with a small tree behind
 * it; the same bytes to the decoders of all dialects and to a client as answers.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/ninep.h>
#include <wherry/test.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t file[256];
static struct wh_p9_request *waiting;
static unsigned nodes;

static int op_attach(void *ctx, struct wh_p9_request *q)
{
	q->fid->node = &nodes;
	nodes++;
	q->r.qid.type = WH_P9_QID_DIR;
	return 0;
}

/* Names in capitals are folders, "late..." makes the answer wait. */
static int op_walk(void *ctx, struct wh_p9_request *q)
{
	for (uint16_t i = 0; i < q->t.name_count; i++) {
		char c = q->t.names[i].text[0];
		wh_assert(q->t.names[i].size);
		if (c == '.') {
			q->r.name_count = i;
			return i ? 0 : -WH_ENOENT;
		}
		q->r.qids[i].type = c >= 'A' && c <= 'Z' ? WH_P9_QID_DIR : 0;
	}
	q->r.name_count = q->t.name_count;
	q->fid2->node = &nodes;
	nodes++;
	return 0;
}

static int op_open(void *ctx, struct wh_p9_request *q)
{
	q->r.qid = q->fid->qid;
	return 0;
}

static int op_read(void *ctx, struct wh_p9_request *q)
{
	if (q->t.offset == 0x1000 && !waiting) {
		waiting = q;
		return WH_P9_LATER;
	}
	q->r.count = (uint32_t)wh_iov_write(q->payload, q->payload_count, 0, file,
					    q->payload_size < sizeof file ? q->payload_size
									  : sizeof file);
	return 0;
}

static int op_write(void *ctx, struct wh_p9_request *q)
{
	wh_assert(wh_iov_size(q->payload, q->payload_count) == q->payload_size);
	q->r.count = q->payload_size;
	wh_iov_read(q->payload, q->payload_count, 0, file,
		    q->payload_size < sizeof file ? q->payload_size : sizeof file);
	return 0;
}

static int op_readdir(void *ctx, struct wh_p9_request *q)
{
	struct wh_p9_dirent e = { .name = wh_p9_str("entry", 5) };
	while (wh_p9_request_dirent(q, &e))
		;
	return 0;
}

static int op_name(void *ctx, struct wh_p9_request *q)
{
	wh_assert(q->t.name.size && q->t.name.size <= 255);
	wh_assert(!memchr(q->t.name.text, '/', q->t.name.size));
	return 0;
}

static int op_nothing(void *ctx, struct wh_p9_request *q)
{
	return 0;
}

static void op_clunk(void *ctx, struct wh_p9_fid *f)
{
	wh_assert(nodes);
	nodes--;
}

static void finish_waiting(void)
{
	struct wh_p9_request *q = waiting;
	waiting = NULL;
	if (q)
		wh_p9_request_done(q, -WH_EINTR);
}

static void op_flush(void *ctx, struct wh_p9_request *q)
{
	if (q == waiting)
		finish_waiting();
}

static const struct wh_p9_fs_ops ops = { .attach = op_attach,
					 .walk = op_walk,
					 .open = op_open,
					 .create = op_name,
					 .read = op_read,
					 .write = op_write,
					 .readdir = op_readdir,
					 .getattr = op_nothing,
					 .setattr = op_nothing,
					 .statfs = op_nothing,
					 .mkdir = op_name,
					 .symlink = op_name,
					 .unlinkat = op_name,
					 .link = op_name,
					 .remove = op_nothing,
					 .renameat = op_name,
					 .clunk = op_clunk,
					 .flush = op_flush };

static void decoders(const uint8_t *data, size_t size)
{
	struct wh_p9_msg m;
	struct wh_p9_dirent e;
	struct wh_p9_client c;
	struct wh_p9_call call;
	uint32_t fids[1];
	uint8_t head[64];
	for (int d = 0; d < 3; d++)
		(void)wh_p9_decode((enum wh_p9_dialect)d, data, size, &m);
	for (int n; (n = wh_p9_dirent_decode(data, size, &e)) > 0; data += n)
		size -= (size_t)n;
	if (size < WH_P9_HEADER_SIZE)
		return;
	wh_p9_client_init(&c, 8192, fids, 1);
	struct wh_p9_msg t = { .type = (uint8_t)(data[4] - 1), .count = 10 };
	if (wh_p9_client_call(&c, &call, &t, head, sizeof head) > 0)
		(void)wh_p9_client_answer(&c, &call, data, size, &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t answers[2][8192];
	static struct wh_iov outs[2][2];
	struct wh_p9_server *s;
	struct wh_p9_server_config c = { .size = sizeof c,
					 .ops = &ops,
					 .alloc = &test_allocator,
					 .fids_max = 20,
					 .read_only = size % 8 == 7 };
	decoders(data, size);
	if (wh_p9_server_new(&c, &s) < 0)
		abort();
	for (unsigned i = 0; i < 200 && size >= 4; i++) {
		uint32_t n = wh_load_le32(data);
		if (n > size || n < 4)
			n = (uint32_t)size;
		struct wh_iov in[2] = { { (void *)(uintptr_t)data, 3 },
					{ (void *)(uintptr_t)(data + 3), n - 3 } };
		unsigned k =
			waiting ? 1 : 0; /* the other memory belongs to the request that waits */
		outs[k][0] = (struct wh_iov){ answers[k], 9 };
		outs[k][1] = (struct wh_iov){ answers[k] + 9, n % 4 ? sizeof answers[k] - 9 : 20 };
		int r = wh_p9_server_request(s, in, 2, outs[k], 2, NULL);
		wh_assert(r <= (int)(outs[k][1].size + 9));
		if (r > 0)
			wh_assert(wh_load_le32(answers[k]) == (uint32_t)r);
		if (r == 0 && k)
			finish_waiting();
		data += n;
		size -= n;
	}
	finish_waiting();
	wh_p9_server_free(s);
	wh_assert(!nodes && !test_alloc_live());
	return 0;
}
