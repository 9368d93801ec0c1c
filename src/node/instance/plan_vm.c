/* What a VM is run from: kernel, disks and the guest's config for an OCI image; firmware and disks otherwise.
 *
 * STATE/instances/ID/root.img         the private writable disk of an OCI image's VM: ext4, upper part of an overlay
 * STATE/instances/ID/disk-NAME.qcow2  disks that live and die with the instance */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/str.h"
#include "node/instance/instance.h"
#include "node/instance/plan_vm.h"

#define ROOT_SIZE (10 * GIB) /* sparse: takes what is written */

static void own_disk(const struct instance *i, const char *id, char *buf, size_t len)
{
	snprintf(buf, len, "%s/disk-%s.qcow2", i->dir, id);
}

int instance_make_disks(struct instance *i, struct image_op *op, struct err **e)
{
	_cleanup_(freep) struct image_disk *layers = calloc(IMAGE_DISKS_MAX, sizeof(*layers));
	char path[4096];
	size_t n;
	int r = layers ? 0 : err_sys(e, ENOMEM, "disks");

	if (r == 0 && i->image) {
		r = disks_make(i->all->env.images, &i->image->parts, layers, &n, op, e);
		snprintf(path, sizeof(path), "%s/root.img", i->dir);
		if (r == 0 && access(path, F_OK) < 0)
			r = disks_make_upper(
				path, i->spec->root.has_size ? i->spec->root.size : ROOT_SIZE, op,
				e);
	}
	for (size_t k = 0; r == 0 && k < i->spec->disks.n; k++) {
		const struct api_instance_disk *d = &i->spec->disks.v[k];
		struct api_volume_spec v = { .format = API_DISK_FORMAT_QCOW2,
					     .size = d->size,
					     .has_size = true,
					     .provision = d->provision };

		own_disk(i, d->id, path, sizeof(path));
		if (!d->volume && access(path, F_OK) < 0)
			r = volume_make_file(path, &v, op, e);
	}
	return r;
}

/* -- disks ---------------------------------------------------------------------------------------- */

static int add_disk(struct engine_plan *p, const char *id, const char *path,
		    enum api_disk_format format, bool readonly, struct err **e)
{
	struct plan_disk d = { .id = strdup(id),
			       .serial = strdup(id),
			       .path = strdup(path),
			       .format = format,
			       .readonly = readonly };

	if (!d.id || !d.serial || !d.path || vec_push(&p->disks, d) < 0) {
		free(d.id);
		free(d.serial);
		free(d.path);
		return err_sys(e, ENOMEM, "disk '%s'", id);
	}
	return 0;
}

/* Two parsed forms of one schema type: through its text, which both speak. */
static int copy_limits(struct api_disk_limits *to, const struct api_disk_limits *from,
		       struct err **e)
{
	_cleanup_(json_freep) struct json *v = gen_to_json(&api_disk_limits_type, from, 0);

	return v ? api_disk_limits_parse(to, v, GEN_TRUSTED, e) : err_sys(e, ENOMEM, "limits");
}

static int plan_layers(struct instance *i, struct engine_plan *p, struct json *names,
		       struct err **e)
{
	_cleanup_(freep) struct image_disk *layers = calloc(IMAGE_DISKS_MAX, sizeof(*layers));
	char path[4096];
	size_t n = 0;
	int r = layers ? disks_make(i->all->env.images, &i->image->parts, layers, &n, NULL, e)
		       : err_sys(e, ENOMEM, "disks");

	for (size_t k = 0; r == 0 && k < n; k++) {
		r = add_disk(p, layers[k].serial, layers[k].path, API_DISK_FORMAT_RAW, true, e);
		if (r == 0 && json_push(names, json_new_str(layers[k].serial)) < 0)
			r = err_sys(e, ENOMEM, "disks");
	}
	snprintf(path, sizeof(path), "%s/root.img", i->dir);
	if (r == 0)
		r = add_disk(p, "root", path, API_DISK_FORMAT_RAW, false, e);
	if (r == 0)
		r = copy_limits(&p->disks.v[p->disks.n - 1].limits, &i->spec->root.limits, e);
	return r;
}

static int plan_disks(struct instance *i, struct engine_plan *p, struct err **e)
{
	int r = 0;

	for (size_t k = 0; r == 0 && k < i->spec->disks.n; k++) {
		const struct api_instance_disk *d = &i->spec->disks.v[k];
		enum api_disk_format format = API_DISK_FORMAT_QCOW2;
		char path[4096];

		if (d->volume)
			r = volume_for_vm(i->all->node, i->object->project, d->volume,
					  i->object->id, path, sizeof(path), &format, e);
		else
			own_disk(i, d->id, path, sizeof(path));
		if (r == 0)
			r = add_disk(p, d->id, path, format, d->readonly, e);
		if (r < 0)
			return err_wrap(e, r, "disk '%s'", d->id);
		p->disks.v[p->disks.n - 1].bus = d->bus;
		r = copy_limits(&p->disks.v[p->disks.n - 1].limits, &d->limits, e);
	}
	return r;
}

/* A volume is a disk that strata-init mounts. */
static int plan_volumes(struct instance *i, struct engine_plan *p, struct json *mounts,
			struct err **e)
{
	unsigned int n = 0;
	int r = 0;

