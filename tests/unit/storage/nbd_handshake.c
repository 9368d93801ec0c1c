/* NBD negotiation, byte by byte: what is offered, what is refused, and that TLS forgets what came before. */
#include "unit.h"
#include "storage/export/nbd_handshake.h"

static bool nth(void *arg, size_t i, struct nbd_export_info *ret)
{
	static const struct nbd_export_info x[] = {
		{ .name = "first",
		  .size = 1 << 20,
		  .flags = 1,
		  .pref_block = 4096,
		  .is_default = true },
		{ .name = "second",
		  .description = "two",
		  .size = 77,
		  .flags = 3,
		  .pref_block = 65536 },
	};

	if (i >= ARRAY_SIZE(x))
		return false;
	*ret = x[i];
	return true;
}

struct peer {
	struct nbd_handshake h;
	struct buf out, in;
	size_t at;
};

static void begin(struct peer *p, enum nbd_tls_mode tls)
{
	static const uint8_t flags[4] = { 0, 0, 0, 3 };

	*p = (struct peer){ 0 };
	nbd_hs_init(&p->h, tls, nth, NULL, &p->out);
	assert_int_equal(p->out.len, 18);
	assert_memory_equal(p->out.s, "NBDMAGICIHAVEOPT\0\3", 18);
	assert_int_equal(nbd_hs_feed(&p->h, flags, 3, &p->out), 0);
	assert_int_equal(nbd_hs_feed(&p->h, flags, 4, &p->out), 4);
	buf_clear(&p->out);
}

static void end(struct peer *p)
{
	buf_done(&p->out);
	buf_done(&p->in);
}

/* An option; also with one byte missing, which must take nothing. */
static void option(struct peer *p, uint32_t opt, const void *data, size_t len)
{
	struct nbd_option o = { htobe64(NBD_OPT_MAGIC), htobe32(opt), htobe32((uint32_t)len) };

	buf_clear(&p->in);
	buf_clear(&p->out);
	p->at = 0;
	buf_add(&p->in, &o, sizeof(o));
	buf_add(&p->in, data, len);
	assert_int_equal(nbd_hs_feed(&p->h, (uint8_t *)p->in.s, p->in.len - 1, &p->out), 0);
	assert_int_equal(nbd_hs_feed(&p->h, (uint8_t *)p->in.s, p->in.len, &p->out), p->in.len);
}

/* The next reply's type; *data and *len are what it carries. */
static uint32_t reply(struct peer *p, const char **data, uint32_t *len)
{
	struct nbd_option_reply r;

	assert_true(p->out.len - p->at >= sizeof(r));
	memcpy(&r, p->out.s + p->at, sizeof(r));
	assert_int_equal(be64toh(r.magic), NBD_REP_MAGIC);
	*len = be32toh(r.length);
	*data = p->out.s + p->at + sizeof(r);
	p->at += sizeof(r) + *len;
	assert_true(p->at <= p->out.len);
	return be32toh(r.type);
}

static void expect(struct peer *p, uint32_t type)
{
	const char *d;
	uint32_t n;

	assert_int_equal(reply(p, &d, &n), type);
}

static void lists_and_describes(void **state)
{
	struct peer p;
	const char *d;
	uint32_t n;

	begin(&p, NBD_TLS_OFF);
	option(&p, NBD_OPT_LIST, NULL, 0);
	assert_int_equal(reply(&p, &d, &n), NBD_REP_SERVER);
	assert_memory_equal(d, "\0\0\0\5first", n);
	assert_int_equal(reply(&p, &d, &n), NBD_REP_SERVER);
	assert_memory_equal(d, "\0\0\0\6secondtwo", n);
	expect(&p, NBD_REP_ACK);
	option(&p, NBD_OPT_LIST, "x", 1);
	expect(&p, NBD_REP_ERR_INVALID);

	option(&p, NBD_OPT_INFO, "\0\0\0\6second\0\3\0\1\0\2\0\3", 18);
	assert_int_equal(reply(&p, &d, &n), NBD_REP_INFO);
	assert_int_equal(n, 12);
	assert_memory_equal(d, "\0\0\0\0\0\0\0\0\0\x4d\0\3", 12);
	assert_int_equal(reply(&p, &d, &n), NBD_REP_INFO);
	assert_memory_equal(d, "\0\1second", n);
	assert_int_equal(reply(&p, &d, &n), NBD_REP_INFO);
	assert_memory_equal(d, "\0\2two", n);
	assert_int_equal(reply(&p, &d, &n), NBD_REP_INFO);
	assert_memory_equal(d, "\0\3\0\0\0\1\0\1\0\0\2\0\0\0", n);
	expect(&p, NBD_REP_ACK);
	assert_int_equal(p.h.state, NBD_HS_OPTIONS);
	option(&p, NBD_OPT_INFO, "\0\0\0\1x\0\0", 7);
	expect(&p, NBD_REP_ERR_UNKNOWN);
	option(&p, NBD_OPT_GO, "\0\0\0\5first\0\1", 11); /* a request is missing */
	expect(&p, NBD_REP_ERR_INVALID);
	option(&p, 99, NULL, 0);
	expect(&p, NBD_REP_ERR_UNSUP);
	option(&p, NBD_OPT_GO, "\0\0\0\0\0\0", 6);
	expect(&p, NBD_REP_INFO);
	expect(&p, NBD_REP_ACK);
	assert_int_equal(p.h.state, NBD_HS_READY);
	assert_int_equal(p.h.chosen, 0);
	end(&p);
}

