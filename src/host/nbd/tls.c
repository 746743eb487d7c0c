/* SPDX-License-Identifier: ISC */
/*
 * TLS by GnuTLS. Certificates lie in one folder under the names that QEMU and nbdkit use; or clients
 * prove that they know a key. TLS 1.2 and later only.
 */
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "tls.h"

#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_PSK PRIORITY ":-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK"
#define PATH_SIZE 4096

struct wh_nbd_tls {
	gnutls_certificate_credentials_t certificates;
	gnutls_psk_server_credentials_t keys;
	bool verify_peer;
};

struct nbd_tls_session {
	gnutls_session_t session;
	bool verify_peer;
	size_t unsent; /* bytes of a record that the socket did not take yet */
};

static int file_failed(struct wh_diag *diag, const char *path, int error)
{
	return wh_diag_set(diag, -WH_EINVAL, "TLS: %s: %s", path, gnutls_strerror(error));
}

/* The path, or NULL when there is no such file. */
static const char *in_folder(char *path, const char *folder, const char *name)
{
	wh_format(path, PATH_SIZE, "%s/%s", folder, name);
	return access(path, F_OK) ? NULL : path;
}

static int load_certificates(struct wh_nbd_tls *t, const struct wh_nbd_tls_config *config,
			     struct wh_diag *diag)
{
	char path[PATH_SIZE], key[PATH_SIZE];
	const char *folder = config->certificates;
	if (gnutls_certificate_allocate_credentials(&t->certificates) < 0)
		return wh_diag_set(diag, -WH_ENOMEM, "TLS: no memory");
	if (!in_folder(path, folder, "server-cert.pem"))
		return wh_diag_set(diag, -WH_ENOENT, "TLS: %s has no server-cert.pem", folder);
	if (!in_folder(key, folder, "server-key.pem"))
		return wh_diag_set(diag, -WH_ENOENT, "TLS: %s has no server-key.pem", folder);
	int r = gnutls_certificate_set_x509_key_file(t->certificates, path, key,
						     GNUTLS_X509_FMT_PEM);
	if (r < 0)
		return file_failed(diag, path, r);
	bool ca = in_folder(path, folder, "ca-cert.pem");
	if (!ca && config->verify_peer)
		return wh_diag_set(diag, -WH_ENOENT,
				   "TLS: %s has no ca-cert.pem to check clients by", folder);
	r = ca ? gnutls_certificate_set_x509_trust_file(t->certificates, path, GNUTLS_X509_FMT_PEM)
	       : 0;
	if (r < 0)
		return file_failed(diag, path, r);
	bool crl = in_folder(path, folder, "ca-crl.pem");
	r = crl ? gnutls_certificate_set_x509_crl_file(t->certificates, path, GNUTLS_X509_FMT_PEM)
		: 0;
	if (r < 0)
		return file_failed(diag, path, r);
	(void)gnutls_certificate_set_known_dh_params(t->certificates, GNUTLS_SEC_PARAM_MEDIUM);
	return 0;
}

static int load_keys(struct wh_nbd_tls *t, const char *path, struct wh_diag *diag)
{
	if (access(path, R_OK))
		return wh_diag_set(diag, -WH_ENOENT, "TLS: the file of keys %s cannot be read",
				   path);
	if (gnutls_psk_allocate_server_credentials(&t->keys) < 0)
		return wh_diag_set(diag, -WH_ENOMEM, "TLS: no memory");
	int r = gnutls_psk_set_server_credentials_file(t->keys, path);
	if (r < 0)
		return file_failed(diag, path, r);
	(void)gnutls_psk_set_server_known_dh_params(t->keys, GNUTLS_SEC_PARAM_MEDIUM);
	return 0;
}

