/* SPDX-License-Identifier: ISC */
/* A Unix socket at which machines come to a switch, so that a program with one needs no more than a path. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/net_switch.h>
#include <wherry/os.h>
#include <wherry/socket_port.h>

#include "gateway_priv.h"

#define PAUSE_NS (100 * GATEWAY_MS) /* no descriptors, or no room: whoever waits is let in later */

struct machine {
	struct wh_net_listener *listener;
	struct wh_socket_port *port; /* NULL = this place is free */
	struct wh_net_guest *guest;
	int fd;
};

struct wh_net_listener {
	struct wh_net_switch *net_switch;
	struct wh_loop *loop;
	struct wh_loop_fd watch;
	struct wh_loop_timer resume;
	uint64_t device, inode;
	struct machine machines[WH_SWITCH_GUESTS_MAX];
	struct sockaddr_un at;
};

static void machine_end(struct machine *m)
{
	if (m->guest)
		wh_net_switch_remove(m->listener->net_switch, m->guest);
	wh_socket_port_free(m->port);
	wh_os_close(&m->fd);
	m->port = NULL;
	m->guest = NULL;
}

static void gone(void *ctx, const char *why)
{
	machine_end(ctx);
}

static void pause_listening(struct wh_net_listener *l)
{
	wh_loop_remove(l->loop, &l->watch);
	wh_loop_timer_start(l->loop, &l->resume, wh_loop_now(l->loop) + PAUSE_NS);
}

static void resume(struct wh_loop_timer *timer)
{
	struct wh_net_listener *l = timer->ctx;
	if (wh_loop_add(l->loop, &l->watch)) /* no memory in the kernel just now */
		wh_loop_timer_start(l->loop, timer, wh_loop_now(l->loop) + PAUSE_NS);
}

static void come(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_net_listener *l = watch->ctx;
	struct machine *m = l->machines, *end = m + WH_SWITCH_GUESTS_MAX;
	while (m < end && m->port)
		m++;
	int fd = m == end ? -1 : accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (m == end || (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR))
			pause_listening(l);
		return;
	}
	*m = (struct machine){ .listener = l, .fd = fd };
	const struct wh_socket_config config = {
		.size = sizeof config, .fd = fd, .gone = gone, .ctx = m
	};
	if (wh_socket_port_new(&config, l->loop, &m->port) ||
	    wh_net_switch_add(l->net_switch, wh_socket_port_port(m->port), NULL, &m->guest))
		machine_end(m);
}

static int open_at(struct wh_net_listener *l)
{
	struct stat st;
	mode_t mask = umask(0177);
	int error = bind(l->watch.fd, (struct sockaddr *)&l->at, sizeof l->at) ? -errno : 0;
	(void)umask(mask);
	if (error)
		return error;
	if (listen(l->watch.fd, WH_SWITCH_GUESTS_MAX) || stat(l->at.sun_path, &st))
		return -errno;
	l->device = st.st_dev;
	l->inode = st.st_ino;
	return wh_loop_add(l->loop, &l->watch);
}

int wh_net_switch_listen(struct wh_net_switch *net_switch, struct wh_loop *loop, const char *path,
			 struct wh_net_listener **ret_listener, struct wh_diag *diag)
{
	struct wh_net_listener *l = calloc(1, sizeof *l);
	if (!l)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a listener");
	size_t size = wh_strlen(path);
	l->net_switch = net_switch;
	l->loop = loop;
	l->at.sun_family = AF_UNIX;
	l->watch = (struct wh_loop_fd){ .fd = -1, .events = WH_LOOP_READ, .fn = come, .ctx = l };
	wh_loop_timer_init(&l->resume, resume, l);
	int error = size && size < sizeof l->at.sun_path ? 0 : -WH_ENAMETOOLONG;
	if (!error) {
		memcpy(l->at.sun_path, path, size + 1);
		l->watch.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		error = l->watch.fd < 0 ? -errno : open_at(l);
	}
	if (!error) {
		*ret_listener = l;
		return 0;
	}
	wh_os_close(&l->watch.fd);
	if (l->inode)
		(void)unlink(path);
	free(l);
	return wh_diag_set(diag, error, "%s: %s", path,
			   error == -WH_EADDRINUSE     ? "something has this name already"
			   : error == -WH_ENAMETOOLONG ? "no name for a socket"
			   : error == -WH_EACCES       ? "not allowed there"
						       : "a socket cannot be made there");
}

void wh_net_listener_free(struct wh_net_listener *l)
{
	struct stat st;
	if (!l)
		return;
	for (uint32_t i = 0; i < WH_SWITCH_GUESTS_MAX; i++)
		if (l->machines[i].port)
			machine_end(&l->machines[i]);
	if (wh_loop_timer_running(&l->resume))
		wh_loop_timer_stop(l->loop, &l->resume);
	else
		wh_loop_remove(l->loop, &l->watch);
	wh_os_close(&l->watch.fd);
	if (!stat(l->at.sun_path, &st) && st.st_dev == l->device && st.st_ino == l->inode)
		(void)unlink(l->at.sun_path); /* somebody may have put another one there */
	free(l);
}
