/* SPDX-License-Identifier: ISC */
/*
 * Calls as text. Letters of arguments:
 *
 *	d number   D descriptor of a folder (AT_FDCWD)   u size   x bits   p pointer   m mode, octal
 *	s name at argument 0 or 1   w bytes that the program gives at argument 1, as many as the next argument says
 *	r bytes that the call filled at argument 1, as many as it returned   a socket address at argument 1   o open flags
 */
#include <stdarg.h>
#include <string.h>
#include <wherry/base/mem.h>

#include "observe.h"

static const struct observe_call calls[] = {
	{ "read", "dru", "file" },
	{ "write", "dwu", "file" },
	{ "open", "som", "file" },
	{ "openat", "Dsom", "file" },
	{ "close", "d", "file" },
	{ "stat", "sp", "file" },
	{ "fstat", "dp", "file" },
	{ "lstat", "sp", "file" },
	{ "newfstatat", "Dspx", "file" },
	{ "statx", "Dsxxp", "file" },
	{ "lseek", "ddd", "file" },
	{ "pread64", "druu", "file" },
	{ "pwrite64", "dwuu", "file" },
	{ "readv", "dpd", "file" },
	{ "writev", "dpd", "file" },
	{ "preadv", "dpdu", "file" },
	{ "pwritev", "dpdu", "file" },
	{ "access", "sx", "file" },
	{ "faccessat", "Dsx", "file" },
	{ "ioctl", "dxp", "file" },
	{ "fcntl", "ddx", "file" },
	{ "dup", "d", "file" },
	{ "dup2", "dd", "file" },
	{ "dup3", "ddx", "file" },
	{ "fsync", "d", "file" },
	{ "fdatasync", "d", "file" },
	{ "truncate", "su", "file" },
	{ "ftruncate", "du", "file" },
	{ "getdents64", "dpu", "file" },
	{ "getcwd", "pu", "file" },
	{ "chdir", "s", "file" },
	{ "fchdir", "d", "file" },
	{ "rename", "ss", "file" },
	{ "renameat", "DsDp", "file" },
	{ "mkdir", "sm", "file" },
	{ "mkdirat", "Dsm", "file" },
	{ "rmdir", "s", "file" },
	{ "unlink", "s", "file" },
	{ "unlinkat", "Dsx", "file" },
	{ "link", "ss", "file" },
	{ "symlink", "ss", "file" },
	{ "readlink", "spu", "file" },
	{ "readlinkat", "Dspu", "file" },
	{ "chmod", "sm", "file" },
	{ "fchmod", "dm", "file" },
	{ "chown", "sdd", "file" },
	{ "umask", "m", "file" },
	{ "utimensat", "Dspx", "file" },
	{ "statfs", "sp", "file" },
	{ "sendfile", "ddpu", "file" },
	{ "flock", "dd", "file" },
	{ "fallocate", "dxuu", "file" },
	{ "socket", "ddd", "net" },
	{ "socketpair", "dddp", "net" },
	{ "bind", "dau", "net" },
	{ "connect", "dau", "net" },
	{ "listen", "dd", "net" },
	{ "accept", "dpp", "net" },
	{ "accept4", "dppx", "net" },
	{ "sendto", "dwuxpu", "net" },
	{ "recvfrom", "druxpp", "net" },
	{ "sendmsg", "dpx", "net" },
	{ "recvmsg", "dpx", "net" },
	{ "sendmmsg", "dpux", "net" },
	{ "recvmmsg", "dpuxp", "net" },
	{ "shutdown", "dd", "net" },
	{ "getsockname", "dpp", "net" },
	{ "getpeername", "dpp", "net" },
	{ "setsockopt", "dddpu", "net" },
	{ "getsockopt", "dddpp", "net" },
	{ "poll", "pdd", "poll" },
	{ "ppoll", "pdpp", "poll" },
	{ "select", "dpppp", "poll" },
	{ "pselect6", "dppppp", "poll" },
	{ "epoll_create", "d", "poll" },
	{ "epoll_create1", "x", "poll" },
	{ "epoll_ctl", "dddp", "poll" },
	{ "epoll_wait", "dpdd", "poll" },
	{ "epoll_pwait", "dpddp", "poll" },
	{ "eventfd2", "dx", "poll" },
	{ "timerfd_create", "dx", "poll" },
	{ "timerfd_settime", "dxpp", "poll" },
	{ "signalfd4", "dpux", "poll" },
	{ "pipe", "p", "poll" },
	{ "pipe2", "px", "poll" },
	{ "mmap", "pudxdu", "memory" },
	{ "munmap", "pu", "memory" },
	{ "mremap", "puuxp", "memory" },
	{ "mprotect", "pud", "memory" },
	{ "madvise", "pud", "memory" },
	{ "brk", "p", "memory" },
	{ "memfd_create", "sx", "memory" },
	{ "rt_sigaction", "dppu", "signal" },
	{ "rt_sigprocmask", "dppu", "signal" },
	{ "rt_sigsuspend", "pu", "signal" },
	{ "rt_sigtimedwait", "pppu", "signal" },
	{ "sigaltstack", "pp", "signal" },
	{ "kill", "dd", "signal" },
	{ "tkill", "dd", "signal" },
	{ "tgkill", "ddd", "signal" },
	{ "alarm", "u", "signal" },
	{ "setitimer", "dpp", "signal" },
	{ "futex", "pxupp", "thread" },
	{ "sched_yield", "", "thread" },
	{ "set_tid_address", "p", "thread" },
	{ "gettid", "", "thread" },
	{ "arch_prctl", "xp", "thread" },
	{ "nanosleep", "pp", "time" },
	{ "clock_nanosleep", "dxpp", "time" },
	{ "clock_gettime", "dp", "time" },
	{ "gettimeofday", "pp", "time" },
	{ "time", "p", "time" },
	{ "getpid", "", "process" },
	{ "getppid", "", "process" },
	{ "getuid", "", "process" },
	{ "geteuid", "", "process" },
	{ "getgid", "", "process" },
	{ "getegid", "", "process" },
	{ "uname", "p", "process" },
	{ "getrandom", "pux", "process" },
	{ "getrlimit", "dp", "process" },
	{ "setrlimit", "dp", "process" },
	{ "prlimit64", "ddpp", "process" },
	{ "getrusage", "dp", "process" },
	{ "sysinfo", "p", "process" },
	{ "prctl", "dpp", "process" },
	{ "exit", "d", "process" },
	{ "exit_group", "d", "process" },
};
static const struct observe_call unknown = { "", "xxx", "other" };

