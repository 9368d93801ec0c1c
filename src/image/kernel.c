/* See kernel.h.  Which modules: KERNEL_MODULES with what they depend on, in the order in which they load. */
#include "image/kernel.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "image/cpio.h"
#include "image/fsutil.h"

#define KO_MAX (32 * MIB)

/* In this order; what a kernel has built in, or lacks, is left out. */
static const char *const wanted[] = {
	"virtio_pci",	  "virtio_mmio",    "virtio_blk",
	"virtio_console", "virtio_net",	    "virtio_rng",
	"qemu_fw_cfg",	  "crc32c_generic", "crc32c-intel",
	"erofs",	  "squashfs",	    "ext4",
	"overlay",	  "virtiofs",	    "vmw_vsock_virtio_transport",
	"virtio_balloon", "virtio_mem",
};

struct module {
	char name[64]; /* with '_' */
	char *path;    /* of the .ko */
	struct buf data;
	bool loaded;
};
typedef VEC(struct module) module_list;

struct build {
	struct image_store *s;
	char work[128];	 /* below s->dir */
	char root[4096]; /* absolute: the unpacked package */
	char version[128];
	module_list all;
	struct buf order;
	struct cpio cpio;
};

static void build_done(struct build *b)
{
	struct module *m;

	vec_for_each(m, &b->all) {
		free(m->path);
		buf_done(&m->data);
	}
	vec_done(&b->all);
	buf_done(&b->order);
	buf_done(&b->cpio.out);
	if (b->work[0])
		tree_remove(b->s->dir, b->work);
}

/* Modules are known by both spellings. */
static void canonical(char *name)
{
	for (; *name; name++)
		*name = *name == '-' ? '_' : *name;
}

static int scan_modules(struct build *b, const char *dir, int depth, struct err **e)
{
	_cleanup_(closedirp) DIR *d = opendir(dir);
	struct dirent *de;

	if (!d)
		return errno == ENOENT && depth == 0 ? 0 : err_sys(e, errno, "list '%s'", dir);
	while ((de = readdir(d))) {
		char path[4096];
		struct module m = { 0 };
		size_t n = strlen(de->d_name);

		if (de->d_name[0] == '.' ||
		    snprintf(path, sizeof(path), "%s/%s", dir, de->d_name) >= (int)sizeof(path))
			continue;
		if (de->d_type == DT_DIR && depth < 16) {
			int r = scan_modules(b, path, depth + 1, e);

			if (r < 0)
				return r;
		}
		if (de->d_type != DT_REG || n <= 3 || n - 3 >= sizeof(m.name) ||
		    !str_ends(de->d_name, ".ko"))
			continue;
		memcpy(m.name, de->d_name, n - 3);
		canonical(m.name);
		m.path = strdup(path);
		if (!m.path || vec_push(&b->all, m) < 0) {
			free(m.path);
			return err_sys(e, ENOMEM, "list modules");
		}
	}
	return 0;
}

/* "depends=" of .modinfo: NUL-terminated strings somewhere in the file, so that modules.dep, which the package makes
 * only on the host where it is installed, is not needed. */
static const char *modinfo(const struct buf *ko, const char *key)
{
	size_t n = strlen(key);
	const char *p = ko->s, *end = ko->s + ko->len;

	while ((p = memmem(p, (size_t)(end - p), key, n))) {
		if (p > ko->s && p[-1] == '\0')
			return p + n;
		p += n;
	}
	return NULL;
}

static int add_module(struct build *b, const char *want, int depth, struct err **e)
{
	_cleanup_(strv_freep) char **deps = NULL;
	char name[64], path[160];
	struct module *m, *found = NULL;
	const char *text;
	int r;

	snprintf(name, sizeof(name), "%s", want);
	canonical(name);
	vec_for_each(m, &b->all) {
		if (streq(m->name, name))
			found = m;
	}
	if (!found || found->loaded)
		return 0;
	if (depth > 16)
		return err_set(e, ELOOP, "image.kernel", "module '%s' depends on itself", name);
	found->loaded = true;
	r = file_read(AT_FDCWD, found->path, KO_MAX, &found->data, e);
	if (r < 0)
		return r;
	text = modinfo(&found->data, "depends=");
	deps = strv_split(text ? text : "", ",");
	if (!deps)
		return err_sys(e, ENOMEM, "read module '%s'", name);
	for (char **d = deps; *d; d++) {
		r = add_module(b, *d, depth + 1, e);
		if (r < 0)
			return r;
	}
	snprintf(path, sizeof(path), "lib/modules/%s.ko", name);
	cpio_file(&b->cpio, path, 0644, buf_str(&found->data), found->data.len);
	buf_addf(&b->order, "%s.ko\n", name);
	buf_done(&found->data);
	return 0;
}

