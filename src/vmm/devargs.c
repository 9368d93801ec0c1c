/* See devargs.h. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "vmm/devargs.h"
#include "vmm/device_ops.h"

/* One option's values as the tables fill them; strings live here as long as the VM. */
struct devarg {
	struct devarg *next;
	struct vm_device dev;
	char made_id[16];
	const struct opt *table;
	char *path, *format, *serial, *id, *socket, *tap, *mac, *name;
	uint64_t iops, bps, queues, mtu, cid;
	bool readonly, direct;
	int vhost;
};

static const char *const vhost_names[] = { "auto", "on", "off", NULL };

static const struct opt disk_opts[] = { OPT(struct devarg, path, STR, "path", 0, "P", ""),
					OPT(struct devarg, format, STR, "format", 0, "F", ""),
					OPT(struct devarg, serial, STR, "serial", 0, "S", ""),
					OPT(struct devarg, id, STR, "id", 0, "ID", ""),
					OPT(struct devarg, socket, STR, "socket", 0, "P", ""),
					OPT(struct devarg, iops, U64, "iops", 0, "N", ""),
					OPT(struct devarg, bps, SIZE, "bps", 0, "N", ""),
					OPT(struct devarg, queues, U64, "queues", 0, "N", "",
					    .max = VM_QUEUES_MAX),
					OPT(struct devarg, readonly, FLAG, "readonly", 0, NULL, ""),
					OPT(struct devarg, direct, FLAG, "direct", 0, NULL, ""),
					OPT_END };
static const struct opt net_opts[] = {
	OPT(struct devarg, tap, STR, "tap", 0, "IF", ""),
	OPT(struct devarg, mac, STR, "mac", 0, "M", ""),
	OPT(struct devarg, id, STR, "id", 0, "ID", ""),
	OPT(struct devarg, socket, STR, "socket", 0, "P", ""),
	OPT(struct devarg, queues, U64, "queues", 0, "N", "", .max = VM_QUEUES_MAX),
	OPT(struct devarg, mtu, U64, "mtu", 0, "N", "", .max = 65535),
	OPT(struct devarg, vhost, ENUM, "vhost", 0, "W", "", .choices = vhost_names),
	OPT_END
};
static const struct opt port_opts[] = { OPT(struct devarg, name, STR, "name", 0, "N", ""),
					OPT(struct devarg, socket, STR, "socket", 0, "P", ""),
					OPT_END };
static const struct opt vsock_opts[] = {
	OPT(struct devarg, cid, U64, "cid", 0, "N", "", .min = 3, .max = 0xfffffffe),
	OPT(struct devarg, socket, STR, "socket", 0, "P", ""), OPT_END
};
static const struct opt no_opts[] = { OPT_END };

static struct devarg *append(struct devargs *a, const char *type, const struct opt *table,
			     const char *stem, unsigned int n)
{
	struct devarg *x = calloc(1, sizeof(*x)), **at = &a->first;

	if (!x)
		return NULL;
	while (*at)
		at = &(*at)->next;
	*at = x;
	x->table = table;
	x->dev.type = type;
	snprintf(x->made_id, sizeof(x->made_id), "%s%u", stem, n);
	x->dev.id = x->made_id;
	return x;
}

static int parse_mac(const char *s, uint8_t mac[6], struct err **e)
{
	unsigned int b[6];
	char rest;

	if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &rest) != 6)
		return err_set(e, EINVAL, "device.mac", "'%s' is not a MAC address", s);
	if (b[0] & 1)
		return err_set(e, EINVAL, "device.mac", "'%s' is a multicast address", s);
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}

static int finish_disk(struct devarg *x, struct err **e)
{
	if (!x->path == !x->socket)
		return err_set(e, EINVAL, "device.options", "give one of path= and socket=");
	x->dev.disk = (struct vm_disk){ .path = x->path,
					.format = x->format,
					.serial = x->serial,
					.socket = x->socket,
					.readonly = x->readonly,
					.direct = x->direct,
					.iops = x->iops,
					.bps = x->bps,
					.queues = (unsigned int)x->queues };
	if (x->socket) {
		/* the server opens the image and says what it is */
		if (x->format || x->serial || x->readonly || x->direct || x->iops || x->bps)
			return err_set(
				e, EINVAL, "device.options",
				"socket= takes queues= and id=; the rest is the server's to say");
		x->dev.type = "vhost-user-blk";
	}
	if (x->serial && strlen(x->serial) > 20)
		return err_set(e, EINVAL, "device.serial", "a serial has at most 20 characters");
	return 0;
}

