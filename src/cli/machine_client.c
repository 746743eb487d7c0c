/* SPDX-License-Identifier: ISC */
#include "machine_client.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "machine_folder.h"

int machine_operands(const struct cli_command *command, int argc, char **argv, const char **ret,
		     int count, bool *ret_option)
{
	struct cli_parser p;
	const char *value = NULL;
	int id, n = 0;
	cli_parser_init(&p, command, argc, argv);
	while ((id = cli_next(&p, &value)) != CLI_END) {
		if (id == CLI_BAD || id == CLI_HELP)
			return id == CLI_HELP ? CLI_OK : CLI_ERROR;
		if (id != CLI_OPERAND)
			*ret_option = true;
		else if (n++ < count)
			ret[n - 1] = value;
	}
	if (n == count)
		return -1;
	cli_error("%s: needs %s (see: wherry %s --help)", command->name,
		  count == 2   ? "a name and a file"
		  : count == 1 ? "the name of a machine"
			       : "nothing",
		  command->name);
	return CLI_ERROR;
}

int machine_connect(const char *name)
{
	char folder[PATH_MAX];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (machine_folder(folder, sizeof folder, false))
		return -EINVAL;
	int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s.sock", folder, name);
	if (n < 0 || (size_t)n >= sizeof address.sun_path || strchr(name, '/'))
		return -ENOENT;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

int machine_missing(const char *name, int error)
{
	if (error == -ENOENT || error == -ECONNREFUSED)
		cli_error("there is no machine %s (see: wherry ps)", name);
	else
		cli_error("cannot reach machine %s: %s", name, strerror(-error));
	return CLI_ERROR;
}

int machine_ask(int fd, const char *method, const char *path, const char *body, int passed)
{
	char text[2048];
	int n = snprintf(text, sizeof text,
			 "%s %s HTTP/1.1\r\nHost: wherry\r\nContent-Length: %zu\r\n\r\n%s", method,
			 path, strlen(body), body);
	if (n < 0 || (size_t)n >= sizeof text)
		return -ENAMETOOLONG;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof passed)] = { 0 };
	struct iovec from = { text, (size_t)n };
	struct msghdr message = { .msg_iov = &from, .msg_iovlen = 1 };
	if (passed >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof control;
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof passed);
		memcpy(CMSG_DATA(head), &passed, sizeof passed);
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL) == n ? 0 : -EPIPE;
}

int machine_answer(int fd, char *text, size_t size, const char **ret_body)
{
	size_t have = 0;
	int status;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		if (poll(&p, 1, MACHINE_ANSWER_MS) <= 0)
			return -ETIMEDOUT;
		ssize_t n = read(fd, text + have, size - 1 - have);
		if (n < 0)
			return -errno;
		have += (size_t)n;
		if (!n || have == size - 1)
			break;
	}
	text[have] = 0;
	char *body = strstr(text, "\r\n\r\n");
	if (!body || sscanf(text, "HTTP/1.1 %d", &status) != 1)
		return -EPROTO;
	*ret_body = body + 4;
	return status;
}