const struct observe_call *observe_call_find(const char *name)
{
	for (size_t i = 0; i < WH_ARRAY_COUNT(calls); i++)
		if (!strcmp(calls[i].name, name))
			return &calls[i];
	return &unknown;
}

bool observe_group_known(const char *name)
{
	if (!strcmp(name, "all") || !strcmp(name, unknown.group))
		return true;
	for (size_t i = 0; i < WH_ARRAY_COUNT(calls); i++)
		if (!strcmp(calls[i].group, name) || !strcmp(calls[i].name, name))
			return true;
	return false;
}

static const struct {
	int number;
	const char *name;
} errors[] = {
	{ 1, "EPERM" },
	{ 2, "ENOENT" },
	{ 3, "ESRCH" },
	{ 4, "EINTR" },
	{ 5, "EIO" },
	{ 6, "ENXIO" },
	{ 7, "E2BIG" },
	{ 9, "EBADF" },
	{ 10, "ECHILD" },
	{ 11, "EAGAIN" },
	{ 12, "ENOMEM" },
	{ 13, "EACCES" },
	{ 14, "EFAULT" },
	{ 16, "EBUSY" },
	{ 17, "EEXIST" },
	{ 18, "EXDEV" },
	{ 19, "ENODEV" },
	{ 20, "ENOTDIR" },
	{ 21, "EISDIR" },
	{ 22, "EINVAL" },
	{ 23, "ENFILE" },
	{ 24, "EMFILE" },
	{ 25, "ENOTTY" },
	{ 27, "EFBIG" },
	{ 28, "ENOSPC" },
	{ 29, "ESPIPE" },
	{ 30, "EROFS" },
	{ 31, "EMLINK" },
	{ 32, "EPIPE" },
	{ 33, "EDOM" },
	{ 34, "ERANGE" },
	{ 36, "ENAMETOOLONG" },
	{ 38, "ENOSYS" },
	{ 39, "ENOTEMPTY" },
	{ 40, "ELOOP" },
	{ 61, "ENODATA" },
	{ 71, "EPROTO" },
	{ 75, "EOVERFLOW" },
	{ 84, "EILSEQ" },
	{ 88, "ENOTSOCK" },
	{ 89, "EDESTADDRREQ" },
	{ 90, "EMSGSIZE" },
	{ 91, "EPROTOTYPE" },
	{ 92, "ENOPROTOOPT" },
	{ 93, "EPROTONOSUPPORT" },
	{ 95, "EOPNOTSUPP" },
	{ 97, "EAFNOSUPPORT" },
	{ 98, "EADDRINUSE" },
	{ 99, "EADDRNOTAVAIL" },
	{ 100, "ENETDOWN" },
	{ 101, "ENETUNREACH" },
	{ 103, "ECONNABORTED" },
	{ 104, "ECONNRESET" },
	{ 105, "ENOBUFS" },
	{ 106, "EISCONN" },
	{ 107, "ENOTCONN" },
	{ 110, "ETIMEDOUT" },
	{ 111, "ECONNREFUSED" },
	{ 113, "EHOSTUNREACH" },
	{ 114, "EALREADY" },
	{ 115, "EINPROGRESS" },
	{ 125, "ECANCELED" },
};

