/* What the core needs of a virtio-blk device beyond its ops: its disk, for snapshots of the whole machine. */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

struct dev;
struct disk;

/* The open disk behind a virtio-blk device; NULL: another kind of device, or a vhost-user one.  Main thread; while the
 * device is quiesced nothing is in flight and the disk may be snapshotted. */
struct disk *virtio_blk_disk(struct dev *d);

#endif
