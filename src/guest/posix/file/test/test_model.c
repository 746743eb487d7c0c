/* SPDX-License-Identifier: ISC */

/* The root file system against the host's: the same random calls on both, the same answers
 * wanted, down to the error number. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <fs/file.h>
#include <posix/file.h>
#include <wherry/base/hash.h>
#include <wherry/test.h>

#define STEPS 60000
#define OPEN_MAX_ 12
#define NAMES_MAX 64

static uint64_t seed;
static struct {
	int host, own;
} open_files[OPEN_MAX_];

static const char *const paths[] = { "a",     "b",     "c",   "d",   "e",     "d/a",     "d/b",
				     "d/d",   "d/d/a", "e/a", "e/d", "e/d/b", "s",       "s/a",
				     "s/d/a", "t",     "d/t", ".",   "d/.",   "d/..",    "d/../a",
				     "a/",    "d/",    "s/",  "n/a", "a/a",   "./e/../b" };
static const char *const targets[] = { "a", "d", "../d", "d/d", "s", "../s/a", "e/a", "." };

static uint32_t pick(uint32_t below)
{
	return (uint32_t)(wh_random_next(&seed) >> 20) % below;
}

static const char *path(void)
{
	return paths[pick(WH_ARRAY_COUNT(paths))];
}

static int step;
static const char *what, *on, *on2;

static void same(long host, long own)
{
	if (host < 0)
		host = -errno;
	if (host != own)
		test_fail(__FILE__, __LINE__, "step %d: %s(%s, %s): host %ld, own %ld", step, what,
			  on, on2 ? on2 : "", host, own);
}

static void same_stat(const struct stat *h, const struct fs_stat *o)
{
	bool ok = h->st_mode == o->mode;
	if (S_ISREG(h->st_mode))
		ok = ok && h->st_size == o->size && h->st_nlink == o->nlink;
	if (S_ISLNK(h->st_mode))
		ok = ok && h->st_size == o->size;
	if (!ok)
		test_fail(__FILE__, __LINE__,
			  "step %d: %s(%s): mode %o %o, size %ld %ld, links %ld %ld", step, what,
			  on, h->st_mode, o->mode, (long)h->st_size, (long)o->size,
			  (long)h->st_nlink, (long)o->nlink);
}

/* ---- calls on paths ---- */

static void do_open(void)
{
	static const int extra[] = { O_CREAT,  O_CREAT,     O_EXCL,    O_TRUNC,
				     O_APPEND, O_DIRECTORY, O_NOFOLLOW };
	int flags = (int)pick(3), slot = (int)pick(OPEN_MAX_);
	for (uint32_t i = 0; i < WH_ARRAY_COUNT(extra); i++)
		if (!pick(i < 2 ? 2 : 5))
			flags |= extra[i];
	if ((flags & O_CREAT) && (flags & O_DIRECTORY))
		flags &= ~O_DIRECTORY; /* kernels disagree */
	if (open_files[slot].own >= 0) {
		same(close(open_files[slot].host), wh_sys_close(open_files[slot].own));
		open_files[slot].own = -1;
	}
	mode_t mode = 0600 | pick(64);
	int host = open(on, flags, mode);
	int error = errno;
	long own = wh_sys_open(on, flags, mode);
	errno = error;
	same(host < 0 ? -1 : 0, own < 0 ? own : 0);
	open_files[slot].host = host;
	open_files[slot].own = (int)own;
}

static void do_stat(void)
{
	struct stat h;
	struct fs_stat o;
	bool link = pick(2);
	int host = link ? lstat(on, &h) : stat(on, &h);
	same(host, link ? wh_sys_lstat(on, &o) : wh_sys_stat(on, &o));
	if (!host)
		same_stat(&h, &o);
}

