/* SPDX-License-Identifier: ISC */
/*
 * The library inside a program of somebody else: several machines, made and ended over and over, on
 * threads, ahead of time, and with every allocation and system call failing once. The
 * linker (--wrap) leads the calls of the library here.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>
#include <wherry/vmm.h>

#define GUESTS 10
#define CYCLES 1000
#define THREADS 4

/* Sanitizers keep what was freed for a while. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static const char *guest_path;

/* ---- failure on order ---- */

static _Thread_local long allocations_left = -1, calls_left = -1; /* -1 = never fail */

static bool due(long *left)
{
	return *left >= 0 && (*left)-- == 0;
}

#define WRAP_ALLOCATION(type, name, parameters, arguments)                      \
	type __real_##name parameters;                                          \
	type __wrap_##name parameters;                                          \
	type __wrap_##name parameters                                           \
	{                                                                       \
		return due(&allocations_left) ? NULL : __real_##name arguments; \
	}
#define WRAP_CALL(name, parameters, arguments)  \
	int __real_##name parameters;           \
	int __wrap_##name parameters;           \
	int __wrap_##name parameters            \
	{                                       \
		if (due(&calls_left)) {         \
			errno = EMFILE;         \
			return -1;              \
		}                               \
		return __real_##name arguments; \
	}

WRAP_ALLOCATION(void *, malloc, (size_t size), (size))
WRAP_ALLOCATION(void *, calloc, (size_t count, size_t size), (count, size))
WRAP_ALLOCATION(void *, realloc, (void *old, size_t size), (old, size))
WRAP_CALL(memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP_CALL(eventfd, (unsigned value, int flags), (value, flags))
WRAP_CALL(ftruncate64, (int fd, off_t size), (fd, size))
WRAP_CALL(epoll_create1, (int flags), (flags))
WRAP_CALL(epoll_ctl, (int fd, int op, int other, struct epoll_event *e), (fd, op, other, e))

ssize_t __real_pread64(int fd, void *to, size_t size, off_t at);
ssize_t __wrap_pread64(int fd, void *to, size_t size, off_t at);
ssize_t __wrap_pread64(int fd, void *to, size_t size, off_t at)
{
	errno = EIO;
	return due(&calls_left) ? -1 : __real_pread64(fd, to, size, at);
}

void *__real_mmap64(void *where, size_t size, int access, int flags, int fd, off_t at);
void *__wrap_mmap64(void *where, size_t size, int access, int flags, int fd, off_t at);
void *__wrap_mmap64(void *where, size_t size, int access, int flags, int fd, off_t at)
{
	errno = ENOMEM;
	return due(&calls_left) ? MAP_FAILED : __real_mmap64(where, size, access, flags, fd, at);
}

/* ---- a guest ---- */

struct guest {
	struct wh_loop *loop;
	struct wh_vmm_image *image;
	struct wh_vmm_machine *machine;
	int ended, value;
};

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct guest *g = ctx;
	g->ended++;
	g->value = how->kind == WH_BOOT_EXIT_STATUS ? how->value : -1;
	wh_loop_stop(g->loop, 0);
}

static struct wh_vmm_config config_of(struct guest *g, const char *const *argv,
				      const char *const *envp)
{
	return (struct wh_vmm_config){ .size = sizeof(struct wh_vmm_config),
				       .engine = WH_VMM_ENGINE_PROC,
				       .argv = argv,
				       .envp = envp,
				       .exited = ended,
				       .ctx = g };
}

static int make(struct guest *g, const char *status, bool ahead, struct wh_diag *diag)
{
	const char *argv[] = { "guest", "exit", NULL }, *envp[] = { status, NULL };
	struct wh_vmm_config config = config_of(g, argv, envp);
	int fd = -1, error = 0;
	if (ahead) {
		error = fd = wh_vmm_image_file(guest_path, diag);
		if (fd >= 0)
			error = wh_vmm_spare_new(&config, fd, &config.spare, diag);
	}
	if (error >= 0)
		error = wh_vmm_image_open(guest_path, &g->image, diag);
	if (error >= 0) {
		error = wh_vmm_machine_new(&config, g->image, g->loop, &g->machine, diag);
		config.spare = NULL;
	}
	wh_vmm_spare_free(config.spare);
	if (error >= 0)
		error = wh_vmm_machine_start(g->machine, diag);
	if (fd >= 0)
		close(fd);
	return error;
}

static void end(struct guest *g)
{
	wh_vmm_machine_free(g->machine);
	wh_vmm_image_close(g->image);
	g->machine = NULL;
	g->image = NULL;
}

