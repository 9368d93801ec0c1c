/* Mounts, modules, the root file system.  Everything the image sees is mounted here. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include "base/atomicfile.h"
#include "base/str.h"
#include "guest/init.h"

#define ROOT	  "/newroot"
#define MODULES	  "/lib/modules"
#define LAYER_MAX 64

static int mount_at(const char *type, const char *target, unsigned long flags, const char *data)
{
	if (mkdir(target, 0755) < 0 && errno != EEXIST)
		return -errno;
	return mount(type, target, type, flags, data) < 0 ? -errno : 0;
}

static void load_module(const char *name)
{
	char path[256];
	_cleanup_(closep) int fd = -1;

	snprintf(path, sizeof(path), MODULES "/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 ||
	    (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV))
		say("module %s: %s", name, strerror(errno));
}

static void load_modules(void)
{
	_cleanup_(buf_done) struct buf list = { 0 };
	char *save = NULL;

	if (file_read(AT_FDCWD, MODULES "/order", MIB, &list, NULL) < 0 || !list.s)
		return;
	for (char *m = strtok_r(list.s, "\n", &save); m; m = strtok_r(NULL, "\n", &save))
		load_module(m);
}

int setup_early(void)
{
	int r = mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);

	if (r == 0 || r == -EBUSY)
		r = mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (r == 0 || r == -EBUSY)
		r = mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
	load_modules();
	return r == -EBUSY ? 0 : r;
}

int setup_config_fw(struct buf *ret)
{
	return file_read(AT_FDCWD, "/sys/firmware/qemu_fw_cfg/by_name/" GUEST_FW_CFG "/raw",
			 16 * MIB, ret, NULL);
}

/* The block device whose virtio serial is `serial`, waiting for it to appear: probing is asynchronous. */
static int find_disk(const char *serial, char *dev, size_t len, struct err **e)
{
	for (int i = 0; i < 500; i++) {
		_cleanup_(closedirp) DIR *d = opendir("/sys/block");
		struct dirent *de;

		while (d && (de = readdir(d))) {
			_cleanup_(buf_done) struct buf text = { 0 };
			char path[320];

			snprintf(path, sizeof(path), "/sys/block/%s/serial", de->d_name);
			if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
				continue;
			while (text.len && strchr("\n ", text.s[text.len - 1]))
				text.s[--text.len] = '\0';
			snprintf(path, sizeof(path), "/dev/%s", de->d_name);
			if (streq(buf_str(&text), serial) && access(path, F_OK) == 0) {
				snprintf(dev, len, "/dev/%.40s", de->d_name);
				return 0;
			}
		}
		usleep(10000);
	}
	return err_set(e, ENODEV, "guest.disk", "there is no disk with the serial '%s'", serial);
}

static int mount_disk(const char *dev, const char *target, bool rw, struct err **e)
{
	static const char *const types[] = { "erofs", "squashfs", "ext4", "xfs", "btrfs" };

	if (mkdir(target, 0700) < 0 && errno != EEXIST)
		return err_sys(e, errno, "make '%s'", target);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (mount(dev, target, types[i], rw ? 0 : MS_RDONLY, NULL) == 0)
			return 0;
		if (errno != EINVAL && errno != ENODEV)
			return err_sys(e, errno, "mount '%s' as %s", dev, types[i]);
	}
	return err_set(e, EINVAL, "guest.disk", "'%s' has no file system that this kernel knows",
		       dev);
}

/* The private part: a disk, or memory. */
static int mount_upper(const struct json_in *config, struct err **e)
{
	const char *serial = NULL;
	char dev[64];
	int r = json_opt_str(config, "upper", &serial, e);

	if (r < 0)
		return r;
	if (serial) {
		r = find_disk(serial, dev, sizeof(dev), e);
		if (r == 0)
			r = mount_disk(dev, "/upper", true, e);
	} else {
		r = mount_at("tmpfs", "/upper", 0, "mode=0755");
		if (r < 0)
			err_sys(e, -r, "mount a private part in memory");
	}
	if (r == 0 && ((mkdir("/upper/upper", 0755) < 0 && errno != EEXIST) ||
		       (mkdir("/upper/work", 0700) < 0 && errno != EEXIST)))
		r = err_sys(e, errno, "make the private part");
	return r;
}