static void contexts_belong_to_one_export(void **state)
{
	static const char both[] =
		"\0\0\0\6second\0\0\0\2\0\0\0\17base:allocation\0\0\0\25qemu:allocation-depth";
	static const char space[] = "\0\0\0\6second\0\0\0\1\0\0\0\5base:";
	struct peer p;
	const char *d;
	uint32_t n;

	begin(&p, NBD_TLS_OFF);
	option(&p, NBD_OPT_SET_META_CONTEXT, both, sizeof(both) - 1);
	expect(&p, NBD_REP_ERR_INVALID); /* structured replies come first */
	option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	expect(&p, NBD_REP_ACK);
	option(&p, NBD_OPT_SET_META_CONTEXT, both, sizeof(both) - 1);
	assert_int_equal(reply(&p, &d, &n), NBD_REP_META_CONTEXT);
	assert_memory_equal(d, "\0\0\0\1base:allocation", n);
	expect(&p, NBD_REP_META_CONTEXT);
	expect(&p, NBD_REP_ACK);
	assert_int_equal(p.h.contexts, 1 << NBD_CTX_ALLOCATION | 1 << NBD_CTX_DEPTH);
	/* a namespace is for listing only; asking anew drops what was set */
	option(&p, NBD_OPT_LIST_META_CONTEXT, space, sizeof(space) - 1);
	expect(&p, NBD_REP_META_CONTEXT);
	expect(&p, NBD_REP_ACK);
	option(&p, NBD_OPT_SET_META_CONTEXT, space, sizeof(space) - 1);
	expect(&p, NBD_REP_ACK);
	assert_int_equal(p.h.contexts, 0);
	option(&p, NBD_OPT_SET_META_CONTEXT, both, sizeof(both) - 1);
	option(&p, NBD_OPT_GO, "\0\0\0\5first\0\0", 11);
	assert_int_equal(p.h.state, NBD_HS_READY);
	assert_int_equal(p.h.contexts, 0); /* they were for the other one */
	end(&p);
}

static void tls_first_and_then_from_the_start(void **state)
{
	struct peer p;

	begin(&p, NBD_TLS_REQUIRE);
	option(&p, NBD_OPT_LIST, NULL, 0);
	expect(&p, NBD_REP_ERR_TLS_REQD);
	option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	expect(&p, NBD_REP_ERR_TLS_REQD);
	option(&p, NBD_OPT_STARTTLS, NULL, 0);
	expect(&p, NBD_REP_ACK);
	assert_int_equal(p.h.state, NBD_HS_TLS);
	nbd_hs_secured(&p.h);
	option(&p, NBD_OPT_STARTTLS, NULL, 0);
	expect(&p, NBD_REP_ERR_INVALID);
	option(&p, NBD_OPT_LIST, NULL, 0);
	expect(&p, NBD_REP_SERVER);
	end(&p);

	begin(&p, NBD_TLS_REQUIRE);
	option(&p, NBD_OPT_EXPORT_NAME, "first", 5); /* cannot be refused in words */
	assert_int_equal(p.h.state, NBD_HS_CLOSE);
	assert_int_equal(p.out.len, 0);
	end(&p);

	begin(&p, NBD_TLS_ON);
	option(&p, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	assert_true(p.h.structured);
	option(&p, NBD_OPT_STARTTLS, NULL, 0);
	nbd_hs_secured(&p.h);
	assert_false(p.h.structured);
	end(&p);

	begin(&p, NBD_TLS_OFF);
	option(&p, NBD_OPT_STARTTLS, NULL, 0);
	expect(&p, NBD_REP_ERR_POLICY);
	end(&p);
}

static void long_and_endless_options_end(void **state)
{
	struct nbd_option o = { htobe64(NBD_OPT_MAGIC), htobe32(42), htobe32(1000000) };
	static uint8_t junk[4096];
	uint32_t left = 1000000;
	struct peer p;
	ssize_t r = 0;

	begin(&p, NBD_TLS_OFF);
	assert_int_equal(nbd_hs_feed(&p.h, (uint8_t *)&o, sizeof(o), &p.out), sizeof(o));
	while (left > 0) {
		r = nbd_hs_feed(&p.h, junk, MIN(left, (uint32_t)sizeof(junk)), &p.out);
		assert_true(r > 0);
		left -= (uint32_t)r;
	}
	expect(&p, NBD_REP_ERR_TOO_BIG);
	o.length = 0;
	for (unsigned int i = 0; i <= NBD_OPTIONS_MAX; i++)
		r = nbd_hs_feed(&p.h, (uint8_t *)&o, sizeof(o), &p.out);
	assert_int_equal(r, -EPROTO);
	end(&p);

	begin(&p, NBD_TLS_OFF);
	o.magic = 0;
	assert_int_equal(nbd_hs_feed(&p.h, (uint8_t *)&o, sizeof(o), &p.out), -EPROTO);
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_and_describes),
		cmocka_unit_test(contexts_belong_to_one_export),
		cmocka_unit_test(tls_first_and_then_from_the_start),
		cmocka_unit_test(long_and_endless_options_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
