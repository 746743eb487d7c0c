/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "confine_priv.h"

#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW 4
#endif

/* Their run-time libraries make calls that are on nobody's list. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	__has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int install(uint32_t parts, enum wh_confine_violation violation)
{
	struct sock_filter filter[CONFINE_FILTER_MAX];
	struct {
		unsigned short count;
		struct sock_filter *filter;
	} fprog = { 0, filter };
	fprog.count =
		(unsigned short)confine_filter_write(parts, violation, (uint32_t)getpid(), filter);
	/* Without SPEC_ALLOW kernels before 5.16 slow the whole process down against a side channel between programs
	 * that a filter has nothing to do with; before 4.17 they do not know the flag. */
	if (!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &fprog))
		return 0;
	if (errno == EINVAL && !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &fprog))
		return 0;
	return -errno;
}

int wh_confine_thread(uint32_t parts, enum wh_confine_violation violation)
{
	if (SANITIZED)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return install(parts, violation);
}

struct entry { /* struct linux_dirent64 */
	uint64_t inode;
	int64_t next;
	uint16_t size;
	uint8_t type;
	char name[];
};

/* Descriptors of our own are close-on-exec, all of them; what came through our exec cannot have been. */
static bool close_inherited(void)
{
	_Alignas(8) char buffer[1024];
	long size;
	int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return false;
	while ((size = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0) {
		for (long at = 0; at < size;) {
			const struct entry *e = (const void *)(buffer + at);
			int fd = 0;
			const char *c = e->name;
			for (; *c >= '0' && *c <= '9' && fd < 1 << 26; c++)
				fd = fd * 10 + *c - '0';
			at += e->size;
			if (fd > STDERR_FILENO && !*c && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
				close(fd);
		}
	}
	close(folder);
	return size == 0;
}

int wh_confine_process(const struct wh_confine_config *config, uint32_t *ret_missing,
		       struct wh_diag *diag)
{
	uint32_t missing = 0;
	bool had = true;
	if (config->size != sizeof *config)
		return wh_diag_set(diag, -WH_EINVAL, "config of another version");
	if (!config->none_inherited && !close_inherited())
		missing |= WH_CONFINE_NO_DESCRIPTORS;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return wh_diag_set(diag, -errno, "cannot give up rights (errno %d)", errno);
	int error = config->violation == WH_CONFINE_LOG ? 0 : confine_landlock(config, &had, diag);
	if (error < 0)
		return error;
	if (!had)
		missing |= WH_CONFINE_NO_LANDLOCK;
	error = SANITIZED ? -ENOSYS : install(config->parts | WH_CONFINE_LOOP, config->violation);
	if (error == -ENOSYS || error == -EINVAL)
		missing |= WH_CONFINE_NO_FILTER;
	else if (error < 0)
		return wh_diag_set(diag, error,
				   "cannot install a filter of system calls (errno "
				   "%d)",
				   -error);
	*ret_missing = missing;
	return 0;
}
