/* See tls.h.  The one file that knows GnuTLS' session API. */
#include <gnutls/gnutls.h>
#include "base/str.h"
#include "ext/tls.h"

struct tls_server {
	gnutls_certificate_credentials_t x509;
	gnutls_psk_server_credentials_t psk;
	bool verify_peer;
};

struct tls {
	gnutls_session_t s;
	int last;
	bool up;
};

#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

static int bad(struct err **e, int g, const char *what, const char *file)
{
	return err_set(e, g == GNUTLS_E_FILE_ERROR ? ENOENT : EINVAL, "tls.config", "%s '%s': %s",
		       what, file, gnutls_strerror(g));
}

static int load_x509(struct tls_server *s, const char *dir, struct err **e)
{
	_cleanup_(freep) char *ca = NULL, *cert = NULL, *key = NULL;
	int g;

	if (asprintf(&ca, "%s/ca-cert.pem", dir) < 0 ||
	    asprintf(&cert, "%s/server-cert.pem", dir) < 0 ||
	    asprintf(&key, "%s/server-key.pem", dir) < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (gnutls_certificate_allocate_credentials(&s->x509) < 0)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	g = gnutls_certificate_set_x509_key_file(s->x509, cert, key, GNUTLS_X509_FMT_PEM);
	if (g < 0)
		return bad(e, g, "read the certificate and its key", cert);
	if (!s->verify_peer)
		return 0;
	g = gnutls_certificate_set_x509_trust_file(s->x509, ca, GNUTLS_X509_FMT_PEM);
	if (g == 0)
		return err_set(e, EINVAL, "tls.config", "'%s' holds no certificate", ca);
	return g < 0 ? bad(e, g, "read the authority's certificate", ca) : 0;
}

int tls_server_new(const struct tls_server_cfg *cfg, struct tls_server **ret, struct err **e)
{
	_cleanup_(tls_server_freep) struct tls_server *s = calloc(1, sizeof(*s));
	int r = 0, g;

	if (!s)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	if (!cfg->certificates == !cfg->psk)
		return err_set(e, EINVAL, "tls.config",
			       "TLS needs either certificates or pre-shared keys");
	if (cfg->psk && cfg->verify_peer)
		return err_set(e, EINVAL, "tls.config",
			       "with pre-shared keys there are no clients' certificates to check");
	s->verify_peer = cfg->verify_peer;
	if (cfg->certificates) {
		r = load_x509(s, cfg->certificates, e);
	} else {
		if (access(cfg->psk, R_OK) < 0)
			return err_sys(e, errno, "read '%s'", cfg->psk);
		if (gnutls_psk_allocate_server_credentials(&s->psk) < 0)
			return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
		g = gnutls_psk_set_server_credentials_file(s->psk, cfg->psk);
		if (g < 0)
			r = bad(e, g, "read the keys", cfg->psk);
	}
	if (r < 0)
		return r;
	*ret = TAKE(s);
	return 0;
}

void tls_server_free(struct tls_server *s)
{
	if (!s)
		return;
	if (s->x509)
		gnutls_certificate_free_credentials(s->x509);
	if (s->psk)
		gnutls_psk_free_server_credentials(s->psk);
	free(s);
}

int tls_accept(const struct tls_server *s, int fd, struct tls **ret)
{
	struct tls *t = calloc(1, sizeof(*t));
	int g;

	if (!t)
		return -ENOMEM;
	g = gnutls_init(&t->s, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (g < 0) {
		free(t);
		return -ENOMEM;
	}
	g = gnutls_priority_set_direct(
		t->s, s->psk ? PRIORITY ":-KX-ALL:+ECDHE-PSK:+DHE-PSK" : PRIORITY, NULL);
	if (g == 0 && s->psk)
		g = gnutls_credentials_set(t->s, GNUTLS_CRD_PSK, s->psk);
	if (g == 0 && s->x509)
		g = gnutls_credentials_set(t->s, GNUTLS_CRD_CERTIFICATE, s->x509);
	if (g < 0) {
		tls_free(t);
		return -EINVAL;
	}
	if (s->verify_peer) {
		gnutls_certificate_server_set_request(t->s, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(t->s, NULL, 0); /* any name, but a known signer */
	}
	/* who calls sets the time limit, over the whole of the negotiation */
	gnutls_handshake_set_timeout(t->s, 0);
	gnutls_transport_set_int(t->s, fd);
	*ret = t;
	return 0;
}

static int result(struct tls *t, ssize_t g)
{
	switch (g) {
	case GNUTLS_E_AGAIN:
	case GNUTLS_E_INTERRUPTED:
	case GNUTLS_E_WARNING_ALERT_RECEIVED:
		return -EAGAIN;
	case GNUTLS_E_PUSH_ERROR:
	case GNUTLS_E_PULL_ERROR:
	case GNUTLS_E_PREMATURE_TERMINATION:
		t->last = (int)g;
		return -ECONNRESET;
	default:
		t->last = (int)g;
		return -EPROTO;
	}
}

int tls_handshake(struct tls *t)
{
	int g = gnutls_handshake(t->s);

	if (g == GNUTLS_E_SUCCESS) {
		t->up = true;
		return 0;
	}
	if (gnutls_error_is_fatal(g) == 0)
		return -EAGAIN;
	gnutls_alert_send_appropriate(t->s, g);
	return result(t, g);
}

bool tls_wants_write(const struct tls *t)
{
	return gnutls_record_get_direction(t->s) == 1;
}

ssize_t tls_read(struct tls *t, void *p, size_t len)
{
	ssize_t g = gnutls_record_recv(t->s, p, len);

	/* A client may ask for new keys under 1.2: not with us. */
	return g >= 0 ? g : result(t, g);
}

ssize_t tls_write(struct tls *t, const void *p, size_t len)
{
	ssize_t g = gnutls_record_send(t->s, p, len);

	return g >= 0 ? g : result(t, g);
}

size_t tls_pending(const struct tls *t)
{
	return gnutls_record_check_pending(t->s);
}

const char *tls_error(const struct tls *t)
{
	return t->last ? gnutls_strerror(t->last) : "no error";
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (t->up)
		gnutls_bye(t->s, GNUTLS_SHUT_WR);
	gnutls_deinit(t->s);
	free(t);
}
