/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_NBD_H
#define WHERRY_NBD_H

/*
 * libwherry-nbd: disk images (wherry/block.h) for clients of the Network Block Device protocol
 * (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; "proto" below).
 *
 * Two layers. A struct wh_nbd_conn is the protocol alone: bytes in, bytes out, no descriptors. A struct
 * wh_nbd_server has sockets, TLS and an event loop and makes a connection for each client.
 *
 *	struct wh_nbd_export e = { .name = "disk", .block = block };
 *	struct wh_nbd_server_config c = { .size = sizeof c, .loop = loop, .exports = &e, .export_count = 1 };
 *	r = wh_nbd_server_new(&c, &server, &diag);
 *	r = wh_nbd_server_listen(server, fd);	  a bound, listening socket
 *	wh_loop_run(loop);
 *
 * What is spoken: fixed newstyle; LIST, INFO, GO, EXPORT_NAME, ABORT, STARTTLS, structured replies, extended
 * headers, meta contexts base:allocation and qemu:allocation-depth; read (DF), write, flush, trim, write
 * zeroes (NO_HOLE, FAST_ZERO), block status (REQ_ONE), FUA; several connections of one client see each
 * other's writes and flushes (CAN_MULTI_CONN).
 *
 * Threads: everything belongs to the loop's thread. Several instances a process work.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>
#include <wherry/base/iov.h>
#include <wherry/base/log.h>
#include <wherry/block.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Limits. What a client may make the server keep or do: */
#define WH_NBD_NAME_MAX 4096u              /* bytes of a name: proto's limit on strings */
#define WH_NBD_OPTION_SIZE_MAX (32u << 10) /* bytes of an option: a name and some queries */
#define WH_NBD_OPTIONS_MAX 256u            /* of one handshake; real clients send about five */
#define WH_NBD_QUERIES_MAX 64u             /* of one meta context option; we know two contexts */
#define WH_NBD_PAYLOAD_MAX (32u << 20)     /* bytes of one read or write: what all servers take */
#define WH_NBD_REQUESTS_MAX 256u     /* in flight of one connection; then it is not read from */
#define WH_NBD_BYTES_MAX (64u << 20) /* the same in bytes of data; one larger request still fits */
#define WH_NBD_EXTENTS_MAX 2048u     /* in one answer to block status */
#define WH_NBD_HANDSHAKE_MS 10000u   /* then a client must have chosen its export */
#define WH_NBD_CLIENTS_MAX 128u      /* at the same time, unless said otherwise */
#define WH_NBD_EXPORTS_MAX 1024u

struct wh_loop;

struct wh_nbd_export {
	const char *name;        /* what clients ask for; the first one is also the default, "" */
	const char *description; /* for people, or NULL */
	struct wh_block *block;
	bool read_only; /* also when the block is not */
	bool direct;    /* data should be aligned in memory (cache=none) */
};

enum wh_nbd_tls_mode {
	WH_NBD_TLS_OFF,
	WH_NBD_TLS_ALLOWED, /* plain clients are served as well */
	WH_NBD_TLS_REQUIRED
};

/* ---- one connection, without a socket ---- */

struct wh_nbd_conn;

struct wh_nbd_conn_config {
	size_t size;                         /* sizeof(struct wh_nbd_conn_config) */
	const struct wh_nbd_export *exports; /* borrowed until _free */
	uint32_t export_count;
	enum wh_nbd_tls_mode tls;
	bool multi_conn; /* others may connect: say that they are coherent */
	/* Something changed outside of a call by the owner: look at _tx, _rx and _state again. May not call
	 * back into the connection. */
	void (*changed)(void *ctx);
	void *ctx;
	struct wh_log log;
	unsigned long long id; /* for lines of the log */
};

enum wh_nbd_state {
	WH_NBD_HANDSHAKE,
	WH_NBD_TLS,      /* when all is sent: make TLS, then wh_nbd_conn_tls_started */
	WH_NBD_TRANSFER, /* an export was chosen */
	WH_NBD_ENDING,   /* when all is sent, close */
	WH_NBD_DEAD      /* close at once: a broken client */
};

