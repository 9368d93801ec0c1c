/* See bootdisk.h.  Files of the image are hostile: what is changed from outside goes through open_beneath(), the rest
 * is done by a script inside the container. */
#include "image/bootdisk.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/atomicfile.h"
#include "image/foreign.h"
#include "image/fsutil.h"
#include "image/gpt.h"
#include "image/grub.h"
#include "image/rootfs.h"

#define SIZE_DEFAULT (4 * GIB)
#define SIZE_MIN     (128 * MIB)
#define BIOS_SIZE    (1 * MIB)
#define ESP_SIZE     (64 * MIB)

struct disk {
	struct image_store *s;
	const struct bootdisk_options *o;
	struct image_op *op;
	char tmp[64];	  /* below s->dir */
	char work[4096];  /* absolute */
	char tree[4200];  /* the root file system */
	int fd;		  /* of tree */
	struct uuid root; /* file system */
	char uuid[UUID_TEXT];
	char title[64];
	char kernel[256], initrd[256]; /* paths in the file system */
};

/* ---- what makes a container image a machine ---- */

static const char script[] =
	"set -e\n"
	"command -v apt-get >/dev/null || exit 42\n"
	"rm -f /etc/resolv.conf; printf '%s' \"$RESOLV\" >/etc/resolv.conf\n"
	"[ -e /usr/sbin/policy-rc.d ] || { ours=1; printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d\n"
	"	chmod 755 /usr/sbin/policy-rc.d; }\n"
	"apt-get -q update\n"
	"apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io \\\n"
	"	-o Dpkg::Options::=--force-confold install $PACKAGES\n"
	"apt-get clean\n"
	"[ -z \"$ours\" ] || rm -f /usr/sbin/policy-rc.d\n"
	/* each copy gets its own identity at its first boot */
	"rm -rf /etc/ssh/ssh_host_*_key* /var/lib/dbus/machine-id /var/lib/systemd/random-seed\n"
	"rm -rf /var/lib/apt/lists/* /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log /tmp/* /var/tmp/*\n"
	": >/etc/machine-id\n"
	"printf 'UUID=%s / ext4 errors=remount-ro 0 1\\n' \"$ROOT_UUID\" >/etc/fstab\n"
	"[ -s /etc/hostname ] || echo debian >/etc/hostname\n"
	"[ -e /etc/hosts ] || printf '127.0.0.1\\tlocalhost\\n::1\\tlocalhost ip6-localhost ip6-loopback\\n' >/etc/hosts\n"
	"systemctl -q enable systemd-networkd systemd-resolved 2>/dev/null || true\n"
	"if [ -d /etc/cloud/cloud.cfg.d ]; then\n"
	"	printf 'datasource_list: [NoCloud, None]\\nsystem_info:\\n  network:\\n    renderers: [networkd]\\nlocale: false\\n' \\\n"
	"		>/etc/cloud/cloud.cfg.d/95_strata.cfg\n"
	"fi\n"
	"rm -f /etc/resolv.conf\n"
	"ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf\n";

/* The container: docker's usual capabilities without those for sockets, the host's network for apt. */
static const char container[] =
	"{\"ociVersion\":\"1.1.0\",\"process\":{\"user\":{\"uid\":0,\"gid\":0},\"cwd\":\"/\",\"noNewPrivileges\":false,"
	"\"capabilities\":{\"bounding\":[],\"effective\":[],\"permitted\":[]}},"
	"\"root\":{\"path\":\"rootfs\"},\"hostname\":\"localhost\",\"mounts\":["
	"{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
	"{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"mode=755\",\"size=64m\"]},"
	"{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\","
	"\"options\":[\"nosuid\",\"noexec\",\"newinstance\",\"ptmxmode=0666\",\"mode=0620\",\"gid=5\"]},"
	"{\"destination\":\"/sys\",\"type\":\"none\",\"source\":\"/sys\",\"options\":[\"rbind\",\"ro\",\"nosuid\",\"noexec\",\"nodev\"]},"
	"{\"destination\":\"/run\",\"type\":\"tmpfs\",\"source\":\"tmpfs\",\"options\":[\"nosuid\",\"nodev\",\"mode=755\"]}],"
	"\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":\"ipc\"},{\"type\":\"uts\"}],"
	"\"maskedPaths\":[\"/proc/kcore\",\"/proc/keys\",\"/proc/timer_list\",\"/sys/firmware\"],"
	"\"readonlyPaths\":[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\",\"/proc/sys\",\"/proc/sysrq-trigger\"]}}";

