/* SPDX-License-Identifier: ISC */
/*
 * virtio-console: guest -> standard output and error, standard input -> guest.
 *
 * Output. Chains are written in order and completed in order, one at a time (`now`). The
 * bytes go straight from guest memory to write(). The descriptors are usually
 * blocking and shared with a shell, so their mode is not ours to change: what cannot block is
 * written at once (files, null devices), the rest is asked first with poll() and gets at most
 * PIPE_BUF bytes, which a pipe or terminal that polls writable takes whole. When it does not, we
 * wait in the loop; the ring fills up and the guest waits.
 *
 * Input. A watch exists only while the guest has a buffer on offer and input has not ended.
 * Files cannot be watched with epoll: they are read when a buffer is offered.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wherry/abi/console.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/dev_console.h>
#include <wherry/virtio.h>

#define QUEUE_SIZE 64u
#define QUEUE_RX 0u
#define QUEUE_TX 1u
#define IOV_MAX_WRITE 16 /* entries of one write; the rest follows */

struct stream {
	int fd;    /* -1 = thrown away */
	int own;   /* opened by us, or -1 */
	bool file; /* never blocks and cannot be watched */
	bool watched;
	struct wh_loop_fd watch;
};

struct wh_dev_console {
	struct wh_virtio_device dev;
	struct wh_dev_console_config c;
	struct wh_loop *loop;
	struct stream in, out[2];
	bool in_ended;
	bool took_typed;
	uint32_t typed; /* bytes of wh_dev_console_type that wait */
	char typed_text[WH_DEV_CONSOLE_TYPED_MAX];

	/* The output chain in hand. */
	bool have;
	struct wh_virtq_chain now;
	struct stream *now_to; /* NULL = dropped */
	size_t now_done;       /* bytes of the chain behind us, header included */
	struct wh_iov iov[QUEUE_SIZE], rx_iov[QUEUE_SIZE];
};

static void watch_off(struct wh_dev_console *c, struct stream *s)
{
	if (s->watched)
		wh_loop_remove(c->loop, &s->watch);
	s->watched = false;
}

/* false = it cannot be watched */
static bool watch_on(struct wh_dev_console *c, struct stream *s)
{
	if (!s->watched)
		s->watched = wh_loop_add(c->loop, &s->watch) >= 0;
	return s->watched;
}

static void stream_close(struct wh_dev_console *c, struct stream *s, int error)
{
	watch_off(c, s);
	s->fd = -1;
	if (c->c.output_closed)
		c->c.output_closed(c->c.ctx, s == &c->out[0] ? 1 : 2, error);
}

/* Writes what is left of the chain in hand. true = it is done or dropped; false = the
 * descriptor takes no more now. */
static bool write_now(struct wh_dev_console *c)
{
	while (c->now_to && c->now_to->fd >= 0 && c->now_done < c->now.out_size) {
		struct stream *s = c->now_to;
		struct wh_iov part[IOV_MAX_WRITE];
		size_t size = c->now.out_size - c->now_done;
		if (!s->file) {
			struct pollfd p = { .fd = s->fd, .events = POLLOUT };
			if (poll(&p, 1, 0) == 0)
				return false;
			size = size < PIPE_BUF ? size : PIPE_BUF;
		}
		int n = wh_iov_slice(c->now.iov, c->now.out_count, c->now_done, size, part,
				     IOV_MAX_WRITE);
		if (n == -WH_E2BIG) { /* many tiny buffers: one at a time */
			n = 1;
			(void)wh_iov_slice(c->now.iov, c->now.out_count, c->now_done, 1, part, 1);
		}
		wh_assert(n > 0);
		ssize_t r = writev(s->fd, (const struct iovec *)part, n);
		if (r >= 0)
			c->now_done += (size_t)r;
		else if (errno == EAGAIN)
			return false;
		else if (errno != EINTR)
			stream_close(c, s, -errno);
	}
	return true;
}

static void show_copy(struct wh_dev_console *c)
{
	size_t skip = c->now_done;
	for (uint32_t i = 0; c->c.copy && i < c->now.out_count; i++) {
		const struct wh_iov *v = &c->now.iov[i];
		size_t off = skip < v->size ? skip : v->size;
		skip -= off;
		if (v->size > off)
			c->c.copy(c->c.ctx, (const char *)v->base + off, v->size - off);
	}
}

