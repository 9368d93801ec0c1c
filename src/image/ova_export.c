/* Writing OVA files: see foreign.h.                               Spec: DMTF DSP0243 1.1, DSP0004 for units */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "image/digest.h"
#include "image/foreign.h"
#include "image/fsutil.h"
#include "image/tarw.h"

#define NAMES                                                             \
	"xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" "               \
	"xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\" "           \
	"xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/" \
	"CIM_ResourceAllocationSettingData\" "                            \
	"xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/" \
	"CIM_VirtualSystemSettingData\""

struct part { /* a file of the archive */
	char name[300];
	int fd;
	uint64_t size, capacity; /* capacity: of a disk, bytes */
};

struct out {
	const struct ova_machine *m;
	struct image_op *op;
	char base[240]; /* names in the archive begin so */
	char work[PATH_MAX];
	struct part disks[OVF_DISKS_MAX];
	size_t n;
	struct buf ovf, mf;
};

static void add_text(struct buf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == '&')
			buf_adds(b, "&amp;");
		else if (*s == '<')
			buf_adds(b, "&lt;");
		else if (*s == '"')
			buf_adds(b, "&quot;");
		else
			buf_addc(b, *s);
	}
}

/* One Item; its children in the order of the alphabet, as the schema wants. */
static void item(struct buf *b, const char *address, const char *units, const char *name,
		 const char *connection, const char *host, unsigned int id, const char *parent,
		 const char *sub, unsigned int type, uint64_t quantity)
{
	static const char *const keys[] = { "AddressOnParent", "AllocationUnits", "Connection",
					    "ElementName", "HostResource" };
	const char *const values[] = { address, units, connection, name, host };

	buf_adds(b, "      <Item>\n");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (values[i])
			buf_addf(b, "        <rasd:%s>%s</rasd:%s>\n", keys[i], values[i], keys[i]);
	}
	buf_addf(b, "        <rasd:InstanceID>%u</rasd:InstanceID>\n", id);
	if (parent)
		buf_addf(b, "        <rasd:Parent>%s</rasd:Parent>\n", parent);
	if (sub)
		buf_addf(b, "        <rasd:ResourceSubType>%s</rasd:ResourceSubType>\n", sub);
	buf_addf(b, "        <rasd:ResourceType>%u</rasd:ResourceType>\n", type);
	if (quantity)
		buf_addf(b, "        <rasd:VirtualQuantity>%llu</rasd:VirtualQuantity>\n",
			 (unsigned long long)quantity);
	buf_adds(b, "      </Item>\n");
}

static void hardware(struct out *o)
{
	uint64_t mib = (o->m->memory ? o->m->memory : GIB) / MIB;
	struct buf *b = &o->ovf;
	unsigned int id = 1;
	char text[64], address[24];

	buf_adds(
		b,
		"    <VirtualHardwareSection>\n      <Info>Virtual hardware</Info>\n"
		"      <System>\n        <vssd:ElementName>Virtual hardware</vssd:ElementName>\n"
		"        <vssd:InstanceID>0</vssd:InstanceID>\n"
		"        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>\n      </System>\n");
	item(b, NULL, "hertz * 10^6", "CPUs", NULL, NULL, id++, NULL, NULL, 3,
	     o->m->cpus ? o->m->cpus : 1);
	item(b, NULL, "byte * 2^20", "Memory", NULL, NULL, id++, NULL, NULL, 4,
	     MAX(mib, (uint64_t)1));
	item(b, "0", NULL, "SATA controller", NULL, NULL, id++, NULL, "vmware.sata.ahci", 20, 0);
	for (size_t i = 0; i < o->n; i++) {
		snprintf(text, sizeof(text), "ovf:/disk/vmdisk%zu", i);
		snprintf(address, sizeof(address), "%zu", i);
		item(b, address, NULL, "Disk", NULL, text, id++, "3", NULL, 17, 0);
	}
	for (unsigned int i = 0; i < o->m->nics; i++)
		item(b, NULL, NULL, "Network card", "network", NULL, id++, NULL, "E1000", 10, 0);
	buf_adds(b, "    </VirtualHardwareSection>\n");
}

