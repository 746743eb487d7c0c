/* SPDX-License-Identifier: ISC */
#include <drv/p9.h>
#include <drv/virtio.h>
#include <kern/mem.h>
#include <kern/poll.h>
#include <kern/sched.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/virtio_wire.h>

#define ENTRIES 64u /* 16 exchanges of at most 4 descriptors */
#define FID_WORDS 128u
#define MSIZE (512u << 10)
#define HEAD_MAX 768u /* request with two names; symlink's longer ones are allocated */

struct exchange {
	struct wh_p9_call call;
	struct kern_waitq waitq;
	uint32_t written;
	bool done;
	bool detached; /* a struct clunk: nobody waits */
};

/* A Tclunk that nobody waits for. */
struct clunk {
	struct exchange x;
	uint32_t fid;
	uint8_t head[WH_P9_HEADER_SIZE + 4];
	uint8_t answer[WH_P9_READ_HEAD_SIZE];
};

struct drv_p9 {
	struct drv_virtio dev;
	struct wh_virtq_driver q;
	struct wh_p9_client client;
	struct kern_waitq waitq; /* for a free tag or descriptor, or the version */
	struct kern_poller poller;
	struct drv_p9 *next;
	enum { NEW, STARTING, READY, BROKEN } state;
	uint32_t fids[FID_WORDS];
	uint64_t ring[(26 * ENTRIES + 15) / 8 + 1] __attribute__((aligned(16)));
	struct wh_virtq_driver_slot slots[ENTRIES];
};

static struct drv_p9 *devices;

struct drv_p9 *drv_p9_find(const char *tag)
{
	struct drv_p9 *d = devices;
	while (d && !wh_streq(d->dev.boot->name, tag))
		d = d->next;
	return d;
}

uint32_t drv_p9_payload_max(struct drv_p9 *d)
{
	return wh_p9_client_payload_max(&d->client);
}

/* A pending signal cannot end the wait. */
static void wait(struct kern_waitq *q)
{
	(void)kern_wait_uninterruptible(q, KERN_FOREVER); /* the caller looks again in any case */
}

static void break_session(struct drv_p9 *d)
{
	struct exchange *x;
	d->state = BROKEN;
	while ((x = wh_virtq_driver_detach(&d->q))) {
		x->written = 0;
		x->done = true;
		if (x->detached)
			kern_free(WH_CONTAINER_OF(x, struct clunk, x), sizeof(struct clunk));
		else
			kern_waitq_wake(&x->waitq, LX_POLLERR, UINT32_MAX);
	}
	kern_waitq_wake(&d->waitq, LX_POLLERR, UINT32_MAX);
}

static void finish_clunk(struct drv_p9 *d, struct clunk *c)
{
	struct wh_p9_msg r;
	uint32_t size = c->x.written < sizeof c->answer ? c->x.written : sizeof c->answer;
	/* A fid that the server would not let go of is gone all the same. */
	if (wh_p9_client_answer(&d->client, &c->x.call, c->answer, size, &r) == -WH_EPROTO)
		break_session(d);
	wh_p9_client_fid_put(&d->client, c->fid);
	kern_free(c, sizeof *c);
}

static void finish(struct drv_p9 *d, struct exchange *x, uint32_t written)
{
	x->written = written;
	x->done = true;
	if (x->detached)
		finish_clunk(d, WH_CONTAINER_OF(x, struct clunk, x));
	else
		kern_waitq_wake(&x->waitq, LX_POLLIN, UINT32_MAX);
}

static uint64_t poll(struct kern_poller *poller, uint64_t now_ns)
{
	struct drv_p9 *d = WH_CONTAINER_OF(poller, struct drv_p9, poller);
	void *cookie;
	uint32_t written;
	int r;
	if (d->state == BROKEN || !wh_virtq_driver_pending(&d->q))
		return KERN_FOREVER;
	do {
		while ((r = wh_virtq_driver_get(&d->q, &cookie, &written)) > 0)
			finish(d, cookie, written);
	} while (r == 0 && wh_virtq_driver_interrupts_on(&d->q));
	if (r < 0)
		break_session(d);
	kern_waitq_wake(&d->waitq, LX_POLLOUT, UINT32_MAX);
	return KERN_FOREVER;
}

/* Gives t a tag, waiting for a free one; returns the encoded size. */
static int encode(struct drv_p9 *d, struct exchange *x, struct wh_p9_msg *t, void *head,
		  uint32_t head_max)
{
	for (;;) {
		if (d->state == BROKEN)
			return -WH_EIO;
		int n = wh_p9_client_call(&d->client, &x->call, t, head, head_max);
		if (n != -WH_EAGAIN)
			return n;
		wait(&d->waitq);
	}
}

static int submit(struct drv_p9 *d, struct exchange *x, const struct wh_iov *iov, uint32_t out,
		  uint32_t in)
{
	int r = -WH_EIO;
	while (d->state != BROKEN) {
		r = wh_virtq_driver_add(&d->q, iov, out, in, x);
		if (r != -WH_EAGAIN)
			break;
		wait(&d->waitq);
	}
	if (r < 0 || d->state == BROKEN) {
		wh_p9_client_forget(&d->client, &x->call);
		return -WH_EIO;
	}
	drv_virtio_kick(&d->dev, 0, &d->q);
	return 0;
}

