/* One writer per image file: open-file-description locks on the bytes that QEMU uses for the same purpose, so that
 * each program refuses what the other holds.  A byte 100+i says "I use permission i", a byte 200+i "nobody else may
 * use permission i"; all are shared locks, and a conflict is seen by testing for them.
 * Permissions: 0 read a consistent image, 1 write, 2 write without changing contents, 3 resize. */
#ifndef STORAGE_LOCK_H
#define STORAGE_LOCK_H

#include "base/err.h"

enum image_lock { IMAGE_UNLOCKED, IMAGE_LOCK_READ, IMAGE_LOCK_WRITE };

/* Take or change the lock of fd; it ends when the last duplicate of the open file is closed.  -EAGAIN "disk.locked"
 * names the holder.  File systems without locks: 0. */
int image_lock(int fd, const char *path, enum image_lock want, struct err **e);

#endif
