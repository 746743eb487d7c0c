/* SPDX-License-Identifier: ISC */
/*
 * virtio-balloon. Inflating and free-page reporting end in the same call: the pages' memory is given back to the host
 * (a hole in the memfd behind RAM), and reads as zeros if the guest touches it again. Deflating
 * needs nothing.
 *
 * A guest can name any page of its RAM, also one it uses: it then reads zeros there, which is its own matter.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/dev_balloon.h>
#include <wherry/virtio.h>

#define QUEUE_SIZE 128u
#define QUEUE_INFLATE 0u
#define QUEUE_REPORT 2u /* without statistics and hints it is the third */
#define PAGE 4096u
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_REPORTING (1ull << 5)
#define CONFIG_TARGET 0u
#define CONFIG_ACTUAL 4u
#define PFNS_MAX 1024u /* of one request; Linux sends 256 */

struct wh_dev_balloon {
	struct wh_virtio_device dev;
	uint64_t returned;
	struct wh_iov iov[QUEUE_SIZE];
	uint8_t pfns[PFNS_MAX * 4];
};

static void give_back(struct wh_dev_balloon *b, void *page, size_t size)
{
	/* RAM is a shared mapping of a memfd */
	if (madvise(page, size, MADV_REMOVE) == 0)
		b->returned += size;
}

static void inflate(struct wh_dev_balloon *b, const struct wh_virtq_chain *chain)
{
	uint64_t size = chain->out_size < sizeof b->pfns ? chain->out_size : sizeof b->pfns;
	uint8_t *run = NULL;
	size_t run_size = 0;
	wh_iov_read(chain->iov, chain->out_count, 0, b->pfns, size);
	for (uint64_t at = 0; at + 4 <= size; at += 4) {
		wh_gaddr address = (wh_gaddr)wh_load_le32(b->pfns + at) * PAGE;
		uint8_t *page = wh_gmem_at(b->dev.mem, address, PAGE, true);
		if (page && page == run + run_size && run_size) {
			run_size += PAGE;
			continue;
		}
		if (page && run_size && page + PAGE == run) { /* Linux gives them downwards */
			run = page;
			run_size += PAGE;
			continue;
		}
		if (run_size)
			give_back(b, run, run_size);
		run = page;
		run_size = page ? PAGE : 0;
	}
	if (run_size)
		give_back(b, run, run_size);
}

/* Each buffer is a run of free pages, writable for the device. */
static void report(struct wh_dev_balloon *b, const struct wh_virtq_chain *chain)
{
	for (uint32_t i = 0; i < chain->in_count; i++) {
		const struct wh_iov *v = &chain->iov[chain->out_count + i];
		uint64_t start = wh_align_up((uintptr_t)v->base, PAGE);
		uint64_t end = wh_align_down((uintptr_t)v->base + v->size, PAGE);
		if (end > start)
			give_back(b, (void *)(uintptr_t)start, end - start);
	}
}

static void notify(void *ctx, uint32_t queue)
{
	struct wh_dev_balloon *b = ctx;
	struct wh_virtq_chain chain = { .iov = b->iov, .iov_max = QUEUE_SIZE };
	uint32_t left = WH_VIRTIO_TURN;
	for (; left && wh_virtio_pop(&b->dev, queue, &chain); left--) {
		if (queue == QUEUE_INFLATE)
			inflate(b, &chain);
		else if (queue == QUEUE_REPORT)
			report(b, &chain);
		wh_virtio_push(&b->dev, queue, chain.head, 0);
	}
	if (!left)
		wh_virtio_again(&b->dev, queue);
	wh_virtio_raise(&b->dev, queue);
}

static void config_write(void *ctx, uint32_t offset, const void *from, uint32_t size)
{
	struct wh_dev_balloon *b = ctx;
	if (offset == CONFIG_ACTUAL && size == 4)
		memcpy(b->dev.config + CONFIG_ACTUAL, from, size);
}

int wh_dev_balloon_new(struct wh_vmm_machine *machine, const struct wh_log *log,
		       struct wh_dev_balloon **ret_balloon, struct wh_diag *diag)
{
	static const struct wh_virtio_ops ops = { .notify = notify, .config_write = config_write };
	struct wh_dev_balloon *b = calloc(1, sizeof *b);
	if (!b)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the balloon");
	struct wh_virtio_config c = { .virtio_id = WH_VIRTIO_ID_BALLOON,
				      .queue_count = 3,
				      .queue_size_max = QUEUE_SIZE,
				      .features = F_DEFLATE_ON_OOM | F_REPORTING,
				      .ops = &ops,
				      .ctx = b };
	if (log)
		c.log = *log;
	wh_virtio_init(&b->dev, &c);
	int r = wh_virtio_attach(&b->dev, machine, "", diag);
	if (r < 0) {
		free(b);
		return r;
	}
	*ret_balloon = b;
	return 0;
}

void wh_dev_balloon_target(struct wh_dev_balloon *b, uint64_t bytes)
{
	uint8_t target[4];
	uint64_t pages = bytes / PAGE;
	wh_store_le32(target, pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages);
	wh_virtio_config_set(&b->dev, CONFIG_TARGET, target, sizeof target);
}

void wh_dev_balloon_stats(const struct wh_dev_balloon *b, struct wh_dev_balloon_stats *ret_stats)
{
	*ret_stats = (struct wh_dev_balloon_stats){
		.target_pages = wh_load_le32(b->dev.config + CONFIG_TARGET),
		.actual_pages = wh_load_le32(b->dev.config + CONFIG_ACTUAL),
		.returned_bytes = b->returned,
	};
}

void wh_dev_balloon_free(struct wh_dev_balloon *b)
{
	free(b);
}
