/* SPDX-License-Identifier: ISC */
/*
 * Solo5 guests inside a program: made and ended over and over, with every allocation and descriptor failing once; nothing is left. The
 * linker (--wrap) leads the calls of the library here.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/solo5.h>
#include <wherry/test.h>

#define CYCLES 200

static const char *path;
static long left = -1; /* calls until one fails; -1 = none does */

static bool due(void)
{
	return left >= 0 && left-- == 0;
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
	return due() ? NULL : __real_calloc(count, size);
}

#define WRAP(name, parameters, arguments)       \
	int __real_##name parameters;           \
	int __wrap_##name parameters;           \
	int __wrap_##name parameters            \
	{                                       \
		if (due()) {                    \
			errno = EMFILE;         \
			return -1;              \
		}                               \
		return __real_##name arguments; \
	}
WRAP(memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP(eventfd, (unsigned value, int flags), (value, flags))
WRAP(ftruncate64, (int fd, off_t size), (fd, size))
WRAP(epoll_create1, (int flags), (flags))
WRAP(epoll_ctl, (int fd, int op, int other, struct epoll_event *e), (fd, op, other, e))
WRAP(timerfd_create, (int clock, int flags), (clock, flags))
WRAP(pipe2, (int *end, int flags), (end, flags))
WRAP(socketpair, (int domain, int type, int protocol, int *end), (domain, type, protocol, end))

struct life {
	struct wh_loop *loop;
	struct wh_vmm_exit how;
	bool ended;
	size_t text;
};

static void text_came(void *ctx, const char *text, size_t size)
{
	struct life *l = ctx;
	l->text += size;
}

static int block(void *ctx, uint32_t handle, bool write, uint64_t offset, void *data, size_t size)
{
	CHECK(handle == 1 && offset + size <= 65536);
	return 0;
}

static int net_write(void *ctx, uint32_t handle, const void *frame, size_t size)
{
	return 0;
}

static int net_read(void *ctx, uint32_t handle, void *frame, size_t size)
{
	return -WH_EAGAIN;
}

static uint64_t net_ready(void *ctx)
{
	return 0;
}

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct life *l = ctx;
	l->how = *how;
	l->ended = true;
	wh_loop_stop(l->loop, 0);
}

/* The guest's status, or -errno. */
static int whole_life(const char *line, bool kill)
{
	static const struct wh_vmm_solo5_ops ops = { text_came, block, net_write, net_read,
						     net_ready };
	struct life l = { .loop = NULL };
	struct wh_vmm_solo5 *solo5 = NULL;
	struct wh_vmm_solo5_device *d;
	struct wh_vmm_machine *m = NULL;
	struct wh_diag diag = { "" };
	int error = wh_vmm_solo5_open(path, &solo5, &diag);
	for (uint32_t i = 1; error >= 0 && (d = wh_vmm_solo5_device(solo5, i)); i++) {
		d->attached = true;
		d->capacity = 65536;
		d->block_size = 512;
		d->mtu = 1500;
	}
	struct wh_vmm_solo5_config config = { .size = sizeof config,
					      .memory_size = 4 << 20,
					      .command_line = line,
					      .ops = &ops,
					      .ops_ctx = &l,
					      .exited = ended,
					      .ctx = &l,
					      .sandbox = WH_VMM_SANDBOX_MINIMAL };
	if (error >= 0)
		error = wh_loop_new(&l.loop);
	if (error >= 0)
		error = wh_vmm_machine_new_solo5(&config, solo5, l.loop, &m, &diag);
	if (error >= 0)
		error = wh_vmm_machine_start(m, &diag);
	if (error >= 0 && kill)
		wh_vmm_machine_kill(m);
	if (error >= 0)
		error = wh_loop_run(l.loop);
	if (error >= 0)
		error = l.ended && l.how.kind == WH_BOOT_EXIT_STATUS ? l.how.value : -WH_EIO;
	if (kill && l.ended && l.how.host_signal == 9)
		error = 99;
	wh_vmm_machine_free(m);
	wh_vmm_solo5_close(solo5);
	wh_loop_free(l.loop);
	return error;
}

static unsigned descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static bool has_children(void)
{
	siginfo_t info = { 0 };
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 ||
	       errno != ECHILD;
}

static void leaves_nothing(void)
{
	unsigned before = descriptors();
	for (int i = 0; i < CYCLES; i++)
		CHECK_EQ(whole_life("Q", false), 5);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(whole_life("S", true), 99);
	CHECK_EQ(descriptors(), before);
	CHECK(!has_children());
}

static void survives_each_failure(void)
{
	unsigned before = descriptors();
	for (long i = 0; i < 1000; i++) {
		left = i;
		int result = whole_life("Q", false);
		bool over = left >= 0;
		left = -1;
		CHECK_EQ(descriptors(), before);
		CHECK(!has_children());
		if (over) {
			CHECK_EQ(result, 5);
			CHECK(i >= 15); /* as many can fail */
			return;
		}
		CHECK(result < 0 ||
		      result == 5); /* a disk that nobody answers for is not used here */
	}
	test_fail(__FILE__, __LINE__, "never got through");
}

int main(int argc, char **argv)
{
	path = argv[1];
	RUN(leaves_nothing);
	RUN(survives_each_failure);
	return test_end();
}
