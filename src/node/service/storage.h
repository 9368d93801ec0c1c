/* Datastores and volumes of the daemon.
 *
 * A datastore is a directory; "default" is there from the first start.  A volume is a file in it, DATASTORE/ID.FORMAT: a disk for
 * VMs, or, when it is raw with a file system, what containers mount; for that it is mounted at RUN/volumes/ID as long as an
 * instance that names it runs.
 * Verbs: volume.create (undone), volume.remove (forward).  Thread: the main loop's, but for what says that it blocks. */
#ifndef NODE_SERVICE_STORAGE_H
#define NODE_SERVICE_STORAGE_H

#include "gen/storage.h"
#include "image/image.h"
#include "node/node.h"
#include "storage/storage.h"

/* Makes the default datastore. */
int storage_open(struct node *n, struct err **e);

struct object *datastore_find(struct node *n, const char *ref,
			      struct err **e); /* NULL: the default one */
int datastore_create(struct node *n, const struct api_datastore *body, struct object **ret,
		     struct err **e);
int datastore_remove(struct node *n, struct object *ds, struct err **e); /* -EBUSY: has volumes */
void datastore_refresh(struct node *n, struct object *ds);		 /* its figures */

/* May the volume be made?  Then its object and the task volume.create follow. */
int volume_admit(struct node *n, const struct api_volume *body, struct err **e);
int volume_file(struct node *n, const struct object *v, char *buf, size_t len, struct err **e);
/* Blocking. */
int volume_make_file(const char *path, const struct api_volume_spec *s, struct image_op *op,
		     struct err **e);
/* -EBUSY: protected, or an instance names it. */
int volume_remove_check(struct node *n, struct object *v, struct err **e);

/* The directory that a container mounts for the volume `ref`; *ret: the caller's. */
int volume_path(struct node *n, const char *project, const char *ref, char **ret, struct err **e);
/* The file of a volume that a VM has for itself, as a disk.  -EBUSY: another instance runs with it. */
int volume_for_vm(struct node *n, const char *project, const char *ref, const char *instance,
		  char *path, size_t len, enum api_disk_format *format, struct err **e);
/* The instance uses it no more; unmounted with the last one. */
int volume_release(struct node *n, const char *project, const char *ref, const char *instance,
		   struct err **e);

extern const struct task_verb *const storage_verbs[]; /* NULL-terminated */

#endif
