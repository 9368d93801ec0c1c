/* What an instance has on disk: its folder, its writable layer (with a quota: a file system of its own in a file), and the root
 * put together from image and layer.
 *
 * STATE/instances/ID/layer/{upper,work}   without a quota
 * STATE/instances/ID/layer.img            with: ext4, mounted on .../layer through a loop device, which goes with the mount
 * RUN/instances/ID/rootfs                 the root, while it runs */
#include <fcntl.h>
#include <ftw.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/str.h"
#include "node/instance/instance.h"
#include "node/instance/plan_vm.h"
#include "node/instance/rootfs.h"
#include "sys/proc.h"

#define LOOP_TRIES 64

static int make_dir(const char *path, mode_t mode, struct err **e)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return err_sys(e, errno, "create '%s'", path);
	return 0;
}

int instance_dirs(struct instance *i, struct err **e)
{
	char path[4096];
	int r = make_dir(i->dir, 0711, e);

	if (r == 0)
		r = make_dir(i->run, 0711, e);
	snprintf(path, sizeof(path), "%s/bundle", i->run);
	if (r == 0)
		r = make_dir(path, 0711, e);
	snprintf(path, sizeof(path), "%s/rootfs", i->run);
	if (r == 0)
		r = make_dir(path, 0711, e);
	return r;
}

int instance_make_layer(struct instance *i, struct image_op *op, struct err **e)
{
	_cleanup_(api_instance_spec_done) struct api_instance_spec s = { 0 };
	char path[4096];
	int r = make_dir(i->dir, 0711, e);

	snprintf(path, sizeof(path), "%s/layer", i->dir);
	if (r == 0)
		r = make_dir(path, 0711, e);
	if (r == 0)
		r = api_instance_spec_parse(&s, i->object->spec, GEN_TRUSTED, e);
	if (r == 0 && s.kind == API_INSTANCE_KIND_VM)
		return instance_make_disks(i, op, e);
	if (r < 0 || !s.root.has_size)
		return r;
	snprintf(path, sizeof(path), "%s/layer.img", i->dir);
	return access(path, F_OK) == 0 ? 0 : disks_make_upper(path, s.root.size, op, e);
}

/* A free loop device that carries the file and forgets it with its last user.  Another program may take the one that was free. */
static int loop_open(const char *file, char dev[32], struct err **e)
{
	_cleanup_(closep) int backing = open(file, O_RDWR | O_CLOEXEC);
	_cleanup_(closep) int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config cfg = { .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO };

	if (backing < 0)
		return err_sys(e, errno, "open '%s'", file);
	if (ctl < 0)
		return err_sys(e, errno, "open /dev/loop-control: quotas need loop devices");
	cfg.fd = (uint32_t)backing;
	for (int tries = 0; tries < LOOP_TRIES; tries++) {
		int n = ioctl(ctl, LOOP_CTL_GET_FREE), fd;

		if (n < 0)
			return err_sys(e, errno, "find a free loop device");
		snprintf(dev, 32, "/dev/loop%d", n);
		fd = open(dev, O_RDWR | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT) { /* a /dev that nobody fills */
			mknod(dev, S_IFBLK | 0660, (dev_t)(7U << 8) | (dev_t)n);
			fd = open(dev, O_RDWR | O_CLOEXEC);
		}
		if (fd < 0)
			return err_sys(e, errno, "open '%s'", dev);
		if (ioctl(fd, LOOP_CONFIGURE, &cfg) == 0)
			return fd;
		if (errno == EINVAL && (cfg.info.lo_flags & LO_FLAGS_DIRECT_IO))
			cfg.info.lo_flags = LO_FLAGS_AUTOCLEAR;
		else if (errno != EBUSY) {
			close(fd);
			return err_sys(e, errno, "attach '%s' to '%s'", file, dev);
		}
		close(fd);
	}
	return err_set(e, EBUSY, "loop.busy", "no loop device could be had");
}

