/* SPDX-License-Identifier: ISC */
/*
 * Landlock (Documentation/userspace-api/landlock.rst): files are named by what may be done below a path; what is not
 * named is refused. Numbers are the kernel's, written out because headers are older than kernels.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "confine_priv.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#define GET_VERSION 1u
#define RULE_PATH 1
/* Renames between folders are refused without a way to allow them before version 2. */
#define VERSION_LEAST 2

#define ACCESS_EXECUTE (1ull << 0)
#define ACCESS_WRITE_FILE (1ull << 1)
#define ACCESS_READ_FILE (1ull << 2)
#define ACCESS_READ_DIR (1ull << 3)
#define ACCESS_REMOVE_DIR (1ull << 4)
#define ACCESS_REMOVE_FILE (1ull << 5)
#define ACCESS_MAKE_DIR (1ull << 7)
#define ACCESS_MAKE_REG (1ull << 8)
#define ACCESS_MAKE_SOCK (1ull << 9)
#define ACCESS_MAKE_FIFO (1ull << 10)
#define ACCESS_MAKE_SYM (1ull << 12)
#define ACCESS_REFER (1ull << 13)
#define ACCESS_TRUNCATE (1ull << 14)  /* version 3 */
#define ACCESS_IOCTL_DEV (1ull << 15) /* version 5 */
#define ACCESS_OF_FILES (ACCESS_EXECUTE | ACCESS_WRITE_FILE | ACCESS_READ_FILE | ACCESS_TRUNCATE)
#define NET_TCP 3ull           /* bind and connect, version 4 */
#define SCOPE_ABSTRACT_UNIX 1u /* version 6; signals are the filter's */

struct ruleset {
	uint64_t files, net, scoped;
};

/* 12 bytes for the kernel. */
struct path_rule {
	uint64_t access;
	int32_t parent;
} __attribute__((packed));

static uint64_t access_of(uint32_t access)
{
	uint64_t bits = 0;
	if (access & WH_CONFINE_READ)
		bits |= ACCESS_READ_FILE | ACCESS_READ_DIR;
	if (access & WH_CONFINE_WRITE)
		bits |= ACCESS_WRITE_FILE | ACCESS_REMOVE_DIR | ACCESS_REMOVE_FILE |
			ACCESS_MAKE_DIR | ACCESS_MAKE_REG | ACCESS_MAKE_SOCK | ACCESS_MAKE_FIFO |
			ACCESS_MAKE_SYM | ACCESS_REFER | ACCESS_TRUNCATE;
	if (access & WH_CONFINE_REMOVE)
		bits |= ACCESS_REMOVE_FILE;
	return bits;
}

static int add_path(int rules, const struct wh_confine_path *p, uint64_t handled,
		    struct wh_diag *diag)
{
	struct stat st;
	struct path_rule rule = { .parent = open(p->path, O_PATH | O_CLOEXEC) };
	if (rule.parent < 0)
		return 0; /* nothing there that could be allowed */
	rule.access = access_of(p->access) & handled;
	if (!fstat(rule.parent, &st) && !S_ISDIR(st.st_mode))
		rule.access &= ACCESS_OF_FILES;
	int error = 0;
	if (rule.access && syscall(SYS_landlock_add_rule, rules, RULE_PATH, &rule, 0))
		error = wh_diag_set(diag, -errno, "cannot keep access to %s (Landlock, errno %d)",
				    p->path, errno);
	close(rule.parent);
	return error;
}

int confine_landlock(const struct wh_confine_config *config, bool *ret_had, struct wh_diag *diag)
{
	struct ruleset set = { .files = ACCESS_TRUNCATE - 1 };
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, GET_VERSION);
	*ret_had = version >= VERSION_LEAST;
	if (!*ret_had)
		return 0;
	size_t size = sizeof set.files;
	if (version >= 3)
		set.files |= ACCESS_TRUNCATE;
	if (version >= 4)
		size += sizeof set.net;
	if (version >= 4 && !(config->parts & WH_CONFINE_NETWORK))
		set.net = NET_TCP;
	if (version >= 5)
		set.files |= ACCESS_IOCTL_DEV;
	if (version >= 6) {
		size += sizeof set.scoped;
		set.scoped = SCOPE_ABSTRACT_UNIX;
	}
	int rules = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
	if (rules < 0)
		return wh_diag_set(diag, -errno, "cannot make Landlock rules (errno %d)", errno);
	int error = 0;
	for (uint32_t i = 0; error >= 0 && i < config->path_count; i++)
		error = add_path(rules, &config->paths[i], set.files, diag);
	if (error >= 0 && syscall(SYS_landlock_restrict_self, rules, 0))
		error = wh_diag_set(diag, -errno, "cannot keep to Landlock's rules (errno %d)",
				    errno);
	close(rules);
	return error;
}
