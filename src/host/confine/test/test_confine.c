/* SPDX-License-Identifier: ISC */
/*
 * Each wall: a child confines itself and tries something, which must fail; the same child without that wall must
 * succeed, so what made it fail is the wall.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/confine.h>
#include <wherry/test.h>

#include "../confine_priv.h"

#define DONE 40    /* the attempt worked */
#define REFUSED 41 /* it got an error */
#define LACKS 77   /* this kernel has no such wall */

static char folder[64];

struct attempt {
	int (*try)(void); /* 0 = it worked */
	uint32_t parts;
	bool read_folder, write_folder;
};

static int child(const struct attempt *a, bool confined)
{
	struct wh_diag diag = { "" };
	struct wh_confine_path path = { folder, (a->read_folder ? WH_CONFINE_READ : 0u) |
							(a->write_folder ? WH_CONFINE_WRITE : 0u) };
	struct wh_confine_config config = { .size = sizeof config,
					    .parts = a->parts,
					    .violation = WH_CONFINE_KILL,
					    .paths = &path,
					    .path_count = path.access ? 1 : 0 };
	uint32_t missing = 0;
	if (confined && wh_confine_process(&config, &missing, &diag) < 0)
		return 1;
	if (missing)
		return LACKS;
	return a->try() ? REFUSED : DONE;
}