/* Takes the next chain in hand; false = none. */
static bool next_chain(struct wh_dev_console *c)
{
	struct wh_console_header header = { .stream = WH_CONSOLE_STDOUT };
	c->now = (struct wh_virtq_chain){ .iov = c->iov, .iov_max = QUEUE_SIZE };
	if (!wh_virtio_pop(&c->dev, QUEUE_TX, &c->now))
		return false;
	c->have = true;
	c->now_done = 0;
	if (wh_virtio_has(&c->dev, WH_CONSOLE_F_STREAMS)) {
		c->now_done = sizeof header;
		if (wh_iov_read(c->now.iov, c->now.out_count, 0, &header, sizeof header) <
		    sizeof header)
			header.stream = 0;
	}
	c->now_to = header.stream == WH_CONSOLE_STDOUT   ? &c->out[0]
		    : header.stream == WH_CONSOLE_STDERR ? &c->out[1]
							 : 0;
	if (c->now_to)
		show_copy(c);
	return true;
}

/* Writes chains until the ring is empty (true) or a descriptor is full (false). */
static bool transmit(struct wh_dev_console *c)
{
	uint32_t left = WH_VIRTIO_TURN;
	bool done = true;
	while (left && (c->have || next_chain(c))) {
		done = write_now(c);
		if (!done)
			break;
		c->have = false;
		wh_virtio_push(&c->dev, QUEUE_TX, c->now.head, 0);
		left--;
	}
	if (!left)
		wh_virtio_again(&c->dev, QUEUE_TX);
	wh_virtio_raise(&c->dev, QUEUE_TX);
	return done;
}

static void transmit_or_wait(struct wh_dev_console *c)
{
	while (!transmit(c)) {
		if (watch_on(c, c->now_to))
			return;
		c->now_to->file = true; /* epoll refuses it: it is of a kind that does not block */
	}
	watch_off(c, &c->out[0]);
	watch_off(c, &c->out[1]);
}

static void out_ready(struct wh_loop_fd *watch, uint32_t events)
{
	transmit_or_wait(watch->ctx);
}

/* Bytes read, 0 = the end, -WH_EAGAIN = nothing now. */
static ssize_t read_in(struct wh_dev_console *c, const struct wh_virtq_chain *chain)
{
	struct pollfd p = { .fd = c->in.fd, .events = POLLIN };
	if (c->typed) {
		const struct wh_iov *to = &chain->iov[chain->out_count];
		size_t n = wh_iov_write(to, chain->in_count, 0, c->typed_text, c->typed);
		c->typed -= (uint32_t)n;
		memmove(c->typed_text, c->typed_text + n, c->typed);
		c->took_typed = true;
		return (ssize_t)n;
	}
	if (c->in.fd < 0)
		return 0;
	if (!c->in.file && poll(&p, 1, 0) == 0)
		return -WH_EAGAIN;
	ssize_t r = readv(c->in.fd, (const struct iovec *)&chain->iov[chain->out_count],
			  (int)chain->in_count);
	if (r < 0)
		return errno == EAGAIN || errno == EINTR ? -WH_EAGAIN : 0;
	return r;
}

/* Fills buffers from standard input while it has something. A plain driver does not know the
 * end of input: it simply gets no more. */
static void receive(struct wh_dev_console *c)
{
	struct wh_virtq_chain chain = { .iov = c->rx_iov, .iov_max = QUEUE_SIZE };
	bool streams = wh_virtio_has(&c->dev, WH_CONSOLE_F_STREAMS), wait = false;
	while (!wait && !c->in_ended && wh_virtio_pop(&c->dev, QUEUE_RX, &chain)) {
		ssize_t r = chain.in_count ? read_in(c, &chain) : -WH_EINVAL;
		wait = r == -WH_EAGAIN;
		c->in_ended = r == 0;
		if (wait || (c->in_ended && !streams))
			wh_virtq_device_unpop(&c->dev.queue[QUEUE_RX], 1);
		else
			wh_virtio_push(&c->dev, QUEUE_RX, chain.head, r > 0 ? (uint32_t)r : 0);
	}
	wh_virtio_raise(&c->dev, QUEUE_RX);
	if (!wait) {
		watch_off(c, &c->in);
	} else if (!watch_on(c, &c->in)) { /* epoll refuses it: it does not block */
		c->in.file = true;
		receive(c);
	}
	bool took = c->took_typed;
	c->took_typed = false;
	if (took && c->c.room)
		c->c.room(c->c.ctx);
}

size_t wh_dev_console_type(struct wh_dev_console *c, const char *text, size_t size)
{
	size_t room = sizeof c->typed_text - c->typed;
	if (c->in_ended)
		return size; /* nobody will read it */
	if (size > room)
		size = room;
	memcpy(c->typed_text + c->typed, text, size);
	c->typed += (uint32_t)size;
	receive(c);
	return size;
}

static void in_ready(struct wh_loop_fd *watch, uint32_t events)
{
	receive(watch->ctx);
}