static void do_readlink(void)
{
	char h[64], o[64];
	long host = readlink(on, h, sizeof h);
	same(host, wh_sys_readlink(on, o, sizeof o));
	if (host > 0)
		CHECK_MEM(h, o, (size_t)host);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_name(char **names, int *count, const char *name)
{
	CHECK(*count < NAMES_MAX);
	names[(*count)++] = strdup(name);
}

static void do_list(void)
{
	char *h[NAMES_MAX], *o[NAMES_MAX];
	uint8_t buffer[128];
	int hosts = 0, owns = 0;
	DIR *dir = opendir(on);
	int error = errno;
	long fd = wh_sys_open(on, O_DIRECTORY, 0), n;
	errno = error;
	same(dir ? 0 : -1, fd < 0 ? fd : 0);
	if (!dir)
		return;
	for (struct dirent *e; (e = readdir(dir));)
		add_name(h, &hosts, e->d_name);
	while ((n = wh_sys_getdents64((int)fd, buffer, sizeof buffer)) > 0)
		for (long at = 0; at < n; at += buffer[at + 16])
			add_name(o, &owns, (char *)buffer + at + 19);
	closedir(dir);
	wh_sys_close((int)fd);
	qsort(h, (size_t)hosts, sizeof *h, by_name);
	qsort(o, (size_t)owns, sizeof *o, by_name);
	CHECK_EQ(owns, hosts);
	for (int i = 0; i < hosts; i++) {
		CHECK_STR(o[i], h[i]);
		free(h[i]);
		free(o[i]);
	}
}

static void on_path(uint32_t call)
{
	uint32_t mode = 0700 | pick(64);
	long size = pick(20000);
	const char *target = targets[pick(WH_ARRAY_COUNT(targets))];
	on = path();
	on2 = NULL;
#define BOTH(name, host, own)        \
	do {                         \
		what = name;         \
		same((host), (own)); \
	} while (0)
	switch (call) {
	case 0:
	case 1:
	case 2:
		what = "open";
		do_open();
		break;
	case 3:
		what = "stat";
		do_stat();
		break;
	case 4:
		BOTH("unlink", unlink(on), wh_sys_unlink(on));
		break;
	case 5:
		BOTH("rmdir", rmdir(on), wh_sys_rmdir(on));
		break;
	case 6:
		BOTH("mkdir", mkdir(on, mode), wh_sys_mkdir(on, mode));
		break;
	case 7:
		on2 = path();
		BOTH("rename", rename(on, on2), wh_sys_rename(on, on2));
		break;
	case 8:
		on2 = path();
		BOTH("link", link(on, on2), wh_sys_link(on, on2));
		break;
	case 9:
		on2 = target;
		BOTH("symlink", symlink(target, on), wh_sys_symlink(target, on));
		break;
	case 10:
		what = "readlink";
		do_readlink();
		break;
	case 11:
		BOTH("truncate", truncate(on, size), wh_sys_truncate(on, size));
		break;
	case 12:
		BOTH("chmod", chmod(on, mode), wh_sys_chmod(on, mode));
		break;
	case 13:
		what = "list";
		do_list();
		break;
	}
}

/* ---- calls on descriptors ---- */

static bool is_directory(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static void on_file(uint32_t call)
{
	static char h[10000], o[10000];
	uint32_t slot = pick(OPEN_MAX_), size = pick(pick(4) ? 100 : sizeof h);
	int host = open_files[slot].host, own = open_files[slot].own;
	long at = pick(pick(4) ? 5000 : 20000), n;
	struct stat hs;
	struct fs_stat os;
	if (own < 0 || is_directory(host))
		return;
	on = "(descriptor)";
	on2 = NULL;
	for (uint32_t i = 0; i < size; i++)
		h[i] = (char)wh_random_next(&seed);
	switch (call) {
	case 0:
		BOTH("write", write(host, h, size), wh_sys_write(own, h, size));
		break;
	case 1:
		what = "read";
		n = read(host, h, size);
		same(n, wh_sys_read(own, o, size));
		if (n > 0)
			CHECK_MEM(h, o, (size_t)n);
		break;
	case 2:
		BOTH("pwrite", pwrite(host, h, size, at), wh_sys_pwrite64(own, h, size, at));
		break;
	case 3:
		what = "pread";
		n = pread(host, h, size, at);
		same(n, wh_sys_pread64(own, o, size, at));
		if (n > 0)
			CHECK_MEM(h, o, (size_t)n);
		break;
	case 4:
		n = pick(3);
		if (n == SEEK_END)
			at = -at;
		BOTH("lseek", lseek(host, at, (int)n), wh_sys_lseek(own, at, (int)n));
		break;
	case 5:
		BOTH("ftruncate", ftruncate(host, at), wh_sys_ftruncate(own, at));
		break;
	case 6:
		what = "fstat";
		CHECK_EQ(fstat(host, &hs), 0);
		CHECK_EQ(wh_sys_fstat(own, &os), 0);
		same_stat(&hs, &os);
		break;
	case 7:
		n = pick(2) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0;
		BOTH("fallocate", syscall(SYS_fallocate, host, (int)n, at, (long)size + 1),
		     wh_sys_fallocate(own, (int)n, at, size + 1));
		break;
	}
}

static void agrees_with_the_host(void)
{
	seed = test_seed();
	for (int i = 0; i < OPEN_MAX_; i++)
		open_files[i].own = -1;
	for (step = 0; step < STEPS; step++) {
		if (pick(2))
			on_path(pick(14));
		else
			on_file(pick(8));
	}
	for (int i = 0; i < OPEN_MAX_; i++)
		if (open_files[i].own >= 0)
			same(close(open_files[i].host), wh_sys_close(open_files[i].own));
}

static char folder[64];

static void leave(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf %s", folder);
	if (chdir("/") < 0 || system(command) != 0)
		fprintf(stderr, "%s is left\n", folder);
}

int main(void)
{
	const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(folder, sizeof folder, "%s/wherry-model-XXXXXX", base);
	if (!mkdtemp(folder) || chdir(folder) < 0)
		test_skip("no folder for the host's side");
	umask(022);
	/* Links lead up: both sides work far enough down to stay inside. */
	for (int i = 0; i < 8; i++)
		if (mkdir("in", 0700) < 0 || chdir("in") < 0)
			return 1;
	if (fs_init() < 0 || wh_sys_mkdir("/model", 0700) < 0 || wh_sys_chdir("/model") < 0)
		return 1;
	for (int i = 0; i < 8; i++)
		if (wh_sys_mkdir("in", 0700) < 0 || wh_sys_chdir("in") < 0)
			return 1;
	RUN(agrees_with_the_host);
	leave();
	return test_end();
}
