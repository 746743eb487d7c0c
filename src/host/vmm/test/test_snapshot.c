/* SPDX-License-Identifier: ISC */
/* Pause, snapshot and copies with a real image (tests/guest/copies.c) behind a console. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/dev_console.h>
#include <wherry/test.h>
#include <wherry/vmm.h>

#define COPIES 20
#define ANSWER_MS 20000

static const char *image_path;

struct guest {
	int ours, theirs;
	struct wh_loop *loop;
	struct wh_vmm_machine *machine;
	struct wh_dev_console *console;
	struct wh_vmm_exit how;
	int ended;
};

struct answer {
	int count;
	unsigned long long random;
	long long real_s, mono_ms;
};

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct guest *g = ctx;
	g->how = *how;
	g->ended++;
}

/* A fresh guest of `image`, or a copy. */
static int make(struct guest *g, struct wh_vmm_image *image, struct wh_vmm_snapshot *snapshot,
		struct wh_diag *diag)
{
	static const char *const argv[] = { "guest", NULL }, *const envp[] = { NULL };
	int pair[2];
	struct wh_vmm_config config = { .size = sizeof config,
					.engine = WH_VMM_ENGINE_PROC,
					.memory_size = 4 << 20,
					.argv = argv,
					.envp = envp,
					.exited = ended,
					.ctx = g };
	struct wh_dev_console_config console = { .size = sizeof console };
	*g = (struct guest){ 0 };
	CHECK_EQ(wh_loop_new(&g->loop), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	g->ours = pair[0];
	g->theirs = console.stdin_fd = console.stdout_fd = console.stderr_fd = pair[1];
	int error = snapshot ? wh_vmm_machine_restore(&config, snapshot, g->loop, &g->machine, diag)
			     : wh_vmm_machine_new(&config, image, g->loop, &g->machine, diag);
	if (error >= 0)
		error = wh_dev_console_new(&console, g->machine, g->loop, &g->console, diag);
	if (error >= 0)
		error = wh_vmm_machine_start(g->machine, diag);
	return error;
}

static void end(struct guest *g)
{
	wh_vmm_machine_free(g->machine);
	wh_dev_console_free(g->console);
	wh_loop_free(g->loop);
	close(g->ours);
	close(g->theirs);
}

static void send_line(struct guest *g, const char *line)
{
	CHECK_EQ(write(g->ours, line, strlen(line)), (long)strlen(line));
}

/* false = no answer within the time. */
static bool receive(struct guest *g, struct answer *a, int ms)
{
	char text[128];
	struct timespec start, now;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		ssize_t n = recv(g->ours, text, sizeof text - 1, MSG_DONTWAIT);
		if (n > 0) {
			text[n] = 0;
			CHECK_EQ(sscanf(text, "%d %llx %lld %lld", &a->count, &a->random,
					&a->real_s, &a->mono_ms),
				 4);
			return true;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (g->ended ||
		    (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >
			    ms)
			return false;
		CHECK(wh_loop_step(g->loop, 10) >= 0);
	}
}

static struct answer ask(struct guest *g, const char *line)
{
	struct answer a = { 0 };
	send_line(g, line);
	if (!receive(g, &a, ANSWER_MS))
		test_fail(__FILE__, __LINE__, "no answer; ended %d kind %d value %d signal %d %s",
			  g->ended, (int)g->how.kind, g->how.value, g->how.host_signal,
			  g->how.message);
	return a;
}

static struct wh_vmm_image *open_image(void)
{
	struct wh_vmm_image *image = NULL;
	CHECK_EQ(wh_vmm_image_open(image_path, &image, NULL), 0);
	return image;
}

static int take(struct guest *g)
{
	struct wh_diag diag = { "" };
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	int error = wh_vmm_machine_snapshot(g->machine, fd, &diag);
	if (error < 0)
		test_fail(__FILE__, __LINE__, "snapshot: %d %s", error, diag.text);
	return fd;
}

static struct wh_vmm_snapshot *open_snapshot(int fd)
{
	struct wh_vmm_snapshot *s = NULL;
	struct wh_diag diag = { "" };
	if (wh_vmm_snapshot_open_fd(fd, &s, &diag) < 0)
		test_fail(__FILE__, __LINE__, "open: %s", diag.text);
	return s;
}

static void pauses_and_goes_on(void)
{
	struct wh_vmm_image *image = open_image();
	struct guest g;
	struct answer a;
	struct wh_diag diag = { "" };
	CHECK_EQ(make(&g, image, NULL, &diag), 0);
	CHECK_EQ(ask(&g, "a\n").count, 1);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(wh_vmm_machine_pause(g.machine, true, &diag), 0);
		CHECK(wh_vmm_machine_paused(g.machine));
		send_line(&g, "b\n");
		CHECK(!receive(&g, &a, 30));
		CHECK_EQ(wh_vmm_machine_pause(g.machine, false, &diag), 0);
		CHECK(receive(&g, &a, ANSWER_MS));
		CHECK_EQ(a.count, 2 + i);
	}
	CHECK_EQ(wh_vmm_machine_pause(g.machine, true, &diag), 0);
	end(&g); /* also while it stands still */
	wh_vmm_image_close(image);
}

static void copies_go_on_and_differ(void)
{
	struct wh_vmm_image *image = open_image();
	struct guest g, copy[COPIES];
	struct answer a[COPIES], before, after;
	uint64_t hz;
	struct wh_diag diag = { "" };
	CHECK_EQ(make(&g, image, NULL, &diag), 0);
	before = ask(&g, "a\n");
	int fd = take(&g);
	after = ask(&g, "b\n"); /* the original goes on */
	CHECK_EQ(after.count, 2);
	end(&g);
	wh_vmm_image_close(image);
	struct wh_vmm_snapshot *s = open_snapshot(fd);
	for (int i = 0; i < COPIES; i++) {
		int error = make(&copy[i], NULL, s, &diag);
		if (error < 0)
			test_fail(__FILE__, __LINE__, "restore: %d %s", error, diag.text);
	}
	for (int i = 0; i < COPIES; i++) {
		a[i] = ask(&copy[i], "b\n");
		CHECK_EQ(a[i].count, 2);
		CHECK(wh_vmm_machine_timeline(copy[i].machine, &hz)[WH_BOOT_STAGE_ENTRY]);
		CHECK(a[i].random != after.random);
		CHECK(a[i].mono_ms >= before.mono_ms && a[i].mono_ms < before.mono_ms + ANSWER_MS);
		CHECK(a[i].real_s - time(NULL) <= 1 && time(NULL) - a[i].real_s <= 20);
		for (int k = 0; k < i; k++)
			CHECK(a[i].random != a[k].random);
	}
	for (int i = 0; i < COPIES; i++) {
		CHECK_EQ(ask(&copy[i], "c\n").count, 3);
		shutdown(copy[i].ours, SHUT_WR);
		while (!copy[i].ended)
			CHECK(wh_loop_step(copy[i].loop, 1000) >= 0);
		CHECK_EQ(copy[i].how.kind, WH_BOOT_EXIT_STATUS);
		CHECK_EQ(copy[i].how.value, 3);
		end(&copy[i]);
	}
	wh_vmm_snapshot_close(s);
	close(fd);
}

/* Caught in the middle of arithmetic, and again from a copy of a copy. */
static void catches_a_guest_at_work(void)
{
	struct wh_vmm_image *image = open_image();
	struct guest g;
	struct wh_diag diag = { "" };
	struct wh_vmm_snapshot *s[4] = { NULL };
	int fd[4];
	CHECK_EQ(make(&g, image, NULL, &diag), 0);
	CHECK_EQ(ask(&g, "spin\n").count, 1);
	for (int i = 0; i < 4; i++) {
		if (i & 1)
			CHECK_EQ(wh_vmm_machine_pause(g.machine, true, &diag), 0);
		fd[i] = take(&g);
		if (i & 1)
			CHECK(wh_vmm_machine_paused(g.machine));
		end(&g);
		s[i] = open_snapshot(fd[i]);
		int error = make(&g, NULL, s[i], &diag);
		if (error < 0)
			test_fail(__FILE__, __LINE__, "restore: %d %s", error, diag.text);
		CHECK_EQ(ask(&g, "spin\n").count, 2 + i);
	}
	shutdown(g.ours, SHUT_WR);
	while (!g.ended)
		CHECK(wh_loop_step(g.loop, 1000) >= 0);
	CHECK_EQ(g.how.value, 5);
	end(&g);
	for (int i = 0; i < 4; i++) {
		wh_vmm_snapshot_close(s[i]);
		close(fd[i]);
	}
	wh_vmm_image_close(image);
}

static void refuses_bad_files(void)
{
	struct wh_vmm_image *image = open_image();
	struct guest g;
	struct wh_vmm_snapshot *s = NULL;
	struct wh_diag diag = { "" };
	struct stat st;
	CHECK_EQ(make(&g, image, NULL, &diag), 0);
	ask(&g, "a\n");
	int fd = take(&g);
	end(&g);
	CHECK_EQ(wh_vmm_snapshot_open_fd(fd, &s, &diag), 0);
	wh_vmm_snapshot_close(s);
	fstat(fd, &st);
	uint8_t *file = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(file != MAP_FAILED);
	for (int i = 0; i < 4096; i++) { /* any changed byte of the header */
		file[i] ^= 0x40;
		CHECK_EQ(wh_vmm_snapshot_open_fd(fd, &s, &diag), -WH_ENOEXEC);
		CHECK(diag.text[0]);
		file[i] ^= 0x40;
	}
	file[8]++; /* the version is named */
	CHECK_EQ(wh_vmm_snapshot_open_fd(fd, &s, &diag), -WH_ENOEXEC);
	CHECK(strstr(diag.text, "format 2"));
	file[8]--;
	for (off_t size = st.st_size - 1; size > 0; size -= 1 + size / 37) {
		CHECK_EQ(ftruncate(fd, size), 0);
		CHECK_EQ(wh_vmm_snapshot_open_fd(fd, &s, &diag), -WH_ENOEXEC);
	}
	munmap(file, (size_t)st.st_size);
	close(fd);
	wh_vmm_image_close(image);
}

/* A copy has to be given the devices that the original had. */
static void refuses_other_devices(void)
{
	struct wh_vmm_image *image = open_image();
	struct guest g;
	struct wh_diag diag = { "" };
	CHECK_EQ(make(&g, image, NULL, &diag), 0);
	ask(&g, "a\n");
	int fd = take(&g);
	end(&g);
	struct wh_vmm_snapshot *s = open_snapshot(fd);
	struct wh_vmm_config config = { .size = sizeof config };
	struct wh_vmm_machine *m;
	struct wh_loop *loop;
	CHECK_EQ(wh_loop_new(&loop), 0);
	CHECK_EQ(wh_vmm_machine_restore(&config, s, loop, &m, &diag), 0);
	CHECK_EQ(wh_vmm_machine_start(m, &diag), -WH_EINVAL);
	wh_vmm_machine_free(m);
	struct wh_vmm_slot *slot;
	struct wh_vmm_slot_config other = { .size = sizeof other,
					    .virtio_id = 4,
					    .queue_count = 1 };
	struct wh_vmm_slot_ops ops = { 0 };
	CHECK_EQ(wh_vmm_machine_restore(&config, s, loop, &m, &diag), 0);
	CHECK_EQ(wh_vmm_slot_add(m, &other, &ops, NULL, &slot, &diag), -WH_EINVAL);
	wh_vmm_machine_free(m);
	wh_loop_free(loop);
	wh_vmm_snapshot_close(s);
	close(fd);
	wh_vmm_image_close(image);
}

int main(int argc, char **argv)
{
	image_path = argv[1];
	RUN(pauses_and_goes_on);
	RUN(copies_go_on_and_differ);
	RUN(catches_a_guest_at_work);
	RUN(refuses_bad_files);
	RUN(refuses_other_devices);
	return test_end();
}
