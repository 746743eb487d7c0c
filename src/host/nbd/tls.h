/* SPDX-License-Identifier: ISC */
#ifndef NBD_TLS_H
#define NBD_TLS_H

/* TLS on one socket that does not wait. tls.c does it with GnuTLS, tls_none.c not at all. */

#include <sys/types.h>
#include <wherry/nbd.h>

struct nbd_tls_session;

int nbd_tls_start(struct wh_nbd_tls *tls, int fd, struct nbd_tls_session **ret_session);
/* 1 = done, 0 = come back when the socket is ready (*ret_write: for writing), -WH_EPROTO. */
int nbd_tls_handshake(struct nbd_tls_session *s, bool *ret_write);
/* Bytes (0 = the end), -WH_EAGAIN, -errno. */
ssize_t nbd_tls_receive(struct nbd_tls_session *s, void *to, size_t size);
/* Bytes of the pieces that went out; after -WH_EAGAIN the same pieces must come again. */
ssize_t nbd_tls_send(struct nbd_tls_session *s, const struct wh_iov *iov, uint32_t count);
/* Decrypted bytes wait in the session, of which the socket knows nothing. */
bool nbd_tls_pending(const struct nbd_tls_session *s);
/* NULL is allowed. */
void nbd_tls_end(struct nbd_tls_session *s);

#endif
