/* SPDX-License-Identifier: ISC */
#ifndef NBD_PRIV_H
#define NBD_PRIV_H

#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/nbd.h>

#include "nbd_wire.h"

#define NBD_RX_SIZE (256u << 10)     /* of a receive buffer: many small writes in one system call */
#define NBD_RX_ROOM (32u << 10)      /* with less room left, the next buffer is begun */
#define NBD_CONTROL_MAX (256u << 10) /* answers to options not sent yet; then no option is read */
/* Replies that are ready go out before more requests are looked at: the client works on them at the same time,
 * and the data is still in the processor's cache. */
#define NBD_PUSH_SIZE (256u << 10)
#define NBD_BLOCK_PREFERRED 4096u
#define NBD_HEAD_MAX 64u /* largest head of a reply: extended, its offset or error */

/* ---- memory for data (buffers.c): kept for the next request, page-aligned ---- */

struct nbd_buffer {
	struct nbd_buffer *next; /* free list */
	uint8_t *data;
	uint32_t size;
	uint32_t refs;
	uint8_t class;
};

#define NBD_BUFFER_CLASSES 15u      /* 4 KiB << class: up to 64 MiB */
#define NBD_BUFFERS_KEPT (8u << 20) /* bytes on free lists of one connection */

struct nbd_buffers {
	struct nbd_buffer *free[NBD_BUFFER_CLASSES];
	uint64_t kept;
};

/* One reference; NULL = no memory. size > 0. */
struct nbd_buffer *nbd_buffer_get(struct nbd_buffers *pool, size_t size);
void nbd_buffer_unref(struct nbd_buffers *pool, struct nbd_buffer *buffer);
void nbd_buffers_fini(struct nbd_buffers *pool);

/* ---- a connection ---- */

/* Something to send: head, then body. */
struct nbd_out {
	struct wh_list node;
	uint8_t head[NBD_HEAD_MAX];
	uint32_t head_size;
	const uint8_t *body;
	size_t body_size;
	void (*sent)(struct wh_nbd_conn *c, struct nbd_out *out); /* all of it, or never will be */
};

/* The contexts that we know; their ids are bit number + 1. */
#define NBD_CONTEXT_ALLOCATION 1u
#define NBD_CONTEXT_DEPTH 2u

enum nbd_phase {
	NBD_PHASE_FLAGS,
	NBD_PHASE_OPTION,
	NBD_PHASE_OPTION_DATA,
	NBD_PHASE_TLS,
	NBD_PHASE_REQUEST,
	NBD_PHASE_PAYLOAD, /* of c->receiving */
	NBD_PHASE_SKIP,    /* c->skip bytes of a write that was refused */
	NBD_PHASE_END      /* nothing more is read */
};

struct nbd_request;

struct wh_nbd_conn {
	struct wh_nbd_conn_config config;
	struct nbd_buffers buffers;
	enum nbd_phase phase;
	bool dead;   /* nothing is sent any more */
	bool active; /* inside a call by the owner */
	bool secure; /* under TLS */
	bool no_zeroes, structured, extended;
	/* What comes in. */
	struct nbd_buffer *rx;
	uint32_t rx_at, rx_end;
	struct nbd_request *receiving;
	uint32_t received; /* bytes of its payload */
	uint64_t skip;
	/* Handshake. */
	uint32_t option, option_size, option_count;
	uint32_t contexts;                           /* NBD_CONTEXT_* chosen */
	const struct wh_nbd_export *contexts_export; /* for this one */
	uint64_t control_size;                       /* bytes of answers not sent */
	/* Transfer. */
	const struct wh_nbd_export *export;
	uint64_t export_size;
	bool read_only;
	uint32_t requests; /* from their head until their reply is sent */
	uint32_t in_image; /* of these, not answered by the image */
	uint64_t bytes;    /* data of requests */
	struct nbd_request *free_requests;
	/* What goes out. */
	struct wh_list out;
	uint64_t out_done; /* bytes of the first one that were sent */
	uint64_t out_size; /* bytes of all, those included */
};

/* conn.c */
void nbd_broken(struct wh_nbd_conn *c, const char *why);
void nbd_send(struct wh_nbd_conn *c, struct nbd_out *out);
/* Bytes of the handshake: copied. false = no memory, the connection is dead. */
bool nbd_send_copy(struct wh_nbd_conn *c, const void *head, size_t head_size, const void *body,
		   size_t body_size);

/* options.c: one option whose data has come. */
void nbd_option(struct wh_nbd_conn *c, const uint8_t *data);

/* requests.c */
/* Looks at a request's head (`size` bytes are there) and moves the connection to its next phase. */
void nbd_request_head(struct wh_nbd_conn *c, const uint8_t *head);
/* The payload of c->receiving is there. */
void nbd_request_go(struct nbd_request *q);
void nbd_request_free(struct nbd_request *q);
/* Where the payload goes. */
uint8_t *nbd_request_payload(struct nbd_request *q, uint32_t *ret_size);
void nbd_requests_fini(struct wh_nbd_conn *c);

#endif
