/* Runs the address services of a port group, see svc.h; the table below names them all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "net/services/svc_ops.h"
#include "net/spec.h"
#include "sys/netns.h"

static const struct svc_ops *const table[] = { &svc_dhcp4, &svc_ip6, &svc_dns, &svc_metadata,
					       NULL };

const struct ipaddr *svc_gateway(const struct svc *s, int family, struct ipaddr *buf)
{
	*buf = spec_gateway(&s->pg->spec, family);
	return buf->family ? buf : NULL;
}

static int bound_socket(struct svc *s, int family, int type, const struct ipaddr *at, uint16_t port,
			struct err **e)
{
	_cleanup_(closep) int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htobe16(port) };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htobe16(port) };
	int on = 1;

	if (fd < 0)
		return err_sys(e, errno, "open socket");
	if (at && family == AF_INET)
		memcpy(&sin.sin_addr, at->b, 4);
	else if (at)
		memcpy(&sin6.sin6_addr, at->b, 16);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, s->pg->bridge,
		       (socklen_t)strlen(s->pg->bridge) + 1) < 0)
		return err_sys(e, errno, "bind socket to '%s'", s->pg->bridge);
	if (bind(fd, family == AF_INET ? (void *)&sin : (void *)&sin6,
		 family == AF_INET ? sizeof(sin) : sizeof(sin6)) < 0)
		return err_sys(e, errno, "bind to port %u", port);
	return TAKE_FD(fd);
}

int svc_udp(struct svc *s, int family, const struct ipaddr *at, uint16_t port, struct err **e)
{
	return bound_socket(s, family, SOCK_DGRAM, at, port, e);
}

int svc_tcp(struct svc *s, const struct ipaddr *at, uint16_t port, struct err **e)
{
	_cleanup_(closep) int fd = bound_socket(s, at->family, SOCK_STREAM, at, port, e);

	if (fd < 0)
		return fd;
	if (listen(fd, 64) < 0)
		return err_sys(e, errno, "listen on port %u", port);
	return TAKE_FD(fd);
}

int svc_start(struct portgroup *pg, struct svc **ret, struct err **e)
{
	struct net *n = pg->network->net;
	struct svc *s = calloc(1, sizeof(*s));
	struct netns_saved saved;
	int r;

	if (!s)
		return err_sys(e, ENOMEM, "services");
	s->pg = pg;
	s->loop = n->cfg.loop;
	r = netns_enter(n->ops->net_fd(pg->network->dp), &saved, e);
	if (r < 0) {
		free(s);
		return r;
	}
	for (size_t i = 0; table[i] && r == 0; i++)
		if (table[i]->wanted(pg)) {
			r = table[i]->start(s, &s->state[i], e);
			if (r < 0)
				err_wrap(e, r, "port group '%s': %s", pg->spec.id, table[i]->name);
		}
	netns_leave(&saved);
	if (r < 0) {
		svc_stop(s);
		return r;
	}
	*ret = s;
	return 0;
}

void svc_stop(struct svc *s)
{
	if (!s)
		return;
	for (size_t i = 0; table[i]; i++)
		if (s->state[i])
			table[i]->stop(s->state[i]);
	free(s);
}

void svc_stats(const struct svc *s, struct svc_stats *ret)
{
	*ret = s->stats;
}