static void descriptor(struct out *o)
{
	struct buf *b = &o->ovf;

	buf_adds(b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Envelope " NAMES
		    ">\n  <References>\n");
	for (size_t i = 0; i < o->n; i++)
		buf_addf(b, "    <File ovf:href=\"%s\" ovf:id=\"file%zu\" ovf:size=\"%llu\"/>\n",
			 o->disks[i].name, i, (unsigned long long)o->disks[i].size);
	buf_adds(b, "  </References>\n  <DiskSection>\n    <Info>Virtual disks</Info>\n");
	for (size_t i = 0; i < o->n; i++)
		buf_addf(
			b,
			"    <Disk ovf:capacity=\"%llu\" ovf:diskId=\"vmdisk%zu\" ovf:fileRef=\"file%zu\" "
			"ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html"
			"#streamOptimized\"/>\n",
			(unsigned long long)o->disks[i].capacity, i, i);
	buf_adds(b, "  </DiskSection>\n");
	if (o->m->nics)
		buf_adds(b, "  <NetworkSection>\n    <Info>Networks</Info>\n"
			    "    <Network ovf:name=\"network\"/>\n  </NetworkSection>\n");
	buf_adds(b, "  <VirtualSystem ovf:id=\"");
	add_text(b, o->m->name);
	buf_adds(b, "\">\n    <Info>A virtual machine</Info>\n    <Name>");
	add_text(b, o->m->name);
	buf_adds(b, "</Name>\n    <OperatingSystemSection ovf:id=\"101\">\n"
		    "      <Info>Linux, 64 bits</Info>\n    </OperatingSystemSection>\n");
	hardware(o);
	buf_adds(b, "  </VirtualSystem>\n</Envelope>\n");
}