static const char *const caps[] = {
	"CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",      "CAP_FOWNER",
	"CAP_MKNOD",   "CAP_SETGID",	   "CAP_SETUID",      "CAP_SETFCAP",
	"CAP_SETPCAP", "CAP_KILL",	   "CAP_AUDIT_WRITE", "CAP_SYS_CHROOT",
};

static const char *const usual_packages =
	"systemd-sysv systemd-resolved udev dbus cloud-init cloud-guest-utils "
	"openssh-server sudo iproute2 e2fsprogs zstd";

static bool package_valid(const char *s)
{
	return *s && *s != '-' && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.+-") == strlen(s);
}

static int package_list(const struct bootdisk_options *o, struct buf *b, struct err **e)
{
	const char *kernel = o->kernel ? o->kernel : "linux-image-cloud-amd64";
	const char *bad = package_valid(kernel) ? NULL : kernel;

	buf_addf(b, "PACKAGES=%s %s", kernel, usual_packages);
	for (const char *const *p = o->packages; p && *p && !bad; p++) {
		bad = package_valid(*p) ? NULL : *p;
		buf_addf(b, " %s", *p);
	}
	return bad ? err_set(e, EINVAL, "image.bootstrap", "'%s' is no package", bad) : 0;
}

static int build_config(struct disk *d, struct buf *out, struct err **e)
{
	static const char *const sets[] = { "bounding", "effective", "permitted" };
	_cleanup_(buf_done) struct buf packages = { 0 }, resolv = { 0 };
	_cleanup_(json_freep) struct json *v = NULL;
	struct json *process, *args = json_new_arr(), *env = json_new_arr();
	int r = package_list(d->o, &packages, e);

	if (r == 0)
		r = json_parse(container, strlen(container), NULL, &v, e);
	if (r < 0) {
		json_free(args);
		json_free(env);
		return r;
	}
	buf_adds(&resolv, "RESOLV=");
	file_read(AT_FDCWD, "/etc/resolv.conf", 64 * KIB, &resolv,
		  NULL); /* none: perhaps no need */
	process = json_edit(v, "process");
	r = json_push(args, json_new_str("/bin/sh"));
	r = json_push(args, json_new_str("-c")) ?: r;
	r = json_push(args, json_new_str(script)) ?: r;
	r = json_push(env, json_new_str("PATH=/usr/sbin:/usr/bin:/sbin:/bin")) ?: r;
	r = json_push(env, json_new_str("DEBIAN_FRONTEND=noninteractive")) ?: r;
	r = json_push(env, json_new_str("LC_ALL=C.UTF-8")) ?: r;
	r = json_push(env, json_new_fmt("ROOT_UUID=%s", d->uuid)) ?: r;
	r = json_push(env, json_new_str(buf_str(&packages))) ?: r;
	r = json_push(env, json_new_str(buf_str(&resolv))) ?: r;
	r = json_set(process, "args", args) ?: r;
	r = json_set(process, "env", env) ?: r;
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		struct json *set = json_edit(json_edit(process, "capabilities"), sets[i]);

		for (size_t k = 0; k < ARRAY_SIZE(caps); k++)
			r = json_push(set, json_new_str(caps[k])) ?: r;
	}
	r = json_print(v, JSON_COMPACT, out) ?: r;
	return r < 0 ? err_sys(e, -r, "container config") : 0;
}

/* The runtime beside this program (a build tree), else in PATH. */
static void find_runtime(char *path, size_t len)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[MAX(n, 0)] = '\0';
	for (int up = 0; up < 2; up++) {
		slash = strrchr(self, '/');
		if (!slash)
			break;
		*slash = '\0';
		snprintf(path, len, "%.4000s/%s", self, up ? "container/strata-oci" : "strata-oci");
		if (access(path, X_OK) == 0)
			return;
	}
	snprintf(path, len, "strata-oci");
}

