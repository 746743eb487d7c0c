/* SPDX-License-Identifier: ISC */
/*
 * AF_UNIX sockets with names: paths in the guest's own file system, or abstract ones. The other end is in this program.
 *
 * All of them are in one list. A path is a socket node in tmpfs; what connects walks to the node and looks for the
 * socket that is bound to it, so that rename and unlink do as on Linux. A stream connection is made in connect():
 * the new end waits in the listener's queue with its peer attached, and accept() takes it out.
 *
 * Datagrams are records in the receiver's ring: struct record, the sender's name, the data. Descriptors and
 * credentials are not passed; SO_PEERCRED tells the one process there is.
 *
 * Limits: PAIR_RING_LIMIT bytes on their way to one socket; BACKLOG_MAX connections not yet accepted.
 */
#include <fs/tmpfs.h>
#include <fs/vfs.h>
#include <kern/mem.h>
#include <kern/signal.h>
#include <wherry/base/diag.h>
#include "pair.h"

#define NAME_MAX_SIZE 108u /* sun_path */
#define BACKLOG_MAX 4096
#define ALL_EVENTS (LX_POLLIN | LX_POLLOUT | LX_POLLHUP | LX_POLLRDHUP | LX_POLLERR)
#define LX_SO_PEERCRED 17

struct unix_name {
	uint32_t size; /* 0 = none; abstract names begin with a zero byte */
	uint8_t bytes[NAME_MAX_SIZE];
};

struct unix_sock {
	struct pair_end end; /* first */
	struct wh_list all;
	struct unix_name name;
	struct unix_name peer_name; /* of the other end when it was connected */
	struct fs_node *file;       /* what a path is bound to */
	bool listening, connected;
	int backlog, queued, error;
	struct wh_list queue; /* listener: ends to accept; an end: its place there */
	struct unix_sock *to; /* datagrams: connected to, not counted */
};

struct record {
	uint32_t size, name_size;
};

static struct wh_list sockets = { &sockets, &sockets };
static uint32_t next_autobind;

static struct unix_sock *unix_of(struct sock *s)
{
	return WH_CONTAINER_OF(pair_end_of(s), struct unix_sock, end);
}

static bool is_datagram(const struct unix_sock *u)
{
	return u->end.sock.type == LX_SOCK_DGRAM;
}

static void wake(struct unix_sock *u, uint32_t events)
{
	kern_waitq_wake(&u->end.sock.file.waitq, events, UINT32_MAX);
}

/* ---- names ---- */

static int name_in(const void *address, uint32_t size, struct unix_name *ret_name)
{
	uint16_t family;
	if (size < sizeof family || size > sizeof family + NAME_MAX_SIZE)
		return -WH_EINVAL;
	if (!kern_user_readable(address, size))
		return -WH_EFAULT;
	memcpy(&family, address, sizeof family);
	if (family != LX_AF_UNIX)
		return -WH_EINVAL;
	*ret_name = (struct unix_name){ .size = size - (uint32_t)sizeof family };
	memcpy(ret_name->bytes, (const uint8_t *)address + sizeof family, ret_name->size);
	if (ret_name->size && ret_name->bytes[0])
		ret_name->size = (uint32_t)wh_strnlen((char *)ret_name->bytes, ret_name->size);
	return 0;
}

static int name_out(const struct unix_name *name, void *address, uint32_t *size)
{
	struct {
		uint16_t family;
		uint8_t bytes[NAME_MAX_SIZE + 1];
	} out = { .family = LX_AF_UNIX };
	uint32_t full = sizeof out.family + name->size;
	if (name->size && name->bytes[0])
		full++; /* a path is terminated */
	if (!kern_user_writable(size, sizeof *size))
		return -WH_EFAULT;
	if ((int32_t)*size < 0)
		return -WH_EINVAL;
	uint32_t n = *size < full ? *size : full;
	if (!kern_user_writable(address, n))
		return -WH_EFAULT;
	memcpy(out.bytes, name->bytes, name->size);
	memcpy(address, &out, n);
	*size = full;
	return 0;
}

