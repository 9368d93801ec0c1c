/* An instance's spec: what is filled in and refused beyond the schema, and the parsed form while it runs. */
#include <string.h>
#include "base/str.h"
#include "node/instance/instance.h"

static bool id_taken(const struct api_instance_spec *s, const char *id, bool nic)
{
	if (nic) {
		for (size_t k = 0; k < s->nics.n; k++) {
			if (s->nics.v[k].id && streq(s->nics.v[k].id, id))
				return true;
		}
		return false;
	}
	for (size_t k = 0; k < s->disks.n; k++) {
		if (s->disks.v[k].id && streq(s->disks.v[k].id, id))
			return true;
	}
	return false;
}

static char *free_id(const struct api_instance_spec *s, bool nic)
{
	char id[24];

	for (unsigned int n = nic ? 0 : 1;; n++) {
		snprintf(id, sizeof(id), "%s%u", nic ? "nic" : "disk", n);
		if (!id_taken(s, id, nic))
			return strdup(id);
	}
}

static int complete_nics(struct node *n, struct api_instance_spec *s, struct err **e)
{
	if (!s->has_nics && s->nics.n == 0) {
		if (!GEN_ADD(&s->nics, api_instance_nic))
			return err_sys(e, ENOMEM, "interface");
	}
	s->has_nics = true;
	for (size_t k = 0; k < s->nics.n; k++) {
		struct api_instance_nic *x = &s->nics.v[k];

		if (!x->id && !(x->id = free_id(s, true)))
			return err_sys(e, ENOMEM, "interface");
	}
	return 0;
}

/* What a container cannot have, by name. */
static int check_container(const struct api_instance_spec *s, struct err **e)
{
	if (!s->image)
		return err_set(e, EINVAL, "instance.image", "a container needs an image");
	if (s->disks.n)
		return err_set(e, ENOTSUP, "instance.disks",
			       "further disks are for VMs: give a container a volume (--volume)");
	if (s->memory.hugepages)
		return err_set(e, ENOTSUP, "instance.hugepages", "huge pages are for VMs");
	for (size_t k = 0; k < s->sysctls.n; k++) {
		const char *key = s->sysctls.v[k].key;

		if (!str_starts(key, "net.") && !str_starts(key, "kernel.shm") &&
		    !str_starts(key, "kernel.msg") && !str_starts(key, "kernel.sem") &&
		    !str_starts(key, "fs.mqueue."))
			return err_set(e, EINVAL, "instance.sysctl",
				       "'%s' belongs to the whole host, not to a container", key);
	}
	return 0;
}

static int check_mounts(struct node *n, const struct api_instance_spec *s, struct err **e)
{
	for (size_t k = 0; k < s->mounts.n; k++) {
		const struct api_instance_mount *m = &s->mounts.v[k];

		if (m->type == API_MOUNT_TYPE_BIND && (!m->source || m->source[0] != '/'))
			return err_set(e, EINVAL, "instance.mount",
				       "'%s': a directory of the host is named by its whole path",
				       m->target);
		if (m->type == API_MOUNT_TYPE_BIND && access(m->source, F_OK) < 0)
			return err_sys(e, errno, "mount '%s'", m->source);
	}
	return 0;
}

int instance_spec_complete(struct node *n, struct api_instance_spec *s, struct err **e)
{
	int r = complete_nics(n, s, e);

	for (size_t k = 0; k < s->disks.n && r == 0; k++) {
		if (!s->disks.v[k].id && !(s->disks.v[k].id = free_id(s, false)))
			r = err_sys(e, ENOMEM, "disk");
	}
	if (r == 0 && s->ports.n && s->nics.n == 0)
		r = err_set(e, EINVAL, "instance.ports", "a published port needs an interface");
	if (r == 0 && s->stop_signal && !signal_number(s->stop_signal))
		r = err_set(e, EINVAL, "instance.signal", "there is no signal '%s'",
			    s->stop_signal);
	if (r == 0 && s->kind == API_INSTANCE_KIND_CONTAINER)
		r = check_container(s, e);
	if (r == 0)
		r = check_mounts(n, s, e);
	return r;
}

int instance_load(struct instance *i, struct err **e)
{
	struct api_instance_spec *s;
	int r;

	instance_unload(i);
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_sys(e, ENOMEM, "instance '%s'", i->object->name);
	r = api_instance_spec_parse(s, i->object->spec, GEN_TRUSTED, e);
	if (r < 0) {
		free(s);
		return err_wrap(e, r, "instance '%s'", i->object->name);
	}
	i->spec = s;
	return 0;
}

void instance_unload(struct instance *i)
{
	api_instance_spec_free(i->spec);
	image_entry_unref(i->image);
	i->spec = NULL;
	i->image = NULL;
}