static void notify(void *ctx, uint32_t queue)
{
	struct wh_dev_console *c = ctx;
	if (queue == QUEUE_TX)
		transmit_or_wait(c);
	else
		receive(c);
}

static bool reset(void *ctx)
{
	struct wh_dev_console *c = ctx;
	c->have = false;
	watch_off(c, &c->in);
	watch_off(c, &c->out[0]);
	watch_off(c, &c->out[1]);
	return true;
}

static void drain(void *ctx)
{
	struct wh_dev_console *c = ctx;
	while (!transmit(c)) {
		struct pollfd p = { .fd = c->now_to->fd, .events = POLLOUT };
		int r = poll(&p, 1, WH_DEV_CONSOLE_DRAIN_MS);
		if (r == 0 || (r < 0 && errno != EINTR))
			break;
	}
	(void)reset(c);
}

/* A terminal may poll writable and still block in write (Ctrl-S): it gets a description of our own
 * in non-blocking mode. Where that is refused, the one we were given has to do. */
static int reopen(struct stream *s, int fd, uint32_t events)
{
	char path[40];
	wh_format(path, sizeof path, "/proc/self/fd/%d", fd);
	s->own = open(path, (events & WH_LOOP_READ ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY |
				    O_CLOEXEC);
	return s->own >= 0 ? s->own : fd;
}

static void stream_fini(struct stream *s)
{
	if (s->own >= 0)
		close(s->own);
}

static void console_free(struct wh_dev_console *c)
{
	stream_fini(&c->in);
	stream_fini(&c->out[0]);
	stream_fini(&c->out[1]);
	free(c);
}

static void stream_init(struct wh_dev_console *c, struct stream *s, int fd, uint32_t events,
			void (*fn)(struct wh_loop_fd *, uint32_t))
{
	struct stat st;
	s->own = -1;
	if (fd >= 0 && fstat(fd, &st) == 0) {
		bool memory =
			S_ISCHR(st.st_mode) && major(st.st_rdev) == 1; /* /dev/null, zero... */
		s->file = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || memory;
		if (S_ISCHR(st.st_mode) && !memory)
			fd = reopen(s, fd, events);
	}
	s->fd = fd;
	s->watch = (struct wh_loop_fd){ .fd = fd, .events = events, .fn = fn, .ctx = c };
}

static void size_store(struct wh_dev_console *c, uint16_t cols, uint16_t rows)
{
	uint8_t b[WH_VIRTIO_CONSOLE_CONFIG_SIZE];
	wh_store_le16(b + WH_VIRTIO_CONSOLE_CONFIG_COLS, cols);
	wh_store_le16(b + WH_VIRTIO_CONSOLE_CONFIG_ROWS, rows);
	wh_virtio_config_set(&c->dev, 0, b, sizeof b);
}

int wh_dev_console_new(const struct wh_dev_console_config *config, struct wh_vmm_machine *machine,
		       struct wh_loop *loop, struct wh_dev_console **ret_console,
		       struct wh_diag *diag)
{
	static const struct wh_virtio_ops ops = { .notify = notify,
						  .reset = reset,
						  .drain = drain };
	struct wh_dev_console *c = calloc(1, sizeof *c);
	if (!c)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the console");
	struct wh_virtio_config v = { .virtio_id = WH_VIRTIO_ID_CONSOLE,
				      .queue_count = 2,
				      .queue_size_max = QUEUE_SIZE,
				      .features = WH_CONSOLE_F_STREAMS,
				      .ops = &ops,
				      .ctx = c,
				      .log = config->log };
	if (config->cols && config->rows)
		v.features |= WH_VIRTIO_CONSOLE_F_SIZE;
	c->c = *config;
	c->loop = loop;
	stream_init(c, &c->in, config->stdin_fd, WH_LOOP_READ, in_ready);
	stream_init(c, &c->out[0], config->stdout_fd, WH_LOOP_WRITE, out_ready);
	stream_init(c, &c->out[1], config->stderr_fd, WH_LOOP_WRITE, out_ready);
	wh_virtio_init(&c->dev, &v);
	size_store(c, config->cols, config->rows);
	int r = wh_virtio_attach(&c->dev, machine, "", diag);
	if (r < 0) {
		console_free(c);
		return r;
	}
	*ret_console = c;
	return 0;
}

void wh_dev_console_resize(struct wh_dev_console *console, uint16_t cols, uint16_t rows)
{
	size_store(console, cols, rows);
}

void wh_dev_console_free(struct wh_dev_console *console)
{
	if (!console)
		return;
	(void)reset(console);
	console_free(console);
}
