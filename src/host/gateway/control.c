/* SPDX-License-Identifier: ISC */
/*
 * The control's sockets. A client has one request at a time in work: the next one is looked at when the
 * replies to the former one are with the kernel. So its buffers are bounded, and one that does not read
 * stops itself only.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/os.h>

#include "control_priv.h"

#define ACCEPT_PAUSE_NS (100 * GATEWAY_MS) /* out of descriptors: look again after this */
#define DESCRIPTORS_MAX 4                  /* taken at once, to be closed; the kernel drops more */

/* ---- replies ---- */

void control_print(struct control_client *client, const char *format, ...)
{
	size_t room = sizeof client->out - client->out_size;
	va_list args;
	va_start(args, format);
	size_t n = wh_vformat(client->out + client->out_size, room, format, args);
	va_end(args);
	wh_assert(n < room); /* control_command begins with an empty buffer */
	client->out_size += (uint32_t)n;
}

void control_string(struct control_client *client, const char *text)
{
	control_print(client, "\"");
	for (; *text; text++) {
		char c = *text;
		if (c == '"' || c == '\\')
			control_print(client, "\\%c", c);
		else if (c < ' ' || c > '~')
			control_print(client, "?"); /* requests are ASCII; so is what we say */
		else
			control_print(client, "%c", c);
	}
	control_print(client, "\"");
}

/* ---- events ---- */

static void event_came(void *ctx, const char *line, size_t size)
{
	struct control_client *client = ctx;
	static const char lost[] = "{\"event\":\"lost\"}\n";
	size_t room = sizeof client->out - client->out_size;
	if (size + sizeof lost > room) { /* it does not read: it learns that there is a gap */
		if (!client->lost && sizeof lost - 1 <= room) {
			memcpy(client->out + client->out_size, lost, sizeof lost - 1);
			client->out_size += (uint32_t)sizeof lost - 1;
		}
		client->lost = true;
		return;
	}
	client->lost = false;
	memcpy(client->out + client->out_size, line, size);
	client->out_size += (uint32_t)size;
	if (client->watch.events != WH_LOOP_WRITE) /* at worst it hears it with the next one */
		(void)wh_loop_modify(client->control->loop, &client->watch, WH_LOOP_WRITE);
}

void control_events(struct control_client *client, const struct control_words *w)
{
	if (client->watch.fd < 0) {
		control_failed(client, -WH_EINVAL, "events are for clients");
		return;
	}
	client->watching = true;
	client->watcher = (struct wh_gateway_watcher){ .fn = event_came, .ctx = client };
	wh_gateway_watch(client->control->gateway, &client->watcher);
	control_done(client);
}

/* ---- clients ---- */

static void client_free(struct control_client *client)
{
	struct wh_gateway_control *control = client->control;
	if (client->watching)
		wh_gateway_unwatch(&client->watcher);
	wh_loop_remove(control->loop, &client->watch);
	wh_list_remove(&client->node);
	wh_assert(control->client_count > 0);
	control->client_count--;
	wh_os_close(&client->fd);
	wh_os_close(&client->watch.fd);
	wh_free(control->gateway->alloc, client, sizeof *client);
}

/* false: the client is gone. */
static bool client_send(struct control_client *client)
{
	while (client->out_sent < client->out_size) {
		ssize_t n = send(client->watch.fd, client->out + client->out_sent,
				 client->out_size - client->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			client->out_sent += (uint32_t)n;
		} else if (errno == EAGAIN) {
			return true;
		} else if (errno != EINTR) {
			client_free(client);
			return false;
		}
	}
	client->out_sent = client->out_size = 0;
	return true;
}

/* The first descriptor of a message is kept, until its request has been answered. */
static void descriptors_take(struct control_client *client, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (client->fd < 0)
				client->fd = fd;
			else
				close(fd);
		}
	}
}