static int mount_layers(const struct json_in *config, struct err **e)
{
	_cleanup_(strv_freep) char **layers = NULL;
	_cleanup_(buf_done) struct buf opts = { 0 };
	struct stat st;
	char target[32], dev[64];
	size_t n;
	int r = json_need_strv(config, "layers", &layers, e);

	if (r < 0)
		return r;
	n = strv_len(layers);
	if (n == 0 || n > LAYER_MAX)
		return err_set(e, EINVAL, "guest.config", "%zu layers, expected 1 to %d", n,
			       LAYER_MAX);
	for (size_t i = 0; i < n; i++) {
		snprintf(target, sizeof(target), "/l%zu", i);
		r = find_disk(layers[i], dev, sizeof(dev), e);
		if (r == 0)
			r = mount_disk(dev, target, false, e);
		if (r < 0)
			return err_wrap(e, r, "layer '%s'", layers[i]);
	}
	r = mount_upper(config, e);
	if (r < 0)
		return r;
	if (stat(target, &st) == 0 && (chmod("/upper/upper", st.st_mode & 07777) < 0 ||
				       chown("/upper/upper", st.st_uid, st.st_gid) < 0))
		return err_sys(e, errno, "make the private part");
	buf_adds(&opts, "lowerdir=");
	for (size_t i = n; i-- > 0;)
		buf_addf(&opts, "/l%zu%s", i, i ? ":" : "");
	buf_adds(&opts, ",upperdir=/upper/upper,workdir=/upper/work");
	mkdir(ROOT, 0755);
	if (mount("overlay", ROOT, "overlay", 0, buf_str(&opts)) < 0)
		return err_sys(e, errno, "mount the root file system");
	return 0;
}

static void dev_links(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", ROOT "/dev/fd" },
		{ "/proc/self/fd/0", ROOT "/dev/stdin" },
		{ "/proc/self/fd/1", ROOT "/dev/stdout" },
		{ "/proc/self/fd/2", ROOT "/dev/stderr" },
		{ "pts/ptmx", ROOT "/dev/ptmx" },
	};

	unlink(ROOT "/dev/ptmx"); /* devtmpfs' own belongs to another devpts */
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
			say("%s: %s", links[i][1], strerror(errno));
	}
}