const char *observe_error_name(int error)
{
	for (size_t i = 0; i < WH_ARRAY_COUNT(errors); i++)
		if (errors[i].number == error)
			return errors[i].name;
	return NULL;
}

/* --- text --- */

struct line {
	char *to;
	size_t size, at;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *l, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t n = wh_vformat(l->to + l->at, l->size - l->at, format, args);
	va_end(args);
	l->at = n < l->size - l->at ? l->at + n : l->size - 1;
}

/* As C writes it; `cut`: there is more. */
static void put_bytes(struct line *l, const uint8_t *bytes, size_t n, bool cut)
{
	put(l, "\"");
	for (size_t i = 0; i < n; i++) {
		uint8_t c = bytes[i];
		if (c == '\n')
			put(l, "\\n");
		else if (c == '\r')
			put(l, "\\r");
		else if (c == '"' || c == '\\')
			put(l, "\\%c", c);
		else if (c < ' ' || c > '~')
			put(l, "\\x%x%x", c >> 4, c & 15);
		else
			put(l, "%c", c);
	}
	put(l, "\"%s", cut ? "..." : "");
}

static void put_name(struct line *l, const struct wh_observe_record *r, unsigned i)
{
	const uint8_t *s = i < 2 ? r->u.call.string[i] : NULL;
	if (!s || !(r->readable & 1u << i)) {
		put(l, "0x%llx", (unsigned long long)r->u.call.argument[i]);
		return;
	}
	size_t n = wh_strnlen((const char *)s, WH_OBSERVE_STRING);
	put_bytes(l, s, n, n == WH_OBSERVE_STRING);
}

/* `there`: bytes that mean something at argument 1. */
static void put_buffer(struct line *l, const struct wh_observe_record *r, unsigned string,
		       int64_t there)
{
	size_t n = there < 0                             ? 0
		   : (uint64_t)there > WH_OBSERVE_STRING ? WH_OBSERVE_STRING
							 : (size_t)there;
	if (r->readable & 1u << string && (there >= 0 && n))
		put_bytes(l, r->u.call.string[string], n, n < (uint64_t)there);
	else
		put(l, "0x%llx", (unsigned long long)r->u.call.argument[1]);
}