/* false: the client is gone. */
static bool client_receive(struct control_client *client)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { client->in + client->in_size, sizeof client->in - client->in_size };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control.space,
				  .msg_controllen = sizeof control.space };
	wh_assert(iov.iov_len > 0);
	ssize_t n = recvmsg(client->watch.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n > 0) {
		descriptors_take(client, &message);
		client->in_size += (uint32_t)n;
		return true;
	}
	if (!n)
		client->at_end = true;
	else if (errno != EAGAIN && errno != EINTR)
		client_free(client);
	else
		return true;
	return !n;
}

/* One request out of the buffer; false = there is no whole one. */
static bool client_request(struct control_client *client)
{
	char *end = memchr(client->in, '\n', client->in_size);
	if (!end && client->in_size == sizeof client->in) {
		control_print(client,
			      "{\"ok\":false,\"error\":%d,\"message\":\"the line is too long\"}\n",
			      WH_E2BIG);
		client->ending = true;
		client->in_size = 0;
		return true;
	}
	if (!end)
		return false;
	size_t size = (size_t)(end - client->in);
	control_command(client, client->in, size);
	wh_os_close(&client->fd); /* a command that wants it has taken it */
	client->in_size -= (uint32_t)size + 1;
	memmove(client->in, end + 1, client->in_size);
	return true;
}

/* Goes on until the client must be waited for. */
static void client_work(struct control_client *client)
{
	for (;;) {
		if (!client_send(client))
			return;
		if (client->out_size)
			break;
		if (client->watching && client->at_end)
			goto end;
		if (client->watching)
			break;
		if (client->more) {
			client->more(client);
			continue;
		}
		if (client->ending)
			goto end;
		if (client_request(client))
			continue;
		if (client->at_end)
			goto end;
		break;
	}
	uint32_t events = client->out_size ? WH_LOOP_WRITE : WH_LOOP_READ;
	if (events == client->watch.events ||
	    !wh_loop_modify(client->control->loop, &client->watch, events))
		return;
end:
	client_free(client);
}

static void client_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct control_client *client = watch->ctx;
	if (client->watching)
		client->in_size = 0; /* it has nothing more to say */
	if (!client->out_size && !client->at_end && !client_receive(client))
		return;
	if (client->out_size && (events & WH_LOOP_HANGUP) && !(events & WH_LOOP_WRITE))
		client_free(client); /* nobody will read it */
	else
		client_work(client);
}

int wh_gateway_control_add(struct wh_gateway_control *control, int fd)
{
	const struct wh_alloc *alloc = control->gateway->alloc;
	struct control_client *client = NULL;
	if (control->client_count < WH_CONTROL_CLIENTS_MAX)
		client = wh_alloc(alloc, sizeof *client);
	if (!client) {
		close(fd);
		return control->client_count < WH_CONTROL_CLIENTS_MAX ? -WH_ENOMEM : -WH_ENOSPC;
	}
	memset(client, 0, offsetof(struct control_client, in));
	client->control = control;
	client->fd = -1;
	client->watch = (struct wh_loop_fd){
		.fd = fd, .events = WH_LOOP_READ, .fn = client_event, .ctx = client
	};
	int error = wh_loop_add(control->loop, &client->watch);
	if (error < 0) {
		close(fd);
		wh_free(alloc, client, sizeof *client);
		return error;
	}
	wh_list_push_back(&control->clients, &client->node);
	control->client_count++;
	return 0;
}

int wh_gateway_control_run(struct wh_gateway_control *control, const char *request,
			   struct wh_diag *diag)
{
	return control_run(control, request, NULL, diag);
}

int control_run(struct wh_gateway_control *control, const char *request, uint32_t *ret_id,
		struct wh_diag *diag)
{
	const struct wh_alloc *alloc = control->gateway->alloc;
	size_t size = wh_strnlen(request, WH_CONTROL_LINE_SIZE);
	struct control_client *client = NULL;
	if (size < WH_CONTROL_LINE_SIZE)
		client = wh_alloc(alloc, sizeof *client);
	else
		return wh_diag_set(diag, -WH_E2BIG, "the line is too long");
	if (!client)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory");
	memset(client, 0, offsetof(struct control_client, in));
	client->control = control;
	client->fd = client->watch.fd = -1;
	wh_list_init(&client->node);
	memcpy(client->in, request, size);
	control_command(client, client->in, size);
	int error = client->error;
	if (error)
		(void)wh_diag_set(diag, error, "%s", client->result.text);
	else if (ret_id)
		*ret_id = client->result_id;
	wh_free(alloc, client, sizeof *client);
	return error;
}