static struct unix_sock *find_abstract(const struct unix_name *name)
{
	WH_LIST_FOR_EACH(at, &sockets) {
		struct unix_sock *u = WH_CONTAINER_OF(at, struct unix_sock, all);
		if (!u->file && u->name.size == name->size &&
		    !memcmp(u->name.bytes, name->bytes, name->size))
			return u;
	}
	return NULL;
}

/* The socket that has this name, or the error of connect. */
static int find(const struct unix_name *name, int type, struct unix_sock **ret_u)
{
	struct unix_sock *u = NULL;
	if (!name->size)
		return -WH_ECONNREFUSED;
	if (!name->bytes[0]) {
		u = find_abstract(name);
	} else {
		char path[NAME_MAX_SIZE + 1] = { 0 };
		struct fs_path p;
		memcpy(path, name->bytes, name->size);
		int r = fs_walk_at(LX_AT_FDCWD, path, FS_WALK_FOLLOW, false, &p);
		if (r < 0)
			return r;
		WH_LIST_FOR_EACH(at, &sockets) {
			struct unix_sock *other = WH_CONTAINER_OF(at, struct unix_sock, all);
			if (other->file == p.node)
				u = other;
		}
		fs_path_fini(&p);
	}
	if (!u)
		return -WH_ECONNREFUSED;
	if (u->end.sock.type != type)
		return -WH_EPROTOTYPE;
	*ret_u = u;
	return 0;
}

static int bind_path(struct unix_sock *u, const struct unix_name *name)
{
	static const struct fs_tmpfs_special nothing = { .open = NULL }; /* opening is -ENXIO */
	char path[NAME_MAX_SIZE + 1] = { 0 };
	struct fs_path p;
	memcpy(path, name->bytes, name->size);
	int r = fs_walk_edit(LX_AT_FDCWD, path, -WH_EADDRINUSE, &p);
	if (r < 0)
		return r;
	if (p.dir->super != fs_supers) {
		r = -WH_EPERM; /* only the root file system has sockets */
	} else if (!fs_node_is(p.dir, LX_S_IFDIR)) {
		r = -WH_ENOTDIR;
	} else {
		r = fs_tmpfs_add_special(p.dir, p.last, LX_S_IFSOCK | (0777 & ~fs_umask), 0,
					 &nothing, 0);
		if (r >= 0)
			r = p.dir->ops->lookup(p.dir, p.last, &u->file);
	}
	fs_path_fini(&p);
	return r == -WH_EEXIST ? -WH_EADDRINUSE : r;
}

int sock_unix_bind(struct sock *s, const void *address, uint32_t size)
{
	struct unix_sock *u = unix_of(s);
	struct unix_name name;
	int r = name_in(address, size, &name);
	if (r < 0)
		return r;
	if (u->name.size)
		return -WH_EINVAL;
	while (!name.size) { /* the kernel chooses */
		struct unix_name chosen = { .size = 6 };
		wh_format((char *)chosen.bytes + 1, sizeof chosen.bytes - 1, "%u",
			  10000 + next_autobind++ % 90000);
		if (!find_abstract(&chosen))
			name = chosen;
	}
	if (name.bytes[0])
		r = bind_path(u, &name);
	else if (find_abstract(&name))
		r = -WH_EADDRINUSE;
	if (r >= 0)
		u->name = name;
	return r;
}

int sock_unix_name(struct sock *s, bool remote, void *ret_address, uint32_t *size)
{
	struct unix_sock *u = unix_of(s);
	bool there = is_datagram(u) ? u->to != NULL : u->end.peer != NULL;
	if (remote && !there)
		return -WH_ENOTCONN;
	return name_out(remote ? &u->peer_name : &u->name, ret_address, size);
}

/* ---- streams ---- */

static int unix_listen(struct sock *s, int backlog)
{
	struct unix_sock *u = unix_of(s);
	if (is_datagram(u))
		return -WH_EOPNOTSUPP;
	if (!u->name.size || u->connected)
		return -WH_EINVAL;
	u->backlog = backlog < 0 || backlog > BACKLOG_MAX ? BACKLOG_MAX : backlog;
	u->listening = true;
	return 0;
}