bool path_mounted(const char *path)
{
	struct stat st, up;
	char parent[4096];

	snprintf(parent, sizeof(parent), "%s/..", path);
	return stat(path, &st) == 0 && stat(parent, &up) == 0 && st.st_dev != up.st_dev;
}

int loop_mount(const char *file, const char *dir, struct err **e)
{
	char dev[32];
	_cleanup_(closep) int fd = loop_open(file, dev, e);

	if (fd < 0)
		return fd;
	if (mount(dev, dir, "ext4", MS_NODEV | MS_NOATIME, "") < 0)
		return err_sys(e, errno, "mount '%s'", file);
	return 0;
}

static int mount_layer(struct instance *i, struct err **e)
{
	char img[4096], dir[4096];

	snprintf(img, sizeof(img), "%s/layer.img", i->dir);
	snprintf(dir, sizeof(dir), "%s/layer", i->dir);
	return access(img, F_OK) < 0 || path_mounted(dir) ? 0 : loop_mount(img, dir, e);
}

/* A user namespace with the map of all our containers, for the view of the image's layers. */
static int userns(struct instances *all, const struct engine_plan *p, struct err **e)
{
	int pidfd = -1, gate[2], r = 0;
	char path[64], map[64];
	pid_t pid;

	if (all->userns >= 0)
		return all->userns;
	if (pipe2(gate, O_CLOEXEC) < 0)
		return err_sys(e, errno, "pipe");
	pid = sys_clone3(CLONE_NEWUSER, SIGCHLD, &pidfd, -1);
	if (pid == 0) {
		char c;

		close(gate[1]);
		while (read(gate[0], &c, 1) < 0 && errno == EINTR)
			;
		_exit(0);
	}
	close(gate[0]);
	if (pid < 0) {
		close(gate[1]);
		return err_sys(e, (int)-pid, "make a user namespace");
	}
	snprintf(map, sizeof(map), "0 %u %u\n", p->id_base, p->id_count);
	for (int k = 0; k < 2 && r == 0; k++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, k ? "gid_map" : "uid_map");
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, map, strlen(map)) < 0)
			r = err_sys(e, errno, "write '%s'", path);
		safe_close(fd);
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	if (r == 0) {
		all->userns = open(path, O_RDONLY | O_CLOEXEC);
		r = all->userns < 0 ? err_sys(e, errno, "open '%s'", path) : all->userns;
	}
	close(gate[1]);
	waitpid(pid, NULL, 0);
	safe_close(pidfd);
	return r;
}

int instance_mount(struct instance *i, const struct engine_plan *p, struct err **e)
{
	char dir[4096];
	struct rootfs_spec spec = {
		.dir = dir, .target = p->rootfs, .userns_fd = -1, .temporary = i->spec->auto_remove
	};
	int r = instance_dirs(i, e);

	snprintf(dir, sizeof(dir), "%s/layer", i->dir);
	if (r == 0)
		r = make_dir(dir, 0711, e);
	if (r == 0)
		r = mount_layer(i, e);
	if (r == 0 && p->id_count) {
		spec.userns_fd = userns(i->all, p, e);
		r = MIN(spec.userns_fd, 0);
	}
	return r < 0 ? r : rootfs_mount(i->all->env.images, &i->image->parts, &spec, e);
}

int instance_umount(struct instance *i, struct err **e)
{
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/rootfs", i->run);
	r = rootfs_umount(path, e);
	snprintf(path, sizeof(path), "%s/layer", i->dir);
	if (r == 0 && path_mounted(path))
		r = rootfs_umount(path, e);
	return r;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path) < 0 && errno != ENOENT ? errno : 0;
}

static int remove_tree(const char *path, struct err **e)
{
	int r = nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

	if (r != 0 && !(r < 0 && errno == ENOENT))
		return err_sys(e, r > 0 ? r : errno, "remove '%s'", path);
	return 0;
}

int instance_delete_run(struct instance *i, struct err **e)
{
	return remove_tree(i->run, e);
}

int instance_delete_files(const char *dir, const char *run, struct err **e)
{
	int r = remove_tree(run, e);

	return r < 0 ? r : remove_tree(dir, e);
}