static int install(struct disk *d, struct err **e)
{
	_cleanup_(buf_done) struct buf config = { 0 };
	_cleanup_(err_freep) struct err *why = NULL;
	char runtime[4200], path[4200], state[4200], id[64];
	const char *const run[] = { runtime, "--root", state, "run", "-b", d->work, id, NULL };
	const char *const drop[] = { runtime, "--root", state, "delete", "--force", id, NULL };
	struct image_progress p = { IMAGE_RUN, "apt-get install", 0, 0, false, false };
	int r = build_config(d, &config, e);

	if (r < 0)
		return r;
	find_runtime(runtime, sizeof(runtime));
	snprintf(path, sizeof(path), "%s/config.json", d->work);
	snprintf(state, sizeof(state), "%s/state", d->work);
	snprintf(id, sizeof(id), "%s", strrchr(d->tmp, '/') + 1);
	r = file_write_atomic(AT_FDCWD, path, buf_str(&config), config.len, 0600, e);
	if (r < 0)
		return r;
	image_op_report(d->op, &p);
	r = run_program(run, NULL, -1, d->op ? &d->op->cancelled : NULL, &why);
	if (r < 0) /* whatever of it still runs */
		run_program(drop, NULL, -1, NULL, NULL);
	if (r < 0 && strstr(err_msg(why), "with status 42"))
		return err_set(e, ENOTSUP, "image.no_kernel",
			       "the image holds no kernel (/vmlinuz or /boot/vmlinuz-*) and no "
			       "apt-get that could install one");
	if (r < 0) {
		err_move(e, &why);
		return r;
	}
	p.finished = true;
	image_op_report(d->op, &p);
	return 0;
}

/* ---- the kernel in the image ---- */

static bool is_file(const struct disk *d, const char *path)
{
	struct stat st;
	_cleanup_(closep) int fd = open_in_root(d->fd, path, O_PATH);

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
}