int wh_nbd_tls_new(const struct wh_nbd_tls_config *config, struct wh_nbd_tls **ret_tls,
		   struct wh_diag *diag)
{
	wh_assert(config->size == sizeof *config);
	if (!config->certificates == !config->psk_file)
		return wh_diag_set(diag, -WH_EINVAL,
				   "TLS: either a folder of certificates or a file of keys");
	struct wh_nbd_tls *t = calloc(1, sizeof *t);
	if (!t)
		return wh_diag_set(diag, -WH_ENOMEM, "TLS: no memory");
	t->verify_peer = config->verify_peer && config->certificates;
	int r = config->certificates ? load_certificates(t, config, diag)
				     : load_keys(t, config->psk_file, diag);
	if (r < 0) {
		wh_nbd_tls_free(t);
		return r;
	}
	*ret_tls = t;
	return 0;
}

void wh_nbd_tls_free(struct wh_nbd_tls *tls)
{
	if (!tls)
		return;
	if (tls->certificates)
		gnutls_certificate_free_credentials(tls->certificates);
	if (tls->keys)
		gnutls_psk_free_server_credentials(tls->keys);
	free(tls);
}

int nbd_tls_start(struct wh_nbd_tls *tls, int fd, struct nbd_tls_session **ret_session)
{
	struct nbd_tls_session *s = calloc(1, sizeof *s);
	if (!s)
		return -WH_ENOMEM;
	if (gnutls_init(&s->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0) {
		free(s);
		return -WH_ENOMEM;
	}
	s->verify_peer = tls->verify_peer;
	int r = gnutls_priority_set_direct(s->session, tls->keys ? PRIORITY_PSK : PRIORITY, NULL);
	if (r >= 0)
		r = tls->keys ? gnutls_credentials_set(s->session, GNUTLS_CRD_PSK, tls->keys)
			      : gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE,
						       tls->certificates);
	if (r < 0) {
		nbd_tls_end(s);
		return -WH_EPROTO;
	}
	if (s->verify_peer) {
		gnutls_certificate_server_set_request(s->session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(s->session, NULL, 0);
	}
	gnutls_transport_set_int(s->session, fd);
	*ret_session = s;
	return 0;
}

int nbd_tls_handshake(struct nbd_tls_session *s, bool *ret_write)
{
	int r;
	do
		r = gnutls_handshake(s->session);
	while (r == GNUTLS_E_INTERRUPTED ||
	       (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r)));
	if (r >= 0)
		return 1;
	*ret_write = gnutls_record_get_direction(s->session) == 1;
	return r == GNUTLS_E_AGAIN ? 0 : -WH_EPROTO;
}

static ssize_t status(ssize_t r)
{
	if (r >= 0)
		return r;
	if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED)
		return -WH_EAGAIN;
	return -WH_EIO;
}

ssize_t nbd_tls_receive(struct nbd_tls_session *s, void *to, size_t size)
{
	ssize_t r = gnutls_record_recv(s->session, to, size);
	if (r == GNUTLS_E_REHANDSHAKE) /* not wanted; a client may live without */
		return -WH_EAGAIN;
	return status(r);
}

ssize_t nbd_tls_send(struct nbd_tls_session *s, const struct wh_iov *iov, uint32_t count)
{
	ssize_t sent = 0;
	for (uint32_t i = 0; i < count; i++) {
		size_t at = 0;
		while (at < iov[i].size) {
			/* GnuTLS has kept what it could not send; it is asked with nothing then. */
			ssize_t r =
				s->unsent ? gnutls_record_send(s->session, NULL, 0)
					  : gnutls_record_send(s->session, (char *)iov[i].base + at,
							       iov[i].size - at);
			if (r < 0) {
				s->unsent = r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED;
				return sent ? sent : status(r);
			}
			s->unsent = 0;
			at += (size_t)r;
			sent += r;
		}
	}
	return sent;
}

bool nbd_tls_pending(const struct nbd_tls_session *s)
{
	return gnutls_record_check_pending(s->session) > 0;
}

void nbd_tls_end(struct nbd_tls_session *s)
{
	if (!s)
		return;
	gnutls_deinit(s->session);
	free(s);
}