/* sockaddr_in, _in6, _un. */
static void put_address(struct line *l, const struct wh_observe_record *r)
{
	const uint8_t *a = r->u.call.string[1];
	unsigned family = a[0] | a[1] << 8, port = a[2] << 8 | a[3];
	if (!(r->readable & 2)) {
		put(l, "0x%llx", (unsigned long long)r->u.call.argument[1]);
	} else if (family == 2) {
		put(l, "%u.%u.%u.%u:%u", a[4], a[5], a[6], a[7], port);
	} else if (family == 10) {
		put(l, "[");
		for (unsigned i = 8; i < 24; i += 2)
			put(l, "%s%x", i > 8 ? ":" : "", a[i] << 8 | a[i + 1]);
		put(l, "]:%u", port);
	} else if (family == 1) {
		put(l, "unix ");
		put_bytes(l, a + 2, wh_strnlen((const char *)a + 2, WH_OBSERVE_STRING - 2), false);
	} else {
		put(l, "family %u", family);
	}
}

static void put_open_flags(struct line *l, uint64_t flags)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} bits[] = { { 0100, "O_CREAT" },       { 0200, "O_EXCL" },
		     { 01000, "O_TRUNC" },      { 02000, "O_APPEND" },
		     { 04000, "O_NONBLOCK" },   { 0200000, "O_DIRECTORY" },
		     { 0400000, "O_NOFOLLOW" }, { 02000000, "O_CLOEXEC" } };
	static const char *const access[] = { "O_RDONLY", "O_WRONLY", "O_RDWR", "3" };
	put(l, "%s", access[flags & 3]);
	flags &= ~(uint64_t)0100003; /* and O_LARGEFILE */
	for (size_t i = 0; i < WH_ARRAY_COUNT(bits); i++)
		if (flags & bits[i].bit) {
			put(l, "|%s", bits[i].name);
			flags &= ~(uint64_t)bits[i].bit;
		}
	if (flags)
		put(l, "|0x%llx", (unsigned long long)flags);
}

static void put_octal(struct line *l, uint64_t v)
{
	char digits[24], *at = digits + sizeof digits - 1;
	*at = '\0';
	do
		*--at = (char)('0' + (v & 7));
	while (v >>= 3);
	put(l, "0%s", at);
}

static void put_argument(struct line *l, const struct wh_observe_record *r, char kind, unsigned i)
{
	uint64_t v = r->u.call.argument[i];
	if (kind == 's')
		put_name(l, r, i);
	else if (kind == 'w')
		put_buffer(l, r, 1, (int64_t)r->u.call.argument[2]);
	else if (kind == 'r')
		put_buffer(l, r, 2, r->result);
	else if (kind == 'a')
		put_address(l, r);
	else if (kind == 'o')
		put_open_flags(l, v);
	else if (kind == 'm')
		put_octal(l, v);
	else if (kind == 'D' && (int32_t)v == -100)
		put(l, "AT_FDCWD");
	else if (kind == 'd' || kind == 'D')
		put(l, "%d", (int)v);
	else if (kind == 'u')
		put(l, "%llu", (unsigned long long)v);
	else if (kind == 'p' && !v)
		put(l, "NULL");
	else
		put(l, "0x%llx", (unsigned long long)v);
}

size_t observe_call_format(char *to, size_t size, const char *name,
			   const struct wh_observe_record *r)
{
	struct line l = { to, size, 0 };
	const char *letters = observe_call_find(name)->arguments;
	put(&l, "%s(", name);
	for (unsigned i = 0; letters[i] && i < 6; i++) {
		if (i)
			put(&l, ", ");
		put_argument(&l, r, letters[i], i);
	}
	if (r->kind == WH_OBSERVE_ENDING)
		put(&l, ") = ?");
	else if (r->result < 0 && r->result > -4096) {
		const char *error = observe_error_name((int)-r->result);
		put(&l, error ? ") = -1 %s" : ") = -1 error", error);
	} else if (r->result >= 0x100000000ll || r->result < 0)
		put(&l, ") = 0x%llx", (unsigned long long)r->result);
	else
		put(&l, ") = %lld", (long long)r->result);
	return l.at;
}
