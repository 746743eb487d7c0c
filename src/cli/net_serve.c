/* SPDX-License-Identifier: ISC */
/*
 * wherry net serve: virtual machines of others behind the gateway. Each --listen is a place where
 * machines come from: a socket that is listened on, up to the switch's guests, or one machine's connection or
 * datagram socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/net_switch.h>
#include <wherry/os.h>
#include <wherry/socket_port.h>
#include <wherry/vhost_port.h>

#include "net.h"

#define ACCEPT_AGAIN_NS 500000000ull

struct kind {
	enum wh_socket_protocol protocol;
	bool vhost_user; /* instead */
};

struct place {
	struct net_serve *serve;
	const char *text; /* unix:PATH, fd:N or stdin */
	struct kind kind;
	struct wh_loop_fd listener; /* -1 = none */
	struct wh_loop_timer again; /* out of descriptors: the listener waits */
	dev_t device;               /* of the socket that we made */
	ino_t inode;
};

struct client {
	struct net_serve *serve;
	struct kind kind;
	int fd;                        /* -1 = free */
	struct wh_socket_port *socket; /* one of the two */
	struct wh_vhost_port *vhost;
	struct wh_net_guest *guest; /* NULL: has not said yet who it is */
	uint8_t mac[6];
};

struct net_serve {
	const struct net_options *options;
	struct wh_loop *loop;
	struct wh_gateway *gateway;
	struct wh_net_switch *net_switch;
	bool once; /* inherited connections only: the end of the last one is ours */
	unsigned place_count;
	struct place places[NET_LISTEN_MAX];
	struct client clients[WH_SWITCH_GUESTS_MAX];
};

static struct net_serve the_serve; /* one per process */

/* ---- options ---- */

static int kind_parse(const char *text, size_t size, struct kind *ret_kind)
{
	static const char *const names[] = { [WH_SOCKET_QEMU] = "qemu",
					     [WH_SOCKET_QEMU_DGRAM] = "qemu-dgram",
					     [WH_SOCKET_VPNKIT] = "vpnkit" };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(names); i++) {
		if (strlen(names[i]) == size && !memcmp(text, names[i], size)) {
			*ret_kind = (struct kind){ .protocol = (enum wh_socket_protocol)i };
			return 0;
		}
	}
	if (size != 10 || memcmp(text, "vhost-user", size))
		return CLI_BAD;
	*ret_kind = (struct kind){ .protocol = WH_SOCKET_QEMU, .vhost_user = true };
	return 0;
}

int net_protocol_take(struct net_options *o, const char *text)
{
	struct kind kind;
	if (kind_parse(text, strlen(text), &kind)) {
		cli_error("net: --protocol is qemu, qemu-dgram, vpnkit or vhost-user, not %s",
			  text);
		return CLI_BAD;
	}
	o->protocol = text;
	return 0;
}

/* "[PROTOCOL=]ADDRESS"; an = in a path comes after a colon. */
static int place_parse(struct place *p, const char *text, const char *usual)
{
	const char *equals = strchr(text, '='), *colon = strchr(text, ':');
	p->text = text;
	if (!equals || (colon && colon < equals))
		return kind_parse(usual ? usual : "qemu", usual ? strlen(usual) : 4, &p->kind);
	p->text = equals + 1;
	return kind_parse(text, (size_t)(equals - text), &p->kind) ? -EINVAL : 0;
}

/* ---- clients ---- */

static void client_end(struct client *c)
{
	if (c->guest)
		wh_net_switch_remove(c->serve->net_switch, c->guest);
	struct wh_vhost_port *vhost = c->vhost;
	c->vhost = NULL; /* the signal's handler looks */
	wh_vhost_port_free(vhost);
	wh_socket_port_free(c->socket);
	c->guest = NULL;
	c->socket = NULL;
	wh_os_close(&c->fd);
}

static unsigned clients_count(const struct net_serve *s)
{
	unsigned n = 0;
	for (unsigned i = 0; i < WH_SWITCH_GUESTS_MAX; i++)
		n += s->clients[i].fd >= 0;
	return n;
}

static void client_gone(void *ctx, const char *why)
{
	struct client *c = ctx;
	struct net_serve *s = c->serve;
	if (s->options->verbose)
		cli_error("net: guest %u: %s", (unsigned)(c - s->clients), why);
	client_end(c);
	if (s->once && !clients_count(s))
		wh_loop_stop(s->loop, CLI_OK);
}

static void client_changed(void *ctx)
{
	struct client *c = ctx;
	if (c->guest)
		wh_net_switch_changed(c->serve->net_switch, c->guest);
}

static int client_join(struct client *c, const uint8_t *mac)
{
	struct wh_net_port *port =
		c->vhost ? wh_vhost_port_port(c->vhost) : wh_socket_port_port(c->socket);
	return wh_net_switch_add(c->serve->net_switch, port, mac, &c->guest);
}

static bool mac_taken(const struct net_serve *s, const uint8_t mac[6])
{
	for (unsigned i = 0; i < WH_SWITCH_GUESTS_MAX; i++)
		if (s->clients[i].guest && !memcmp(s->clients[i].mac, mac, 6))
			return true;
	return false;
}

