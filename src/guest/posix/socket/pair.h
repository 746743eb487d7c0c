/* SPDX-License-Identifier: ISC */
#ifndef POSIX_SOCKET_PAIR_H
#define POSIX_SOCKET_PAIR_H

/* One end of a local connection (pair.c); unix.c builds named sockets on it. */
#include "sock.h"

#define PAIR_RING_LIMIT (128u << 10) /* bytes on their way in one direction */

struct pair_end {
	struct sock sock;
	struct pair_end *peer; /* NULL: closed, or not connected yet */
	struct sock_ring ring; /* what this end will receive */
	bool read_shut, write_shut;
};

static inline struct pair_end *pair_end_of(struct sock *s)
{
	return WH_CONTAINER_OF(s, struct pair_end, sock);
}

int64_t pair_send(struct sock *s, struct sock_message *m);
int64_t pair_receive(struct sock *s, struct sock_message *m);
int pair_shutdown(struct sock *s, bool read, bool write);
uint32_t pair_poll(struct fs_file *f);
int pair_ioctl(struct fs_file *f, unsigned long request, unsigned long argument);
/* Tells the peer that this end is gone. */
void pair_end_fini(struct pair_end *e);

#endif
