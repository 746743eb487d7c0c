/* SPDX-License-Identifier: ISC */
/*
 * virtio-9p: each chain is one request (out) and the room for its answer (in). The server
 * reads and writes guest memory where it lies. Chains are kept in slots until they are
 * answered; most are at once.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/dev_9p.h>
#include <wherry/virtio.h>

#define QUEUE_SIZE 128u

struct slot {
	struct wh_list node; /* in free_slots, or alone while in flight */
	struct wh_dev_9p *p9;
	uint32_t life;
	uint16_t head;
	struct wh_iov iov[QUEUE_SIZE];
};

struct wh_dev_9p {
	struct wh_virtio_device dev;
	struct wh_p9_server *server;
	struct wh_list free_slots;
	uint32_t slot_count;
	uint32_t life; /* goes up at each reset */
	bool burst;
};

static void *malloc_alloc(void *ctx, size_t size, size_t align)
{
	return malloc(size);
}

static void malloc_free(void *ctx, void *memory, size_t size)
{
	free(memory);
}

static struct slot *slot_get(struct wh_dev_9p *p)
{
	struct wh_list *n = wh_list_pop_front(&p->free_slots);
	if (n)
		return WH_LIST_ENTRY(n, struct slot, node);
	/* As many as the server takes at once; an honest driver never has more than the queue. */
	if (p->slot_count == QUEUE_SIZE)
		return NULL;
	struct slot *s = calloc(1, sizeof *s);
	if (s) {
		s->p9 = p;
		wh_list_init(&s->node);
		p->slot_count++;
	}
	return s;
}

static void slot_put(struct slot *s)
{
	wh_list_push_front(&s->p9->free_slots, &s->node);
}

static void answered(void *ctx, void *token, uint32_t size)
{
	struct wh_dev_9p *p = ctx;
	struct slot *s = token;
	if (s->life == p->life) {
		wh_virtio_push(&p->dev, 0, s->head, size);
		if (!p->burst)
			wh_virtio_raise(&p->dev, 0);
	}
	slot_put(s);
	if (p->dev.resetting && wh_p9_server_reset(p->server))
		wh_virtio_reset_done(&p->dev);
}

static void notify(void *ctx, uint32_t queue)
{
	struct wh_dev_9p *p = ctx;
	uint32_t left = WH_VIRTIO_TURN;
	p->burst = true;
	for (; left && p->dev.running; left--) {
		struct slot *s = slot_get(p);
		if (!s)
			break;
		struct wh_virtq_chain c = { .iov = s->iov, .iov_max = QUEUE_SIZE };
		if (!wh_virtio_pop(&p->dev, queue, &c)) {
			slot_put(s);
			break;
		}
		s->head = c.head;
		s->life = p->life;
		int r = wh_p9_server_request(p->server, c.iov, c.out_count, c.iov + c.out_count,
					     c.in_count, s);
		if (r == 0)
			continue;
		if (r < 0)
			wh_virtio_broken(&p->dev, "not a 9P message");
		else
			wh_virtio_push(&p->dev, queue, s->head, (uint32_t)r);
		slot_put(s);
	}
	p->burst = false;
	if (!left)
		wh_virtio_again(&p->dev, queue);
	wh_virtio_raise(&p->dev, queue);
}

static bool reset(void *ctx)
{
	struct wh_dev_9p *p = ctx;
	p->life++;
	return wh_p9_server_reset(p->server);
}

/* Open files of the host are not in a snapshot. */
static int save(void *ctx)
{
	return -WH_EOPNOTSUPP;
}

int wh_dev_9p_new(const struct wh_dev_9p_config *config, struct wh_vmm_machine *machine,
		  struct wh_dev_9p **ret_9p, struct wh_diag *diag)
{
	static const struct wh_virtio_ops ops = { .notify = notify, .reset = reset, .save = save };
	static const struct wh_alloc alloc = { .alloc = malloc_alloc, .free = malloc_free };
	size_t tag_size = strlen(config->tag);
	if (!tag_size || tag_size >= WH_BOOT_NAME_SIZE)
		return wh_diag_set(diag, -WH_EINVAL, "mount tag %s: 1 to %u bytes", config->tag,
				   WH_BOOT_NAME_SIZE - 1);
	struct wh_dev_9p *p = calloc(1, sizeof *p);
	if (!p)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for folder %s", config->tag);
	struct wh_p9_server_config s = { .size = sizeof s,
					 .ops = config->ops,
					 .ctx = config->ctx,
					 .alloc = &alloc,
					 .read_only = config->read_only,
					 .answered = answered,
					 .answered_ctx = p };
	struct wh_virtio_config v = { .virtio_id = WH_VIRTIO_ID_9P,
				      .queue_count = 1,
				      .queue_size_max = QUEUE_SIZE,
				      .features = WH_VIRTIO_9P_F_MOUNT_TAG,
				      .ops = &ops,
				      .ctx = p,
				      .log = config->log };
	wh_list_init(&p->free_slots);
	wh_virtio_init(&p->dev, &v);
	wh_store_le16(p->dev.config + WH_VIRTIO_9P_CONFIG_TAG_LEN, (uint16_t)tag_size);
	memcpy(p->dev.config + WH_VIRTIO_9P_CONFIG_TAG, config->tag, tag_size);
	int r = wh_p9_server_new(&s, &p->server);
	if (r < 0)
		wh_diag_set(diag, r, "no memory for folder %s", config->tag);
	else
		r = wh_virtio_attach(&p->dev, machine, config->tag, diag);
	if (r < 0) {
		wh_p9_server_free(p->server);
		free(p);
		return r;
	}
	*ret_9p = p;
	return 0;
}

void wh_dev_9p_free(struct wh_dev_9p *p9)
{
	if (!p9)
		return;
	wh_p9_server_free(p9->server);
	for (struct wh_list *n; (n = wh_list_pop_front(&p9->free_slots));)
		free(WH_LIST_ENTRY(n, struct slot, node));
	free(p9);
}