static int mount_kernel_fs(struct err **e)
{
	static const struct {
		const char *type, *target, *data;
		unsigned long flags;
		bool must;
	} list[] = {
		{ "proc", ROOT "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true },
		{ "sysfs", ROOT "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true },
		{ "devtmpfs", ROOT "/dev", "mode=0755", MS_NOSUID, true },
		{ "devpts", ROOT "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5",
		  MS_NOSUID | MS_NOEXEC, true },
		{ "tmpfs", ROOT "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV, true },
		{ "mqueue", ROOT "/dev/mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false },
		{ "cgroup2", ROOT "/sys/fs/cgroup", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false },
		{ "tmpfs", ROOT "/run", "mode=0755", MS_NOSUID | MS_NODEV, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		int r = mount_at(list[i].type, list[i].target, list[i].flags, list[i].data);

		if (r < 0 && list[i].must)
			return err_sys(e, -r, "mount '%s'", list[i].target + strlen(ROOT));
	}
	dev_links();
	return 0;
}

/* Shares of the host and further disks: {type, source (virtiofs tag or disk serial), target, readonly}. */
static int mount_more(const struct json_in *config, struct err **e)
{
	struct json_in list;
	int r = json_opt_arr(config, "mounts", &list, e);

	for (size_t i = 0; r == 1 && i < json_in_len(&list); i++) {
		struct json_in m = json_in_item(&list, i);
		const char *type = NULL, *source = NULL, *target = NULL;
		bool readonly = false;
		char dev[64], path[4096];
		int k = json_need_str(&m, "type", &type, e);

		if (k == 0)
			k = json_need_str(&m, "source", &source, e);
		if (k == 0)
			k = json_need_str(&m, "target", &target, e);
		if (k == 0)
			k = json_opt_bool(&m, "readonly", &readonly, e);
		if (k < 0)
			return k;
		if (streq(type, "disk")) {
			k = find_disk(source, dev, sizeof(dev), e);
			if (k < 0)
				return k;
		}
		/* After the change of root: links in the image mean what they mean there. */
		snprintf(path, sizeof(path), "%s", target);
		for (char *p = path + 1; *p; p++) {
			if (*p == '/') {
				*p = '\0';
				mkdir(path, 0755);
				*p = '/';
			}
		}
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return err_sys(e, errno, "make '%s'", target);
		if (streq(type, "disk"))
			k = mount_disk(dev, path, !readonly, e);
		else if (mount(source, path, type, readonly ? MS_RDONLY : 0, NULL) < 0)
			k = err_sys(e, errno, "mount %s '%s' on '%s'", type, source, target);
		if (k < 0)
			return k;
	}
	return r < 0 ? r : 0;
}

int setup_root(const struct json_in *config, struct err **e)
{
	int r = mount_layers(config, e);

	if (r == 0)
		r = mount_kernel_fs(e);
	if (r < 0)
		return r;
	/* What switch_root does: the initramfs is memory, so its files go first. */
	unlink("/init");
	if (chdir(ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return err_sys(e, errno, "change to the root file system");
	return mount_more(config, e);
}

/* The image's file is kept unless it is empty or missing, as containers do with /etc/hosts and the like. */
static void write_etc(const char *path, const struct buf *text)
{
	_cleanup_(closep) int fd = -1;

	mkdir("/etc", 0755);
	unlink(path); /* often a link to a file of systemd's that will never be there */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || write_all(fd, buf_str(text), text->len) < 0)
		say("%s: %s", path, strerror(errno));
}

static int write_resolv(const struct json_in *config, struct err **e)
{
	_cleanup_(strv_freep) char **servers = NULL, **search = NULL;
	_cleanup_(buf_done) struct buf text = { 0 };
	struct json_in dns;
	int r = json_opt_obj(config, "dns", &dns, e);

	if (r <= 0)
		return r;
	r = json_opt_strv(&dns, "servers", &servers, e);
	if (r >= 0)
		r = json_opt_strv(&dns, "search", &search, e);
	if (r < 0)
		return r;
	for (char **s = search; s && *s; s++)
		buf_addf(&text, "%s%s%s", s == search ? "search " : " ", *s, s[1] ? "" : "\n");
	for (char **s = servers; s && *s; s++)
		buf_addf(&text, "nameserver %s\n", *s);
	if (text.len)
		write_etc("/etc/resolv.conf", &text);
	return 0;
}

int setup_host(const struct json_in *config, struct err **e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	const char *name = NULL;
	struct json_in sysctl;
	int r = json_opt_str(config, "hostname", &name, e);

	if (r == 1) {
		if (sethostname(name, strlen(name)) < 0)
			return err_sys(e, errno, "set host name '%s'", name);
		buf_addf(&text, "%s\n", name);
		write_etc("/etc/hostname", &text);
		buf_clear(&text);
		buf_addf(&text,
			 "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\t%s\n",
			 name);
		write_etc("/etc/hosts", &text);
	}
	if (r >= 0)
		r = write_resolv(config, e);
	if (r >= 0)
		r = json_opt_obj(config, "sysctl", &sysctl, e);
	if (r <= 0)
		return r;
	for (struct json_iter it = json_iter(sysctl.v); json_next(&it);) {
		_cleanup_(closep) int fd = -1;
		char path[256];

		snprintf(path, sizeof(path), "/proc/sys/%s", it.key);
		for (char *p = path + 10; *p; p++)
			*p = *p == '.' ? '/' : *p;
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || !json_str(it.value) ||
		    write_all(fd, json_str(it.value), json_len(it.value)) < 0)
			return err_sys(e, errno, "sysctl '%s'", it.key);
	}
	return 0;
}
