/* SPDX-License-Identifier: ISC */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <wherry/abi/console.h>
#include <wherry/base/errors.h>
#include <wherry/dev_console.h>
#include <wherry/dev_rng.h>

#include "fake_vmm.h"

static struct wh_loop *loop;
static struct wh_dev_console *console;
static int in[2], out[2], err[2]; /* pipes */
static int closed_stream;

static void output_closed(void *ctx, int stream, int error)
{
	closed_stream = stream;
}

static void set_up(uint64_t features)
{
	closed_stream = 0;
	CHECK_EQ(wh_loop_new(&loop), 0);
	CHECK(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC) && !pipe2(err, O_CLOEXEC));
	CHECK_EQ(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	struct wh_dev_console_config c = { .size = sizeof c,
					   .stdin_fd = in[0],
					   .stdout_fd = out[1],
					   .stderr_fd = err[1],
					   .cols = 80,
					   .rows = 25,
					   .output_closed = output_closed };
	CHECK_EQ(wh_dev_console_new(&c, fake_new(), loop, &console, NULL), 0);
	CHECK_EQ(fake.shm->magic, WH_SHM_MAGIC);
	CHECK_EQ(fake.shm->config[0], 80);
	fake_start(features, 16);
	CHECK(!fake_broken());
}

static void tear_down(void)
{
	wh_dev_console_free(console);
	wh_loop_free(loop);
	fake_free();
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
		close(err[i]);
	}
}

static uint8_t *say(uint32_t at, int stream, const char *text)
{
	uint8_t *p = fake.ram + FAKE_DATA + at;
	struct wh_iov v[2] = { { p, 4 + 1 }, { p + 5, strlen(text) - 1 } };
	memset(p, 0, 4);
	p[0] = (uint8_t)stream;
	memcpy(p + 4, text, strlen(text));
	fake_send(1, v, 2, 0, p);
	return p;
}

static void got(int fd, const char *text)
{
	char b[100] = "";
	ssize_t n = read(fd, b, sizeof b - 1);
	CHECK_EQ(n, (long)strlen(text));
	CHECK_STR(b, text);
}

static void two_streams(void)
{
	set_up(WH_CONSOLE_F_STREAMS | WH_VIRTQ_F_EVENT_IDX);
	void *cookie;
	uint32_t written;
	uint8_t *a = say(0, 1, "hello"), *b = say(100, 2, "oops"), *c = say(200, 7, "nobody");
	got(out[0], "hello");
	got(err[0], "oops");
	CHECK_EQ(fake_get(1, &cookie, &written), 1);
	CHECK(cookie == a);
	CHECK_EQ(fake_get(1, &cookie, &written), 1);
	CHECK(cookie == b);
	CHECK_EQ(fake_get(1, &cookie, &written), 1);
	CHECK(cookie == c);
	CHECK_EQ(fake.shm->interrupt, 1);
	struct wh_iov tiny = { fake.ram + FAKE_DATA, 2 }; /* shorter than the header */
	CHECK_EQ(fake_ask(1, &tiny, 1, 0), 0);
	CHECK(!fake_broken());
	tear_down();
}

static void plain(void)
{
	set_up(0);
	struct wh_iov v = { fake.ram + FAKE_DATA, 3 };
	memcpy(v.base, "raw", 3);
	CHECK_EQ(fake_ask(1, &v, 1, 0), 0);
	got(out[0], "raw");
	tear_down();
}

