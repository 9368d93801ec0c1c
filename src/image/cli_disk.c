/* Commands on disk images, seeds, and the distribution's archive. */
#include <fcntl.h>
#include "base/atomicfile.h"
#include "image/bootdisk.h"
#include "image/bootstrap.h"
#include "image/cli.h"
#include "image/foreign.h"
#include "image/seed.h"

struct boot_opts {
	char *name, *variant, *mirror;
	opt_list packages;
};
static const struct opt boot_opts[] = {
	OPT(struct boot_opts, name, STR, "name", 0, "REFERENCE",
	    "usually the suite's: debian:SUITE"),
	OPT(struct boot_opts, variant, STR, "variant", 0, "minimal|standard", "how much of it"),
	OPT(struct boot_opts, mirror, STR, "mirror", 0, "URL", "usually that of this host's apt"),
	OPT(struct boot_opts, packages, LIST, "include", 0, "PACKAGE", "more packages"), OPT_END
};

static int cmd_bootstrap(struct image_store *s, const void *opts, char **args, int n,
			 struct err **e)
{
	struct boot_opts *o = (struct boot_opts *)(uintptr_t)opts;
	struct bootstrap_options bo = { .name = o->name,
					.variant = o->variant,
					.mirror = o->mirror };
	int r;

	if (vec_push(&o->packages, NULL) < 0)
		return err_sys(e, ENOMEM, "bootstrap");
	o->packages.n--;
	bo.packages = (const char *const *)o->packages.v;
	r = bootstrap(s, args[0], &bo, &cli_op, e);
	if (r == 0)
		printf("%s\n", o->name ? o->name : args[0]);
	return r;
}

struct disk_opts {
	uint64_t size;
	char *format, *kernel, *cmdline;
	opt_list packages;
};
static const struct opt disk_opts[] = {
	OPT(struct disk_opts, size, SIZE, "size", 0, "SIZE", "of the disk; usually 4G"),
	OPT(struct disk_opts, format, STR, "to", 'O', "FORMAT",
	    "qcow2 (usual), raw, vmdk, vpc, vhdx, vdi"),
	OPT(struct disk_opts, kernel, STR, "kernel", 0, "PACKAGE",
	    "usually linux-image-cloud-amd64"),
	OPT(struct disk_opts, cmdline, STR, "append", 0, "TEXT",
	    "added to the kernel's command line"),
	OPT(struct disk_opts, packages, LIST, "include", 0, "PACKAGE", "more packages"),
	OPT_END
};

static int cmd_disk(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	struct disk_opts *o = (struct disk_opts *)(uintptr_t)opts;
	struct bootdisk_options bo = {
		.size = o->size, .format = o->format, .kernel = o->kernel, .cmdline = o->cmdline
	};

	if (vec_push(&o->packages, NULL) < 0)
		return err_sys(e, ENOMEM, "disk");
	o->packages.n--;
	bo.packages = (const char *const *)o->packages.v;
	return bootdisk_make(s, args[0], args[1], &bo, &cli_op, e);
}

struct convert_opts {
	char *from, *to;
};
static const struct opt convert_opts[] = { OPT(struct convert_opts, from, STR, "from", 'f',
					       "FORMAT",
					       "of the source; usually as its content says"),
					   OPT(struct convert_opts, to, STR, "to", 'O', "FORMAT",
					       "qcow2 (usual), raw, vmdk, vpc, vhdx, vdi"),
					   OPT_END };

static int cmd_convert(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	const struct convert_opts *o = opts;

	return foreign_convert(args[0], o->from, args[1], o->to, &cli_op, e);
}

static int cmd_ova(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	struct ovf *o = calloc(1, sizeof(*o));
	_cleanup_(buf_done) struct buf b = { 0 };
	int r = o ? foreign_import_ova(args[0], args[1], o, &cli_op, e)
		  : err_sys(e, ENOMEM, "import");

	if (r == 0) {
		buf_adds(&b, "{\"name\":");
		buf_add_json(&b, o->name);
		buf_addf(&b, ",\"cpus\":%llu,\"memory\":%llu,\"nics\":%llu,\"disks\":%zu}\n",
			 (unsigned long long)o->cpus, (unsigned long long)o->memory,
			 (unsigned long long)o->nics, o->n_disks);
		fputs(buf_str(&b), stdout);
	}
	free(o);
	return r;
}

