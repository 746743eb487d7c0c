/* SPDX-License-Identifier: ISC */
/*
 * The process in the namespaces.
 *
 * run: the child makes its user, network and mount namespaces; we write its id maps, which only a
 * process outside may do as it should be; it makes the tap and hands us the descriptor; when the
 * gateway serves it, the child becomes the command. Without a gateway there is no
 * command: the child is killed with us.
 *
 * attach: the child enters the namespaces, makes the tap, hands it over and ends.
 *
 * One message is one packet of a socket pair that exec closes.
 */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/os.h>

enum step { STEP_UNSHARED = 1, STEP_MAPPED, STEP_TAP, STEP_GO, STEP_EXEC_FAILED, STEP_FAILED };

struct message {
	int step, error;
	uint32_t offloads;
	struct wh_diag diag;
};

/* ---- messages ---- */

static int message_send(int socket, const struct message *m, int fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)m, sizeof *m };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (fd >= 0) {
		h.msg_control = control.space;
		h.msg_controllen = sizeof control.space;
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	return sendmsg(socket, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* 0; -WH_ENODATA when the other side is gone. *ret_fd stays as it is when none came. */
static int message_receive(int socket, struct message *m, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { m, sizeof *m };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.space,
			    .msg_controllen = sizeof control.space };
	ssize_t n;
	do
		n = recvmsg(socket, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n < (ssize_t)sizeof *m)
		return -WH_ENODATA;
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (ret_fd && c && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
	m->diag.text[WH_DIAG_SIZE - 1] = 0;
	return 0;
}

static _Noreturn void child_fail(int socket, int error, const char *text)
{
	struct message m = { .step = STEP_FAILED, .error = error };
	wh_format(m.diag.text, sizeof m.diag.text, "%s", text);
	(void)message_send(socket, &m, -1); /* nobody else to tell */
	_exit(CLI_ERROR);
}

static _Noreturn void child_fail_errno(int socket, const char *what)
{
	int error = errno;
	char text[WH_DIAG_SIZE];
	wh_format(text, sizeof text, "%s: %s", what, strerror(error));
	child_fail(socket, -error, text);
}

/* ---- the command's environment ---- */

static void text_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)wh_os_write_all(fd, text, strlen(text)); /* a convenience only */
	close(fd);
}

/* In a network of one's own every port may be bound and ping needs no privilege. */
static void allow_ports(void)
{
	char range[32];
	wh_format(range, sizeof range, "%u %u", (unsigned)getgid(), (unsigned)getgid());
	text_write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	text_write("/proc/sys/net/ipv4/ping_group_range", range);
}

static bool line_begins(const char *line, const char *word)
{
	size_t n = strlen(word);
	return !strncmp(line, word, n) && (line[n] == ' ' || line[n] == '\t');
}

/* Our server, and the host's search list and options. Returns the length. */
static size_t resolver_text(const uint8_t dns[4], char *to, size_t size)
{
	char host[4096];
	size_t used =
		wh_format(to, size, "nameserver %u.%u.%u.%u\n", dns[0], dns[1], dns[2], dns[3]);
	if (wh_os_read_text("/etc/resolv.conf", host, sizeof host) < 0)
		return used;
	for (char *line = host, *end; *line; line = end + (*end == '\n')) {
		end = strchr(line, '\n');
		if (!end)
			end = line + strlen(line);
		size_t n = (size_t)(end - line) + (*end == '\n');
		if ((line_begins(line, "search") || line_begins(line, "domain") ||
		     line_begins(line, "options")) &&
		    used + n < size) {
			memcpy(to + used, line, n);
			used += n;
		}
		if (!*end)
			break;
	}
	return used;
}

/* Covers /etc/resolv.conf in this mount namespace. A bind mount needs a file: it lives in a tmpfs that
 * is mounted over /etc for a moment and is gone with the namespace. */