static void input(void)
{
	set_up(WH_CONSOLE_F_STREAMS);
	void *cookie;
	uint32_t written;
	struct wh_iov v[2] = { { fake.ram + FAKE_DATA, 3 }, { fake.ram + FAKE_DATA + 64, 3 } };
	CHECK_EQ(write(in[1], "abcd", 4), 4);
	CHECK_EQ(wh_loop_step(loop, 0), 0); /* not touched before it is asked for */
	CHECK_EQ(fake_ask(0, &v[0], 0, 1), 3);
	CHECK_MEM(v[0].base, "abc", 3);
	fake_send(0, &v[0], 0, 1, &v[0]);
	fake_send(0, &v[1], 0, 1, &v[1]);
	CHECK_EQ(fake_get(0, &cookie, &written), 1);
	CHECK(cookie == &v[0]);
	CHECK_EQ(written, 1);
	CHECK_EQ(fake_get(0, &cookie, &written), 0);
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	CHECK_EQ(write(in[1], "xyz", 3), 3);
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	CHECK_EQ(fake_get(0, &cookie, &written), 1);
	CHECK(cookie == &v[1]);
	CHECK_EQ(written, 3);
	fake_send(0, &v[0], 0, 1, &v[0]);
	fake_send(0, &v[1], 0, 1, &v[1]);
	close(in[1]);
	in[1] = -1;
	CHECK_EQ(wh_loop_step(loop, 0), 1);
	CHECK_EQ(fake_get(0, &cookie, &written), 1);
	CHECK_EQ(written, 0);
	CHECK_EQ(fake_get(0, &cookie, &written), 0); /* the end is told once */
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	tear_down();
}

/* A reader that takes nothing leaves chains in the ring and does not block us; when it
 * reads, all bytes come in order; what is left at the guest's end is drained. */
static void slow_reader(void)
{
	static uint8_t seen[1 << 20];
	size_t sent = 0, read_bytes = 0;
	void *cookie;
	uint32_t written;
	set_up(WH_CONSOLE_F_STREAMS);
	uint8_t *p = fake.ram + FAKE_DATA;
	memset(p, 0, 4);
	p[0] = 1;
	for (uint32_t i = 0; i < 60000; i++)
		p[4 + i] = (uint8_t)(i * 7);
	struct wh_iov v = { p, 60004 };
	for (int i = 0; i < 4; i++) {
		fake_send(1, &v, 1, 0, p);
		sent += 60000;
	}
	CHECK_EQ(fake_get(1, &cookie, &written), 1); /* the pipe took one */
	CHECK_EQ(fake_get(1, &cookie, &written), 0);
	CHECK_EQ(wh_loop_step(loop, 0), 0);
	for (int i = 0; i < 200 && read_bytes < 180000; i++) {
		ssize_t n = read(out[0], seen + read_bytes, 4096);
		if (n > 0)
			read_bytes += (size_t)n;
		(void)wh_loop_step(loop, 0);
	}
	while (fake_get(1, &cookie, &written) > 0)
		;
	fake.slot.ops.drain(fake.slot.ctx);
	for (ssize_t n; (n = read(out[0], seen + read_bytes, 65536)) > 0;)
		read_bytes += (size_t)n;
	CHECK_EQ(read_bytes, sent);
	for (size_t i = 0; i < sent; i++)
		CHECK_EQ(seen[i], (uint8_t)(i % 60000 * 7));
	tear_down();
}

static void reader_gone(void)
{
	set_up(WH_CONSOLE_F_STREAMS);
	void *cookie;
	uint32_t written;
	close(err[0]);
	say(0, 2, "lost");
	CHECK_EQ(closed_stream, 2);
	say(0, 2, "lost as well");
	say(200, 1, "kept");
	got(out[0], "kept");
	for (int i = 0; i < 3; i++)
		CHECK_EQ(fake_get(1, &cookie, &written), 1);
	err[0] = -1;
	tear_down();
}