/* "fd:5+6": queues that whoever started us opened. */
static int tap_fds(struct devarg *x, struct err **e)
{
	_cleanup_(strv_freep) char **v = strv_split(x->tap + 3, "+");
	uint64_t n;

	x->dev.net.tap = NULL;
	for (char **s = v; s && *s; s++) {
		if (x->dev.net.n_fd == VM_QUEUES_MAX || parse_u64(*s, INT_MAX, &n) < 0)
			return err_set(e, EINVAL, "device.options", "tap=%s: not descriptors",
				       x->tap);
		x->dev.net.fd[x->dev.net.n_fd++] = (int)n;
	}
	if (!x->dev.net.n_fd)
		return err_set(e, EINVAL, "device.options", "tap=%s: no descriptors", x->tap);
	x->dev.net.queues = x->dev.net.n_fd;
	return 0;
}

static int finish_net(struct devarg *x, struct err **e)
{
	if (!x->tap == !x->socket)
		return err_set(e, EINVAL, "device.options", "give one of tap= and socket=");
	x->dev.net = (struct vm_net){ .tap = x->tap,
				      .socket = x->socket,
				      .queues = (unsigned int)x->queues,
				      .mtu = (uint16_t)x->mtu,
				      .vhost = (enum vm_net_vhost)x->vhost,
				      .has_mac = x->mac != NULL };
	for (unsigned int i = 0; i < VM_QUEUES_MAX; i++)
		x->dev.net.fd[i] = -1;
	if (x->tap && str_starts(x->tap, "fd:")) {
		int r = tap_fds(x, e);

		if (r < 0)
			return r;
	}
	return x->mac ? parse_mac(x->mac, x->dev.net.mac, e) : 0;
}

static int no_memory(struct err **e)
{
	return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
}

static int parse_list(struct devargs *a, const opt_list *list, const char *option, const char *type,
		      const struct opt *table, const char *stem,
		      int (*finish)(struct devarg *x, struct err **e), struct err **e)
{
	for (size_t i = 0; i < list->n; i++) {
		struct devarg *x = append(a, type, table, stem, (unsigned int)i);
		int r = x ? opt_parse_kv(table, x, list->v[i], e) : no_memory(e);

		if (r >= 0)
			r = finish(x, e);
		if (r < 0)
			return err_wrap(e, r, "--%s %s", option, list->v[i]);
		if (x->id)
			x->dev.id = x->id;
	}
	return 0;
}

static int parse_ports(struct devargs *a, struct err **e)
{
	struct devarg *first = NULL;

	for (size_t i = 0; i < a->port.n; i++) {
		struct devarg *x =
			append(a, first ? NULL : "virtio-console", port_opts, "console", 0);
		struct vm_console *c;
		int r = x ? opt_parse_kv(port_opts, x, a->port.v[i], e) : no_memory(e);

		if (r >= 0 && (!x->name || !x->socket))
			r = err_set(e, EINVAL, "device.options", "name= and socket= are needed");
		if (r < 0)
			return err_wrap(e, r, "--port %s", a->port.v[i]);
		first = first ? first : x;
		c = &first->dev.console;
		if (c->n_ports == 0) /* port 0 is the console itself; named ports follow */
			c->n_ports = 1;
		if (c->n_ports == ARRAY_SIZE(c->port))
			return err_set(e, EINVAL, "device.options", "--port: at most %zu ports",
				       ARRAY_SIZE(c->port) - 1);
		c->port[c->n_ports++] =
			(struct vm_console_port){ .name = x->name, .socket = x->socket };
	}
	return 0;
}

int devargs_parse(struct devargs *a, struct err **e)
{
	struct devarg *x;
	int r = parse_list(a, &a->disk, "disk", "virtio-blk", disk_opts, "disk", finish_disk, e);

	if (r == 0)
		r = parse_list(a, &a->net, "net", "virtio-net", net_opts, "net", finish_net, e);
	if (r == 0)
		r = parse_ports(a, e);
	if (r == 0 && a->vsock) {
		x = append(a, "virtio-vsock", vsock_opts, "vsock", 0);
		r = x ? opt_parse_kv(vsock_opts, x, a->vsock, e) : no_memory(e);
		if (r >= 0 && x->cid == 0)
			r = err_set(e, EINVAL, "device.options", "cid= is needed");
		if (r < 0)
			return err_wrap(e, r, "--vsock %s", a->vsock);
		x->dev.vsock = (struct vm_vsock){ .cid = (uint32_t)x->cid, .socket = x->socket };
	}
	if (r == 0 && a->balloon && !append(a, "virtio-balloon", no_opts, "balloon", 0))
		r = no_memory(e);
	if (r == 0 && a->rng && !append(a, "virtio-rng", no_opts, "rng", 0))
		r = no_memory(e);
	return r;
}

int devargs_create(struct devargs *a, struct vm *vm, struct err **e)
{
	for (struct devarg *x = a->first; x; x = x->next) {
		int r = x->dev.type ? dev_create(vm, &x->dev, NULL, e) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

void devargs_done(struct devargs *a)
{
	while (a->first) {
		struct devarg *x = a->first;

		a->first = x->next;
		opt_done(x->table, x);
		free(x);
	}
}
