/* Forwards: ports of the host that lead to NICs.  See net.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "net/engine.h"
#include "net/spec.h"

static uint16_t pick_inner_port(struct net *n, const struct network *w, const struct net_forward *s)
{
	uint32_t at = s->host_port;

	for (unsigned int tries = 0; tries < 65535; tries++) {
		bool taken = false;

		NET_EACH(struct forward, f, &n->forwards)
			taken |= f->nic->pg->network == w && f->spec.proto == s->proto &&
				 f->at == at;
		if (!taken)
			return (uint16_t)at;
		at = at == 65535 ? 1024 : at + 1;
	}
	return 0;
}

int net_forward_put(struct net *n, const struct net_forward *s, struct err **e)
{
	struct forward *f = NET_FIND(struct forward, &n->forwards, s->id);
	struct nic *x = NET_FIND(struct nic, &n->nics, s->nic);
	int r = spec_check_forward(s, e);

	if (r < 0)
		return r;
	if (f && memcmp(&f->spec, s, sizeof(*s)) == 0)
		return 0;
	if (!x)
		return err_set(e, ENOENT, "net.reference", "forward '%s': no nic '%s'", s->id,
			       s->nic);
	if (x->pg->network->spec.mode == NET_ISOLATED)
		return err_set(e, EINVAL, "net.forward", "forward '%s': network '%s' is isolated",
			       s->id, x->pg->network->spec.id);
	NET_EACH(struct forward, o, &n->forwards)
		if (r == 0 && !streq(o->spec.id, s->id) && o->spec.proto == s->proto &&
		    o->spec.host_port == s->host_port &&
		    ipaddr_same(&o->spec.host_addr, &s->host_addr))
			r = err_set(e, EEXIST, "net.forward",
				    "forward '%s': port %u belongs to forward '%s'", s->id,
				    s->host_port, o->spec.id);
	if (r == 0 && f)
		r = net_forward_remove(n, s->id, e);
	if (r < 0)
		return r;
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_sys(e, ENOMEM, "forward '%s'", s->id);
	f->spec = *s;
	f->nic = x;
	f->at = pick_inner_port(n, x->pg->network, s);
	r = rules_forward(f, false, e);
	if (r < 0) {
		rules_forward(f, true, NULL);
		free(f);
		return r;
	}
	hmap_add(&n->forwards, &f->node, hash_str(s->id));
	return 0;
}

int net_forward_remove(struct net *n, const char *id, struct err **e)
{
	struct forward *f = NET_FIND(struct forward, &n->forwards, id);
	int r;

	if (!f)
		return err_set(e, ENOENT, "net.reference", "no forward '%s'", id);
	r = rules_forward(f, true, e);
	hmap_remove(&n->forwards, &f->node);
	free(f);
	return r;
}