static struct unix_sock *unix_alloc(int kind);

static int stream_connect(struct unix_sock *u, const struct unix_name *name, bool nonblock)
{
	uint64_t deadline = sock_deadline(u->end.sock.send_timeout_ns);
	uint32_t tries = 0;
	struct unix_sock *listener;
	if (u->listening)
		return -WH_EINVAL;
	if (u->connected)
		return -WH_EISCONN;
	for (;;) {
		int r = find(name, u->end.sock.type, &listener);
		if (r < 0)
			return r;
		if (!listener->listening)
			return -WH_ECONNREFUSED;
		if (listener->queued <= listener->backlog)
			break;
		fs_file_ref(&listener->end.sock.file);
		r = sock_wait(&listener->end.sock, nonblock, deadline, &tries);
		fs_file_unref(&listener->end.sock.file);
		if (r < 0)
			return r;
	}
	struct unix_sock *other = unix_alloc(u->end.sock.type);
	if (!other)
		return -WH_ENOMEM;
	other->name = listener->name;
	other->peer_name = u->name;
	u->peer_name = listener->name;
	other->end.peer = &u->end;
	u->end.peer = &other->end;
	u->connected = other->connected = true;
	wh_list_push_back(&listener->queue, &other->queue);
	listener->queued++;
	wake(listener, LX_POLLIN | LX_POLLRDNORM);
	return 0;
}

static struct unix_sock *first_queued(struct unix_sock *u)
{
	u->queued--;
	return WH_LIST_ENTRY(wh_list_pop_front(&u->queue), struct unix_sock, queue);
}

static int unix_accept(struct sock *s, bool nonblock, struct sock **ret_s)
{
	struct unix_sock *u = unix_of(s);
	uint64_t deadline = sock_deadline(s->receive_timeout_ns);
	uint32_t tries = 0;
	if (is_datagram(u))
		return -WH_EOPNOTSUPP;
	if (!u->listening)
		return -WH_EINVAL;
	while (!u->queued) {
		int r = sock_wait(s, nonblock, deadline, &tries);
		if (r < 0)
			return r;
	}
	struct unix_sock *n = first_queued(u);
	wake(u, LX_POLLOUT); /* who waits in connect */
	*ret_s = &n->end.sock;
	return 0;
}

/* ---- datagrams ---- */

static int datagram_connect(struct unix_sock *u, const struct unix_name *name)
{
	struct unix_sock *to;
	int r = find(name, LX_SOCK_DGRAM, &to);
	if (r < 0)
		return r;
	u->to = to;
	u->peer_name = *name;
	wake(u, LX_POLLOUT | LX_POLLWRNORM);
	return 0;
}

static int64_t datagram_send(struct unix_sock *u, struct unix_sock *to, struct sock_message *m)
{
	uint64_t deadline = sock_deadline(u->end.sock.send_timeout_ns);
	uint32_t tries = 0, full = (uint32_t)(sizeof(struct record) + u->name.size + m->size);
	if (m->size > PAIR_RING_LIMIT / 2)
		return -WH_EMSGSIZE;
	if (u->end.write_shut)
		return -WH_EPIPE;
	fs_file_ref(&to->end.sock.file);
	int r = 0;
	while (r >= 0 && !to->end.read_shut && !sock_ring_room(&to->end.ring, full))
		r = sock_wait(&to->end.sock, m->nonblock, deadline, &tries);
	if (to->end.read_shut)
		r = -WH_EPIPE;
	if (r >= 0) {
		struct record head = { (uint32_t)m->size, u->name.size };
		sock_ring_put(&to->end.ring, &head, sizeof head);
		sock_ring_put(&to->end.ring, u->name.bytes, u->name.size);
		sock_ring_put_iov(&to->end.ring, m->iov, (uint32_t)m->iov_count, 0, head.size);
		wake(to, LX_POLLIN | LX_POLLRDNORM);
	}
	fs_file_unref(&to->end.sock.file);
	return r < 0 ? r : (int64_t)m->size;
}

