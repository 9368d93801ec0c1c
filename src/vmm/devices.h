/* The ops tables of all devices, for devtab.c and machine.c only. */
#ifndef VMM_DEVICES_H
#define VMM_DEVICES_H

struct device_ops;

extern const struct device_ops dev_vhost_user_blk;
extern const struct device_ops dev_virtio_balloon;
extern const struct device_ops dev_virtio_blk;
extern const struct device_ops dev_virtio_console;
extern const struct device_ops dev_virtio_net;
extern const struct device_ops dev_virtio_rng;
extern const struct device_ops dev_virtio_vsock;

#endif
