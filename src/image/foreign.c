/* See foreign.h. */
#include "image/foreign.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "base/checked.h"
#include "base/rand.h"
#include "base/str.h"
#include "ext/untar.h"
#include "image/fsutil.h"
#include "image/layer.h"

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t be64(const uint8_t *p)
{
	return (uint64_t)be32(p) << 32 | be32(p + 4);
}

static int refers_out(struct err **e, const char *format, const char *what)
{
	return err_set(e, EPERM, "image.refers_out", "this %s image refers to %s: refused", format,
		       what);
}

/* qcow2: QEMU docs/interop/qcow2.txt, "Header". */
static int check_qcow2(const uint8_t *h, uint64_t size, struct err **e)
{
	uint32_t version = be32(h + 4), bits = be32(h + 20);

	if (version != 2 && version != 3)
		return err_set(e, ENOTSUP, "image.format", "qcow version %u", version);
	if (be64(h + 8) || be32(h + 16))
		return refers_out(e, "qcow2", "a backing file");
	if (version == 3 && be64(h + 72) & 4)
		return refers_out(e, "qcow2", "an external data file");
	/* Tables beyond the end would read as zeros: an empty disk instead of an error. */
	if (bits < 9 || bits > 21 ||
	    !range_inside(be64(h + 40), (uint64_t)be32(h + 36) * 8, size) ||
	    !range_inside(be64(h + 48), (uint64_t)be32(h + 56) << bits,
			  ALIGN_UP(size, (uint64_t)1 << bits)))
		return err_set(e, EBADMSG, "image.format",
			       "this qcow2 image is damaged: its tables lie outside of it");
	return 0;
}

/* An embedded descriptor (text) names extents and perhaps a parent; a file of its own names only others. */
static int check_vmdk(int fd, const uint8_t *h, struct err **e)
{
	uint64_t off, sectors;
	char text[20 * 512 + 1];
	ssize_t n;

	if (memcmp(h, "KDMV", 4) != 0)
		return refers_out(e, "vmdk", "extents in other files");
	memcpy(&off, h + 28, 8);
	memcpy(&sectors, h + 36, 8);
	off = le64toh(off);
	sectors = le64toh(sectors);
	if (off == 0)
		return 0;
	if (sectors > 20 || off > UINT32_MAX)
		return err_set(e, EBADMSG, "image.format", "its vmdk descriptor is out of bounds");
	n = fd_pread(fd, text, sectors * 512, off * 512);
	if (n < 0)
		return err_sys(e, (int)-n, "read vmdk descriptor");
	text[n] = '\0';
	if (strcasestr(text, "parentFileNameHint") ||
	    (strcasestr(text, "parentCID") && !strcasestr(text, "parentCID=ffffffff")))
		return refers_out(e, "vmdk", "a parent");
	return 0;
}

static int check_vhd(int fd, uint64_t size, struct err **e)
{
	uint8_t f[512];

	if (size < 512 || fd_pread(fd, f, 512, size - 512) != 512)
		return err_set(e, EBADMSG, "image.format", "its VHD footer cannot be read");
	if (memcmp(f, "conectix", 8) == 0 && be32(f + 60) == 4)
		return refers_out(e, "vpc", "a parent");
	return 0;
}

/* vhdx: [MS-VHDX] 2.6.2.1: a parent makes HasParent (bit 1) of the file parameters; qemu knows no parents at all and
 * refuses them itself, so there is no file that could be read. */

