/* SPDX-License-Identifier: ISC */
/*
 * The machine library in a warm process: create to exit, restore to first instruction, many copies.
 *
 *	bench-embed NOOP HELLO IDLE RUNS COPIES
 *
 * The no-op (a static program that ends at once) takes turns with the rest, by fork and exec and by
 * posix_spawn.
 */
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wherry/dev_console.h>
#include <wherry/vmm.h>

extern char **environ;
static struct wh_loop *loop;
static int null_fd;

struct guest {
	struct wh_vmm_machine *machine;
	struct wh_dev_console *console;
	int out;
	bool ended;
};

static double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void must(int result, const char *what, const struct wh_diag *diag)
{
	if (result >= 0)
		return;
	fprintf(stderr, "bench-embed: %s: %d %s\n", what, result, diag ? diag->text : "");
	exit(1);
}

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct guest *g = ctx;
	g->ended = true;
	wh_loop_stop(loop, 0);
}

static struct wh_vmm_config config_of(struct guest *g)
{
	static const char *const argv[] = { "guest", NULL }, *const env[] = { NULL };
	return (struct wh_vmm_config){ .size = sizeof(struct wh_vmm_config),
				       .engine = WH_VMM_ENGINE_PROC,
				       .memory_size = 4 << 20,
				       .argv = argv,
				       .envp = env,
				       .exited = ended,
				       .ctx = g };
}

static void plug(struct guest *g)
{
	struct wh_diag diag = { "" };
	struct wh_dev_console_config c = { .size = sizeof c };
	c.stdin_fd = -1;
	c.stdout_fd = c.stderr_fd = g->out;
	must(wh_dev_console_new(&c, g->machine, loop, &g->console, &diag), "console", &diag);
	must(wh_vmm_machine_start(g->machine, &diag), "start", &diag);
}

static void unplug(struct guest *g)
{
	wh_vmm_machine_free(g->machine);
	wh_dev_console_free(g->console);
}

/* Created to exited, to its status being known; freed outside the time. */
static double hello(struct wh_vmm_image *image, struct wh_vmm_spare *spare)
{
	struct wh_diag diag = { "" };
	struct guest g = { .out = null_fd };
	struct wh_vmm_config config = config_of(&g);
	config.spare = spare;
	double start = now_us();
	must(wh_vmm_machine_new(&config, image, loop, &g.machine, &diag), "new", &diag);
	plug(&g);
	while (!g.ended)
		must(wh_loop_run(loop), "loop", NULL);
	double us = now_us() - start;
	unplug(&g);
	return us;
}

/* Until the copy's first instruction, by its own time stamp. */
static double restore(struct wh_vmm_snapshot *s, struct wh_vmm_spare *spare)
{
	struct wh_diag diag = { "" };
	struct guest g = { .out = null_fd };
	struct wh_vmm_config config = config_of(&g);
	config.spare = spare;
	double start = now_us();
	uint64_t start_tsc = __builtin_ia32_rdtsc(), hz;
	const uint64_t *t;
	must(wh_vmm_machine_restore(&config, s, loop, &g.machine, &diag), "restore", &diag);
	plug(&g);
	do
		t = wh_vmm_machine_timeline(g.machine, &hz);
	while (!t[WH_BOOT_STAGE_ENTRY] && now_us() - start < 1e6 && !sched_yield());
	uint64_t entry = t[WH_BOOT_STAGE_ENTRY], end_tsc = __builtin_ia32_rdtsc();
	double us =
		(double)(entry - start_tsc) * (now_us() - start) / (double)(end_tsc - start_tsc);
	unplug(&g);
	return us;
}

