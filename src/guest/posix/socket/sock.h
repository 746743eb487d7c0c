/* SPDX-License-Identifier: ISC */
#ifndef POSIX_SOCKET_SOCK_H
#define POSIX_SOCKET_SOCK_H

/*
 * Sockets behind descriptors. A kind of socket (TCP, UDP, local pair) is a table of
 * operations; the handlers check what the program passed and call them. TCP is
 * only linked when the program can listen or connect: posix_tcp_new is a weak
 * reference in socket.c and a strong one there.
 */

#include <fs/file.h>
#include <posix/socket.h>
#include <wherry/base/errors.h>
#include <wherry/net.h>

struct sock;

/* fs_file_ops.tell: addresses. sock.c */
void sock_tell(struct fs_file *f);

struct sock_message {
	const struct wh_iov *iov;
	int iov_count;
	size_t size;
	int flags; /* MSG_*: in; receive: MSG_TRUNC out */
	bool nonblock;
	bool has_address; /* send: in; receive: out */
	struct wh_net_end address;
	struct wh_net_ip to; /* receive, datagrams: where it was sent to */
	size_t direct;       /* TCP, receive: bytes that came straight from frames, and before */
	void *name;          /* AF_UNIX, receive: where the sender's address goes, or NULL */
	uint32_t *name_size;
};

struct sock_ops {
	int (*bind)(struct sock *s, const struct wh_net_end *local);
	int (*listen)(struct sock *s, int backlog);
	int (*accept)(struct sock *s, bool nonblock, struct sock **ret_s);
	int (*connect)(struct sock *s, const struct wh_net_end *remote, bool nonblock);
	/* remote or local address; -WH_ENOTCONN */
	int (*name)(struct sock *s, bool remote, struct wh_net_end *ret_end);
	int64_t (*send)(struct sock *s, struct sock_message *m);
	int64_t (*receive)(struct sock *s, struct sock_message *m);
	int (*shutdown)(struct sock *s, bool read, bool write);
	/* Options of its own level; -WH_ENOPROTOOPT. */
	int (*set)(struct sock *s, int level, int option, int value);
	int (*get)(struct sock *s, int level, int option, void *ret_value, uint32_t *size);
	int (*take_error)(struct sock *s); /* positive, cleared */
	/* Options whose value is a multicast group; -WH_ENOPROTOOPT. NULL = none. */
	int (*group)(struct sock *s, int level, int option, const void *value, uint32_t size);
};

struct sock {
	struct fs_file file; /* first */
	const struct sock_ops *ops;
	uint16_t family, type, protocol;
	bool reuse_address, reuse_port, broadcast, v6only, keepalive, packet_info;
	uint8_t tos, hop_limit;
	bool dont_fragment;
	bool named; /* AF_UNIX, but not a socketpair */
	struct lx_linger linger;
	uint32_t receive_size, send_size;             /* SO_RCVBUF, SO_SNDBUF as set, 0 = default */
	uint64_t receive_timeout_ns, send_timeout_ns; /* 0 = none */
};

static inline struct sock *sock_of_file(struct fs_file *f)
{
	return WH_CONTAINER_OF(f, struct sock, file);
}

extern struct wh_net *posix_net; /* the image's stack */

/* The socket behind fd, or NULL and *ret_error = -WH_EBADF, -WH_ENOTSOCK. */
struct sock *sock_get(int fd, int *ret_error);
/* A descriptor for a new socket (its reference goes in); closes it on error. */
int sock_install(struct sock *s, int flags);
void sock_init(struct sock *s, const struct sock_ops *ops, const struct fs_file_ops *file_ops,
	       int family, int type, int protocol);

/* Waits at the socket once, of which the caller holds a reference: 0 = look again; -WH_EAGAIN (nonblock or past the deadline), -WH_EINTR. The
 * first look with nonblock polls the devices and says 0: *tries counts. */
int sock_wait(struct sock *s, bool nonblock, uint64_t deadline_ns, uint32_t *tries);
uint64_t sock_deadline(uint64_t timeout_ns);
/* Lets the network move by itself, without the other pollers; returns the stack's deadline. */
uint64_t sock_net_poll(void);
/* Lets the stack send what a call made due. */
void sock_run(void);

/* Addresses. in: -WH_EFAULT, -WH_EINVAL, -WH_EAFNOSUPPORT. An IPv4 address given to an IPv6 socket and the
 * other way round is refused as Linux does. */
int sock_address_in(const struct sock *s, const void *address, uint32_t size,
		    struct wh_net_end *ret_end);
/* Writes as much as *size allows and the full size to *size. */
int sock_address_out(const struct sock *s, const struct wh_net_end *end, void *address,
		     uint32_t *size);

/* fs_file operations that all kinds share. */
int64_t sock_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
		  bool nonblock);
int64_t sock_write(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
		   bool nonblock);

/* AF_UNIX (unix.c): addresses are names, so bind, connect, sendto and the names of both ends have ways of
 * their own: handlers come here when s->named. */
int sock_unix_new(int kind, struct sock **ret_s);
int sock_unix_bind(struct sock *s, const void *address, uint32_t size);
int sock_unix_connect(struct sock *s, const void *address, uint32_t size, bool nonblock);
int64_t sock_unix_send_to(struct sock *s, struct sock_message *m, const void *address,
			  uint32_t size);
int sock_unix_name(struct sock *s, bool remote, void *ret_address, uint32_t *size);

/* groups.c: of one socket. */
#define SOCK_GROUPS_MAX 8u
struct sock_groups {
	uint32_t count;
	struct wh_net_ip ip[SOCK_GROUPS_MAX];
};
int sock_group_set(struct sock_groups *g, int level, int option, const void *value, uint32_t size);
void sock_groups_leave(struct sock_groups *g);

int sock_udp_new(int family, struct sock **ret_s);
int posix_tcp_new(int family, struct sock **ret_s);

/* ---- Records in a ring that grows up to a limit: datagram queues, pairs ---- */

struct sock_ring {
	uint8_t *base;
	uint32_t size, limit; /* powers of two; size 0 = not yet */
	uint32_t head, used;
};

/* Room for `size` more bytes, growing; false = full. */
bool sock_ring_room(struct sock_ring *r, uint32_t size);
void sock_ring_put(struct sock_ring *r, const void *from, uint32_t size);
void sock_ring_put_iov(struct sock_ring *r, const struct wh_iov *iov, uint32_t count,
		       uint32_t offset, uint32_t size);
/* Copies [offset, +size) behind the head without taking it. */
void sock_ring_peek(const struct sock_ring *r, uint32_t offset, void *to, uint32_t size);
void sock_ring_peek_iov(const struct sock_ring *r, uint32_t offset, const struct wh_iov *iov,
			int count, uint32_t size);
void sock_ring_skip(struct sock_ring *r, uint32_t size);
void sock_ring_fini(struct sock_ring *r);

#endif