int foreign_probe(int fd, const char **format, struct err **e)
{
	uint8_t h[512] = { 0 }, f[512] = { 0 };
	struct stat st;
	uint64_t size;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "probe");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, EINVAL, "image.format", "neither a file nor a block device");
	size = (uint64_t)lseek(fd, 0, SEEK_END);
	n = fd_pread(fd, h, sizeof(h), 0);
	if (n < 0)
		return err_sys(e, (int)-n, "probe");
	if (size >= 512 && fd_pread(fd, f, 512, size - 512) < 0)
		return err_sys(e, EIO, "probe");
	if (memcmp(h, "QFI\xfb", 4) == 0) {
		*format = "qcow2";
		return check_qcow2(h, size, e);
	}
	if (memcmp(h, "KDMV", 4) == 0 || memcmp(h, "COWD", 4) == 0 ||
	    strncmp((char *)h, "# Disk DescriptorFile", 21) == 0) {
		*format = "vmdk";
		return check_vmdk(fd, h, e);
	}
	if (memcmp(h, "vhdxfile", 8) == 0) {
		*format = "vhdx";
		return 0;
	}
	if (memcmp(h, "conectix", 8) == 0 || memcmp(f, "conectix", 8) == 0) {
		*format = "vpc";
		return check_vhd(fd, size, e);
	}
	if (memcmp(h + 64, "\x7f\x10\xda\xbe", 4) == 0) {
		*format = "vdi";
		return 0;
	}
	if (memcmp(h, "QED\0", 4) == 0 || memcmp(h, "WithoutFreeSpace", 16) == 0 ||
	    memcmp(h, "LUKS\xba\xbe", 6) == 0)
		return err_set(e, ENOTSUP, "image.format",
			       "QED, Parallels and LUKS images are not read");
	*format = "raw";
	return 0;
}

static bool known(const char *f)
{
	static const char *const list[] = { "qcow2", "raw", "vmdk", "vpc", "vhdx", "vdi" };

	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		if (streq(list[i], f))
			return true;
	}
	return false;
}

/* qemu-img takes "driver:rest" for names of its own; an absolute path is never one. */
static int real_target(const char *to, char *out, size_t len, struct err **e)
{
	char dir[PATH_MAX], real[PATH_MAX];
	const char *slash = strrchr(to, '/');

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)MAX(slash - to, 1) : 1, slash ? to : ".");
	if (!realpath(dir, real))
		return err_sys(e, errno, "open '%s'", dir);
	if (snprintf(out, len, "%s/%s", real, slash ? slash + 1 : to) >= (int)len)
		return err_sys(e, ENAMETOOLONG, "'%s'", to);
	if (access(out, F_OK) == 0)
		return err_set(e, EEXIST, "image.exists", "'%s' exists", to);
	return 0;
}