static double noop(char *path, bool spawn)
{
	char *argv[] = { path, NULL };
	pid_t pid;
	double start = now_us();
	if (spawn) {
		must(-posix_spawn(&pid, path, NULL, NULL, argv, environ), "posix_spawn", NULL);
	} else if (!(pid = fork())) {
		execv(path, argv);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
	return now_us() - start;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void report(const char *name, double *us, int runs, double base)
{
	qsort(us, (size_t)runs, sizeof *us, by_value);
	printf("| %-38s | %7.1f | %7.1f | %7.1f | %5.2f |\n", name, us[0], us[runs / 2],
	       us[runs * 9 / 10], us[runs / 2] / base);
}

static struct wh_vmm_spare *spare_for(int fd)
{
	struct wh_vmm_config config = config_of(NULL);
	struct wh_vmm_spare *spare = NULL;
	struct wh_diag diag = { "" };
	must(wh_vmm_spare_new(&config, fd, &spare, &diag), "spare", &diag);
	usleep(1500); /* it was made some time ago */
	return spare;
}

static void starts(char *noop_path, char *hello_path, struct wh_vmm_snapshot *s, int snapshot_fd,
		   int runs)
{
	static const char *const names[] = { "no-op, fork and exec",
					     "no-op, posix_spawn",
					     "hello: create to exit",
					     "hello: create to exit, spare",
					     "copy: restore to first instruction",
					     "copy: restore to first instruction, spare" };
	double *us[6], base;
	struct wh_vmm_image *image;
	struct wh_diag diag = { "" };
	int fd = wh_vmm_image_file(hello_path, &diag);
	must(fd, hello_path, &diag);
	must(wh_vmm_image_open_fd(fd, &image, &diag), hello_path, &diag);
	for (int k = 0; k < 6; k++)
		us[k] = calloc((size_t)runs, sizeof(double));
	for (int i = 0; i < runs; i++) {
		us[0][i] = noop(noop_path, false);
		us[1][i] = noop(noop_path, true);
		us[2][i] = hello(image, NULL);
		us[3][i] = hello(image, spare_for(fd));
		us[4][i] = restore(s, NULL);
		us[5][i] = restore(s, spare_for(snapshot_fd));
	}
	qsort(us[0], (size_t)runs, sizeof(double), by_value);
	base = us[0][runs / 2];
	puts("| in a warm process, us                  |     min |  median |     p90 | ratio |\n"
	     "|---|---|---|---|---|");
	for (int k = 0; k < 6; k++)
		report(names[k], us[k], runs, base);
	wh_vmm_image_close(image);
	close(fd);
}

static long meminfo_kib(const char *name)
{
	char line[128];
	long value = 0;
	FILE *f = fopen("/proc/meminfo", "r");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, name, strlen(name)))
			value = strtol(line + strlen(name), NULL, 10);
	if (f)
		fclose(f);
	return value;
}

/* What the host has less while they live: page tables and the kernel's share count, too. */
static void many(struct wh_vmm_snapshot *s, int copies)
{
	struct guest *g = calloc((size_t)copies, sizeof *g);
	struct wh_diag diag = { "" };
	struct rlimit limit = { 100000, 100000 };
	setrlimit(RLIMIT_NOFILE, &limit);
	long before = meminfo_kib("MemAvailable:");
	double start = now_us();
	for (int i = 0; i < copies; i++) {
		struct wh_vmm_config config = config_of(&g[i]);
		uint64_t hz;
		g[i].out = null_fd;
		must(wh_vmm_machine_restore(&config, s, loop, &g[i].machine, &diag), "restore",
		     &diag);
		plug(&g[i]);
		while (!wh_vmm_machine_timeline(g[i].machine, &hz)[WH_BOOT_STAGE_ENTRY])
			must(wh_loop_step(loop, 0), "loop", NULL);
	}
	double us = now_us() - start;
	long used = before - meminfo_kib("MemAvailable:");
	uint64_t touched = 0;
	for (int i = 0; i < copies; i++)
		touched += wh_vmm_machine_touched(g[i].machine);
	printf("\n| %d copies of one snapshot | |\n|---|---|\n| memory in all, MiB | %.1f |\n"
	       "| memory each, KiB | %.0f |\n| of it, guest RAM, KiB | %.0f |\n| time in all, ms | "
	       "%.0f |\n| time each, us | %.0f "
	       "|\n",
	       copies, (double)used / 1024, (double)used / copies, (double)touched / 1024 / copies,
	       us / 1000, us / copies);
	for (int i = 0; i < copies; i++)
		unplug(&g[i]);
	free(g);
}

static int take(char *idle_path)
{
	struct wh_diag diag = { "" };
	struct wh_vmm_image *image;
	struct guest g = { .out = -1 };
	struct wh_vmm_config config = config_of(&g);
	int pipes[2];
	char up[3];
	must(pipe2(pipes, O_CLOEXEC), "pipe", NULL);
	g.out = pipes[1];
	must(wh_vmm_image_open(idle_path, &image, &diag), idle_path, &diag);
	must(wh_vmm_machine_new(&config, image, loop, &g.machine, &diag), "new", &diag);
	plug(&g);
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	while (read(pipes[0], up, sizeof up) <= 0)
		must(wh_loop_step(loop, 10), "loop", NULL);
	char path[] = "/tmp/bench-embed-XXXXXX";
	int fd = mkstemp(path);
	unlink(path);
	must(wh_vmm_machine_snapshot(g.machine, fd, &diag), "snapshot", &diag);
	unplug(&g);
	wh_vmm_image_close(image);
	close(pipes[0]);
	close(pipes[1]);
	return fd;
}

int main(int argc, char **argv)
{
	struct wh_vmm_snapshot *s;
	struct wh_diag diag = { "" };
	if (argc != 6)
		return 2;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	must(wh_loop_new(&loop), "loop", NULL);
	int fd = take(argv[3]);
	must(wh_vmm_snapshot_open_fd(fd, &s, &diag), "open", &diag);
	starts(argv[1], argv[2], s, fd, atoi(argv[4]));
	many(s, atoi(argv[5]));
	wh_vmm_snapshot_close(s);
	wh_loop_free(loop);
	return 0;
}
