/* See storage.h.  A volume is one file, DATASTORE/ID.raw (or .qcow2), made when the volume is made; a container's is mounted at
 * RUN/volumes/ID while an instance that uses it runs. */
#define LOG_MODULE "storage"
#include "node/service/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "base/str.h"
#include "gen/instance.h"
#include "image/image.h"
#include "node/instance/rootfs.h"

static int make_dir(const char *path, mode_t mode, struct err **e)
{
	return mkdir(path, mode) < 0 && errno != EEXIST ? err_sys(e, errno, "create '%s'", path)
							: 0;
}

int storage_open(struct node *n, struct err **e)
{
	_cleanup_(json_freep) struct json *spec = json_new_obj(), *status = json_new_obj();
	struct object_init init = { .type = "datastore",
				    .project = "",
				    .name = "default",
				    .spec = spec,
				    .status = status };
	struct object *o;
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/datastores", n->paths.state);
	r = make_dir(path, 0711, e);
	snprintf(path, sizeof(path), "%s/datastores/default", n->paths.state);
	if (r == 0)
		r = make_dir(path, 0711, e);
	if (r < 0 || inventory_find(n->inventory, "datastore", "", "default", NULL))
		return r;
	json_set(spec, "kind", json_new_str("dir"));
	json_set(spec, "path", json_new_str(path));
	json_set(spec, "default", json_new_bool(true));
	json_set(status, "state", json_new_str("ready"));
	return inventory_create(n->inventory, &init, &o, e);
}

/* -- datastores ----------------------------------------------------------------------------------- */

struct object *datastore_find(struct node *n, const char *ref, struct err **e)
{
	if (ref)
		return inventory_find(n->inventory, "datastore", "", ref, e);
	for (struct object *o = inventory_next(n->inventory, "datastore", NULL); o;
	     o = inventory_next(n->inventory, "datastore", o)) {
		if (json_bool(json_get(o->spec, "default"), false))
			return o;
	}
	err_set(e, ENOENT, "datastore.default", "there is no default datastore");
	return NULL;
}

static const char *datastore_path(const struct object *o)
{
	const char *p = json_str(json_get(o->spec, "path"));

	return p ? p : "";
}

static uint64_t promised(struct node *n, const struct object *ds, int64_t *volumes)
{
	uint64_t sum = 0;

	*volumes = 0;
	for (struct object *o = inventory_next(n->inventory, "volume", NULL); o;
	     o = inventory_next(n->inventory, "volume", o)) {
		const char *ref = json_str(json_get(o->spec, "datastore"));

		if (datastore_find(n, ref, NULL) != ds)
			continue;
		sum += (uint64_t)json_int(json_get(o->spec, "size"), 0);
		(*volumes)++;
	}
	return sum;
}

void datastore_refresh(struct node *n, struct object *ds)
{
	struct json *p = json_new_obj();
	uint64_t reserve = (uint64_t)json_int(json_get(ds->spec, "reserve"), GIB), left = 0;
	struct statvfs st;
	int64_t volumes;
	uint64_t sum = promised(n, ds, &volumes);
	bool there = statvfs(datastore_path(ds), &st) == 0;

	if (there) {
		left = st.f_bavail * st.f_frsize;
		json_set(p, "capacity", json_new_int((int64_t)(st.f_blocks * st.f_frsize)));
		json_set(p, "used",
			 json_new_int((int64_t)((st.f_blocks - st.f_bfree) * st.f_frsize)));
	}
	json_set(p, "state", json_new_str(!there ? "failed" : left < reserve ? "full" : "ready"));
	json_set(p, "promised", json_new_int((int64_t)sum));
	json_set(p, "volumes", json_new_int(volumes));
	inventory_patch_status(n->inventory, ds, p, NULL);
}

int datastore_create(struct node *n, const struct api_datastore *body, struct object **ret,
		     struct err **e)
{
	_cleanup_(json_freep) struct json *spec =
		gen_to_json(&api_datastore_spec_type, &body->spec, 0);
	_cleanup_(json_freep) struct json *status = json_new_obj();
	struct object_init init = { .type = "datastore",
				    .project = "",
				    .name = body->name,
				    .description = body->description,
				    .spec = spec,
				    .status = status };
	char path[4096];
	struct stat st;
	int r;