int wh_nbd_conn_new(const struct wh_nbd_conn_config *config, struct wh_nbd_conn **ret_conn);
/* No request may be in flight (wh_nbd_conn_busy). NULL is allowed. */
void wh_nbd_conn_free(struct wh_nbd_conn *conn);
/* Where the next bytes from the client go: up to 2 pieces; 0 = nothing is wanted now. */
uint32_t wh_nbd_conn_rx(struct wh_nbd_conn *conn, struct wh_iov ret_iov[2]);
/* So many were put there (1 .. their size). Requests may begin, and end, in here. */
void wh_nbd_conn_received(struct wh_nbd_conn *conn, size_t size);
/* What is to be sent: pieces filled in, at most `max`. They stay valid and unchanged until _sent. */
uint32_t wh_nbd_conn_tx(struct wh_nbd_conn *conn, struct wh_iov *ret_iov, uint32_t max);
/* So many of them went out. */
void wh_nbd_conn_sent(struct wh_nbd_conn *conn, size_t size);
enum wh_nbd_state wh_nbd_conn_state(const struct wh_nbd_conn *conn);
/* What comes and goes is encrypted from now on. Forgets what was negotiated before. */
void wh_nbd_conn_tls_started(struct wh_nbd_conn *conn);
/* The client is gone: nothing is sent any more. Requests in flight end in their time. */
void wh_nbd_conn_hang_up(struct wh_nbd_conn *conn);
/* Requests that the image has not answered. */
uint32_t wh_nbd_conn_busy(const struct wh_nbd_conn *conn);

/* ---- TLS ---- */

struct wh_nbd_tls; /* credentials; may serve several servers */

struct wh_nbd_tls_config {
	size_t size; /* sizeof(struct wh_nbd_tls_config) */
	/* A folder, as QEMU and nbdkit name the files in it: server-cert.pem, server-key.pem, ca-cert.pem,
	 * ca-crl.pem (may be missing). */
	const char *certificates;
	bool verify_peer; /* clients need a certificate of this CA */
	/* Or a file of pre-shared keys, lines USER:HEXKEY (psktool makes it). */
	const char *psk_file;
};
/* -WH_EOPNOTSUPP (built without TLS), -WH_EINVAL, -errno; diag says which file and what. */
int wh_nbd_tls_new(const struct wh_nbd_tls_config *config, struct wh_nbd_tls **ret_tls,
		   struct wh_diag *diag);
void wh_nbd_tls_free(struct wh_nbd_tls *tls);

/* ---- a server ---- */

struct wh_nbd_server;

struct wh_nbd_server_config {
	size_t size; /* sizeof(struct wh_nbd_server_config) */
	struct wh_loop *loop;
	const struct wh_nbd_export *exports; /* borrowed until _free */
	uint32_t export_count;
	enum wh_nbd_tls_mode tls_mode;
	struct wh_nbd_tls *tls; /* borrowed; not with TLS_OFF */
	uint32_t clients_max;   /* more wait to be accepted; 0 = WH_NBD_CLIENTS_MAX */
	uint32_t handshake_ms;  /* 0 = WH_NBD_HANDSHAKE_MS */
	uint32_t
		spin_us; /* how long to look for the next request before sleeping, where it pays; 0 = never */
	/* A client that had chosen an export is gone; `left` are there. May be NULL. */
	void (*gone)(void *ctx, uint32_t left);
	void *ctx;
	struct wh_log log;
};

/* -WH_EINVAL, -WH_ENOMEM, -errno; diag says what. */
int wh_nbd_server_new(const struct wh_nbd_server_config *config, struct wh_nbd_server **ret_server,
		      struct wh_diag *diag);
/* Listens on a bound socket as well, of any kind of address; the server closes it. -errno. */
int wh_nbd_server_listen(struct wh_nbd_server *server, int fd);
/* Serves a client that is connected already; the server closes the socket, also on error. */
int wh_nbd_server_serve(struct wh_nbd_server *server, int fd);
/* Takes no more clients and lets go of those there are. */
void wh_nbd_server_stop(struct wh_nbd_server *server);
/* Clients; also those whose last requests are still in the image. */
uint32_t wh_nbd_server_clients(const struct wh_nbd_server *server);
/* After _stop and when there are no clients. NULL is allowed. */
void wh_nbd_server_free(struct wh_nbd_server *server);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
