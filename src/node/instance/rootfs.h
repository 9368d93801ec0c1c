/* File systems in files, mounted through a loop device that goes with the mount.  Thread: any. */
#ifndef NODE_INSTANCE_ROOTFS_H
#define NODE_INSTANCE_ROOTFS_H

#include "base/err.h"

bool path_mounted(const char *dir);
/* The ext4 in `file` on the directory. */
int loop_mount(const char *file, const char *dir, struct err **e);

#endif