static void files(void)
{
	FILE *f = tmpfile();
	int null = open("/dev/null", O_RDWR);
	CHECK(f && null >= 0);
	CHECK_EQ(fwrite("0123456789", 1, 10, f), 10);
	rewind(f);
	CHECK_EQ(wh_loop_new(&loop), 0);
	struct wh_dev_console_config c = {
		.size = sizeof c, .stdin_fd = fileno(f), .stdout_fd = null, .stderr_fd = -1
	};
	CHECK_EQ(wh_dev_console_new(&c, fake_new(), loop, &console, NULL), 0);
	fake_start(WH_CONSOLE_F_STREAMS, 16);
	say(0, 1, "to the null device");
	say(100, 2, "to nobody");
	void *cookie;
	uint32_t written;
	CHECK_EQ(fake_get(1, &cookie, &written), 1);
	CHECK_EQ(fake_get(1, &cookie, &written), 1);
	struct wh_iov v[2] = { { fake.ram + FAKE_DATA + 500, 8 },
			       { fake.ram + FAKE_DATA + 600, 8 } };
	CHECK_EQ(fake_ask(0, v, 0, 2), 10);
	CHECK_MEM(v[1].base, "89", 2);
	CHECK_EQ(fake_ask(0, v, 0, 2), 0);
	wh_dev_console_free(console);
	wh_loop_free(loop);
	fake_free();
	fclose(f);
	close(null);
}

/* ---- the transport, with the console as its device ---- */

static void registers_are_not_believed(void)
{
	set_up(WH_CONSOLE_F_STREAMS);
	memset(fake.shm, 0xff, sizeof *fake.shm);
	fake.shm->kick = 0x7fffffff;
	fake.slot.ops.kicked(fake.slot.ctx);
	say(0, 1, "still here");
	got(out[0], "still here");
	tear_down();
}

static void bad_starts(void)
{
	for (int i = 0; i < 5; i++) {
		set_up(WH_CONSOLE_F_STREAMS);
		fake_reset();
		CHECK_EQ(fake.shm->reset_ack, fake.shm->reset_count);
		if (i == 0)
			fake.shm->driver_features |= 1ull << 50;
		else if (i == 1)
			fake.shm->driver_features = 0;
		else if (i == 2)
			fake.shm->queue[1].size = 32768;
		else if (i == 3)
			fake.shm->queue[0].desc = FAKE_RAM_START + FAKE_RAM_SIZE - 16;
		else
			fake.shm->queue[0].device = UINT64_MAX - 3;
		fake.shm->status = WH_VIRTIO_STATUS_DRIVER_OK;
		fake_kick(3);
		CHECK(fake_broken());
		CHECK(fake.shm->interrupt & 2);
		fake_reset(); /* and a reset brings it back */
		fake_start(WH_CONSOLE_F_STREAMS, 16);
		say(0, 1, "back");
		got(out[0], "back");
		tear_down();
	}
}

static void bad_chain(void)
{
	set_up(WH_CONSOLE_F_STREAMS);
	struct wh_iov v = { fake.ram - 4096, 100 };
	void *cookie;
	uint32_t written;
	fake_send(1, &v, 1, 0, &v);
	CHECK(fake_broken());
	CHECK_EQ(fake_get(1, &cookie, &written), 0);
	say(0, 1, "silence");
	CHECK_EQ(fake_get(1, &cookie, &written), 0);
	tear_down();
}

static void random_bytes(void)
{
	struct wh_dev_rng *rng;
	CHECK_EQ(wh_dev_rng_new(fake_new(), NULL, &rng, NULL), 0);
	fake_start(0, 16);
	struct wh_iov v[2] = { { fake.ram + FAKE_DATA, 100 },
			       { fake.ram + FAKE_DATA + 4096, 200000 } };
	CHECK_EQ(fake_ask(0, v, 0, 2), 4096); /* bounded */
	uint8_t *p = v[1].base;
	CHECK(p[0] | p[1] | p[2] | p[3] | p[4] | p[5] | p[6] | p[7]);
	CHECK_EQ(p[4000], 0);
	CHECK_EQ(fake_ask(0, v, 1, 0), 0); /* nothing to write to */
	wh_dev_rng_free(rng);
	fake_free();
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	RUN(two_streams);
	RUN(plain);
	RUN(input);
	RUN(slow_reader);
	RUN(reader_gone);
	RUN(files);
	RUN(registers_are_not_believed);
	RUN(bad_starts);
	RUN(bad_chain);
	RUN(random_bytes);
	return test_end();
}
