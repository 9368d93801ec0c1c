/* NBD negotiation: see nbd_handshake.h. */
#include <string.h>
#include "storage/export/nbd_handshake.h"

/* What is left of an option's data; every read is checked. */
struct cursor {
	const uint8_t *p;
	size_t left;
	bool bad;
};

static const void *take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->bad || n > c->left) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	c->left -= n;
	return p;
}

static uint32_t take32(struct cursor *c)
{
	const void *p = take(c, 4);
	uint32_t v = 0;

	if (p)
		memcpy(&v, p, 4);
	return be32toh(v);
}

static uint16_t take16(struct cursor *c)
{
	const void *p = take(c, 2);
	uint16_t v = 0;

	if (p)
		memcpy(&v, p, 2);
	return be16toh(v);
}

/* A string with its length before it; without a NUL. */
static const char *take_string(struct cursor *c, size_t *len)
{
	*len = take32(c);
	if (*len > NBD_STRING_MAX)
		c->bad = true;
	return take(c, *len);
}

static void put16(struct buf *b, uint16_t v)
{
	v = htobe16(v);
	buf_add(b, &v, sizeof(v));
}

static void put32(struct buf *b, uint32_t v)
{
	v = htobe32(v);
	buf_add(b, &v, sizeof(v));
}

static void put64(struct buf *b, uint64_t v)
{
	v = htobe64(v);
	buf_add(b, &v, sizeof(v));
}

static void reply(struct buf *out, uint32_t option, uint32_t type, uint32_t len)
{
	struct nbd_option_reply r = { htobe64(NBD_REP_MAGIC), htobe32(option), htobe32(type),
				      htobe32(len) };

	buf_add(out, &r, sizeof(r));
}

static void refuse(struct buf *out, uint32_t option, uint32_t type, const char *why)
{
	reply(out, option, type, (uint32_t)strlen(why));
	buf_adds(out, why);
}

