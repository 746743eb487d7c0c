/* SPDX-License-Identifier: ISC */
/*
 * virtio-9p whose server is on the other side of a stream socket: another process, with libraries that a monitor
 * should not have. Messages pass as they are; only their tags are ours, since an answer to a request of before a reset
 * may still come, and must not be taken for a later one's.
 *
 *	tag of ours = slot | generation << 7;  the generation goes up each time the slot is used
 *
 * The other side is believed no more than the guest: an answer that fits no request, or not into its room, ends
 * the connection, and every request after that is left unanswered as on a broken wire.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/dev_9p.h>
#include <wherry/virtio.h>

#define QUEUE_SIZE 128u
#define OUT_MAX (4u << 20) /* bytes that wait for the socket; then the guest's queue waits */

struct slot {
	bool used, dropped; /* dropped: the guest was reset, its memory is not ours any more */
	uint16_t head, tag, generation;
	uint32_t room_count;
	struct wh_iov room[QUEUE_SIZE];
};

struct wh_dev_9p_relay {
	struct wh_virtio_device dev;
	struct wh_loop *loop;
	struct wh_loop_fd watch;
	struct slot slots[QUEUE_SIZE];
	uint8_t *out, *in;
	size_t out_size, out_at, in_size;
	bool dead, starved; /* starved: the guest has more than we took */
};

static void end(struct wh_dev_9p_relay *p, const char *why)
{
	if (p->dead)
		return;
	p->dead = true;
	wh_loop_remove(p->loop, &p->watch);
	close(p->watch.fd);
	wh_virtio_broken(&p->dev, why);
}

static void send_out(struct wh_dev_9p_relay *p)
{
	while (p->out_at < p->out_size) {
		ssize_t n = send(p->watch.fd, p->out + p->out_at, p->out_size - p->out_at,
				 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			end(p, "the 9P server is gone");
			return;
		}
		p->out_at += (size_t)n;
	}
	if (p->out_at == p->out_size)
		p->out_at = p->out_size = 0;
	uint32_t events = WH_LOOP_READ | (p->out_size ? WH_LOOP_WRITE : 0);
	if (events != p->watch.events)
		wh_loop_modify(p->loop, &p->watch, events);
}

static struct slot *by_guest_tag(struct wh_dev_9p_relay *p, uint16_t tag)
{
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		if (p->slots[i].used && !p->slots[i].dropped && p->slots[i].tag == tag)
			return &p->slots[i];
	return NULL;
}

static uint16_t our_tag(const struct wh_dev_9p_relay *p, const struct slot *s)
{
	return (uint16_t)((s - p->slots) | (unsigned)(s->generation % 511) << 7); /* never NOTAG */
}

static struct slot *slot_get(struct wh_dev_9p_relay *p)
{
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		if (!p->slots[i].used)
			return &p->slots[i];
	return NULL;
}

/* One request of the guest to the socket. */
static bool forward(struct wh_dev_9p_relay *p, struct slot *s, const struct wh_virtq_chain *c)
{
	uint8_t *to = p->out + p->out_size;
	size_t have = wh_iov_size(c->iov, c->out_count);
	if (have < WH_P9_HEADER_SIZE || have > WH_P9_MSIZE_MAX)
		return false;
	wh_iov_read(c->iov, c->out_count, 0, to, have);
	uint32_t size = wh_load_le32(to);
	if (size < WH_P9_HEADER_SIZE || size > have)
		return false;
	s->used = true;
	s->dropped = false;
	s->head = c->head;
	s->tag = wh_p9_tag(to);
	s->generation++;
	s->room_count = c->in_count;
	memcpy(s->room, c->iov + c->out_count, c->in_count * sizeof *s->room);
	if (s->tag != WH_P9_NOTAG)
		wh_store_le16(to + 5, our_tag(p, s));
	if (to[4] == WH_P9_TFLUSH && size >= 9) {
		struct slot *old = by_guest_tag(p, wh_load_le16(to + 7));
		wh_store_le16(to + 7, old && old != s ? our_tag(p, old) : WH_P9_NOTAG);
	}
	p->out_size += size;
	return true;
}

static void notify(void *ctx, uint32_t queue)
{
	struct wh_dev_9p_relay *p = ctx;
	while (p->dev.running && !p->dead) {
		struct slot *s = slot_get(p);
		struct wh_iov iov[QUEUE_SIZE];
		struct wh_virtq_chain c = { .iov = iov, .iov_max = QUEUE_SIZE };
		p->starved = !s || p->out_size + WH_P9_MSIZE_MAX > OUT_MAX;
		if (p->starved || !wh_virtio_pop(&p->dev, queue, &c))
			break;
		if (!forward(p, s, &c)) {
			wh_virtio_broken(&p->dev, "not a 9P message");
			break;
		}
	}
	if (!p->dead && p->out_size)
		send_out(p);
}

/* ---- answers ---- */