static int resolver_mount(const uint8_t dns[4])
{
	char text[5000];
	size_t size = resolver_text(dns, text, sizeof text);
	int target = open("/etc/resolv.conf", O_PATH | O_CLOEXEC);
	if (target < 0)
		return -errno;
	char path[40];
	wh_format(path, sizeof path, "/proc/self/fd/%d", target);
	int error = 0, file = -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) ||
	    mount("tmpfs", "/etc", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")) {
		error = -errno;
		goto out;
	}
	file = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	error = file < 0 ? -errno : wh_os_write_all(file, text, size);
	if (!error && (fchmod(file, 0644) || mount("/etc/resolv.conf", path, NULL, MS_BIND, NULL)))
		error = -errno;
	if (umount2("/etc", MNT_DETACH) && !error)
		error = -errno;
out:
	wh_os_close(&file);
	close(target);
	return error;
}

/* ---- the child ---- */

static void tap_make(const struct wh_tap_config *config, int socket)
{
	struct message m = { .step = STEP_TAP };
	int fd = -1;
	m.error = wh_tap_open(config, &fd, &m.offloads, &m.diag);
	if (m.error)
		child_fail(socket, m.error, m.diag.text);
	if (message_send(socket, &m, fd))
		_exit(CLI_ERROR);
	close(fd);
}

static const char *unshare_hint(int error)
{
	switch (error) {
	case EPERM:
		return "this system does not let users make namespaces (see "
		       "kernel.unprivileged_userns_clone, "
		       "kernel.apparmor_restrict_unprivileged_userns)";
	case ENOSPC:
		return "the limit of namespaces is reached (see user.max_user_namespaces)";
	case EINVAL:
	case ENOSYS:
		return "this kernel has no user or network namespaces";
	default:
		return strerror(error);
	}
}

static _Noreturn void child_run(const struct net_options *o, const struct wh_tap_config *tap,
				const uint8_t dns[4], int socket, pid_t parent)
{
	struct message m = { .step = STEP_UNSHARED };
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)) {
		char text[WH_DIAG_SIZE];
		wh_format(text, sizeof text, "no user and network namespace: %s",
			  unshare_hint(errno));
		child_fail(socket, -errno, text);
	}
	if (message_send(socket, &m, -1) || message_receive(socket, &m, NULL) ||
	    m.step != STEP_MAPPED)
		_exit(CLI_ERROR);
	tap_make(tap, socket);
	allow_ports();
	int error = resolver_mount(dns);
	if (error && o->verbose)
		cli_error("net: the command keeps /etc/resolv.conf as it is: %s", strerror(-error));
	if (message_receive(socket, &m, NULL) || m.step != STEP_GO)
		_exit(CLI_ERROR);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cannot fail */
	if (getppid() != parent)
		_exit(CLI_ERROR);
	execvp(o->argv[0], o->argv);
	m.step = STEP_EXEC_FAILED;
	m.error = -errno;
	(void)message_send(socket, &m, -1);
	_exit(CLI_ERROR);
}

/* The namespace to serve, or the command's. */
static int namespace_open(const struct net_options *o, pid_t command)
{
	char path[64];
	uint64_t pid = (uint64_t)command;
	bool by_pid = !o->attach || !cli_parse_number(o->netns, strlen(o->netns), INT32_MAX, &pid);
	if (by_pid)
		wh_format(path, sizeof path, "/proc/%llu/ns/net", (unsigned long long)pid);
	return open(by_pid ? path : o->netns, O_RDONLY | O_CLOEXEC);
}

static _Noreturn void child_attach(const struct net_options *o, const struct wh_tap_config *tap,
				   int socket)
{
	int net = namespace_open(o, 0);
	if (net < 0)
		child_fail_errno(socket, o->netns);
	int error = net_namespace_enter(net);
	if (error) {
		errno = -error;
		child_fail_errno(socket, o->netns);
	}
	tap_make(tap, socket);
	_exit(0);
}

/* ---- the parent ---- */

static int map_write(pid_t pid, const char *file, const char *text)
{
	char path[64];
	wh_format(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, strlen(text)); /* the kernel wants it in one piece */
	int error = n < 0 ? -errno : 0;
	close(fd);
	return error;
}