/* The same UUID gets the same MAC, and by it the same lease; zero is nobody's. */
static void mac_choose(const struct wh_socket_request *request, uint8_t ret_mac[6])
{
	static const char nobody[] = "00000000-0000-0000-0000-000000000000";
	static const uint64_t key[2] = { 0x7768657272790001, 0x6e65742073657276 };
	uint64_t bits;
	if (!memcmp(request->uuid, nobody, sizeof request->uuid)) {
		wh_os_random(&bits, sizeof bits);
	} else {
		char lower[sizeof request->uuid];
		for (unsigned i = 0; i < sizeof lower; i++)
			lower[i] =
				(char)(request->uuid[i] | 32); /* '-' and digits have it already */
		bits = wh_siphash(key, lower, sizeof lower);
	}
	memcpy(ret_mac, &bits, 6);
	ret_mac[0] = (uint8_t)((ret_mac[0] & 0xfc) | 2); /* local, of one machine */
}

static const char *client_request(void *ctx, const struct wh_socket_request *request,
				  uint8_t ret_mac[6])
{
	struct client *c = ctx;
	mac_choose(request, c->mac);
	if (mac_taken(c->serve, c->mac))
		return "a machine with this UUID is connected";
	if (wh_load_be32(request->ip4)) {
		int error = wh_gateway_lease_set(c->serve->gateway, c->mac, request->ip4);
		if (error == -WH_EADDRINUSE)
			return "the preferred address is in use";
		if (error)
			return "the preferred address cannot be had";
	}
	if (client_join(c, c->mac))
		return "no room on the network";
	memcpy(ret_mac, c->mac, 6);
	return NULL;
}

static int socket_start(struct net_serve *s, struct client *c, int fd)
{
	struct wh_socket_config config = { .size = sizeof config,
					   .fd = fd,
					   .protocol = c->kind.protocol,
					   .mtu = s->options->mtu,
					   .request = client_request,
					   .changed = client_changed,
					   .gone = client_gone,
					   .ctx = c };
	int size = 1 << 20; /* as much of it as the system's limit lets us */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	return wh_socket_port_new(&config, s->loop, &c->socket);
}

static int vhost_start(struct net_serve *s, struct client *c, int fd)
{
	struct wh_vhost_config config = { .size = sizeof config,
					  .fd = fd,
					  .mtu = s->options->mtu,
					  .gone = client_gone,
					  .ctx = c };
	return wh_vhost_port_new(&config, s->loop, &c->vhost);
}

static int client_start(struct net_serve *s, const struct kind *kind, int fd)
{
	struct client *c = s->clients;
	while (c->fd >= 0)
		c++;
	c->fd = fd;
	c->kind = *kind;
	int error = kind->vhost_user ? vhost_start(s, c, fd) : socket_start(s, c, fd);
	if (!error && kind->protocol != WH_SOCKET_VPNKIT)
		error = client_join(c, NULL);
	if (error)
		client_end(c);
	else if (s->options->verbose)
		cli_error("net: guest %u is here", (unsigned)(c - s->clients));
	return error;
}

static void accept_client(struct wh_loop_fd *watch, uint32_t events)
{
	struct place *p = watch->ctx;
	struct net_serve *s = p->serve;
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
		(void)wh_loop_modify(s->loop, watch, 0); /* at worst we are woken again */
		wh_loop_timer_start(s->loop, &p->again, wh_loop_now(s->loop) + ACCEPT_AGAIN_NS);
	}
	if (fd < 0)
		return;
	if (clients_count(s) < WH_SWITCH_GUESTS_MAX) {
		int error = client_start(s, &p->kind, fd);
		if (error)
			cli_error("net: a guest was sent away: %s", strerror(-error));
		return;
	}
	cli_error("net: a guest was sent away: %u are here", WH_SWITCH_GUESTS_MAX);
	wh_os_close(&fd);
}

static void accept_again(struct wh_loop_timer *timer)
{
	struct place *p = timer->ctx;
	(void)wh_loop_modify(p->serve->loop, &p->listener, WH_LOOP_READ);
}

/* Memory that a machine shares with us can be cut off while we read it. */
static void bus_error(int signal, siginfo_t *info, void *context)
{
	for (unsigned i = 0; i < WH_SWITCH_GUESTS_MAX; i++) {
		struct wh_vhost_port *vhost = the_serve.clients[i].vhost;
		if (vhost && wh_vhost_port_fault(vhost, info->si_addr))
			return;
	}
	struct sigaction usual = { .sa_handler = SIG_DFL };
	sigaction(SIGBUS, &usual, NULL); /* it comes again */
}

static void bus_error_take(void)
{
	struct sigaction action = { .sa_sigaction = bus_error, .sa_flags = SA_SIGINFO };
	sigaction(SIGBUS, &action, NULL);
}

/* ---- where they come from ---- */