/* Under its name only when it is whole and on disk. */
static int publish(const char *part, const char *to, struct err **e)
{
	_cleanup_(closep) int fd = open(part, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fsync(fd) < 0)
		return err_sys(e, errno, "sync '%s'", part);
	if (renameat2(AT_FDCWD, part, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EINVAL && access(to, F_OK) < 0 && rename(part, to) == 0) /* NFS and the like */
		return 0;
	return err_sys(e, errno, "rename to '%s'", to);
}

int foreign_convert(const char *from, const char *from_format, const char *to,
		    const char *to_format, struct image_op *op, struct err **e)
{
	const char *format = to_format ? to_format : "qcow2";
	const char *options =
		streq(format, "vpc") ? "force_size=on"
				     : /* exactly the size, not what heads and sectors make of it */
			NULL;

	return foreign_convert_as(from, from_format, to, format, options, op, e);
}

int foreign_convert_as(const char *from, const char *from_format, const char *to,
		       const char *to_format, const char *options, struct image_op *op,
		       struct err **e)
{
	_cleanup_(closep) int fd = open(from, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char real_from[PATH_MAX], real_to[PATH_MAX], part[PATH_MAX + 32];
	const char *format = "raw";
	const char *argv[16];
	size_t n = 0;
	int r = 0;

	if (fd < 0 || !realpath(from, real_from))
		return err_sys(e, errno, "open '%s'", from);
	if (!known(to_format) || (from_format && !known(from_format)))
		return err_set(e, EINVAL, "image.format",
			       "formats are qcow2, raw, vmdk, vpc, vhdx and vdi");
	if (!from_format || !streq(from_format, "raw"))
		r = foreign_probe(fd, &format, e);
	if (r == 0 && from_format && !streq(format, from_format))
		r = err_set(e, EINVAL, "image.format", "it is %s, not %s", format, from_format);
	if (r == 0)
		r = real_target(to, real_to, sizeof(real_to), e);
	if (r < 0)
		return err_wrap(e, r, "convert '%s'", from);
	argv[n++] = "qemu-img";
	argv[n++] = "convert";
	argv[n++] = "-f";
	argv[n++] = format;
	argv[n++] = "-O";
	argv[n++] = to_format;
	if (options) {
		argv[n++] = "-o";
		argv[n++] = options;
	}
	argv[n++] = "--";
	argv[n++] = real_from;
	argv[n++] = part;
	argv[n] = NULL;
	snprintf(part, sizeof(part), "%s.%016llx", real_to, (unsigned long long)rand_u64());
	r = run_program(argv, NULL, -1, op ? &op->cancelled : NULL, e);
	if (r == 0)
		r = publish(part, real_to, e);
	if (r < 0) {
		unlink(part);
		return err_wrap(e, r, "convert '%s'", from);
	}
	return 0;
}

/* ---- OVA ---- */

/* Unpack the plain files of a tar into dir; *ovf gets the descriptor's name. */
static int unpack_ova(int fd, int dir, char *ovf, size_t len, struct image_op *op, struct err **e)
{
	_cleanup_(untar_freep) struct untar *tar = NULL;
	struct untar_entry te;
	int r = untar_new(NULL, layer_read_fd, &fd, &tar, e);

	while (r >= 0 && (r = untar_next(tar, &te, e)) == 1) {
		_cleanup_(closep) int out = -1;
		const void *data;
		uint64_t off;
		size_t n;

		if (te.type != UNTAR_FILE)
			continue;
		if (!te.path || strchr(te.path, '/') || te.path[0] == '.' || !te.path[0] ||
		    strlen(te.path) > 200)
			return err_set(e, EBADMSG, "image.ova",
				       "it holds '%s', which is no plain file name",
				       te.path ? te.path : "");
		out = openat(dir, te.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			     0600);
		if (out < 0)
			return err_sys(e, errno, "create '%s'", te.path);
		while ((r = untar_data(tar, &data, &n, &off, e)) == 1) {
			r = pwrite_all(out, data, n, (off_t)off);
			if (r < 0)
				return err_sys(e, -r, "write '%s'", te.path);
			r = image_op_check(op, e);
			if (r < 0)
				return r;
		}
		if (r == 0 && str_ends(te.path, ".ovf"))
			snprintf(ovf, len, "%s", te.path);
	}
	return r;
}

static int convert_all(const struct ovf *o, const char *from, const char *to, struct image_op *op,
		       struct err **e)
{
	for (size_t i = 0; i < o->n_disks; i++) {
		char src[PATH_MAX], dst[PATH_MAX];
		int r;

		if (snprintf(src, sizeof(src), "%s/%s", from, o->disks[i].file) >=
			    (int)sizeof(src) ||
		    snprintf(dst, sizeof(dst), "%s/disk%zu.qcow2", to, i) >= (int)sizeof(dst))
			return err_sys(e, ENAMETOOLONG, "'%s'", o->disks[i].file);
		r = foreign_convert(src, NULL, dst, "qcow2", op, e);
		while (r < 0 && i-- > 0) { /* nothing is kept of half a machine */
			snprintf(dst, sizeof(dst), "%.4000s/disk%zu.qcow2", to, i);
			unlink(dst);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int foreign_import_ova(const char *path, const char *dir, struct ovf *ret, struct image_op *op,
		       struct err **e)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), to = -1, work = -1;
	_cleanup_(buf_done) struct buf text = { 0 };
	char tmp[64], name[256] = "", from[PATH_MAX];
	int r;

	if (fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	r = dir_make(AT_FDCWD, dir, 0700);
	if (r < 0)
		return err_sys(e, -r, "make '%s'", dir);
	to = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = to < 0 ? -errno : dir_make_temp(to, ".ova-", tmp, sizeof(tmp));
	if (r < 0)
		return err_sys(e, -r, "make '%s'", dir);
	work = openat(to, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = work < 0 ? err_sys(e, errno, "open '%s'", tmp)
		     : unpack_ova(fd, work, name, sizeof(name), op, e);
	if (r == 0 && !name[0])
		r = err_set(e, EBADMSG, "image.ova", "no .ovf in it");
	if (r == 0)
		r = file_read(work, name, 4 * MIB, &text, e);
	if (r == 0)
		r = ovf_parse(buf_str(&text), text.len, ret, e);
	if (r == 0) {
		snprintf(from, sizeof(from), "%.4000s/%s", dir, tmp);
		r = convert_all(ret, from, dir, op, e);
	}
	tree_remove(to, tmp);
	return r < 0 ? err_wrap(e, r, "import '%s'", path) : 0;
}
