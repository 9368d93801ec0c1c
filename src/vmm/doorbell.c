/* See doorbell.h. */
#include "vmm/doorbell.h"
#include "vmm/hv/hv_ops.h"
#include "vmm/vm.h"

void doorbell_init(struct doorbell *d, struct vm *vm, int fd)
{
	*d = (struct doorbell){ .vm = vm, .fd = fd };
}

int doorbell_promote(struct doorbell *d, uint64_t addr)
{
	struct hv_vm *h = vm_hv(d->vm);
	int r;

	if (d->in_kernel && d->addr == addr)
		return 0;
	doorbell_demote(d);
	d->addr = addr;
	r = h->ops->ioeventfd(h, d, true);
	d->in_kernel = r == 0;
	return r;
}

void doorbell_demote(struct doorbell *d)
{
	struct hv_vm *h;

	if (!d->in_kernel)
		return;
	h = vm_hv(d->vm);
	h->ops->ioeventfd(h, d, false);
	d->in_kernel = false;
}
