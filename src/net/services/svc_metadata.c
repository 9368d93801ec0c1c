/* The metadata service at 169.254.169.254: what cloud-init asks for, in the forms of EC2, OpenStack and NoCloud.
 * Who asks is known by the address it comes from, which the guard keeps true; no NIC sees another's data. */
#define LOG_MODULE "net"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/log.h"
#include "base/str.h"
#include "net/services/http.h"
#include "net/services/svc_ops.h"

#define MAX_CONNS 256
#define IDLE	  (10 * NSEC_PER_SEC)

struct metadata {
	struct svc *svc;
	struct watch watch;
	int fd;
	struct list conns;
	unsigned int n_conns;
};

struct client {
	struct list node;
	struct metadata *md;
	struct watch watch;
	struct timer idle;
	struct ipaddr from;
	struct buf in, out;
	int fd;
	bool close;
};

static void client_free(struct client *c)
{
	watch_remove(&c->watch);
	timer_stop(&c->idle);
	safe_close(c->fd);
	list_del(&c->node);
	c->md->n_conns--;
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

/* ---- what is said ---- */

static const char *instance_id(const struct nic *x)
{
	return x->spec.instance_id ? x->spec.instance_id
	       : *x->spec.owner	   ? x->spec.owner
				   : x->spec.id;
}

static const char *hostname(const struct nic *x)
{
	return *x->spec.hostname ? x->spec.hostname : instance_id(x);
}

static void add_keys_json(struct buf *b, const struct nic *x)
{
	_cleanup_(strv_freep) char **v = strv_split(x->spec.ssh_keys ? x->spec.ssh_keys : "", "\n");

	for (size_t i = 0; v && v[i]; i++) {
		buf_addf(b, "%s\"key%zu\": ", i ? ", " : "", i);
		buf_add_json(b, v[i]);
	}
}

static void openstack(struct buf *b, const struct nic *x)
{
	buf_adds(b, "{\"uuid\": ");
	buf_add_json(b, instance_id(x));
	buf_adds(b, ", \"name\": ");
	buf_add_json(b, hostname(x));
	buf_adds(b, ", \"hostname\": ");
	buf_add_json(b, hostname(x));
	buf_adds(b, ", \"public_keys\": {");
	add_keys_json(b, x);
	buf_adds(b, "}}\n");
}

static void nocloud(struct buf *b, const struct nic *x)
{
	buf_adds(b, "instance-id: ");
	buf_add_json(b, instance_id(x));
	buf_adds(b, "\nlocal-hostname: ");
	buf_add_json(b, hostname(x));
	if (x->spec.ssh_keys && *x->spec.ssh_keys) {
		_cleanup_(strv_freep) char **v = strv_split(x->spec.ssh_keys, "\n");

		buf_adds(b, "\npublic-keys:");
		for (size_t i = 0; v && v[i]; i++) {
			buf_adds(b, "\n- ");
			buf_add_json(b, v[i]);
		}
	}
	buf_adds(b, "\n");
}

/* EC2's tree below /latest/meta-data/.  False: no such leaf. */
static bool ec2(struct buf *b, const struct nic *x, const char *leaf)
{
	const struct ipaddr *a4 = nic_addr(x, AF_INET), *a6 = nic_addr(x, AF_INET6);
	char t[IPADDR_TEXT], m[MAC_TEXT];

	if (streq(leaf, ""))
		buf_addf(b, "hostname\ninstance-id\n%s%slocal-hostname\nmac%s", a6 ? "ipv6\n" : "",
			 a4 ? "local-ipv4\n" : "", x->spec.ssh_keys ? "\npublic-keys/" : "");
	else if (streq(leaf, "instance-id"))
		buf_adds(b, instance_id(x));
	else if (streq(leaf, "hostname") || streq(leaf, "local-hostname"))
		buf_adds(b, hostname(x));
	else if (streq(leaf, "local-ipv4") && a4)
		buf_adds(b, ipaddr_format(a4, t));
	else if (streq(leaf, "ipv6") && a6)
		buf_adds(b, ipaddr_format(a6, t));
	else if (streq(leaf, "mac"))
		buf_adds(b, mac_format(x->mac, m));
	else if ((streq(leaf, "public-keys") || streq(leaf, "public-keys/")) && x->spec.ssh_keys)
		buf_adds(b, "0=keys");
	else if ((streq(leaf, "public-keys/0") || streq(leaf, "public-keys/0/")) &&
		 x->spec.ssh_keys)
		buf_adds(b, "openssh-key");
	else if (streq(leaf, "public-keys/0/openssh-key") && x->spec.ssh_keys)
		buf_adds(b, x->spec.ssh_keys);
	else
		return false;
	return true;
}

/* The status; the body goes to b. */
static int say(struct buf *b, const struct nic *x, const char *path)
{
	static const char *const user_data[] = { "/latest/user-data", "/openstack/latest/user_data",
						 "/nocloud/user-data", "/2009-04-04/user-data" };

	for (size_t i = 0; i < ARRAY_SIZE(user_data); i++)
		if (streq(path, user_data[i])) {
			if (!x->spec.user_data && !streq(path, "/nocloud/user-data"))
				return 404;
			buf_adds(b, x->spec.user_data ? x->spec.user_data : "#cloud-config\n{}\n");
			return 200;
		}
	if (streq(path, "/nocloud/meta-data"))
		nocloud(b, x);
	else if (streq(path, "/nocloud/vendor-data"))
		buf_adds(b, "");
	else if (streq(path, "/openstack") || streq(path, "/openstack/"))
		buf_adds(b, "latest");
	else if (streq(path, "/openstack/latest") || streq(path, "/openstack/latest/"))
		buf_adds(b, "meta_data.json\nuser_data");
	else if (streq(path, "/openstack/latest/meta_data.json"))
		openstack(b, x);
	else if (streq(path, "/"))
		buf_adds(b, "2009-04-04\nlatest\nnocloud\nopenstack");
	else if (streq(path, "/latest") || streq(path, "/latest/"))
		buf_adds(b, "meta-data\nuser-data");
	else if (str_starts(path, "/latest/meta-data/"))
		return ec2(b, x, path + strlen("/latest/meta-data/")) ? 200 : 404;
	else if (str_starts(path, "/2009-04-04/meta-data/"))
		return ec2(b, x, path + strlen("/2009-04-04/meta-data/")) ? 200 : 404;
	else
		return 404;
	return 200;
}

static const char *status_text(int status)
{
	return status == 200   ? "OK"
	       : status == 400 ? "Bad Request"
	       : status == 403 ? "Forbidden"
	       : status == 404 ? "Not Found"
			       : "Method Not Allowed";
}

static void respond(struct client *c, const struct http_request *q)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	const struct nic *x = portgroup_nic_by_addr(c->md->svc->pg, &c->from);
	bool head = streq(q->method, "HEAD"),
	     token = streq(q->method, "PUT") && streq(q->path, "/latest/api/token");
	int status;

	if (q->forwarded || !x)
		status = 403;
	else if (token) { /* a session of IMDSv2: the address is the proof, so any token will do */
		buf_adds(&b, "strata");
		status = 200;
	} else if (!head && !streq(q->method, "GET")) {
		status = 405;
	} else {
		status = say(&b, x, q->path);
	}
	if (status != 200) {
		buf_clear(&b);
		buf_addf(&b, "%d %s\n", status, status_text(status));
	}
	buf_addf(
		&c->out,
		"HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nServer: strata\r\n%s%s\r\n",
		status, status_text(status), b.len,
		token ? "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n" : "",
		q->keep_alive ? "" : "Connection: close\r\n");
	if (!head && b.len)
		buf_add(&c->out, b.s, b.len);
	c->close |= !q->keep_alive;
	c->md->svc->stats.http++;
}