/* The exit status, or 128 and the signal. */
static int outcome(const struct attempt *a, bool confined)
{
	int status;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		_exit(child(a, confined));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void check(const struct attempt *a, int wanted)
{
	int got = outcome(a, true);
	if (got == LACKS)
		test_skip("this kernel lacks Landlock or seccomp, or this is a sanitizer's build");
	CHECK_EQ(got, wanted);
	CHECK_EQ(outcome(a, false), DONE);
}

/* ---- attempts ---- */

static int try_exec(void)
{
	char *argv[] = { (char[]){ "true" }, NULL };
	pid_t pid = vfork();
	if (!pid) {
		execv("/bin/true", argv);
		_exit(1);
	}
	return pid < 0;
}

static int try_execute_memory(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED;
}

static int try_protect(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static int try_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int try_raw_family(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 0) < 0;
}

static int try_fork(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		_exit(0);
	return pid < 0;
}

static int try_kill(void)
{
	return kill(getppid(), 0);
}

static int try_type_on_terminal(void)
{
	int fd[2];
	char c = 'x';
	/* any descriptor: the request is what is refused */
	return pipe2(fd, O_CLOEXEC) || (ioctl(fd[0], TIOCSTI, &c) && errno != ENOTTY);
}

static int try_set_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int try_read_elsewhere(void)
{
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0;
}

static int try_read_inside(void)
{
	char path[128];
	snprintf(path, sizeof path, "%s/file", folder);
	return open(path, O_RDONLY | O_CLOEXEC) < 0;
}

static int try_write_inside(void)
{
	char path[128];
	snprintf(path, sizeof path, "%s/new", folder);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 || unlink(path);
}

static int try_connect_nowhere(void)
{
	/* A Unix socket's program has no business with TCP; the socket comes from before. */
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int r = connect(200, (struct sockaddr *)&to, sizeof to);
	return r && errno == EACCES;
}

static int try_inherited(void)
{
	return fcntl(201, F_GETFD) < 0;
}

static int try_own(void)
{
	return fcntl(200, F_GETFD) < 0;
}

static void *narrow(void *arg)
{
	int *result = arg;
	*result = wh_confine_thread(WH_CONFINE_WORKER, WH_CONFINE_KILL);
	return NULL;
}

/* A disk's worker begins when the first transfer has to wait. */
static int try_late_worker(void)
{
	pthread_t t;
	int result = -1;
	return pthread_create(&t, NULL, narrow, &result) || pthread_join(t, NULL) || result;
}

static int try_nothing(void)
{
	char c = 0;
	/* Stays until the parent has looked. */
	return write(202, "x", 1) != 1 || read(203, &c, 1) != 0;
}

/* ---- cases ---- */

#define KILLED (128 + SIGSYS)

static void calls(void)
{
	static int (*const never[])(void) = { try_exec,   try_execute_memory,   try_protect,
					      try_socket, try_raw_family,       try_fork,
					      try_kill,   try_type_on_terminal, try_set_dumpable };
	for (size_t i = 0; i < WH_ARRAY_COUNT(never); i++) {
		struct attempt a = { never[i], WH_CONFINE_LOOP, false, false };
		check(&a, KILLED);
		a.parts = (1u << WH_CONFINE_PARTS) - 1;
		if (never[i] != try_socket) /* the gateway's */
			check(&a, KILLED);
	}
}

static void network(void)
{
	struct attempt a = { try_socket, WH_CONFINE_NETWORK, false, false };
	check(&a, DONE);
	a.parts = WH_CONFINE_LOCAL; /* Unix only */
	check(&a, KILLED);
	a.try = try_connect_nowhere;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(dup3(fd, 200, O_CLOEXEC) == 200);
	check(&a, REFUSED);
	a.parts = WH_CONFINE_NETWORK;
	check(&a, DONE);
	close(200);
}

static void files(void)
{
	struct attempt a = { try_read_elsewhere, WH_CONFINE_FILES, true, false };
	check(&a, REFUSED);
	a.try = try_read_inside;
	check(&a, DONE);
	a.read_folder = false;
	check(&a, REFUSED);
	a = (struct attempt){ try_write_inside, WH_CONFINE_FILES, true, false };
	check(&a, REFUSED);
	a.write_folder = true;
	check(&a, DONE);
}

static void descriptors(void)
{
	struct attempt a = { try_inherited, WH_CONFINE_LOOP, false, false };
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(dup3(fd, 200, O_CLOEXEC) == 200 && dup2(fd, 201) == 201);
	check(&a, REFUSED);
	a.try = try_own;
	check(&a, DONE);
	close(200);
	close(201);
	close(fd);
}

/* What /proc says of a child that has confined itself, or not. */
static void look(bool confined, bool *ret_dumpable, bool *ret_no_new)
{
	struct attempt a = { try_nothing, WH_CONFINE_LOOP, false, false };
	int up[2], down[2], status;
	char text[4096], path[64], c;
	struct stat st;
	CHECK(!pipe2(up, O_CLOEXEC) && !pipe2(down, O_CLOEXEC));
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		/* Owned by root when it is not dumpable; so it must not be root's anyway. */
		if (getuid() == 0 && setresuid(65534, 65534, 65534))
			_exit(1);
		if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) || dup3(up[1], 202, O_CLOEXEC) < 0 ||
		    dup3(down[0], 203, O_CLOEXEC) < 0)
			_exit(1);
		close(up[0]);
		close(down[1]);
		_exit(child(&a, confined));
	}
	close(up[1]);
	bool there = read(up[0], &c, 1) == 1;
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof text - 1);
	text[n > 0 ? n : 0] = 0;
	*ret_no_new = strstr(text, "NoNewPrivs:\t1");
	snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
	CHECK_EQ(stat(path, &st), 0);
	*ret_dumpable = st.st_uid != 0;
	close(fd);
	close(down[1]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	close(up[0]);
	close(down[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == LACKS)
		test_skip("this kernel lacks Landlock or seccomp, or this is a sanitizer's build");
	CHECK(there && WIFEXITED(status) && WEXITSTATUS(status) == DONE);
}

static void process(void)
{
	bool dumpable, no_new;
	look(true, &dumpable, &no_new);
	CHECK(!dumpable && no_new);
	look(false, &dumpable, &no_new);
	CHECK(dumpable && !no_new);
}

/* A thread that exists when the process confines itself is left alone, and may have less than it. */
static void threads(void)
{
	CHECK_EQ(try_late_worker(), 0);
}

static void late_workers(void)
{
	struct attempt a = { try_late_worker, WH_CONFINE_THREADS, false, false };
	check(&a, DONE);
	a.parts = WH_CONFINE_LOOP;
	check(&a, KILLED);
}

/* The whole filter, in an interpreter, against the list. */
static uint32_t run(const struct sock_filter *program, uint32_t length, uint32_t arch, uint32_t nr)
{
	uint32_t a = 0;
	for (uint32_t pc = 0; pc < length;) {
		const struct sock_filter *i = &program[pc++];
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			a = i->k == 4 ? arch : i->k == 0 ? nr : 0;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += a & i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			test_fail(__FILE__, __LINE__, "instruction 0x%x", i->code);
		}
	}
	test_fail(__FILE__, __LINE__, "ran over the end");
}

