/* SPDX-License-Identifier: ISC */
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/ninep.h>

void wh_p9_client_init(struct wh_p9_client *c, uint32_t msize, uint32_t *fids, uint32_t fid_words)
{
	wh_assert(msize >= WH_P9_MSIZE_MIN);
	*c = (struct wh_p9_client){
		.dialect = WH_P9_DIALECT_2000L, .msize = msize, .fids = fids, .fid_words = fid_words
	};
	memset(fids, 0, fid_words * sizeof *fids);
}

uint32_t wh_p9_client_fid_get(struct wh_p9_client *c)
{
	for (uint32_t i = 0; i < c->fid_words; i++) {
		uint32_t word = (c->fid_hint + i) % c->fid_words;
		if (c->fids[word] == UINT32_MAX)
			continue;
		uint32_t bit = (uint32_t)__builtin_ctz(~c->fids[word]);
		c->fids[word] |= 1u << bit;
		c->fid_hint = word;
		return word * 32 + bit;
	}
	return WH_P9_NOFID;
}

void wh_p9_client_fid_put(struct wh_p9_client *c, uint32_t fid)
{
	wh_assert(fid / 32 < c->fid_words && c->fids[fid / 32] & 1u << fid % 32);
	c->fids[fid / 32] &= ~(1u << fid % 32);
	c->fid_hint = fid / 32;
}

int wh_p9_client_call(struct wh_p9_client *c, struct wh_p9_call *call, struct wh_p9_msg *t,
		      void *head, size_t head_max)
{
	uint16_t tag = WH_P9_NOTAG;
	if (t->type == WH_P9_TVERSION) {
		t->msize = c->msize;
		t->name = wh_p9_str("9P2000.L", 8);
	} else if (c->tags == UINT64_MAX) {
		return -WH_EAGAIN;
	} else {
		tag = (uint16_t)__builtin_ctzll(~c->tags);
	}
	t->tag = tag;
	int r = wh_p9_encode(c->dialect, t, head, head_max);
	if (r < 0)
		return r;
	if (tag != WH_P9_NOTAG)
		c->tags |= 1ull << tag;
	*call = (struct wh_p9_call){ .type = t->type, .tag = tag, .count = t->count };
	return r;
}

void wh_p9_client_forget(struct wh_p9_client *c, struct wh_p9_call *call)
{
	if (call->tag == WH_P9_NOTAG)
		return;
	wh_assert(call->tag < WH_P9_CLIENT_TAGS_MAX && c->tags & 1ull << call->tag);
	c->tags &= ~(1ull << call->tag);
}

int wh_p9_client_answer(struct wh_p9_client *c, struct wh_p9_call *call, const void *answer,
			size_t size, struct wh_p9_msg *ret_r)
{
	int r = wh_p9_decode(c->dialect, answer, size, ret_r);
	wh_p9_client_forget(c, call);
	if (r < 0 || ret_r->tag != call->tag || (uint32_t)r > c->msize)
		return -WH_EPROTO;
	if (ret_r->type == WH_P9_RLERROR) {
		/* A number that cannot be an error would be taken for a result. */
		if (!ret_r->error || ret_r->error > 4095)
			return -WH_EPROTO;
		return -(int)ret_r->error;
	}
	if (ret_r->type != call->type + 1)
		return -WH_EPROTO;
	switch (call->type) {
	case WH_P9_TVERSION:
		if (ret_r->msize < WH_P9_MSIZE_MIN || ret_r->msize > c->msize ||
		    ret_r->name.size != 8 || memcmp(ret_r->name.text, "9P2000.L", 8))
			return -WH_EPROTO;
		c->msize = ret_r->msize;
		return 0;
	case WH_P9_TREAD:
	case WH_P9_TREADDIR:
	case WH_P9_TWRITE:
		return ret_r->count > call->count ? -WH_EPROTO : 0;
	default:
		return 0;
	}
}

uint32_t wh_p9_client_payload_max(const struct wh_p9_client *c)
{
	return c->msize - WH_P9_WRITE_HEAD_SIZE - 1;
}
