/* Images of the daemon: the store, what is known of each image, and the long operations as tasks.
 *
 * An image is not an object of the inventory: the store's index is the truth, shared with strata-image, and looked at anew when
 * its file has changed.  What a start needs of an image (manifest, configuration) is kept in memory between two starts.
 * Verbs: image.pull, image.push, image.import, image.bootstrap, image.prune, image.remove, kernel.install; their arguments are the
 * request objects of schema/image.json.  A crash leaves at most rubbish that image.prune takes.
 * Thread: the main loop's. */
#ifndef NODE_SERVICE_IMAGE_H
#define NODE_SERVICE_IMAGE_H

#include "image/image.h"
#include "node/node.h"

struct images;

/* The store is made when it is not there. */
int images_open(struct node *n, struct images **ret, struct err **e);
void images_close(struct images *im); /* NULL: no effect */
struct image_store *images_store(struct images *im);

/* An image as it is now.  Kept alive by references: an instance holds the one it was started from. */
struct image_entry {
	unsigned int refs;
	char *name; /* as in the store's index */
	struct image_parts parts;
	struct list node; /* private */
	bool listed;
};
/* By name (familiar or full), id prefix or digest.  -ENOENT image.missing with what to do. */
int images_find(struct images *im, const char *ref, struct image_entry **ret, struct err **e);
struct image_entry *image_entry_ref(struct image_entry *i);
void image_entry_unref(struct image_entry *i); /* NULL: no effect */
DEFINE_CLEANUP(struct image_entry *, image_entry_unref);

/* Keep the image's parts from being pruned as long as an instance is made from it.  One hold serves all instances of an image. */
int images_hold(struct images *im, const struct image_entry *i, struct err **e);
/* After an instance is gone: dropped when no other has this digest. */
void images_unhold(struct images *im, const char *digest);

/* Objects of the API (schema/image.json); NULL with *e set.  The caller's. */
struct json *images_list(struct images *im, struct err **e);
struct json *images_show(struct images *im, const char *ref, struct err **e);
int images_tag(struct images *im, const char *ref, const char *name, struct err **e);
struct json *kernels_list(struct images *im, struct err **e);
int kernels_remove(struct images *im, const char *version, struct err **e);

extern const struct task_verb *const image_verbs[]; /* NULL-terminated */

#endif