static int64_t datagram_receive(struct unix_sock *u, struct sock_message *m)
{
	struct sock_ring *ring = &u->end.ring;
	uint64_t deadline = sock_deadline(u->end.sock.receive_timeout_ns);
	uint32_t tries = 0;
	struct record head;
	struct unix_name name;
	while (!ring->used) {
		if (u->end.read_shut)
			return 0;
		int r = sock_wait(&u->end.sock, m->nonblock, deadline, &tries);
		if (r < 0)
			return r;
	}
	sock_ring_peek(ring, 0, &head, sizeof head);
	name.size = head.name_size;
	sock_ring_peek(ring, sizeof head, name.bytes, name.size);
	uint32_t n = head.size < m->size ? head.size : (uint32_t)m->size;
	sock_ring_peek_iov(ring, (uint32_t)sizeof head + name.size, m->iov, m->iov_count, n);
	if (!(m->flags & LX_MSG_PEEK)) {
		sock_ring_skip(ring, (uint32_t)sizeof head + name.size + head.size);
		wake(u, LX_POLLOUT | LX_POLLWRNORM);
		WH_LIST_FOR_EACH(at, &sockets) { /* who polls for room here */
			struct unix_sock *other = WH_CONTAINER_OF(at, struct unix_sock, all);
			if (other->to == u)
				wake(other, LX_POLLOUT | LX_POLLWRNORM);
		}
	}
	bool truncate = m->flags & LX_MSG_TRUNC;
	m->flags = n < head.size ? LX_MSG_TRUNC : 0;
	int r = m->name && name.size ? name_out(&name, m->name, m->name_size) : 0;
	if (r < 0)
		return r;
	if (m->name && !name.size)
		*m->name_size = 0;
	return truncate ? head.size : n;
}

/* ---- both ---- */

int sock_unix_connect(struct sock *s, const void *address, uint32_t size, bool nonblock)
{
	struct unix_sock *u = unix_of(s);
	struct unix_name name;
	uint16_t family;
	if (is_datagram(u) && size >= sizeof family && kern_user_readable(address, sizeof family)) {
		memcpy(&family, address, sizeof family);
		if (family == LX_AF_UNSPEC) {
			u->to = NULL;
			return 0;
		}
	}
	int r = name_in(address, size, &name);
	if (r < 0)
		return r;
	return is_datagram(u) ? datagram_connect(u, &name) : stream_connect(u, &name, nonblock);
}

int64_t sock_unix_send_to(struct sock *s, struct sock_message *m, const void *address,
			  uint32_t size)
{
	struct unix_sock *u = unix_of(s), *to;
	struct unix_name name;
	int r = name_in(address, size, &name);
	if (r >= 0)
		r = find(&name, LX_SOCK_DGRAM, &to);
	return r < 0 ? r : datagram_send(u, to, m);
}

static int64_t unix_send(struct sock *s, struct sock_message *m)
{
	struct unix_sock *u = unix_of(s);
	if (is_datagram(u)) {
		if (u->error) {
			int error = u->error;
			u->error = 0;
			return -error;
		}
		return u->to ? datagram_send(u, u->to, m) : -WH_ENOTCONN;
	}
	return u->connected ? pair_send(s, m) : -WH_ENOTCONN;
}

static int64_t unix_receive(struct sock *s, struct sock_message *m)
{
	struct unix_sock *u = unix_of(s);
	if (is_datagram(u))
		return datagram_receive(u, m);
	return u->connected ? pair_receive(s, m) : -WH_EINVAL;
}

static int unix_shutdown(struct sock *s, bool read, bool write)
{
	struct unix_sock *u = unix_of(s);
	if (!is_datagram(u) && !u->connected)
		return -WH_ENOTCONN;
	return pair_shutdown(s, read, write);
}

