/* SPDX-License-Identifier: ISC */
/* Built without GnuTLS. */
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>

#include "tls.h"

int wh_nbd_tls_new(const struct wh_nbd_tls_config *config, struct wh_nbd_tls **ret_tls,
		   struct wh_diag *diag)
{
	return wh_diag_set(diag, -WH_EOPNOTSUPP, "this build has no TLS (it needs GnuTLS)");
}

void wh_nbd_tls_free(struct wh_nbd_tls *tls)
{
}

int nbd_tls_start(struct wh_nbd_tls *tls, int fd, struct nbd_tls_session **ret_session)
{
	return -WH_EOPNOTSUPP;
}

int nbd_tls_handshake(struct nbd_tls_session *s, bool *ret_write)
{
	return -WH_EOPNOTSUPP;
}

ssize_t nbd_tls_receive(struct nbd_tls_session *s, void *to, size_t size)
{
	return -WH_EOPNOTSUPP;
}

ssize_t nbd_tls_send(struct nbd_tls_session *s, const struct wh_iov *iov, uint32_t count)
{
	return -WH_EOPNOTSUPP;
}

bool nbd_tls_pending(const struct nbd_tls_session *s)
{
	return false;
}

void nbd_tls_end(struct nbd_tls_session *s)
{
}
