/* Certificates on GnuTLS; see x509.h. */
#include "ext/x509.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <time.h>
#include "base/rand.h"
#include "base/str.h"

#define YEARS_10 (10L * 365 * 86400)

int x509_read(const char *pem, char fingerprint[65], nsec_t *expires, struct err **e)
{
	const gnutls_datum_t text = { (unsigned char *)pem, (unsigned int)strlen(pem) };
	unsigned char digest[32];
	gnutls_x509_crt_t c;
	size_t n = sizeof(digest);
	int r = gnutls_x509_crt_init(&c);

	if (r < 0)
		return err_sys(e, ENOMEM, "certificate");
	r = gnutls_x509_crt_import(c, &text, GNUTLS_X509_FMT_PEM);
	if (r >= 0)
		r = gnutls_x509_crt_get_fingerprint(c, GNUTLS_DIG_SHA256, digest, &n);
	if (r >= 0) {
		hex_encode(digest, sizeof(digest), fingerprint);
		*expires = gnutls_x509_crt_get_expiration_time(c) * NSEC_PER_SEC;
	}
	gnutls_x509_crt_deinit(c);
	return r >= 0 ? 0
		      : err_set(e, EINVAL, "certificate.invalid",
				"this is not a certificate in PEM form: %s", gnutls_strerror(r));
}

static int fill(gnutls_x509_crt_t c, gnutls_x509_privkey_t k, const char *name)
{
	const struct in_addr v4 = { .s_addr = htonl(INADDR_LOOPBACK) };
	const struct in6_addr v6 = IN6ADDR_LOOPBACK_INIT;
	unsigned char serial[16];
	time_t now = time(NULL);
	int r = gnutls_x509_crt_set_version(c, 3);

	rand_bytes(serial, sizeof(serial));
	serial[0] &= 0x7f; /* positive */
	r = r < 0 ? r : gnutls_x509_crt_set_serial(c, serial, sizeof(serial));
	r = r < 0 ? r : gnutls_x509_crt_set_key(c, k);
	r = r < 0 ? r
		  : gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, name,
						  (unsigned int)strlen(name));
	/* an hour back, for clients whose clock is behind */
	r = r < 0 ? r : gnutls_x509_crt_set_activation_time(c, now - 3600);
	r = r < 0 ? r : gnutls_x509_crt_set_expiration_time(c, now + YEARS_10);
	r = r < 0 ? r
		  : gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_DNSNAME, name,
							 (unsigned int)strlen(name),
							 GNUTLS_FSAN_SET);
	r = r < 0 ? r
		  : gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_DNSNAME, "localhost", 9,
							 GNUTLS_FSAN_APPEND);
	r = r < 0 ? r
		  : gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_IPADDRESS, &v4, sizeof(v4),
							 GNUTLS_FSAN_APPEND);
	r = r < 0 ? r
		  : gnutls_x509_crt_set_subject_alt_name(c, GNUTLS_SAN_IPADDRESS, &v6, sizeof(v6),
							 GNUTLS_FSAN_APPEND);
	r = r < 0 ? r : gnutls_x509_crt_set_basic_constraints(c, 0, -1);
	r = r < 0 ? r : gnutls_x509_crt_set_key_purpose_oid(c, GNUTLS_KP_TLS_WWW_SERVER, 0);
	return r < 0 ? r : gnutls_x509_crt_sign2(c, c, k, GNUTLS_DIG_SHA256, 0);
}

static char *text_of(gnutls_datum_t *d)
{
	char *s = strndup((const char *)d->data, d->size);

	mem_wipe(d->data, d->size);
	gnutls_free(d->data);
	return s;
}

int x509_self_signed(const char *name, char **cert, char **key, struct err **e)
{
	gnutls_datum_t ct = { NULL, 0 }, kt = { NULL, 0 };
	gnutls_x509_privkey_t k = NULL;
	gnutls_x509_crt_t c = NULL;
	int r = gnutls_x509_privkey_init(&k);

	r = r < 0 ? r : gnutls_x509_crt_init(&c);
	r = r < 0 ? r
		  : gnutls_x509_privkey_generate(k, GNUTLS_PK_ECDSA,
						 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
						 0);
	r = r < 0 ? r : fill(c, k, name);
	r = r < 0 ? r : gnutls_x509_crt_export2(c, GNUTLS_X509_FMT_PEM, &ct);
	r = r < 0 ? r : gnutls_x509_privkey_export2(k, GNUTLS_X509_FMT_PEM, &kt);
	if (r >= 0) {
		*cert = text_of(&ct);
		*key = text_of(&kt);
	} else {
		gnutls_free(ct.data);
	}
	gnutls_x509_crt_deinit(c);
	gnutls_x509_privkey_deinit(k);
	if (r < 0)
		return err_set(e, EIO, "certificate.make", "make a certificate: %s",
			       gnutls_strerror(r));
	return *cert && *key ? 0 : err_sys(e, ENOMEM, "certificate");
}
