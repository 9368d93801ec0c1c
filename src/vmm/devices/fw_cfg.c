/* Firmware configuration: named blobs for the firmware.        Spec: QEMU docs/specs/fw_cfg.
 * Thread: registers on vCPU threads under the lock; items are added on main before the guest runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/checked.h"
#include "base/save.h"
#include "base/vec.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/bus.h"
#include "vmm/device_ops.h"
#include "vmm/devices/legacy.h"
#include "vmm/memory.h"
#include "vmm/vm.h"

#define KEY_SIGNATURE 0x00
#define KEY_ID	      0x01
#define KEY_FILE_DIR  0x19
#define KEY_FILES     0x20
#define MAX_ITEMS     64
#define NAME_MAX_     56

#define DMA_ERROR  0x01U
#define DMA_READ   0x02U
#define DMA_SKIP   0x04U
#define DMA_SELECT 0x08U
#define DMA_WRITE  0x10U
#define DMA_MAX	   (16U * 1024 * 1024) /* of one command: bounds the time under the lock */

struct item {
	uint16_t key;
	char name[NAME_MAX_];
	void *data;
	size_t len;
};

struct fw_cfg {
	struct dev dev;
	struct bus_range range;
	VEC(struct item) items;
	uint16_t key;
	uint32_t offset;
	uint32_t dma_high;
};

static struct fw_cfg *fw_of(struct dev *d)
{
	return container_of(d, struct fw_cfg, dev);
}

static const struct item *selected(const struct fw_cfg *f)
{
	for (size_t i = 0; i < f->items.n; i++)
		if (f->items.v[i].key == (f->key & 0x3fff))
			return &f->items.v[i];
	return NULL;
}

static uint8_t next_byte(struct fw_cfg *f)
{
	const struct item *x = selected(f);
	uint8_t v = x && f->offset < x->len ? ((uint8_t *)x->data)[f->offset] : 0;

	if (f->offset < UINT32_MAX)
		f->offset++;
	return v;
}

struct dma_command {
	uint32_t control, length;
	uint64_t address;
} _packed_;

static uint32_t dma_do(struct fw_cfg *f, struct guest_mem *m, const struct dma_command *c)
{
	uint32_t control = be32toh(c->control), len = be32toh(c->length);
	uint64_t at = be64toh(c->address);
	const struct item *x;
	uint64_t n;

	if (control & DMA_SELECT) {
		f->key = (uint16_t)(control >> 16);
		f->offset = 0;
	}
	if (control & DMA_WRITE || len > DMA_MAX)
		return DMA_ERROR; /* nothing here is writable */
	x = selected(f);
	n = x && f->offset < x->len ? MIN((uint64_t)len, x->len - f->offset) : 0;
	if (control & DMA_READ && len) {
		uint8_t *p = gmem_ptr(m, at, len);

		if (!p)
			return DMA_ERROR;
		if (n)
			memcpy(p, (uint8_t *)x->data + f->offset, n);
		memset(p + n, 0, len - n);
		gmem_mark_dirty(m, at, len);
	}
	if (control & (DMA_READ | DMA_SKIP) && add_of(f->offset, len, &f->offset))
		f->offset = UINT32_MAX;
	return 0;
}

static void dma(struct fw_cfg *f, uint64_t addr)
{
	struct guest_mem *m = vm_mem(f->dev.vm);
	struct dma_command c;
	uint32_t status;

	if (gmem_read(m, addr, &c, sizeof(c)) < 0)
		return;
	status = htobe32(dma_do(f, m, &c));
	gmem_write(m, addr, &status, sizeof(status));
}

static uint64_t fw_read(struct bus_range *r, uint64_t off, unsigned int size)
{
	static const uint8_t dma_signature[8] = "QEMU CFG";
	struct fw_cfg *f = container_of(r, struct fw_cfg, range);
	uint64_t v = 0;

	if (off == 1 && size == 1)
		return next_byte(f);
	if (off >= 4)
		memcpy(&v, dma_signature + (off - 4), size);
	return v;
}

static void fw_write(struct bus_range *r, uint64_t off, unsigned int size, uint64_t v)
{
	struct fw_cfg *f = container_of(r, struct fw_cfg, range);

	if (off == 0 && size == 2) {
		f->key = (uint16_t)v;
		f->offset = 0;
	} else if (off == 4 && size == 4) {
		f->dma_high = be32toh((uint32_t)v);
	} else if (off == 8 && size == 4) {
		uint64_t at = (uint64_t)f->dma_high << 32 | be32toh((uint32_t)v);

		f->dma_high = 0;
		dma(f, at);
	} else if (off == 4 && size == 8) {
		dma(f, be64toh(v));
	}
}

