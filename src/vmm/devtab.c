/* Every device type that a configuration can name.  One line a type; order is that of help texts. */
#include <string.h>
#include "vmm/devices.h"
#include "vmm/device_ops.h"

static const struct device_ops *const device_table[] = {
	&dev_virtio_blk, &dev_vhost_user_blk, &dev_virtio_net,	 &dev_virtio_console,
	&dev_virtio_rng, &dev_virtio_balloon, &dev_virtio_vsock, NULL, /* ends the table */
};

const struct device_ops *device_at(unsigned int n)
{
	return n < ARRAY_SIZE(device_table) ? device_table[n] : NULL;
}

const struct device_ops *device_find(const char *type)
{
	const struct device_ops *ops;

	for (unsigned int i = 0; (ops = device_at(i)); i++)
		if (strcmp(ops->type, type) == 0)
			return ops;
	return NULL;
}