static void filter(void)
{
	static struct sock_filter program[CONFINE_FILTER_MAX];
	for (uint32_t parts = 1; parts < 1u << WH_CONFINE_PARTS; parts++) {
		uint32_t length = confine_filter_write(parts, WH_CONFINE_KILL, 1, program);
		CHECK(length <= CONFINE_FILTER_MAX);
		CHECK_EQ(run(program, length, 0x40000003u, 1), 0x80000000u);
		if (parts & (parts - 1) && parts % 61)
			continue; /* each part alone, and some of the rest */
		uint32_t next = 0;
		for (uint32_t nr = 0; nr < 600; nr++) {
			bool listed = next < confine_call_count && confine_calls[next].number == nr;
			const struct confine_call *c = &confine_calls[next];
			bool allowed = run(program, length, 0xc000003eu, nr) == 0x7fff0000u;
			if (!listed || !(c->parts & parts))
				CHECK(!allowed);
			else if (c->check == CONFINE_ANY)
				CHECK(allowed);
			CHECK_EQ(wh_confine_allows(parts, (int)nr), listed && c->parts & parts);
			next += listed;
		}
		CHECK_EQ(next, confine_call_count);
		CHECK(run(program, length, 0xc000003eu, 0x40000000u) == 0x80000000u);
	}
}

static void bad_config(void)
{
	struct wh_confine_config config = { .size = 1 };
	struct wh_diag diag = { "" };
	uint32_t missing;
	CHECK_EQ(wh_confine_process(&config, &missing, &diag), -WH_EINVAL);
}

/* What src/host/dev/hostdir.c calls, without help of an engine's part. */
static void shares_folders_with_any_guest(void)
{
	static const int calls[] = { SYS_openat2,    SYS_preadv,     SYS_pwritev,   SYS_getdents64,
				     SYS_readlinkat, SYS_symlinkat,  SYS_linkat,    SYS_mkdirat,
				     SYS_renameat,   SYS_unlinkat,   SYS_utimensat, SYS_ftruncate,
				     SYS_fsync,      SYS_fdatasync,  SYS_fstatfs,   SYS_fstat,
				     SYS_lseek,      SYS_newfstatat, SYS_fcntl,     SYS_close };
	for (size_t i = 0; i < WH_ARRAY_COUNT(calls); i++)
		if (!wh_confine_allows(WH_CONFINE_LOOP | WH_CONFINE_FILES, calls[i]))
			test_fail(__FILE__, __LINE__, "call %d is refused", calls[i]);
}

int main(void)
{
	char path[128];
	snprintf(folder, sizeof folder, "/tmp/confine-XXXXXX");
	CHECK(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/file", folder);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	close(fd);
	RUN(filter);
	RUN(bad_config);
	RUN(calls);
	RUN(network);
	RUN(files);
	RUN(descriptors);
	RUN(process);
	RUN(threads);
	RUN(late_workers);
	unlink(path);
	rmdir(folder);
	RUN(shares_folders_with_any_guest);
	return test_end();
}