/* Root keeps all ids, a user has one: the own one, or 0 when asked for. */
static int ids_map(pid_t pid, bool map_root)
{
	static const char all[] = "0 0 4294967295\n";
	char text[64];
	if (!geteuid() && !map_root && !map_write(pid, "uid_map", all))
		return map_write(pid, "gid_map", all);
	unsigned uid = geteuid(), gid = getegid();
	wh_format(text, sizeof text, "%u %u 1\n", map_root ? 0 : uid, uid);
	int error = map_write(pid, "uid_map", text);
	if (error)
		return error;
	error = map_write(pid, "setgroups", "deny");
	wh_format(text, sizeof text, "%u %u 1\n", map_root ? 0 : gid, gid);
	return error ? error : map_write(pid, "gid_map", text);
}

static int child_failed(struct net_child *child, const struct message *m)
{
	bool tun = m->error == -WH_ENOENT || m->error == -WH_EACCES || m->error == -WH_ENODEV;
	cli_error("net: %s%s",
		  m->step == STEP_FAILED ? m->diag.text : "the child process ended early",
		  tun && !strncmp(m->diag.text, "/dev/net/tun", 12)
			  ? " (it must be there and open to you: modprobe tun; mode 0666)"
			  : "");
	(void)kill(child->pid, SIGKILL); /* it may have ended already */
	(void)waitpid(child->pid, NULL, 0);
	wh_os_close(&child->socket);
	return CLI_ERROR;
}

static int tap_fetch(const struct net_options *o, struct net_child *child)
{
	struct message m = { 0 };
	int error = 0;
	if (!o->attach) {
		if (message_receive(child->socket, &m, NULL) || m.step != STEP_UNSHARED)
			return child_failed(child, &m);
		error = ids_map(child->pid, o->map_root);
		if (error) {
			m.step = STEP_FAILED;
			m.error = error;
			wh_format(m.diag.text, sizeof m.diag.text,
				  "cannot map the user into the namespace: %s", strerror(-error));
			return child_failed(child, &m);
		}
		m.step = STEP_MAPPED;
		(void)message_send(child->socket, &m, -1); /* its end shows in the next receive */
	}
	if (message_receive(child->socket, &m, &child->fd) || m.step != STEP_TAP || child->fd < 0)
		return child_failed(child, &m);
	child->offloads = m.offloads;
	return CLI_OK;
}

int net_child_start(const struct net_options *o, const struct wh_tap_config *tap,
		    const uint8_t dns[4], struct net_child *ret_child)
{
	int pair[2];
	pid_t parent = getpid();
	*ret_child = (struct net_child){ .fd = -1, .net = -1, .socket = -1 };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		cli_error("net: no socket pair: %s", strerror(errno));
		return CLI_ERROR;
	}
	pid_t pid = fork();
	if (pid < 0) {
		cli_error("net: cannot make a process: %s", strerror(errno));
		return CLI_ERROR;
	}
	if (!pid) {
		close(pair[0]);
		if (o->attach)
			child_attach(o, tap, pair[1]);
		child_run(o, tap, dns, pair[1], parent);
	}
	close(pair[1]);
	ret_child->pid = pid;
	ret_child->socket = pair[0];
	int status = tap_fetch(o, ret_child);
	if (!status)
		ret_child->net = namespace_open(o, pid);
	if (!status && o->attach) {
		(void)waitpid(pid, NULL, 0); /* it has nothing more to say */
		wh_os_close(&ret_child->socket);
	}
	return status;
}

int net_child_go(const struct net_options *o, struct net_child *child)
{
	struct message m = { .step = STEP_GO };
	(void)message_send(child->socket, &m, -1); /* its end shows in the receive */
	int error = message_receive(child->socket, &m, NULL);
	wh_os_close(&child->socket);
	if (error == -WH_ENODATA) /* exec has closed it */
		return CLI_OK;
	error = error ? error : m.error;
	(void)waitpid(child->pid, NULL, 0);
	cli_error("net: %s: %s", o->argv[0], strerror(-error));
	return error == -WH_ENOENT ? CLI_NOT_FOUND : CLI_CANNOT_START;
}