/* The newest /boot/vmlinuz-VERSION. */
static bool newest_kernel(const struct disk *d, char version[128])
{
	int fd = open_beneath(d->fd, "boot", O_RDONLY | O_DIRECTORY, 0);
	_cleanup_(closedirp) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	version[0] = '\0';
	while (dir && (de = readdir(dir))) {
		const char *v = de->d_name + strlen("vmlinuz-");

		/* a name that GRUB's language cannot misread */
		if (str_starts(de->d_name, "vmlinuz-") && strlen(v) < 128 && *v &&
		    strspn(v,
			   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") ==
			    strlen(v) &&
		    strverscmp(v, version) > 0)
			strcpy(version, v);
	}
	return version[0];
}

static bool find_kernel(struct disk *d)
{
	static const char *const initrds[][2] = { { "initrd.img-", "" },
						  { "initrd-", "" },
						  { "initramfs-", ".img" } };
	char version[128];

	d->initrd[0] = '\0';
	if (is_file(d, "vmlinuz")) { /* links that Debian keeps at the newest */
		strcpy(d->kernel, "/vmlinuz");
		if (is_file(d, "initrd.img"))
			strcpy(d->initrd, "/initrd.img");
		return true;
	}
	if (!newest_kernel(d, version))
		return false;
	snprintf(d->kernel, sizeof(d->kernel), "/boot/vmlinuz-%s", version);
	for (size_t i = 0; i < ARRAY_SIZE(initrds) && !d->initrd[0]; i++) {
		snprintf(d->initrd, sizeof(d->initrd), "/boot/%s%s%s", initrds[i][0], version,
			 initrds[i][1]);
		if (!is_file(d, d->initrd + 1))
			d->initrd[0] = '\0';
	}
	return true;
}

/* PRETTY_NAME of os-release, as far as GRUB's language takes it literally. */
static void find_title(struct disk *d)
{
	_cleanup_(closep) int fd =
		open_in_root(d->fd, "etc/os-release", O_RDONLY | O_NONBLOCK | O_NOCTTY);
	_cleanup_(buf_done) struct buf text = { 0 };
	const char *p;
	size_t n = 0;

	strcpy(d->title, "Linux");
	if (fd < 0 || fd_read_all(fd, 64 * KIB, &text, NULL) < 0)
		return;
	p = strstr(buf_str(&text), "PRETTY_NAME=\"");
	for (p = p ? p + strlen("PRETTY_NAME=\"") : ""; *p && *p != '"' && n + 1 < sizeof(d->title);
	     p++) {
		if (*p >= ' ' && *p < 127 && *p != '\'' && *p != '\\')
			d->title[n++] = *p;
	}
	if (n)
		d->title[n] = '\0';
}

static int write_grub_config(struct disk *d, struct err **e)
{
	_cleanup_(closep) int boot = -1, grub = -1, fd = -1;
	_cleanup_(freep) char *text = NULL;
	int r;

	find_title(d);
	text = grub_config(d->title, d->uuid, d->kernel, d->initrd[0] ? d->initrd : NULL,
			   d->o->cmdline);
	if (!text)
		return err_sys(e, ENOMEM, "grub");
	if (mkdirat(d->fd, "boot", 0755) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make '/boot'");
	boot = open_beneath(d->fd, "boot", O_RDONLY | O_DIRECTORY, 0);
	if (boot >= 0 && mkdirat(boot, "grub", 0755) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make '/boot/grub'");
	grub = boot < 0 ? boot : open_beneath(boot, "grub", O_RDONLY | O_DIRECTORY, 0);
	if (grub < 0)
		return err_sys(e, -grub, "make '/boot/grub'");
	r = tree_remove(grub, "grub.cfg");
	if (r < 0)
		return err_sys(e, -r, "replace '/boot/grub/grub.cfg'");
	fd = openat(grub, "grub.cfg", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys(e, errno, "create '/boot/grub/grub.cfg'");
	r = write_all(fd, text, strlen(text));
	return r < 0 ? err_sys(e, -r, "write '/boot/grub/grub.cfg'") : 0;
}

/* ---- the disk ---- */

static int make_root_fs(struct disk *d, const char *raw, uint64_t start, uint64_t size,
			struct err **e)
{
	char ext[96], blocks[32];
	/* GRUB 2.06 reads neither of the two features that younger mke2fs turns on */
	const char *const argv[] = { "mke2fs",
				     "-q",
				     "-F",
				     "-t",
				     "ext4",
				     "-b",
				     "4096",
				     "-L",
				     "root",
				     "-U",
				     d->uuid,
				     "-O",
				     "^metadata_csum_seed,^orphan_file",
				     "-E",
				     ext,
				     "-d",
				     d->tree,
				     raw,
				     blocks,
				     NULL };
	int r;

	snprintf(ext, sizeof(ext), "offset=%llu,root_owner=0:0,nodiscard,lazy_itable_init=0",
		 (unsigned long long)start);
	snprintf(blocks, sizeof(blocks), "%llu", (unsigned long long)(size / 4096));
	r = run_program(argv, NULL, -1, d->op ? &d->op->cancelled : NULL, e);
	return r < 0 ? err_wrap(e, r, "make the root file system (is %llu MiB enough?)",
				(unsigned long long)(size >> 20))
		     : 0;
}

static int add_esp(struct disk *d, int raw, const struct gpt_part *part, struct err **e)
{
	_cleanup_(closep) int fd = -1;
	char path[4200];
	int r;

	snprintf(path, sizeof(path), "%s/esp.img", d->work);
	r = grub_make_esp(path, part->size, d->uuid, d->work, d->op, e);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, errno, "open '%s'", path) : fd_copy_to(fd, raw, part->start, e);
}

static int make_raw(struct disk *d, const char *path, struct err **e)
{
	_cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint64_t size = d->o->size ? d->o->size : SIZE_DEFAULT, at = GPT_ALIGN;
	struct gpt_part parts[3] = {
		{ .type = GPT_TYPE_BIOS_BOOT, .name = "bios", .size = BIOS_SIZE },
		{ .type = GPT_TYPE_ESP, .name = "efi", .size = ESP_SIZE },
		{ .type = GPT_TYPE_ROOT_X86, .name = "root" }
	};
	int r = 0;

	parts[2].size = size - 2 * (uint64_t)GPT_ALIGN - BIOS_SIZE - ESP_SIZE;
	for (size_t i = 0; i < ARRAY_SIZE(parts); at += parts[i++].size) {
		parts[i].start = at;
		parts[i].id = uuid_v4();
	}
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return err_sys(e, errno, "create '%s'", path);
	r = make_root_fs(d, path, parts[2].start, parts[2].size, e);
	if (r == 0)
		r = gpt_write(fd, size, parts, ARRAY_SIZE(parts), e);
	if (r == 0)
		r = grub_install_bios(fd, parts[0].start, parts[0].size, d->uuid, d->work, d->op,
				      e);
	if (r == 0 && grub_have_efi())
		r = add_esp(d, fd, &parts[1], e);
	return r;
}

static int make(struct disk *d, const struct image_parts *p, const char *path, struct err **e)
{
	struct image_progress done = { IMAGE_PACK, path, 0, 0, true, false };
	char raw[4200];
	int r;

	snprintf(d->tree, sizeof(d->tree), "%s/rootfs", d->work);
	if (mkdir(d->tree, 0755) < 0 || chmod(d->tree, 0755) < 0 ||
	    (d->fd = open(d->tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_sys(e, errno, "make '%s'", d->tree);
	r = rootfs_copy(d->s, p, d->fd, d->op, e);
	if (r == 0 && !find_kernel(d)) {
		r = install(d, e);
		if (r == 0 && !find_kernel(d))
			r = err_set(e, ENOTSUP, "image.no_kernel",
				    "the package '%s' brought no kernel",
				    d->o->kernel ? d->o->kernel : "linux-image-cloud-amd64");
	}
	if (r == 0)
		r = write_grub_config(d, e);
	snprintf(raw, sizeof(raw), "%s/disk.raw", d->work);
	if (r == 0)
		r = make_raw(d, raw, e);
	if (r == 0)
		r = foreign_convert(raw, "raw", path, d->o->format, d->op, e);
	if (r == 0)
		image_op_report(d->op, &done);
	return r;
}

static int check_options(const struct bootdisk_options *o, struct err **e)
{
	if (o->size && (o->size < SIZE_MIN || o->size % MIB || o->size > 64 * 1024 * GIB))
		return err_set(e, EINVAL, "image.disk_size",
			       "a bootable disk has whole MiB, at least %llu",
			       (unsigned long long)(SIZE_MIN / MIB));
	for (const char *c = o->cmdline; c && *c; c++) { /* it becomes a line of GRUB's language */
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.:=/_-+@%",
			    *c))
			return err_set(e, EINVAL, "image.cmdline",
				       "'%c' cannot be in the kernel's command line here", *c);
	}
	return 0;
}

int bootdisk_make(struct image_store *s, const char *name, const char *path,
		  const struct bootdisk_options *o, struct image_op *op, struct err **e)
{
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, op, e);
	_cleanup_(parts_done) struct image_parts p = { 0 };
	_cleanup_(freep) char *real = realpath(s->path, NULL);
	struct disk d = { .s = s, .o = o, .op = op, .fd = -1, .root = uuid_v4() };
	struct image_desc desc;
	int r = lock < 0 ? lock : check_options(o, e);

	if (r == 0)
		r = index_find(s, name, &desc, e);
	if (r == 0)
		r = parts_read(s, &desc, NULL, &p, e);
	if (r == 0 && access(path, F_OK) == 0)
		r = err_set(e, EEXIST, "image.exists", "'%s' exists", path);
	if (r < 0)
		return err_wrap(e, r, "bootable disk of '%s'", name);
	uuid_format(&d.root, d.uuid);
	r = dir_make_temp(s->dir, "tmp/disk-", d.tmp, sizeof(d.tmp));
	if (r < 0 || !real)
		return err_sys(e, r < 0 ? -r : ENOMEM, "make a temporary folder");
	snprintf(d.work, sizeof(d.work), "%.3900s/%s", real, d.tmp);
	r = make(&d, &p, path, e);
	safe_close(d.fd);
	tree_remove(s->dir, d.tmp);
	return r < 0 ? err_wrap(e, r, "bootable disk of '%s'", name) : 0;
}