	if (body->spec.device)
		return err_set(
			e, ENOTSUP, "datastore.device",
			"a datastore on a device is not made yet: format and mount '%s' yourself and give its directory",
			body->spec.device);
	if (!spec || !status)
		return err_sys(e, ENOMEM, "datastore '%s'", body->name);
	if (body->spec.path)
		snprintf(path, sizeof(path), "%s", body->spec.path);
	else
		snprintf(path, sizeof(path), "%s/datastores/%s", n->paths.state, body->name);
	r = body->spec.path ? 0 : make_dir(path, 0711, e);
	if (r == 0 && (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
		r = err_set(e, ENOENT, "datastore.path", "'%s' is no directory", path);
	if (r < 0)
		return r;
	json_set(spec, "path", json_new_str(path));
	json_set(status, "state", json_new_str("ready"));
	r = inventory_create(n->inventory, &init, ret, e);
	if (r == 0)
		datastore_refresh(n, *ret);
	return r;
}

int datastore_remove(struct node *n, struct object *ds, struct err **e)
{
	int64_t volumes;

	promised(n, ds, &volumes);
	if (volumes)
		return err_set(e, EBUSY, "datastore.used", "datastore '%s' has %lld volumes",
			       ds->name, (long long)volumes);
	return inventory_delete(n->inventory, ds, e);
}

/* -- volumes -------------------------------------------------------------------------------------- */

int volume_file(struct node *n, const struct object *v, char *buf, size_t len, struct err **e)
{
	const char *format = json_str(json_get(v->spec, "format"));
	struct object *ds = datastore_find(n, json_str(json_get(v->spec, "datastore")), e);

	if (!ds)
		return -ENOENT;
	snprintf(buf, len, "%s/%s.%s", datastore_path(ds), v->id, format ? format : "raw");
	return 0;
}

int volume_admit(struct node *n, const struct api_volume *body, struct err **e)
{
	struct object *ds = datastore_find(n, body->spec.datastore, e);
	double over;
	struct statvfs st;
	int64_t volumes;

	if (!ds)
		return -ENOENT;
	if (body->spec.source)
		return err_set(e, ENOTSUP, "volume.source",
			       "a volume that is a copy is not part of this release");
	if (!body->spec.has_size)
		return err_set(e, EINVAL, "volume.size", "a new volume needs a size");
	if (body->spec.format != API_DISK_FORMAT_RAW &&
	    body->spec.filesystem != API_VOLUME_FILESYSTEM_NONE)
		return err_set(
			e, ENOTSUP, "volume.filesystem",
			"a file system is made on raw volumes only: use --format raw, or --filesystem none");
	if (body->spec.filesystem == API_VOLUME_FILESYSTEM_XFS)
		return err_set(e, ENOTSUP, "volume.filesystem", "only ext4 is made here");
	over = json_num(json_get(ds->spec, "overcommit"), 10);
	if (statvfs(datastore_path(ds), &st) == 0 &&
	    (double)(promised(n, ds, &volumes) + body->spec.size) >
		    over * (double)(st.f_blocks * st.f_frsize))
		return err_set(e, ENOSPC, "datastore.full",
			       "datastore '%s' has promised as much as it may", ds->name);
	return 0;
}

/* Blocking. */
int volume_make_file(const char *path, const struct api_volume_spec *s, struct image_op *op,
		     struct err **e)
{
	if (s->filesystem == API_VOLUME_FILESYSTEM_EXT4)
		return disks_make_upper(path, s->size, op, e);
	else {
		struct disk_create c = { .format = api_disk_format_str(s->format),
					 .path = path,
					 .size = s->size,
					 .provision = (enum disk_provision)s->provision };

		return disk_create(&c, e);
	}
}

/* Running instances that mount the volume, but for one. */
static bool names_volume(struct node *n, const struct object *o, const char *list, const char *key,
			 const struct object *v)
{
	const struct json *all = json_get(o->spec, list);

	for (size_t k = 0; k < json_len(all); k++) {
		const char *ref = json_str(json_get(json_at(all, k), key));

		if (ref && ref[0] != '/' &&
		    inventory_find(n->inventory, "volume", o->project, ref, NULL) == v)
			return true;
	}
	return false;
}

/* Instances that run with it; vms: only VMs, who have it for themselves. */
static unsigned int volume_users(struct node *n, const struct object *v, const char *but, bool vms)
{
	unsigned int users = 0;

	for (struct object *o = inventory_next(n->inventory, "instance", NULL); o;
	     o = inventory_next(n->inventory, "instance", o)) {
		const char *state = json_str(json_get(o->status, "state"));

		if ((but && streq(o->id, but)) || !state || streq(state, "stopped") ||
		    streq(state, "failed") || streq(state, "creating"))
			continue;
		if (vms && !streq(json_str(json_get(o->spec, "kind")) ?: "", "vm"))
			continue;
		if (names_volume(n, o, "mounts", "source", v) ||
		    names_volume(n, o, "disks", "volume", v))
			users++;
	}
	return users;
}

static void volume_dir(struct node *n, const struct object *v, char *buf, size_t len)
{
	snprintf(buf, len, "%s/volumes/%s", n->paths.run, v->id);
}

static void show_state(struct node *n, struct object *v, const char *state)
{
	struct json *p = json_new_obj();

	json_set(p, "state", json_new_str(state));
	inventory_patch_status(n->inventory, v, p, NULL);
}

int volume_path(struct node *n, const char *project, const char *ref, char **ret, struct err **e)
{
	struct object *v;
	char file[4096], dir[4096];
	int r;

	if (!ref)
		return err_set(e, EINVAL, "volume.name",
			       "name a volume: 'strata volume create NAME --size SIZE' makes one");
	v = inventory_find(n->inventory, "volume", project, ref, e);
	if (!v)
		return -ENOENT;
	if (!streq(json_str(json_get(v->spec, "filesystem")) ?: "", "ext4"))
		return err_set(e, EINVAL, "volume.filesystem",
			       "volume '%s' has no file system that a container could mount",
			       v->name);
	if (volume_users(n, v, NULL, true))
		return err_set(e, EBUSY, "volume.in_use", "volume '%s' is in use by a VM", v->name);
	r = volume_file(n, v, file, sizeof(file), e);
	snprintf(dir, sizeof(dir), "%s/volumes", n->paths.run);
	if (r == 0)
		r = make_dir(dir, 0711, e);
	volume_dir(n, v, dir, sizeof(dir));
	if (r == 0)
		r = make_dir(dir, 0755, e);
	if (r == 0 && !path_mounted(dir))
		r = loop_mount(file, dir, e);
	if (r < 0)
		return err_wrap(e, r, "volume '%s'", v->name);
	show_state(n, v, "attached");
	*ret = strdup(dir);
	return *ret ? 0 : err_sys(e, ENOMEM, "volume '%s'", v->name);
}

int volume_for_vm(struct node *n, const char *project, const char *ref, const char *instance,
		  char *path, size_t len, enum api_disk_format *format, struct err **e)
{
	struct object *v = ref ? inventory_find(n->inventory, "volume", project, ref, e) : NULL;
	const char *f;

	if (!v)
		return ref ? -ENOENT
			   : err_set(e, EINVAL, "volume.name",
				     "name a volume: 'strata volume create NAME --size SIZE' makes one");
	if (volume_users(n, v, instance, false))
		return err_set(e, EBUSY, "volume.in_use",
			       "volume '%s' is in use by another instance", v->name);
	f = json_str(json_get(v->spec, "format"));
	*format = f && streq(f, "qcow2") ? API_DISK_FORMAT_QCOW2 : API_DISK_FORMAT_RAW;
	show_state(n, v, "attached");
	return volume_file(n, v, path, len, e);
}

int volume_release(struct node *n, const char *project, const char *ref, const char *instance,
		   struct err **e)
{
	struct object *v = ref ? inventory_find(n->inventory, "volume", project, ref, NULL) : NULL;
	char dir[4096];
	int r = 0;

	if (!v || volume_users(n, v, instance, false))
		return 0;
	volume_dir(n, v, dir, sizeof(dir));
	if (path_mounted(dir))
		r = rootfs_umount(dir, e);
	rmdir(dir);
	show_state(n, v, "ready");
	return r;
}

int volume_remove_check(struct node *n, struct object *v, struct err **e)
{
	if (json_bool(json_get(v->spec, "protected"), false))
		return err_set(
			e, EBUSY, "volume.protected",
			"volume '%s' is protected: 'strata volume set %s --protect=off' first",
			v->name, v->name);
	for (struct object *o = inventory_next(n->inventory, "instance", NULL); o;
	     o = inventory_next(n->inventory, "instance", o)) {
		const char *lists[] = { "mounts", "disks" }, *keys[] = { "source", "volume" };

		for (size_t l = 0; l < 2; l++) {
			const struct json *list = json_get(o->spec, lists[l]);

			for (size_t k = 0; k < json_len(list); k++) {
				const char *ref = json_str(json_get(json_at(list, k), keys[l]));

				if (ref && ref[0] != '/' &&
				    inventory_find(n->inventory, "volume", o->project, ref, NULL) ==
					    v)
					return err_set(e, EBUSY, "volume.used",
						       "volume '%s' is used by instance '%s'",
						       v->name, o->name);
			}
		}
	}
	return 0;
}