static int exchange(struct drv_p9 *d, struct wh_p9_msg *t, const struct wh_iov *payload,
		    void *answer, uint32_t answer_max, struct wh_p9_msg *ret_r)
{
	uint8_t small[HEAD_MAX], *head = small;
	struct exchange x = { .done = false };
	struct wh_iov iov[4];
	uint32_t out = 1, in = 0, head_max = sizeof small;
	bool reads = t->type == WH_P9_TREAD || t->type == WH_P9_TREADDIR;
	if (t->name.size + t->name2.size + 64u > sizeof small) {
		head_max = WH_P9_HEAD_SIZE_MAX;
		head = kern_alloc(head_max);
		if (!head)
			return -WH_ENOMEM;
	}
	kern_waitq_init(&x.waitq);
	int r = encode(d, &x, t, head, head_max);
	if (r >= 0) {
		iov[0] = (struct wh_iov){ head, (size_t)r };
		if (payload && !reads)
			iov[out++] = *payload;
		iov[out + in++] =
			(struct wh_iov){ answer, reads ? WH_P9_READ_HEAD_SIZE : answer_max };
		if (payload && reads)
			iov[out + in++] = *payload;
		r = submit(d, &x, iov, out, in);
	}
	if (r >= 0) {
		while (!__atomic_load_n(&x.done, __ATOMIC_RELAXED))
			wait(&x.waitq);
		uint32_t max = (uint32_t)iov[out].size;
		r = wh_p9_client_answer(&d->client, &x.call, answer,
					x.written < max ? x.written : max, ret_r);
		if (r == -WH_EPROTO) {
			if (d->state != BROKEN)
				break_session(d);
			r = -WH_EIO;
		}
		kern_waitq_wake(&d->waitq, LX_POLLOUT, UINT32_MAX);
	}
	if (head != small)
		kern_free(head, head_max);
	return r;
}

static int start_session(struct drv_p9 *d)
{
	struct wh_p9_msg t = { .type = WH_P9_TVERSION }, r;
	uint8_t answer[DRV_P9_ANSWER_SIZE];
	while (d->state == STARTING)
		wait(&d->waitq);
	if (d->state != NEW)
		return d->state == READY ? 0 : -WH_EIO;
	d->state = STARTING;
	int e = exchange(d, &t, NULL, answer, sizeof answer, &r);
	if (d->state == STARTING)
		d->state = e < 0 ? BROKEN : READY;
	kern_waitq_wake(&d->waitq, LX_POLLOUT, UINT32_MAX);
	return e < 0 ? -WH_EIO : 0;
}

int drv_p9_call(struct drv_p9 *d, struct wh_p9_msg *t, const struct wh_iov *payload, void *answer,
		uint32_t answer_max, struct wh_p9_msg *ret_r)
{
	wh_assert(!payload || drv_in_ram(payload->base, payload->size));
	if (d->state != READY) {
		int r = start_session(d);
		if (r < 0)
			return r;
	}
	return exchange(d, t, payload, answer, answer_max, ret_r);
}

int drv_p9_fid_get(struct drv_p9 *d, uint32_t *ret_fid)
{
	uint32_t fid = wh_p9_client_fid_get(&d->client);
	if (fid == WH_P9_NOFID)
		return -WH_ENFILE;
	*ret_fid = fid;
	return 0;
}

void drv_p9_fid_drop(struct drv_p9 *d, uint32_t fid)
{
	wh_p9_client_fid_put(&d->client, fid);
}

void drv_p9_clunk(struct drv_p9 *d, uint32_t fid)
{
	struct wh_p9_msg t = { .type = WH_P9_TCLUNK, .fid = fid };
	struct clunk *c = kern_alloc_zero(sizeof *c);
	if (!c)
		return; /* the fid stays with the server until the session ends */
	c->fid = fid;
	c->x.detached = true;
	kern_waitq_init(&c->x.waitq);
	int n = encode(d, &c->x, &t, c->head, sizeof c->head);
	if (n < 0) {
		kern_free(c, sizeof *c);
		return;
	}
	struct wh_iov iov[2] = { { c->head, (size_t)n }, { c->answer, sizeof c->answer } };
	if (submit(d, &c->x, iov, 1, 1) < 0)
		kern_free(c, sizeof *c);
}

static int start(struct drv_p9 *d, const struct wh_boot_device *boot)
{
	int r = drv_virtio_open(&d->dev, boot);
	if (r >= 0)
		r = drv_virtio_start(&d->dev, WH_VIRTIO_9P_F_MOUNT_TAG);
	if (r >= 0)
		r = drv_virtio_queue(&d->dev, 0, &d->q, ENTRIES, d->ring, d->slots);
	if (r < 0)
		return r;
	kern_waitq_init(&d->waitq);
	wh_p9_client_init(&d->client, MSIZE, d->fids, FID_WORDS);
	d->poller.poll = poll;
	d->dev.transport->driver_ok(&d->dev);
	kern_poller_add(&d->poller);
	return 0;
}

int drv_9p_init(void)
{
	const struct wh_boot_device *boot;
	for (uint32_t i = 0; (boot = drv_virtio_find(WH_VIRTIO_ID_9P, i)); i++) {
		struct drv_p9 *d = kern_alloc_zero(sizeof *d);
		if (!d)
			return -WH_ENOMEM;
		int r = start(d, boot);
		if (r < 0) {
			kern_free(d, sizeof *d);
			return r;
		}
		d->next = devices;
		devices = d;
	}
	return 0;
}