/* ---- the socket's file ---- */

static void accept_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_gateway_control *control = watch->ctx;
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0) {
		(void)wh_gateway_control_add(control, fd); /* it sees the end of the connection */
		return;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return;
	(void)wh_loop_modify(control->loop, watch, 0);
	wh_loop_timer_start(control->loop, &control->resume,
			    wh_loop_now(control->loop) + ACCEPT_PAUSE_NS);
}

static void accept_resume(struct wh_loop_timer *timer)
{
	struct wh_gateway_control *control = timer->ctx;
	(void)wh_loop_modify(control->loop, &control->listener, WH_LOOP_READ);
}

static int listener_open(struct wh_gateway_control *control, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t size = wh_strlen(control->path);
	if (size >= sizeof address.sun_path)
		return -WH_ENAMETOOLONG;
	memcpy(address.sun_path, control->path, size);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int error = gateway_host_linux.path_bind(NULL, fd, (const struct sockaddr *)&address,
						 sizeof address, &control->device, &control->inode);
	if (!error && listen(fd, WH_CONTROL_CLIENTS_MAX)) {
		error = -errno;
		gateway_host_linux.path_remove(NULL, control->path, control->device,
					       control->inode);
	}
	if (error) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

static int explain(int error, const char *path, struct wh_diag *diag)
{
	switch (-error) {
	case WH_EADDRINUSE:
		return wh_diag_set(diag, error, "%s is in use by another gateway, or is a file",
				   path);
	case WH_ENAMETOOLONG:
		return wh_diag_set(diag, error, "%s is longer than a socket's name may be (107)",
				   path);
	default:
		return wh_diag_set(diag, error, "%s cannot be listened at: error %d", path, -error);
	}
}

int wh_gateway_control_new(struct wh_gateway *gateway, struct wh_loop *loop, const char *path,
			   struct wh_gateway_control **ret_control, struct wh_diag *diag)
{
	size_t size = path ? wh_strlen(path) + 1 : 1;
	struct wh_gateway_control *control = wh_alloc_zero(gateway->alloc, sizeof *control + size);
	if (!control)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the control socket");
	control->gateway = gateway;
	control->loop = loop;
	control->pcap_fd = control->listener.fd = -1;
	wh_list_init(&control->clients);
	wh_loop_timer_init(&control->resume, accept_resume, control);
	if (path) {
		memcpy(control->path, path, size);
		control->listener.events = WH_LOOP_READ;
		control->listener.fn = accept_event;
		control->listener.ctx = control;
		int error = listener_open(control, &control->listener.fd);
		if (!error)
			error = wh_loop_add(loop, &control->listener);
		if (error) {
			explain(error, path, diag);
			control->listener.events = 0;
			wh_gateway_control_free(control);
			return error;
		}
	}
	*ret_control = control;
	return 0;
}

void wh_gateway_control_free(struct wh_gateway_control *control)
{
	if (!control)
		return;
	while (!wh_list_empty(&control->clients))
		client_free(WH_LIST_ENTRY(control->clients.next, struct control_client, node));
	wh_assert(control->client_count == 0);
	if (control->pcap_fd >= 0)
		(void)wh_gateway_pcap(control->gateway, -1);
	wh_os_close(&control->pcap_fd);
	wh_loop_timer_stop(control->loop, &control->resume);
	if (control->listener.fd >= 0) {
		if (control->listener.fn)
			wh_loop_remove(control->loop, &control->listener);
		gateway_host_linux.path_remove(NULL, control->path, control->device,
					       control->inode);
		wh_os_close(&control->listener.fd);
	}
	wh_free(control->gateway->alloc, control, sizeof *control + wh_strlen(control->path) + 1);
}
