/* Images: the public face of this room.
 *
 * One content-addressed store serves containers (overlay lower directories) and VMs (read-only block devices);
 * images come from registries, archives, root tarballs and the distribution's own archive.
 *
 * Blocking: everything here may block for as long as a download takes.  A daemon calls it on a worker
 * (base/work.h) with a struct image_op for progress and cancelling; functions start threads of their own where
 * work is parallel and join them before they return.  A struct image_store may be shared by threads.
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
