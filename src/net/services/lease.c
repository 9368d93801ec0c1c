/* Who has which address, see lease.h. */
#define LOG_MODULE "net"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/atomicfile.h"
#include "base/log.h"
#include "base/str.h"
#include "net/services/lease.h"

#define SAVE_DELAY  (50 * NSEC_PER_MSEC) /* changes of so long share one write */
#define RETRY_DELAY (2 * NSEC_PER_SEC)
#define FILE_MAX    (64 << 20)

static uint64_t owner_hash(const char *nic, const uint8_t *mac)
{
	return *nic ? hash_str(nic) : hash_bytes(mac, 6);
}

static uint64_t addr_hash(const struct ipaddr *a)
{
	return hash_bytes(a->b, ipaddr_len(a));
}

struct lease *lease_of_addr(struct leases *l, const struct ipaddr *a)
{
	hmap_for_each(n, &l->by_addr, addr_hash(a)) {
		struct lease *x = container_of(n, struct lease, by_addr);

		if (ipaddr_same(&x->addr, a))
			return x;
	}
	return NULL;
}

struct lease *lease_of(struct leases *l, const char *nic, const uint8_t *mac, int family)
{
	if (!nic)
		nic = "";
	hmap_for_each(n, &l->by_owner, owner_hash(nic, mac)) {
		struct lease *x = container_of(n, struct lease, by_owner);

		if (x->addr.family == family && streq(x->nic, nic) &&
		    (*nic || (mac && memcmp(x->mac, mac, 6) == 0)))
			return x;
	}
	return NULL;
}

/* One write, off the loop: the disk takes its time, and clients do not wait for it. */
struct lease_job {
	struct work work;
	struct leases *l;
	struct buf text;
	struct err *e;
	int r;
};

static void save_after(struct leases *l, nsec_t delay);
static int leases_text(const struct leases *l, struct buf *b);

static void write_job(struct work *w)
{
	struct lease_job *j = w->data;

	j->r = file_write_atomic(AT_FDCWD, j->l->path, j->text.s, j->text.len, 0644, &j->e);
}

static void job_done(struct work *w)
{
	struct lease_job *j = w->data;
	struct leases *l = j->l;

	l->job = NULL;
	if (j->r < 0) {
		log_err("leases not saved", "err", j->e);
		l->dirty = true;
	}
	if (l->dirty) /* again: what changed meanwhile is not in it */
		save_after(l, j->r < 0 ? RETRY_DELAY : SAVE_DELAY);
	err_free(j->e);
	buf_done(&j->text);
	free(j);
}

static void save_later(struct timer *t)
{
	struct leases *l = t->data;
	struct lease_job *j;

	if (l->job)
		return; /* its end starts the next */
	j = calloc(1, sizeof(*j));
	if (!j || leases_text(l, &j->text) < 0) {
		free(j);
		save_after(l, RETRY_DELAY);
		return;
	}
	j->l = l;
	j->work.data = j;
	l->job = j;
	l->dirty = false;
	if (work_submit(l->pool, &j->work, write_job, job_done) < 0) {
		write_job(&j->work);
		job_done(&j->work);
	}
}

static void save_after(struct leases *l, nsec_t delay)
{
	if (!l->loop || !*l->path || timer_active(&l->save))
		return;
	l->save.data = l;
	timer_start(l->loop, &l->save, "leases", delay, 0, save_later);
}

static void changed(struct leases *l)
{
	l->dirty = true;
	save_after(l, SAVE_DELAY);
}

void lease_drop(struct leases *l, struct lease *x)
{
	hmap_remove(&l->by_addr, &x->by_addr);
	hmap_remove(&l->by_owner, &x->by_owner);
	free(x);
	changed(l);
}