static const struct bus_ops fw_bus = { fw_read, fw_write };

static int add_item(struct fw_cfg *f, struct item x, struct err **e)
{
	if (f->items.n == MAX_ITEMS || vec_push(&f->items, x) < 0) {
		free(x.data);
		return err_set(e, ENOSPC, "fw_cfg.full", "too many firmware items");
	}
	return 0;
}

int fw_cfg_add_key(struct dev *d, uint16_t key, const void *data, size_t len, struct err **e)
{
	struct item x = { .key = key, .data = malloc(len), .len = len };

	if (!x.data)
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	memcpy(x.data, data, len);
	return add_item(fw_of(d), x, e);
}

/* The directory: a count, then for each file its size, key, and name, big-endian. */
static int rebuild_dir(struct fw_cfg *f, struct err **e)
{
	struct buf b = { 0 };
	uint32_t n = 0;
	struct item *dir = NULL, *x;

	buf_add(&b, &n, 4);
	vec_for_each(x, &f->items) {
		uint32_t size = htobe32((uint32_t)x->len);
		uint16_t key = htobe16(x->key), zero = 0;

		if (x->key == KEY_FILE_DIR)
			dir = x;
		if (x->key < KEY_FILES)
			continue;
		buf_add(&b, &size, 4);
		buf_add(&b, &key, 2);
		buf_add(&b, &zero, 2);
		buf_add(&b, x->name, NAME_MAX_);
		n++;
	}
	if (buf_error(&b) || !dir) {
		buf_done(&b);
		return err_set(e, ENOMEM, "sys.ENOMEM", "out of memory");
	}
	n = htobe32(n);
	memcpy(b.s, &n, 4);
	free(dir->data);
	dir->len = b.len;
	dir->data = buf_take(&b);
	return 0;
}

int fw_cfg_add_file(struct dev *d, const char *name, struct buf *data, struct err **e)
{
	struct fw_cfg *f = fw_of(d);
	struct item x = { .key = KEY_FILES };
	struct item *i;
	int r;

	if (strlen(name) >= NAME_MAX_)
		return err_set(e, EINVAL, "fw_cfg.name", "firmware file name '%s' is too long",
			       name);
	vec_for_each(i, &f->items)
		if (i->key >= x.key)
			x.key = i->key + 1;
	strcpy(x.name, name);
	x.len = data->len;
	x.data = buf_take(data);
	r = add_item(f, x, e);
	return r < 0 ? r : rebuild_dir(f, e);
}

static int fw_construct(struct dev *d, const struct vm_device *cfg, struct err **e)
{
	static const uint8_t none[4];
	uint32_t id = htole32(3); /* traditional and DMA */
	int r = fw_cfg_add_key(d, KEY_SIGNATURE, "QEMU", 4, e);

	if (r == 0)
		r = fw_cfg_add_key(d, KEY_ID, &id, 4, e);
	return r < 0 ? r : fw_cfg_add_key(d, KEY_FILE_DIR, none, 4, e);
}

static void fw_destruct(struct dev *d)
{
	struct item *x;

	vec_for_each(x, &fw_of(d)->items)
		free(x->data);
	vec_done(&fw_of(d)->items);
}

static int fw_plug(struct dev *d, struct vm *vm, struct err **e)
{
	struct fw_cfg *f = fw_of(d);

	f->range = (struct bus_range){
		.base = PORT_FW_CFG, .size = 12, .ops = &fw_bus, .owner = d, .name = "fw-cfg"
	};
	return bus_add(vm_pio(vm), &f->range, e);
}

static void fw_unplug(struct dev *d)
{
	bus_remove(vm_pio(d->vm), &fw_of(d)->range);
}

static void fw_reset(struct dev *d)
{
	fw_of(d)->key = 0;
	fw_of(d)->offset = 0;
	fw_of(d)->dma_high = 0;
}

static const struct save_field fw_fields[] = {
	SAVE(struct fw_cfg, key, U16, 1),
	SAVE(struct fw_cfg, offset, U32, 1),
	SAVE(struct fw_cfg, dma_high, U32, 1),
};
static const struct save_desc fw_save = SAVE_DESC("fw-cfg", 1, 1, fw_fields);

const struct device_ops dev_fw_cfg = {
	.type = "fw-cfg",
	.instance_size = sizeof(struct fw_cfg),
	.construct = fw_construct,
	.destruct = fw_destruct,
	.plug = fw_plug,
	.unplug = fw_unplug,
	.reset = fw_reset,
	.state = &fw_save,
};