/* A socket that nobody listens on any more may be replaced, nothing else. */
static int stale_remove(const struct sockaddr_un *address, int type)
{
	struct stat st;
	if (lstat(address->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int error = connect(fd, (const struct sockaddr *)address, sizeof *address) ? errno : 0;
	wh_os_close(&fd);
	if (error != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(address->sun_path) ? -errno : 0;
}

static int path_open(struct place *p, const char *path, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;
	size_t size = strlen(path);
	if (!size || size >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, size);
	int error = stale_remove(&address, type);
	if (error)
		return error;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mode_t mask = umask(077); /* who may connect is on the network */
	int failed = bind(fd, (struct sockaddr *)&address, sizeof address);
	error = failed ? errno : 0;
	umask(mask);
	if (!error && type == SOCK_STREAM && listen(fd, 16))
		error = errno;
	if (error) {
		wh_os_close(&fd);
		return -error;
	}
	if (!lstat(path, &st)) {
		p->device = st.st_dev;
		p->inode = st.st_ino;
	}
	return fd;
}

static int inherited_open(const char *text, int type)
{
	uint64_t number;
	int found = 0, flags;
	socklen_t size = sizeof found;
	if (cli_parse_number(text, strlen(text), 1 << 20, &number))
		return -EBADF;
	int fd = (int)number;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &found, &size))
		return -errno;
	if (found != type)
		return -EPROTOTYPE;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return -errno;
	return fd;
}

static bool is_listening(int fd)
{
	int on = 0;
	socklen_t size = sizeof on;
	return !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) && on;
}

static int address_open(struct place *p, int *ret_fd)
{
	bool dgram = p->kind.protocol == WH_SOCKET_QEMU_DGRAM;
	int type = dgram ? SOCK_DGRAM : SOCK_STREAM;
	if (!strncmp(p->text, "unix:", 5))
		*ret_fd = path_open(p, p->text + 5, type);
	else if (!strncmp(p->text, "fd:", 3))
		*ret_fd = inherited_open(p->text + 3, type);
	else if (!strcmp(p->text, "stdin"))
		*ret_fd = inherited_open("0", type);
	else
		*ret_fd = -EINVAL;
	return *ret_fd < 0 ? *ret_fd : 0;
}

static int place_start(struct net_serve *s, struct place *p)
{
	int fd = -1, error = address_open(p, &fd);
	if (!error && p->kind.protocol != WH_SOCKET_QEMU_DGRAM && is_listening(fd)) {
		s->once = false;
		p->listener = (struct wh_loop_fd){
			.fd = fd, .events = WH_LOOP_READ, .fn = accept_client, .ctx = p
		};
		wh_loop_timer_init(&p->again, accept_again, p);
		return wh_loop_add(s->loop, &p->listener);
	}
	if (error)
		return error;
	if (!strncmp(p->text, "unix:", 5))
		s->once = false;
	if (clients_count(s) < WH_SWITCH_GUESTS_MAX)
		return client_start(s, &p->kind, fd);
	wh_os_close(&fd);
	return -ENOSPC;
}

int net_serve_start(const struct net_options *o, struct wh_loop *loop, struct wh_gateway *gateway)
{
	struct net_serve *s = &the_serve;
	s->options = o;
	s->loop = loop;
	s->gateway = gateway;
	s->once = true;
	for (unsigned i = 0; i < WH_SWITCH_GUESTS_MAX; i++)
		s->clients[i] = (struct client){ .serve = s, .fd = -1 };
	bus_error_take();
	int error = wh_net_switch_new(gateway, loop, NULL, &s->net_switch);
	const char *text = o->listen[0];
	for (unsigned i = 0; i < o->listen_count && !error; i++) {
		struct place *p = &s->places[s->place_count++];
		*p = (struct place){ .serve = s, .listener.fd = -1 };
		text = o->listen[i];
		error = place_parse(p, text, o->protocol);
		if (!error)
			error = place_start(s, p);
	}
	if (!error)
		return CLI_OK;
	if (error == -EINVAL)
		cli_error("net serve: --listen is [PROTOCOL=]unix:PATH, fd:N or stdin, not %s",
			  text);
	else
		cli_error("net serve: --listen %s: %s", text, strerror(-error));
	return CLI_ERROR;
}

static void stats_show(const struct net_serve *s)
{
	struct wh_net_switch_stats t;
	wh_net_switch_stats(s->net_switch, &t);
	cli_error("net: %llu frames to the gateway, %llu to guests, %llu between them; dropped: "
		  "%llu of a wrong MAC, %llu of a wrong address, %llu to nobody, %llu not read",
		  (unsigned long long)t.to_gateway, (unsigned long long)t.to_guests,
		  (unsigned long long)t.between, (unsigned long long)t.spoofed_mac,
		  (unsigned long long)t.spoofed_ip, (unsigned long long)t.unknown,
		  (unsigned long long)t.late);
}

void net_serve_end(bool show)
{
	struct net_serve *s = &the_serve;
	struct stat st;
	for (unsigned i = 0; i < s->place_count; i++) {
		const struct place *p = &s->places[i];
		if (p->inode && !lstat(p->text + 5, &st) && st.st_ino == p->inode &&
		    st.st_dev == p->device)
			(void)unlink(p->text + 5); /* somebody else may have been faster */
	}
	if (show && s->net_switch)
		stats_show(s);
}