int lease_set(struct leases *l, const struct ipaddr *a, const char *nic, const uint8_t *mac,
	      int64_t until)
{
	struct lease *x = lease_of_addr(l, a), *old;

	if (!nic)
		nic = "";
	if (x && streq(x->nic, nic) && (*nic || (mac && memcmp(x->mac, mac, 6) == 0))) {
		if (x->until != until)
			changed(l);
		x->until = until;
		return 0;
	}
	if (x)
		lease_drop(l, x);
	old = lease_of(l, nic, mac, a->family);
	if (old && !*nic)
		lease_drop(l, old); /* a MAC has one lease; a NIC may have several addresses */
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->addr = *a;
	x->until = until;
	strcpy(x->nic, nic);
	if (mac)
		memcpy(x->mac, mac, 6);
	hmap_add(&l->by_addr, &x->by_addr, addr_hash(a));
	hmap_add(&l->by_owner, &x->by_owner, owner_hash(nic, x->mac));
	changed(l);
	return 0;
}

size_t leases_count(const struct leases *l)
{
	return l->by_addr.n;
}

static int read_line(struct leases *l, char *line)
{
	_cleanup_(strv_freep) char **v = strv_split(line, " ");
	struct ipaddr a;
	uint8_t mac[6];
	int64_t until;

	if (!v)
		return -ENOMEM;
	if (strv_len(v) < 3 || ipaddr_parse(v[1], &a) < 0)
		return -EINVAL;
	if (streq(v[0], "nic") && strlen(v[2]) < NET_ID_MAX)
		return lease_set(l, &a, v[2], NULL, 0);
	if (streq(v[0], "lease4") && strv_len(v) == 4 && mac_parse(v[2], mac) == 0 &&
	    parse_i64(v[3], 1, INT64_MAX, &until) == 0)
		return lease_set(l, &a, NULL, mac, until);
	return -EINVAL;
}

unsigned int leases_parse(struct leases *l, char *text)
{
	unsigned int bad = 0;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		bad += *line != '#' && read_line(l, line) < 0;
	return bad;
}

int leases_open(struct leases *l, const char *path, struct loop *loop, struct work_pool *pool,
		struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	unsigned int bad;
	int r;

	*l = (struct leases){ .loop = loop, .pool = pool };
	if (hmap_init(&l->by_addr) < 0 || hmap_init(&l->by_owner) < 0)
		return err_sys(e, ENOMEM, "leases");
	if (!path)
		return 0;
	r = file_read(AT_FDCWD, path, FILE_MAX, &b, NULL);
	if (r < 0 && r != -ENOENT)
		return err_sys(e, -r, "read %s", path);
	bad = b.s ? leases_parse(l, b.s) : 0;
	if (bad)
		log_warn("bad lines in lease file skipped", "file", path, "lines", bad);
	l->dirty = false;
	timer_stop(&l->save);
	snprintf(l->path, sizeof(l->path), "%s", path);
	return 0;
}

static int leases_text(const struct leases *l, struct buf *b)
{
	char a[IPADDR_TEXT], m[MAC_TEXT];

	buf_adds(b, "# Strata: addresses of NICs and leases of a port group\n");
	for (struct hnode *n = hmap_walk(&l->by_addr, NULL); n; n = hmap_walk(&l->by_addr, n)) {
		struct lease *x = container_of(n, struct lease, by_addr);

		ipaddr_format(&x->addr, a);
		if (*x->nic)
			buf_addf(b, "nic %s %s\n", a, x->nic);
		else
			buf_addf(b, "lease4 %s %s %" PRId64 "\n", a, mac_format(x->mac, m),
				 x->until);
	}
	return buf_error(b);
}

int leases_save(struct leases *l, struct err **e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	int r;

	if (l->job)
		work_wait(&l->job->work);
	if (!l->dirty || !*l->path)
		return 0;
	if (leases_text(l, &b) < 0)
		return err_sys(e, ENOMEM, "leases");
	r = file_write_atomic(AT_FDCWD, l->path, b.s, b.len, 0644, e);
	if (r == 0)
		l->dirty = false;
	return r;
}

void leases_close(struct leases *l)
{
	struct err *e = NULL;
	struct hnode *n;

	if (leases_save(l, &e) < 0)
		log_err("leases not saved", "err", e);
	err_free(e);
	timer_stop(&l->save);
	while ((n = hmap_walk(&l->by_addr, NULL))) {
		struct lease *x = container_of(n, struct lease, by_addr);

		hmap_remove(&l->by_addr, n);
		free(x);
	}
	hmap_done(&l->by_addr);
	hmap_done(&l->by_owner);
}