static struct slot *slot_of_answer(struct wh_dev_9p_relay *p, const uint8_t *m)
{
	uint16_t tag = wh_p9_tag(m);
	if (tag == WH_P9_NOTAG) {
		for (unsigned i = 0; i < QUEUE_SIZE; i++)
			if (p->slots[i].used && p->slots[i].tag == WH_P9_NOTAG)
				return &p->slots[i];
		return NULL;
	}
	struct slot *s = &p->slots[tag & (QUEUE_SIZE - 1)];
	return s->used && our_tag(p, s) == tag ? s : NULL;
}

static bool answer(struct wh_dev_9p_relay *p, uint8_t *m, uint32_t size)
{
	struct slot *s = slot_of_answer(p, m);
	if (!s)
		return false;
	s->used = false;
	if (s->dropped)
		return true;
	if (size > wh_iov_size(s->room, s->room_count))
		return false;
	wh_store_le16(m + 5, s->tag);
	wh_iov_write(s->room, s->room_count, 0, m, size);
	wh_virtio_push(&p->dev, 0, s->head, size);
	return true;
}

static void on_answers(struct wh_dev_9p_relay *p)
{
	ssize_t n = read(p->watch.fd, p->in + p->in_size, WH_P9_MSIZE_MAX - p->in_size);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		end(p, "the 9P server is gone");
		return;
	}
	p->in_size += (size_t)n;
	size_t at = 0;
	while (p->in_size - at >= WH_P9_HEADER_SIZE) {
		uint32_t size = wh_load_le32(p->in + at);
		if (size < WH_P9_HEADER_SIZE || size > WH_P9_MSIZE_MAX) {
			end(p, "not a 9P answer");
			return;
		}
		if (size > p->in_size - at)
			break;
		if (!answer(p, p->in + at, size)) {
			end(p, "an answer to nothing");
			return;
		}
		at += size;
	}
	memmove(p->in, p->in + at, p->in_size - at);
	p->in_size -= at;
	wh_virtio_raise(&p->dev, 0);
}

static void on_socket(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_dev_9p_relay *p = watch->ctx;
	if (events & WH_LOOP_WRITE)
		send_out(p);
	if (!p->dead && events & (WH_LOOP_READ | WH_LOOP_HANGUP))
		on_answers(p);
	if (!p->dead && p->starved)
		notify(p, 0);
}

static bool reset(void *ctx)
{
	struct wh_dev_9p_relay *p = ctx;
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		p->slots[i].dropped = p->slots[i].used;
	return true;
}

int wh_dev_9p_relay_new(const struct wh_dev_9p_relay_config *config, struct wh_vmm_machine *machine,
			struct wh_dev_9p_relay **ret_relay, struct wh_diag *diag)
{
	static const struct wh_virtio_ops ops = { .notify = notify, .reset = reset };
	size_t tag_size = strlen(config->tag);
	if (!tag_size || tag_size >= WH_BOOT_NAME_SIZE)
		return wh_diag_set(diag, -WH_EINVAL, "mount tag %s: 1 to %u bytes", config->tag,
				   WH_BOOT_NAME_SIZE - 1);
	struct wh_dev_9p_relay *p = calloc(1, sizeof *p);
	if (p) {
		p->out = malloc(OUT_MAX);
		p->in = malloc(WH_P9_MSIZE_MAX);
	}
	if (!p || !p->out || !p->in) {
		wh_dev_9p_relay_free(p);
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for %s", config->tag);
	}
	struct wh_virtio_config v = { .virtio_id = WH_VIRTIO_ID_9P,
				      .queue_count = 1,
				      .queue_size_max = QUEUE_SIZE,
				      .features = WH_VIRTIO_9P_F_MOUNT_TAG,
				      .ops = &ops,
				      .ctx = p,
				      .log = config->log };
	p->loop = config->loop;
	wh_virtio_init(&p->dev, &v);
	wh_store_le16(p->dev.config + WH_VIRTIO_9P_CONFIG_TAG_LEN, (uint16_t)tag_size);
	memcpy(p->dev.config + WH_VIRTIO_9P_CONFIG_TAG, config->tag, tag_size);
	p->watch = (struct wh_loop_fd){
		.fd = config->fd, .events = WH_LOOP_READ, .fn = on_socket, .ctx = p
	};
	int r = wh_loop_add(p->loop, &p->watch);
	if (r < 0)
		wh_diag_set(diag, r, "%s: the event loop takes no more descriptors", config->tag);
	else
		r = wh_virtio_attach(&p->dev, machine, config->tag, diag);
	if (r < 0) {
		p->dead = true;
		wh_loop_remove(p->loop, &p->watch);
		wh_dev_9p_relay_free(p);
		return r;
	}
	*ret_relay = p;
	return 0;
}

void wh_dev_9p_relay_free(struct wh_dev_9p_relay *p)
{
	if (!p)
		return;
	if (p->loop && !p->dead) {
		wh_loop_remove(p->loop, &p->watch);
		close(p->watch.fd);
	}
	free(p->out);
	free(p->in);
	free(p);
}