struct ova_opts {
	char *name;
	uint64_t cpus, memory, nics;
};
static const struct opt ova_opts[] = {
	OPT(struct ova_opts, name, STR, "name", 0, "NAME", "of the machine"),
	OPT(struct ova_opts, cpus, U64, "cpus", 0, "N", "usually 1", .min = 1, .max = 4096),
	OPT(struct ova_opts, memory, SIZE, "memory", 0, "SIZE", "usually 1G", .min = 1 << 20),
	OPT(struct ova_opts, nics, U64, "nics", 0, "N", "network cards; usually none", .max = 32),
	OPT_END
};

static int cmd_ova_export(struct image_store *s, const void *opts, char **args, int n,
			  struct err **e)
{
	const struct ova_opts *o = opts;
	struct ova_machine m = { .name = o->name ? o->name : "machine",
				 .cpus = o->cpus,
				 .memory = o->memory,
				 .nics = (unsigned int)o->nics,
				 .disks = (const char *const *)args + 1 };

	return foreign_export_ova(&m, args[0], &cli_op, e);
}

struct seed_opts {
	char *id, *hostname, *user_data, *network, *password;
	opt_list keys;
};
static const struct opt seed_opts[] = {
	OPT(struct seed_opts, id, STR, "instance-id", 0, "ID",
	    "a new one makes cloud-init run again"),
	OPT(struct seed_opts, hostname, STR, "hostname", 0, "NAME", "of the guest"),
	OPT(struct seed_opts, user_data, STR, "user-data", 0, "FILE",
	    "instead of one made from the other options"),
	OPT(struct seed_opts, network, STR, "network-config", 0, "FILE", "version 1 or 2"),
	OPT(struct seed_opts, password, STR, "password-hash", 0, "HASH",
	    "of the default user, as in /etc/shadow"),
	OPT(struct seed_opts, keys, LIST, "ssh-key", 0, "KEY",
	    "a line of authorized_keys; may be repeated"),
	OPT_END
};

static int cmd_seed(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	struct seed_opts *o = (struct seed_opts *)(uintptr_t)opts;
	_cleanup_(buf_done) struct buf user = { 0 }, network = { 0 }, iso = { 0 };
	struct seed seed = { .instance_id = o->id ? o->id : "iid-local01",
			     .hostname = o->hostname,
			     .password_hash = o->password };
	int r = 0;

	if (o->user_data)
		r = file_read(AT_FDCWD, o->user_data, 16 * MIB, &user, e);
	if (r == 0 && o->network)
		r = file_read(AT_FDCWD, o->network, MIB, &network, e);
	if (r == 0 && vec_push(&o->keys, NULL) < 0)
		r = err_sys(e, ENOMEM, "seed");
	if (r < 0)
		return r;
	o->keys.n--;
	seed.ssh_keys = o->keys.n ? (const char *const *)o->keys.v : NULL;
	seed.user_data = o->user_data ? buf_str(&user) : NULL;
	seed.network_config = o->network ? buf_str(&network) : NULL;
	r = seed_build(&seed, &iso, e);
	return r < 0 ? r : file_write_atomic(AT_FDCWD, args[0], iso.s, iso.len, 0600, e);
}

const struct cli_cmd cli_disk_cmds[] = {
	{ "bootstrap", "debian:SUITE", "make an image from the distribution's archive", boot_opts,
	  sizeof(struct boot_opts), 1, 1, false, cmd_bootstrap },
	{ "disk", "IMAGE FILE",
	  "make a bootable disk of an image: kernel, init and boot loader added", disk_opts,
	  sizeof(struct disk_opts), 2, 2, false, cmd_disk },
	{ "convert", "SOURCE TARGET", "disk images from and to other products", convert_opts,
	  sizeof(struct convert_opts), 2, 2, true, cmd_convert },
	{ "ova", "FILE DIR", "import a machine: its disks as qcow2, its sizes as JSON",
	  convert_opts, sizeof(struct convert_opts), 2, 2, true, cmd_ova },
	{ "ova-export", "FILE DISK...", "a machine as OVA file", ova_opts, sizeof(struct ova_opts),
	  2, 1 + OVF_DISKS_MAX, true, cmd_ova_export },
	{ "seed", "FILE", "cloud-init NoCloud seed as ISO image", seed_opts,
	  sizeof(struct seed_opts), 1, 1, true, cmd_seed },
	{ NULL },
};