/* From nothing to nothing; the guest's status, or -errno. */
static int whole_life(bool ahead)
{
	struct guest g = { 0 };
	struct wh_diag diag = { "" };
	int error = wh_loop_new(&g.loop);
	if (error >= 0)
		error = make(&g, "5", ahead, &diag);
	if (error >= 0)
		error = wh_loop_run(g.loop);
	if (error >= 0)
		error = g.ended == 1 ? g.value : -WH_EIO;
	end(&g);
	wh_loop_free(g.loop);
	return error;
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static long resident_kib(void)
{
	long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (!f || fscanf(f, "%ld %ld", &size, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static bool has_children(void)
{
	siginfo_t info = { 0 };
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 ||
	       errno != ECHILD;
}

/* ---- tests ---- */

static void runs_several_at_once(void)
{
	struct guest g[GUESTS] = { { 0 } };
	struct wh_loop *loop;
	struct wh_diag diag = { "" };
	CHECK_EQ(wh_loop_new(&loop), 0);
	for (int i = 0; i < GUESTS; i++) {
		char status[2] = { (char)('0' + i), 0 };
		g[i].loop = loop;
		int error = make(&g[i], status, i & 1, &diag);
		if (error < 0)
			test_fail(__FILE__, __LINE__, "%d %s", error, diag.text);
	}
	for (int i = 0; i < GUESTS;) { /* each end stops the loop once */
		CHECK(wh_loop_run(loop) >= 0);
		for (i = 0; i < GUESTS && g[i].ended; i++)
			;
	}
	for (int i = 0; i < GUESTS; i++) {
		CHECK_EQ(g[i].ended, 1);
		CHECK_EQ(g[i].value, i);
		end(&g[i]);
	}
	wh_loop_free(loop);
	CHECK(!has_children());
}

static void leaks_nothing_over_many_lives(void)
{
	for (int i = 0; i < 20; i++)
		CHECK_EQ(whole_life(i & 1), 5);
	unsigned descriptors = open_descriptors();
	long resident = resident_kib();
	for (int i = 0; i < CYCLES; i++)
		CHECK_EQ(whole_life(i & 1), 5);
	CHECK_EQ(open_descriptors(), descriptors);
	CHECK(!has_children());
	if (!SANITIZED && resident_kib() > resident + 256)
		test_fail(__FILE__, __LINE__, "%ld KiB more", resident_kib() - resident);
}

static void *lives(void *ctx)
{
	for (int i = 0; i < 25; i++)
		if (whole_life(i & 1) != 5)
			return ctx;
	return NULL;
}

static void lives_on_threads(void)
{
	pthread_t thread[THREADS];
	void *bad;
	static int mark;
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, lives, &mark), 0);
	for (int i = 0; i < THREADS; i++) {
		CHECK_EQ(pthread_join(thread[i], &bad), 0);
		CHECK(bad == NULL);
	}
}

/* Fails the first, second, ... until a life gets through without one. */
static unsigned fail_each(long *left, bool ahead)
{
	unsigned descriptors = open_descriptors();
	for (long i = 0; i < 1000; i++) {
		*left = i;
		int result = whole_life(ahead);
		bool over = *left >= 0;
		*left = -1;
		CHECK_EQ(open_descriptors(), descriptors);
		CHECK(!has_children());
		if (over) {
			CHECK_EQ(result, 5);
			return (unsigned)i;
		}
		if (result != 5)
			CHECK(result < 0);
	}
	test_fail(__FILE__, __LINE__, "never got through");
	return 0;
}

static void survives_each_failed_allocation(void)
{
	CHECK(fail_each(&allocations_left, false) >= 4);
	CHECK(fail_each(&allocations_left, true) >= 4);
}

static void survives_each_failed_call(void)
{
	CHECK(fail_each(&calls_left, false) >= 8);
	CHECK(fail_each(&calls_left, true) >= 8);
}

static void frees_unused_spares(void)
{
	struct guest g = { 0 };
	struct wh_vmm_config config = config_of(&g, NULL, NULL);
	struct wh_vmm_spare *spare[GUESTS];
	unsigned descriptors = open_descriptors();
	int fd = wh_vmm_image_file(guest_path, NULL);
	for (int i = 0; i < GUESTS; i++)
		CHECK_EQ(wh_vmm_spare_new(&config, fd, &spare[i], NULL), 0);
	for (int i = 0; i < GUESTS; i++)
		wh_vmm_spare_free(spare[i]);
	/* A spare for something else is refused, and freed. */
	int other = wh_vmm_image_file("/dev/null", NULL);
	CHECK_EQ(wh_vmm_spare_new(&config, other, &config.spare, NULL), 0);
	CHECK_EQ(wh_loop_new(&g.loop), 0);
	CHECK_EQ(wh_vmm_image_open(guest_path, &g.image, NULL), 0);
	CHECK_EQ(wh_vmm_machine_new(&config, g.image, g.loop, &g.machine, NULL), -WH_EINVAL);
	wh_vmm_image_close(g.image);
	wh_loop_free(g.loop);
	close(fd);
	close(other);
	CHECK_EQ(open_descriptors(), descriptors);
	CHECK(!has_children());
}

int main(int argc, char **argv)
{
	guest_path = argv[1];
	RUN(runs_several_at_once);
	RUN(frees_unused_spares);
	RUN(survives_each_failed_allocation);
	RUN(survives_each_failed_call);
	RUN(lives_on_threads);
	RUN(leaks_nothing_over_many_lives);
	return test_end();
}
