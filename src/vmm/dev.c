/* Life cycle of devices: the part that is the same for all.  See device_ops.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/device_ops.h"
#include "vmm/machine.h"

struct dev *dev_find(struct vm *vm, const char *id)
{
	struct dev *d;

	list_for_each_entry(d, &vm->devices, node)
		if (strcmp(d->id, id) == 0)
			return d;
	return NULL;
}

int dev_create_ops(struct vm *vm, const struct device_ops *ops, const struct vm_device *cfg,
		   struct dev **ret, struct err **e)
{
	struct dev *d;
	int r;

	if (strlen(cfg->id) > VM_ID_MAX || !*cfg->id)
		return err_set(e, EINVAL, "device.id", "a device id has 1 to %d characters",
			       VM_ID_MAX);
	if (dev_find(vm, cfg->id))
		return err_set(e, EEXIST, "device.exists", "there is a device '%s' already",
			       cfg->id);
	d = calloc(1, ops->instance_size);
	if (!d)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	d->ops = ops;
	d->vm = vm;
	strcpy(d->id, cfg->id);
	pthread_mutex_init(&d->lock, NULL);
	list_add_tail(&vm->devices, &d->node);
	r = ops->construct(d, cfg, e);
	if (r < 0) {
		r = err_wrap(e, r, "%s '%s'", ops->type, cfg->id);
		dev_destroy(d);
		return r;
	}
	if (ret)
		*ret = d;
	return 0;
}

int dev_create(struct vm *vm, const struct vm_device *cfg, struct dev **ret, struct err **e)
{
	const struct device_ops *ops = device_find(cfg->type);

	if (!ops)
		return err_set(e, ENOENT, "device.type", "no device type '%s'", cfg->type);
	return dev_create_ops(vm, ops, cfg, ret, e);
}

int dev_plug(struct dev *d, struct err **e)
{
	int r = d->ops->plug ? d->ops->plug(d, d->vm, e) : 0;

	if (r < 0) {
		if (d->ops->unplug)
			d->ops->unplug(d);
		return err_wrap(e, r, "plug %s '%s'", d->ops->type, d->id);
	}
	d->plugged = true;
	return 0;
}

void dev_destroy(struct dev *d)
{
	if (!d)
		return;
	if (d->plugged && d->ops->unplug)
		d->ops->unplug(d);
	list_del(&d->node);
	if (d->ops->destruct)
		d->ops->destruct(d);
	pthread_mutex_destroy(&d->lock);
	free(d);
}