void nbd_hs_init(struct nbd_handshake *h, enum nbd_tls_mode tls,
		 bool (*nth)(void *arg, size_t i, struct nbd_export_info *ret), void *arg,
		 struct buf *out)
{
	*h = (struct nbd_handshake){ .tls = tls, .nth = nth, .arg = arg };
	put64(out, NBD_MAGIC);
	put64(out, NBD_OPT_MAGIC);
	put16(out, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

void nbd_hs_secured(struct nbd_handshake *h)
{
	h->secured = true;
	h->structured = false;
	h->contexts = 0;
	h->state = NBD_HS_OPTIONS;
}

static bool find(struct nbd_handshake *h, const char *name, size_t len, size_t *at,
		 struct nbd_export_info *ret)
{
	for (size_t i = 0; h->nth(h->arg, i, ret); i++)
		if ((len == 0 && ret->is_default) ||
		    (strlen(ret->name) == len && memcmp(ret->name, name, len) == 0)) {
			*at = i;
			return true;
		}
	return false;
}

static void begin(struct nbd_handshake *h, size_t chosen)
{
	h->chosen = chosen;
	if (h->contexts_of != chosen || !h->structured)
		h->contexts = 0;
	h->state = NBD_HS_READY;
}

/* ---- options ---- */

static void opt_export_name(struct nbd_handshake *h, struct cursor *c, struct buf *out)
{
	static const char zeroes[124];
	struct nbd_export_info x;
	size_t at;

	/* there is no way to refuse but to hang up */
	if (c->left > NBD_STRING_MAX || !find(h, (const char *)c->p, c->left, &at, &x)) {
		h->state = NBD_HS_CLOSE;
		return;
	}
	put64(out, x.size);
	put16(out, x.flags);
	if (!h->no_zeroes)
		buf_add(out, zeroes, sizeof(zeroes));
	begin(h, at);
}

static void opt_list(struct nbd_handshake *h, struct cursor *c, struct buf *out)
{
	struct nbd_export_info x;

	if (c->left > 0) {
		refuse(out, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "LIST has no data");
		return;
	}
	for (size_t i = 0; h->nth(h->arg, i, &x); i++) {
		size_t n = strlen(x.name), d = x.description ? strlen(x.description) : 0;

		reply(out, NBD_OPT_LIST, NBD_REP_SERVER, (uint32_t)(4 + n + d));
		put32(out, (uint32_t)n);
		buf_adds(out, x.name);
		buf_adds(out, x.description ?: "");
	}
	reply(out, NBD_OPT_LIST, NBD_REP_ACK, 0);
}

static void info_string(struct buf *out, uint32_t option, enum nbd_info what, const char *s)
{
	reply(out, option, NBD_REP_INFO, (uint32_t)(2 + strlen(s)));
	put16(out, (uint16_t)what);
	buf_adds(out, s);
}

static void opt_info(struct nbd_handshake *h, uint32_t option, struct cursor *c, struct buf *out)
{
	bool name = false, description = false, block = false;
	struct nbd_export_info x;
	unsigned int n;
	size_t len, at;
	const char *s = take_string(c, &len);

	n = take16(c);
	for (unsigned int i = 0; i < n && !c->bad; i++) {
		uint16_t what = take16(c);

		name |= what == NBD_INFO_NAME;
		description |= what == NBD_INFO_DESCRIPTION;
		block |= what == NBD_INFO_BLOCK_SIZE;
	}
	if (c->bad || c->left > 0) {
		refuse(out, option, NBD_REP_ERR_INVALID, "malformed information request");
		return;
	}
	if (!find(h, s, len, &at, &x)) {
		refuse(out, option, NBD_REP_ERR_UNKNOWN, "no such export");
		return;
	}
	reply(out, option, NBD_REP_INFO, 12);
	put16(out, NBD_INFO_EXPORT);
	put64(out, x.size);
	put16(out, x.flags);
	if (name)
		info_string(out, option, NBD_INFO_NAME, x.name);
	if (description && x.description)
		info_string(out, option, NBD_INFO_DESCRIPTION, x.description);
	if (block) {
		reply(out, option, NBD_REP_INFO, 14);
		put16(out, NBD_INFO_BLOCK_SIZE);
		put32(out, 1);
		put32(out, x.pref_block);
		put32(out, (uint32_t)NBD_PAYLOAD_MAX);
	}
	reply(out, option, NBD_REP_ACK, 0);
	if (option == NBD_OPT_GO)
		begin(h, at);
}

static const struct {
	const char *name;
	unsigned int id;
} contexts[] = {
	{ "base:allocation", NBD_CTX_ALLOCATION },
	{ "qemu:allocation-depth", NBD_CTX_DEPTH },
};

bool nbd_hs_lists(const char *query, size_t len, const char *context)
{
	const char *colon = strchr(context, ':');

	return (strlen(context) == len && memcmp(query, context, len) == 0) ||
	       ((size_t)(colon - context) + 1 == len && memcmp(query, context, len) == 0);
}

static void opt_meta(struct nbd_handshake *h, uint32_t option, struct cursor *c, struct buf *out)
{
	bool set = option == NBD_OPT_SET_META_CONTEXT;
	unsigned int found = 0;
	struct nbd_export_info x;
	size_t len, at;
	const char *s;
	uint32_t n;

	if (set)
		h->contexts = 0;
	if (!h->structured) {
		refuse(out, option, NBD_REP_ERR_INVALID, "negotiate structured replies first");
		return;
	}
	s = take_string(c, &len);
	n = take32(c);
	if (!c->bad && !find(h, s, len, &at, &x)) {
		refuse(out, option, NBD_REP_ERR_UNKNOWN, "no such export");
		return;
	}
	for (uint32_t i = 0; i < n && !c->bad; i++) {
		s = take_string(c, &len);
		for (size_t k = 0; s && k < ARRAY_SIZE(contexts); k++) {
			const char *name = contexts[k].name;

			if (set ? strlen(name) == len && memcmp(s, name, len) == 0
				: nbd_hs_lists(s, len, name))
				found |= 1U << contexts[k].id;
		}
	}
	if (c->bad || c->left > 0) {
		refuse(out, option, NBD_REP_ERR_INVALID, "malformed metadata query");
		return;
	}
	if (!set && n == 0)
		found = ~0U;
	for (size_t k = 0; k < ARRAY_SIZE(contexts); k++) {
		if (!(found & 1U << contexts[k].id))
			continue;
		reply(out, option, NBD_REP_META_CONTEXT, (uint32_t)(4 + strlen(contexts[k].name)));
		put32(out, set ? contexts[k].id : 0);
		buf_adds(out, contexts[k].name);
	}
	reply(out, option, NBD_REP_ACK, 0);
	if (set) {
		h->contexts = found;
		h->contexts_of = at;
	}
}

static void opt_starttls(struct nbd_handshake *h, struct cursor *c, struct buf *out)
{
	if (c->left > 0)
		refuse(out, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, "STARTTLS has no data");
	else if (h->secured)
		refuse(out, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, "TLS is up already");
	else if (h->tls == NBD_TLS_OFF)
		refuse(out, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "this server has no certificate");
	else {
		reply(out, NBD_OPT_STARTTLS, NBD_REP_ACK, 0);
		h->state = NBD_HS_TLS;
	}
}

static void option(struct nbd_handshake *h, uint32_t opt, const uint8_t *data, size_t len,
		   struct buf *out)
{
	struct cursor c = { data, len, false };

	if (h->tls == NBD_TLS_REQUIRE && !h->secured && opt != NBD_OPT_STARTTLS &&
	    opt != NBD_OPT_ABORT) {
		if (opt == NBD_OPT_EXPORT_NAME)
			h->state = NBD_HS_CLOSE;
		else
			refuse(out, opt, NBD_REP_ERR_TLS_REQD, "TLS is required: STARTTLS first");
		return;
	}
	switch (opt) {
	case NBD_OPT_EXPORT_NAME:
		opt_export_name(h, &c, out);
		break;
	case NBD_OPT_ABORT:
		reply(out, opt, NBD_REP_ACK, 0);
		h->state = NBD_HS_CLOSE;
		break;
	case NBD_OPT_LIST:
		opt_list(h, &c, out);
		break;
	case NBD_OPT_STARTTLS:
		opt_starttls(h, &c, out);
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		opt_info(h, opt, &c, out);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		if (len > 0) {
			refuse(out, opt, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY has no data");
			break;
		}
		h->structured = true;
		reply(out, opt, NBD_REP_ACK, 0);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		opt_meta(h, opt, &c, out);
		break;
	default:
		refuse(out, opt, NBD_REP_ERR_UNSUP, "unknown option");
	}
}

/* ---- bytes ---- */

static ssize_t feed_flags(struct nbd_handshake *h, const uint8_t *data, size_t len)
{
	uint32_t flags;

	if (len < sizeof(flags))
		return 0;
	memcpy(&flags, data, sizeof(flags));
	flags = be32toh(flags);
	/* without the fixed form there is only EXPORT_NAME, which works all the same */
	if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
		return -EPROTO;
	h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	h->state = NBD_HS_OPTIONS;
	return sizeof(flags);
}

static ssize_t feed_skip(struct nbd_handshake *h, size_t len, struct buf *out)
{
	size_t n = (size_t)MIN(h->skip, (uint64_t)len);

	h->skip -= n;
	if (h->skip == 0)
		refuse(out, h->skip_option, NBD_REP_ERR_TOO_BIG, "the option is too long");
	return (ssize_t)n;
}

ssize_t nbd_hs_feed(struct nbd_handshake *h, const uint8_t *data, size_t len, struct buf *out)
{
	struct nbd_option o;
	uint32_t n, opt;

	if (h->state == NBD_HS_FLAGS)
		return feed_flags(h, data, len);
	if (h->skip > 0)
		return feed_skip(h, len, out);
	if (len < sizeof(o))
		return 0;
	memcpy(&o, data, sizeof(o));
	if (o.magic != htobe64(NBD_OPT_MAGIC) || ++h->n_options > NBD_OPTIONS_MAX)
		return -EPROTO;
	n = be32toh(o.length);
	opt = be32toh(o.option);
	if (n > NBD_OPTION_MAX) {
		if (opt == NBD_OPT_EXPORT_NAME) /* cannot be refused */
			return -EPROTO;
		h->skip = n;
		h->skip_option = opt;
		return sizeof(o);
	}
	if (len - sizeof(o) < n) {
		h->n_options--; /* not taken yet */
		return 0;
	}
	option(h, opt, data + sizeof(o), n, out);
	return (ssize_t)(sizeof(o) + n);
}