/* strata-init: said, installed, or beside the program that runs now (in a build tree). */
static int find_init(const char *said, struct buf *ret, struct err **e)
{
	char self[4096], path[4200];
	ssize_t n;

	if (said)
		return file_read(AT_FDCWD, said, 64 * MIB, ret, e);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[MAX(n, 0)] = '\0';
	for (int up = 0; up < 2; up++) {
		char *slash = strrchr(self, '/');

		if (slash)
			*slash = '\0';
		snprintf(path, sizeof(path), "%s/%s", self,
			 up ? "guest/strata-init" : "strata-init");
		if (file_read(AT_FDCWD, path, 64 * MIB, ret, NULL) == 0)
			return 0;
	}
	return file_read(AT_FDCWD, "/usr/libexec/strata/strata-init", 64 * MIB, ret, e);
}

static int fetch_deb(struct build *b, const struct kernel_options *o, char *deb, size_t len,
		     struct image_op *op, struct err **e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	const char *meta = o->package ? o->package : "linux-image-cloud-amd64";
	const char *const ask[] = { "apt-cache", "depends", "--important", meta, NULL };
	const char *get[] = { "apt-get",  "-q", "-o", "APT::Sandbox::User=root",
			      "download", NULL, NULL };
	_cleanup_(closep) int out = -1;
	char package[256] = "", *save = NULL;
	_cleanup_(closedirp) DIR *d = NULL;
	struct dirent *de;
	int r;

	if (*meta == '-')
		return err_set(e, EINVAL, "image.kernel", "'%s' is no package", meta);
	out = memfd_create("apt", MFD_CLOEXEC);
	r = out < 0 ? err_sys(e, errno, "ask apt")
		    : run_program(ask, NULL, out, op ? &op->cancelled : NULL, e);
	if (r < 0)
		return r;
	lseek(out, 0, SEEK_SET);
	r = fd_read_all(out, MIB, &text, e);
	if (r < 0)
		return r;
	/* A meta package depends on the real one; a real one on nothing of that name. */
	for (char *l = text.s ? strtok_r(text.s, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		const char *p = strstr(l, "Depends: linux-image-");

		if (p && !package[0])
			snprintf(package, sizeof(package), "%s", p + strlen("Depends: "));
	}
	get[5] = package[0] ? package : meta;
	r = run_program(get, b->root, -1, op ? &op->cancelled : NULL, e);
	if (r < 0)
		return err_wrap(e, r, "download '%s'", get[5]);
	d = opendir(b->root);
	while (d && (de = readdir(d))) {
		if (str_ends(de->d_name, ".deb")) {
			snprintf(deb, len, "%s/%s", b->root, de->d_name);
			return 0;
		}
	}
	return err_set(e, ENOENT, "image.kernel", "apt-get downloaded nothing for '%s'", get[5]);
}

static int find_version(struct build *b, struct err **e)
{
	char boot[4200];
	_cleanup_(closedirp) DIR *d = NULL;
	struct dirent *de;

	snprintf(boot, sizeof(boot), "%s/x/boot", b->root);
	d = opendir(boot);
	while (d && (de = readdir(d))) {
		if (str_starts(de->d_name, "vmlinuz-") &&
		    strlen(de->d_name) - 8 < sizeof(b->version)) {
			strcpy(b->version, de->d_name + 8);
			return 0;
		}
	}
	return err_set(e, ENOENT, "image.kernel", "the package holds no kernel (boot/vmlinuz-*)");
}

static int make_initrd(struct build *b, const struct kernel_options *o, struct err **e)
{
	static const char *const dirs[] = { "dev", "proc", "sys", "newroot", "lib", "lib/modules" };
	_cleanup_(buf_done) struct buf init = { 0 };
	char path[4400];
	int r = find_init(o->init, &init, e);

	if (r < 0)
		return err_wrap(e, r, "strata-init");
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		cpio_dir(&b->cpio, dirs[i], 0755);
	cpio_node(&b->cpio, "dev/console", 0600, 5, 1);
	cpio_file(&b->cpio, "init", 0755, buf_str(&init), init.len);
	snprintf(path, sizeof(path), "%s/x/lib/modules/%s/kernel", b->root, b->version);
	r = scan_modules(b, path, 0, e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(wanted); i++)
		r = add_module(b, wanted[i], 0, e);
	if (r < 0)
		return r;
	cpio_file(&b->cpio, "lib/modules/order", 0644, buf_str(&b->order), b->order.len);
	cpio_finish(&b->cpio);
	return buf_error(&b->cpio.out) ? err_sys(e, ENOMEM, "make initramfs") : 0;
}

/* Everything into tmp/x/out, then by one rename to kernels/<version>. */
static int publish(struct build *b, struct err **e)
{
	_cleanup_(buf_done) struct buf meta = { 0 };
	char path[512], to[256], from[4600];
	_cleanup_(closep) int src = -1, dst = -1;
	int r;

	snprintf(path, sizeof(path), "%s/out", b->work);
	if (mkdirat(b->s->dir, path, 0755) < 0)
		return err_sys(e, errno, "make '%s'", path);
	snprintf(from, sizeof(from), "%s/x/boot/vmlinuz-%s", b->root, b->version);
	snprintf(path, sizeof(path), "%s/out/vmlinuz", b->work);
	src = open(from, O_RDONLY | O_CLOEXEC);
	dst = openat(b->s->dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (src < 0 || dst < 0)
		return err_sys(e, errno, "copy vmlinuz");
	r = fd_copy(src, dst, e);
	if (r == 0 && fsync(dst) < 0)
		r = err_sys(e, errno, "copy vmlinuz");
	snprintf(path, sizeof(path), "%s/out/initrd", b->work);
	if (r == 0)
		r = file_write_atomic(b->s->dir, path, b->cpio.out.s, b->cpio.out.len, 0644, e);
	buf_addf(&meta, "{\"version\":\"%s\",\"modules\":%zu}\n", b->version, b->all.n);
	snprintf(path, sizeof(path), "%s/out/kernel.json", b->work);
	if (r == 0)
		r = file_write_atomic(b->s->dir, path, buf_str(&meta), meta.len, 0644, e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/out", b->work);
	snprintf(to, sizeof(to), "kernels/%s", b->version);
	r = tree_remove(b->s->dir, to); /* installing again replaces it: strata-init may be newer */
	if (r < 0)
		return err_sys(e, -r, "replace '%s'", to);
	return renameat(b->s->dir, path, b->s->dir, to) < 0 ? err_sys(e, errno, "rename '%s'", path)
							    : 0;
}

int kernel_install(struct image_store *s, const struct kernel_options *o, char *version,
		   struct image_op *op, struct err **e)
{
	_cleanup_(build_done) struct build b = { .s = s };
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, op, e);
	_cleanup_(freep) char *real = realpath(s->path, NULL);
	char deb[8192], to[4200];
	const char *unpack[] = { "dpkg-deb", "-x", deb, to, NULL };
	int r;

	if (lock < 0)
		return lock;
	r = dir_make_temp(s->dir, "tmp/kernel-", b.work, sizeof(b.work));
	if (r < 0 || !real)
		return err_sys(e, r < 0 ? -r : ENOMEM, "install kernel");
	if (snprintf(b.root, sizeof(b.root), "%s/%s", real, b.work) >= (int)sizeof(b.root))
		return err_sys(e, ENAMETOOLONG, "install kernel");
	snprintf(to, sizeof(to), "%s/x", b.root);
	if (o->deb)
		snprintf(deb, sizeof(deb), "%s", o->deb);
	else
		r = fetch_deb(&b, o, deb, sizeof(deb), op, e);
	if (r == 0)
		r = run_program(unpack, NULL, -1, op ? &op->cancelled : NULL, e);
	if (r == 0)
		r = find_version(&b, e);
	if (r == 0)
		r = make_initrd(&b, o, e);
	if (r == 0)
		r = publish(&b, e);
	if (r < 0)
		return err_wrap(e, r, "install kernel");
	strcpy(version, b.version);
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	return strverscmp(((const struct kernel_info *)b)->version,
			  ((const struct kernel_info *)a)->version);
}

int kernel_list(struct image_store *s, struct kernel_info **ret, size_t *n, struct err **e)
{
	int fd = openat(s->dir, "kernels", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedirp) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	_cleanup_(freep) char *real = realpath(s->path, NULL);
	VEC(struct kernel_info) list = { 0 };
	struct dirent *de;

	if (!d || !real) {
		safe_close(d ? -1 : fd);
		return err_sys(e, errno, "list kernels");
	}
	while ((de = readdir(d))) {
		struct kernel_info k;

		if (de->d_name[0] == '.' || strlen(de->d_name) >= sizeof(k.version))
			continue;
		strcpy(k.version, de->d_name);
		snprintf(k.vmlinuz, sizeof(k.vmlinuz), "%.3800s/kernels/%s/vmlinuz", real,
			 k.version);
		snprintf(k.initrd, sizeof(k.initrd), "%.3800s/kernels/%s/initrd", real, k.version);
		if (vec_push(&list, k) < 0) {
			vec_done(&list);
			return err_sys(e, ENOMEM, "list kernels");
		}
	}
	if (list.n)
		qsort(list.v, list.n, sizeof(*list.v), newest_first);
	*ret = list.v;
	*n = list.n;
	return 0;
}

int kernel_find(struct image_store *s, const char *version, struct kernel_info *ret, struct err **e)
{
	_cleanup_(freep) struct kernel_info *list = NULL;
	size_t n;
	int r = kernel_list(s, &list, &n, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (!version || streq(list[i].version, version)) {
			*ret = list[i];
			return 0;
		}
	}
	if (!version)
		return err_set(e, ENOENT, "image.kernel_missing",
			       "no guest kernel is installed: kernel-install brings one");
	return err_set(e, ENOENT, "image.kernel_missing", "there is no guest kernel '%s'", version);
}

int kernel_remove(struct image_store *s, const char *version, struct err **e)
{
	_cleanup_(closep) int lock = -1;
	struct kernel_info k;
	char path[160];
	int r = kernel_find(s, version, &k, e);

	if (r < 0)
		return r;
	lock = store_lock(s, "lock", LOCK_EX, NULL, e);
	if (lock < 0)
		return lock;
	snprintf(path, sizeof(path), "kernels/%s", version);
	r = tree_remove(s->dir, path);
	return r < 0 ? err_sys(e, -r, "remove '%s'", path) : 0;
}