static uint32_t unix_poll(struct fs_file *f)
{
	struct unix_sock *u = unix_of(sock_of_file(f));
	uint32_t mask = 0;
	if (u->listening)
		return u->queued ? LX_POLLIN | LX_POLLRDNORM : 0;
	if (!is_datagram(u))
		return u->connected ? pair_poll(f) : LX_POLLOUT | LX_POLLWRNORM | LX_POLLHUP;
	if (u->end.ring.used || u->end.read_shut)
		mask |= LX_POLLIN | LX_POLLRDNORM;
	if (!u->to || PAIR_RING_LIMIT - u->to->end.ring.used >= PAIR_RING_LIMIT / 4)
		mask |= LX_POLLOUT | LX_POLLWRNORM;
	return mask | (u->error ? LX_POLLERR : 0);
}

static int unix_ioctl(struct fs_file *f, unsigned long request, unsigned long argument)
{
	struct unix_sock *u = unix_of(sock_of_file(f));
	struct record head = { 0 };
	if (!is_datagram(u))
		return pair_ioctl(f, request, argument);
	if (request != LX_FIONREAD)
		return -WH_ENOTTY;
	if (!kern_user_writable((void *)argument, sizeof head.size))
		return -WH_EFAULT;
	if (u->end.ring.used)
		sock_ring_peek(&u->end.ring, 0, &head, sizeof head);
	memcpy((void *)argument, &head.size, sizeof head.size);
	return 0;
}

static int unix_get(struct sock *s, int level, int option, void *ret_value, uint32_t *size)
{
	const struct {
		int32_t pid;
		uint32_t uid, gid;
	} credentials = { .pid = 1 };
	if (level != LX_SOL_SOCKET || option != LX_SO_PEERCRED)
		return -WH_ENOPROTOOPT;
	if (*size > sizeof credentials)
		*size = sizeof credentials;
	memcpy(ret_value, &credentials, *size);
	return 0;
}

static int unix_take_error(struct sock *s)
{
	struct unix_sock *u = unix_of(s);
	int error = u->error;
	u->error = 0;
	return error;
}

static void unix_release(struct fs_file *f)
{
	struct unix_sock *u = unix_of(sock_of_file(f));
	wh_list_remove(&u->all);
	while (u->queued) /* connected and never accepted */
		fs_file_unref(&first_queued(u)->end.sock.file);
	WH_LIST_FOR_EACH(at, &sockets) {
		struct unix_sock *other = WH_CONTAINER_OF(at, struct unix_sock, all);
		if (other->to == u) {
			other->to = NULL;
			other->error = WH_ECONNREFUSED;
			wake(other, ALL_EVENTS);
		}
	}
	pair_end_fini(&u->end);
	fs_node_unref(u->file);
	kern_free(u, sizeof *u);
}

static const struct fs_file_ops file_ops = { .read = sock_read,
					     .write = sock_write,
					     .poll = unix_poll,
					     .ioctl = unix_ioctl,
					     .release = unix_release,
					     .kind = FS_KIND_SOCKET };

static const struct sock_ops unix_ops = { .listen = unix_listen,
					  .accept = unix_accept,
					  .send = unix_send,
					  .receive = unix_receive,
					  .shutdown = unix_shutdown,
					  .get = unix_get,
					  .take_error = unix_take_error };

static struct unix_sock *unix_alloc(int kind)
{
	struct unix_sock *u = kern_alloc_zero(sizeof *u);
	if (!u)
		return NULL;
	sock_init(&u->end.sock, &unix_ops, &file_ops, LX_AF_UNIX, kind, 0);
	u->end.sock.named = true;
	u->end.ring.limit = PAIR_RING_LIMIT;
	wh_list_init(&u->queue);
	wh_list_push_back(&sockets, &u->all);
	return u;
}

int sock_unix_new(int kind, struct sock **ret_s)
{
	if (kind != LX_SOCK_STREAM && kind != LX_SOCK_DGRAM && kind != LX_SOCK_SEQPACKET)
		return -WH_ESOCKTNOSUPPORT;
	struct unix_sock *u = unix_alloc(kind);
	if (!u)
		return -WH_ENOMEM;
	*ret_s = &u->end.sock;
	return 0;
}