/* Convert one disk, and note what the descriptor and the manifest say of it. */
static int add_disk(struct out *o, const char *from, struct err **e)
{
	struct part *p = &o->disks[o->n];
	_cleanup_(freep) uint8_t *block = malloc(MIB);
	uint8_t head[20];
	uint64_t sectors;
	char path[PATH_MAX + 320];
	struct digest d;
	struct hash h;
	ssize_t n;
	int r;

	if (!block)
		return err_sys(e, ENOMEM, "export");
	snprintf(p->name, sizeof(p->name), "%s-disk%zu.vmdk", o->base, o->n);
	snprintf(path, sizeof(path), "%s/%s", o->work, p->name);
	r = foreign_convert_as(from, NULL, path, "vmdk", "subformat=streamOptimized", o->op, e);
	if (r < 0)
		return r;
	p->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (p->fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	o->n++;
	/* header of a sparse extent: magic, version, flags, capacity in sectors */
	if (pread_all(p->fd, head, sizeof(head), 0) < 0)
		return err_set(e, EBADMSG, "image.format", "qemu-img wrote no vmdk");
	memcpy(&sectors, head + 12, sizeof(sectors));
	p->capacity = le64toh(sectors) * 512;
	hash_init(&h, HASH_SHA256);
	while ((n = fd_read(p->fd, block, MIB)) > 0) {
		hash_update(&h, block, (size_t)n);
		p->size += (uint64_t)n;
		r = image_op_check(o->op, e);
		if (r < 0)
			return r;
	}
	if (n < 0)
		return err_sys(e, (int)-n, "read '%s'", path);
	digest_final(&h, &d);
	buf_addf(&o->mf, "SHA256(%s)= %s\n", p->name, digest_hex(&d));
	return 0;
}

static int to_fd(void *arg, const void *data, size_t len, struct err **e)
{
	int r = write_all(*(int *)arg, data, len);

	return r < 0 ? err_sys(e, -r, "write OVA") : 0;
}

static int add_file(struct tarw *t, const char *name, const struct buf *b, struct err **e)
{
	int r = tarw_file(t, name, 0644, b->len, 0, e);

	return r < 0 ? r : tarw_data(t, buf_str(b), b->len, e);
}

static int write_tar(struct out *o, int fd, struct err **e)
{
	_cleanup_(freep) uint8_t *block = malloc(MIB);
	struct tarw t;
	char name[300];
	int r;

	if (!block)
		return err_sys(e, ENOMEM, "export");
	tarw_init(&t, to_fd, &fd);
	snprintf(name, sizeof(name), "%s.ovf", o->base);
	r = add_file(&t, name, &o->ovf, e);
	snprintf(name, sizeof(name), "%s.mf", o->base);
	if (r == 0)
		r = add_file(&t, name, &o->mf, e);
	for (size_t i = 0; r == 0 && i < o->n; i++) {
		struct part *p = &o->disks[i];
		ssize_t n;

		r = tarw_file(&t, p->name, 0644, p->size, 0, e);
		lseek(p->fd, 0, SEEK_SET);
		while (r == 0 && (n = fd_read(p->fd, block, MIB)) != 0) {
			r = n < 0 ? err_sys(e, (int)-n, "read '%s'", p->name)
				  : tarw_data(&t, block, (size_t)n, e);
			if (r == 0)
				r = image_op_check(o->op, e);
		}
	}
	return r < 0 ? r : tarw_finish(&t, e);
}

/* The archive's names begin with the file's, as far as that is plain. */
static void base_name(const char *path, char *out, size_t len)
{
	const char *slash = strrchr(path, '/'), *p = slash ? slash + 1 : path;
	size_t n = 0;

	for (; *p && !streq(p, ".ova") && n + 1 < len; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			     (*p >= '0' && *p <= '9') || (n && strchr("._-", *p));

		out[n++] = plain ? *p : '_';
	}
	out[n] = '\0';
	if (n == 0)
		snprintf(out, len, "machine");
}

static int export(struct out *o, const char *path, struct err **e)
{
	_cleanup_(atomicfile_abort) struct atomicfile f = { .fd = -1, .dirfd = -1 };
	uint8_t raw[HASH_MAX];
	struct digest d;
	struct buf disks = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && o->m->disks[i]; i++)
		r = i < OVF_DISKS_MAX
			    ? add_disk(o, o->m->disks[i], e)
			    : err_set(e, EINVAL, "image.ova", "more than %d disks", OVF_DISKS_MAX);
	if (r < 0)
		return r;
	descriptor(o);
	hash_data(HASH_SHA256, buf_str(&o->ovf), o->ovf.len, raw);
	digest_from_hash(HASH_SHA256, raw, &d);
	disks = o->mf;
	o->mf = (struct buf){ 0 };
	buf_addf(&o->mf, "SHA256(%s.ovf)= %s\n", o->base, digest_hex(&d));
	buf_adds(&o->mf, buf_str(&disks));
	buf_done(&disks);
	if (buf_error(&o->ovf) || buf_error(&o->mf))
		return err_sys(e, ENOMEM, "export");
	r = atomicfile_open(AT_FDCWD, path, 0644, &f, e);
	if (r == 0)
		r = write_tar(o, f.fd, e);
	return r < 0 ? r : atomicfile_commit(&f, e);
}

int foreign_export_ova(const struct ova_machine *m, const char *path, struct image_op *op,
		       struct err **e)
{
	struct out *o = calloc(1, sizeof(*o));
	const char *slash = strrchr(path, '/');
	_cleanup_(closep) int dir = -1;
	char folder[PATH_MAX], tmp[64];
	int r;

	if (!o)
		return err_sys(e, ENOMEM, "export");
	o->m = m;
	o->op = op;
	base_name(path, o->base, sizeof(o->base));
	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)MAX(slash - path, 1) : 1,
		 slash ? path : ".");
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!utf8_valid(m->name) || strlen(m->name) > 200 || strpbrk(m->name, "\r\n"))
		r = err_set(e, EINVAL, "image.ova", "this name cannot be a machine's");
	else if (access(path, F_OK) == 0)
		r = err_set(e, EEXIST, "image.exists", "'%s' exists", path);
	else
		r = dir < 0 ? err_sys(e, errno, "open '%s'", folder)
			    : dir_make_temp(dir, ".ova-", tmp, sizeof(tmp));
	if (r == 0) {
		snprintf(o->work, sizeof(o->work), "%.4000s/%s", folder, tmp);
		r = export(o, path, e);
		tree_remove(dir, tmp);
	}
	for (size_t i = 0; i < o->n; i++)
		safe_close(o->disks[i].fd);
	buf_done(&o->ovf);
	buf_done(&o->mf);
	free(o);
	return r < 0 ? err_wrap(e, r, "export '%s'", path) : 0;
}