	for (size_t k = 0; r == 0 && k < i->spec->mounts.n; k++) {
		const struct api_instance_mount *m = &i->spec->mounts.v[k];
		struct json *o = json_new_obj();
		enum api_disk_format format;
		char path[4096], serial[24];

		switch (m->type) {
		case API_MOUNT_TYPE_TMPFS:
			json_set(o, "type", json_new_str("tmpfs"));
			json_set(o, "source", json_new_str("tmpfs"));
			break;
		case API_MOUNT_TYPE_VOLUME:
			snprintf(serial, sizeof(serial), "vol%u", n++);
			r = volume_for_vm(i->all->node, i->object->project, m->source,
					  i->object->id, path, sizeof(path), &format, e);
			if (r == 0)
				r = add_disk(p, serial, path, format, m->readonly, e);
			json_set(o, "type", json_new_str("disk"));
			json_set(o, "source", json_new_str(serial));
			break;
		default:
			r = err_set(e, ENOTSUP, "instance.mount",
				    "a VM cannot share '%s' of the host: give it a volume",
				    m->source);
		}
		json_set(o, "target", json_new_str(m->target));
		json_set(o, "readonly", json_new_bool(m->readonly));
		if (json_push(mounts, o) < 0 && r == 0)
			r = err_sys(e, ENOMEM, "mounts");
		if (r < 0)
			return err_wrap(e, r, "mount '%s'", m->target);
	}
	return r;
}

/* -- the guest's config (docs/internals/guest.md) -------------------------------------------------- */

static struct json *config_process(const struct engine_plan *p)
{
	struct json *o = json_new_obj();

	json_set(o, "args", json_new_strv(p->args));
	json_set(o, "env", json_new_strv(p->env));
	json_set(o, "cwd", json_new_str(p->cwd ? p->cwd : "/"));
	if (p->user)
		json_set(o, "user", json_new_str(p->user));
	json_set(o, "tty", json_new_bool(p->spec->tty));
	json_set(o, "attach", json_new_bool(true));
	json_set(o, "stop_signal", json_new_int(p->stop_signal));
	return o;
}

static struct json *config_network(const struct engine_plan *p)
{
	struct json *list = json_new_arr();
	char text[IPADDR_TEXT];

	for (size_t k = 0; k < p->nics.n; k++) {
		const struct plan_nic *n = &p->nics.v[k];
		struct json *o = json_new_obj(), *addrs = json_new_arr(), *gws = json_new_arr();

		json_set(o, "mac",
			 json_new_fmt("%02x:%02x:%02x:%02x:%02x:%02x", n->mac[0], n->mac[1],
				      n->mac[2], n->mac[3], n->mac[4], n->mac[5]));
		json_set(o, "name", json_new_fmt("eth%zu", k));
		if (n->mtu)
			json_set(o, "mtu", json_new_int(n->mtu));
		for (unsigned int a = 0; a < n->n_addrs; a++)
			json_push(addrs,
				  json_new_fmt("%s/%u", ipaddr_format(&n->addrs[a].addr, text),
					       n->addrs[a].prefix));
		for (size_t g = 0; g < ARRAY_SIZE(n->gateways); g++)
			if (n->gateways[g].family)
				json_push(gws, json_new_str(ipaddr_format(&n->gateways[g], text)));
		json_set(o, "addresses", addrs);
		json_set(o, "gateways", gws);
		json_push(list, o);
	}
	return list;
}

static struct json *config_dns(const struct engine_plan *p)
{
	struct json *o = json_new_obj(), *servers = json_new_arr(), *search = json_new_arr();
	char text[IPADDR_TEXT];

	for (size_t k = 0; k < p->dns.n; k++)
		json_push(servers, json_new_str(ipaddr_format(&p->dns.v[k], text)));
	if (p->domain)
		json_push(search, json_new_str(p->domain));
	json_set(o, "servers", servers);
	json_set(o, "search", search);
	return o;
}

static int plan_image(struct instance *i, struct engine_plan *p, struct err **e)
{
	_cleanup_(json_freep) struct json *o = json_new_obj();
	struct json *layers = json_new_arr(), *mounts = json_new_arr();
	struct kernel_info *k = calloc(1, sizeof(*k));
	const char *append = i->spec->vm.append;
	int r;

	json_set(o, "version", json_new_int(1));
	json_set(o, "hostname", json_new_str(p->hostname));
	json_set(o, "layers", layers);
	json_set(o, "upper", json_new_str("root"));
	json_set(o, "mounts", mounts);
	json_set(o, "process", config_process(p));
	json_set(o, "network", config_network(p));
	json_set(o, "dns", config_dns(p));
	r = k ? kernel_find(i->all->env.images, i->spec->vm.kernel, k, e)
	      : err_sys(e, ENOMEM, "kernel");
	if (r == -ENOENT)
		err_wrap(e, r, "no guest kernel ('strata kernel install' gets one)");
	if (r == 0)
		r = plan_layers(i, p, layers, e);
	if (r == 0)
		r = plan_volumes(i, p, mounts, e);
	if (r == 0) {
		p->kernel = strdup(k->vmlinuz);
		p->initrd = strdup(k->initrd);
		if (asprintf(&p->append, "console=ttyS0 quiet panic=-1%s%s", append ? " " : "",
			     append ? append : "") < 0)
			p->append = NULL;
		p->guest_config = json_text(o, JSON_COMPACT);
		if (!p->kernel || !p->initrd || !p->append || !p->guest_config)
			r = err_sys(e, ENOMEM, "plan");
	}
	free(k);
	return r;
}

int instance_plan_vm(struct instance *i, struct engine_plan *p, struct err **e)
{
	int r = 0;

	if (i->image)
		r = plan_image(i, p, e);
	else if (!i->spec->disks.n)
		r = err_set(e, EINVAL, "instance.image",
			    "a VM needs an image, or a disk that it can boot from");
	return r < 0 ? r : plan_disks(i, p, e);
}