/* ---- connections ---- */

static void flush(struct client *c)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, c->out.s, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			watch_modify(&c->watch, EPOLLOUT);
			return;
		}
		if (n <= 0) {
			client_free(c);
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
	if (c->close)
		client_free(c);
	else
		watch_modify(&c->watch, EPOLLIN);
}

static void on_client(struct watch *w, uint32_t events)
{
	struct client *c = w->data;
	struct http_request q;
	char b[4096];
	ssize_t len;
	int head;

	if (c->out.len) {
		flush(c);
		return;
	}
	len = recv(c->fd, b, sizeof(b), MSG_DONTWAIT);
	if (len < 0 && errno == EAGAIN)
		return;
	if (len <= 0 || buf_add(&c->in, b, (size_t)len) < 0) {
		client_free(c);
		return;
	}
	while ((head = http_parse(buf_str(&c->in), c->in.len, &q)) > 0 && !c->close) {
		if (q.body > HTTP_REQUEST_MAX) {
			head = -E2BIG;
			break;
		}
		if (c->in.len - (size_t)head < q.body)
			break;
		buf_consume(&c->in, (size_t)head + (size_t)q.body);
		respond(c, &q);
	}
	if (head < 0) {
		buf_adds(
			&c->out,
			"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
		c->close = true;
	}
	flush(c);
}

static void on_idle(struct timer *t)
{
	client_free(t->data);
}

static void on_accept(struct watch *w, uint32_t events)
{
	struct metadata *m = w->data;
	struct sockaddr_in from;
	socklen_t n = sizeof(from);
	int fd = accept4(m->fd, (struct sockaddr *)&from, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;

	if (fd < 0)
		return;
	c = m->n_conns < MAX_CONNS ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		safe_close(fd);
		return;
	}
	c->md = m;
	c->fd = fd;
	c->from = ipaddr_of(AF_INET, &from.sin_addr);
	c->watch.data = c->idle.data = c;
	list_add_tail(&m->conns, &c->node);
	m->n_conns++;
	if (watch_fd(m->svc->loop, &c->watch, "metadata", fd, EPOLLIN, on_client) < 0 ||
	    timer_start(m->svc->loop, &c->idle, "metadata", IDLE, 0, on_idle) < 0)
		client_free(c);
}

static void metadata_stop(void *state)
{
	struct metadata *m = state;

	while (!list_empty(&m->conns))
		client_free(list_first_entry(&m->conns, struct client, node));
	watch_remove(&m->watch);
	safe_close(m->fd);
	free(m);
}

static int metadata_start(struct svc *s, void **ret, struct err **e)
{
	const struct ipaddr at = { .family = AF_INET, .b = { 169, 254, 169, 254 } };
	struct metadata *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_sys(e, ENOMEM, "metadata");
	m->svc = s;
	m->watch.data = m;
	list_init(&m->conns);
	r = m->fd = svc_tcp(s, &at, 80, e);
	if (r >= 0)
		r = watch_fd(s->loop, &m->watch, "metadata", m->fd, EPOLLIN, on_accept);
	if (r < 0) {
		metadata_stop(m);
		return r;
	}
	*ret = m;
	return 0;
}

static bool metadata_wanted(const struct portgroup *pg)
{
	return pg->spec.subnet4.a.family != 0;
}

const struct svc_ops svc_metadata = { "metadata", metadata_wanted, metadata_start, metadata_stop };
