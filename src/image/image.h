/* Images: the public face of this room.
 *
 * One content-addressed store serves containers (overlay lower directories) and VMs (read-only block devices);
 * images come from registries, archives, root tarballs and the distribution's own archive.
 *
 * Threads: everything here blocks, some of it for minutes, so a daemon calls it on a worker (base/work.h), never on
 * its loop.  Any thread may call any function, several at once on one struct image_store; what two calls do to the same
 * image or layer is ordered by locks in the store, also between processes.  Functions start threads of their own where
 * work is parallel and join them before they return.  store_close() only when no call is under way.
 * Watching: a struct image_op (op.h) belongs to one call.  Its progress() runs on whatever thread works just then, one
 * at a time: copy what you need and post it to your loop.  op->cancelled may be set from any thread; the call then
 * returns -ECANCELED within about 100 ms and leaves nothing but what the next one can use (blobs, part files).
 * Errors: -errno with an id: image.reference, image.missing, image.digest, image.size, image.layer_hostile,
 * image.layer_limit, image.platform, image.cancelled, registry.*; the message names image, layer and entry. */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include "image/archive.h"
#include "image/bootdisk.h"
#include "image/bootstrap.h"
#include "image/disks.h"
#include "image/foreign.h"
#include "image/gc.h"
#include "image/kernel.h"
#include "image/manifest.h"
#include "image/op.h"
#include "image/ref.h"
#include "image/registry.h"
#include "image/rootfs.h"
#include "image/seed.h"
#include "image/store.h"
#include "image/unpack.h"

#define IMAGE_STORE_DEFAULT "/var/lib/strata/images"

#endif
