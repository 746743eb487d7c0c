/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <sys/random.h>
#include <wherry/base/errors.h>
#include <wherry/dev_rng.h>
#include <wherry/virtio.h>

#define QUEUE_SIZE 16u
#define CHAIN_BYTES_MAX \
	4096u /* a request is answered with at most so many: bounds the time of one */

struct wh_dev_rng {
	struct wh_virtio_device dev;
	struct wh_iov iov[QUEUE_SIZE];
};

static uint32_t fill(const struct wh_virtq_chain *chain)
{
	uint32_t done = 0;
	for (uint32_t i = 0; i < chain->in_count && done < CHAIN_BYTES_MAX; i++) {
		const struct wh_iov *v = &chain->iov[chain->out_count + i];
		size_t n = v->size < CHAIN_BYTES_MAX - done ? v->size : CHAIN_BYTES_MAX - done;
		ssize_t r = getrandom(v->base, n, 0);
		if (r < 0)
			break;
		done += (uint32_t)r;
		if ((size_t)r < n)
			break;
	}
	return done;
}

static void notify(void *ctx, uint32_t queue)
{
	struct wh_dev_rng *g = ctx;
	struct wh_virtq_chain chain = { .iov = g->iov, .iov_max = QUEUE_SIZE };
	uint32_t left = WH_VIRTIO_TURN;
	for (; left && wh_virtio_pop(&g->dev, queue, &chain); left--)
		wh_virtio_push(&g->dev, queue, chain.head, fill(&chain));
	if (!left)
		wh_virtio_again(&g->dev, queue);
	wh_virtio_raise(&g->dev, queue);
}

int wh_dev_rng_new(struct wh_vmm_machine *machine, const struct wh_log *log,
		   struct wh_dev_rng **ret_rng, struct wh_diag *diag)
{
	static const struct wh_virtio_ops ops = { .notify = notify };
	struct wh_dev_rng *g = calloc(1, sizeof *g);
	if (!g)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the random device");
	struct wh_virtio_config c = { .virtio_id = WH_VIRTIO_ID_RNG,
				      .queue_count = 1,
				      .queue_size_max = QUEUE_SIZE,
				      .ops = &ops,
				      .ctx = g };
	if (log)
		c.log = *log;
	wh_virtio_init(&g->dev, &c);
	int r = wh_virtio_attach(&g->dev, machine, "", diag);
	if (r < 0) {
		free(g);
		return r;
	}
	*ret_rng = g;
	return 0;
}

void wh_dev_rng_free(struct wh_dev_rng *rng)
{
	free(rng);
}
