/* Commands for VMs: guest kernels, block images, the config that strata-init reads. */
#include <fcntl.h>
#include <sys/file.h>
#include "base/atomicfile.h"
#include "image/cli.h"
#include "image/vmspec.h"

struct no_opts {
	bool unused;
};
static const struct opt no_opts[] = { OPT_END };

struct kernel_opts {
	char *package, *deb, *init;
};
static const struct opt kernel_opts[] = {
	OPT(struct kernel_opts, package, STR, "package", 0, "NAME",
	    "usually linux-image-cloud-amd64"),
	OPT(struct kernel_opts, deb, STR, "deb", 0, "FILE", "a package file instead of apt's"),
	OPT(struct kernel_opts, init, STR, "init", 0, "FILE", "another strata-init"), OPT_END
};

static int cmd_kernel_install(struct image_store *s, const void *opts, char **args, int n,
			      struct err **e)
{
	const struct kernel_opts *o = opts;
	struct kernel_options ko = { .package = o->package, .deb = o->deb, .init = o->init };
	char version[128];
	int r = kernel_install(s, &ko, version, &cli_op, e);

	if (r == 0)
		printf("%s\n", version);
	return r;
}

static int cmd_kernel_ls(struct image_store *s, const void *opts, char **args, int n,
			 struct err **e)
{
	_cleanup_(freep) struct kernel_info *list = NULL;
	size_t k;
	int r = kernel_list(s, &list, &k, e);

	for (size_t i = 0; r == 0 && i < k; i++)
		printf("%s  %s  %s\n", list[i].version, list[i].vmlinuz, list[i].initrd);
	return r;
}

static int cmd_kernel_rm(struct image_store *s, const void *opts, char **args, int n,
			 struct err **e)
{
	return kernel_remove(s, args[0], e);
}

struct vm_opts {
	char *kernel, *hostname, *user, *cwd, *net;
	opt_list env, network;
	uint64_t size;
	bool tty, attach, stay;
};
static const struct opt vm_opts[] = {
	OPT(struct vm_opts, kernel, STR, "kernel", 0, "VERSION",
	    "of the guest; usually the newest"),
	OPT(struct vm_opts, hostname, STR, "hostname", 0, "NAME", "of the guest"),
	OPT(struct vm_opts, user, STR, "user", 'u', "USER[:GROUP]", "instead of the image's"),
	OPT(struct vm_opts, cwd, STR, "workdir", 'w', "DIR", "instead of the image's"),
	OPT(struct vm_opts, env, LIST, "env", 'e', "K=V", "added to the image's"),
	OPT(struct vm_opts, network, LIST, "net", 0, "MAC,ADDR/LEN[,GATEWAY]",
	    "an interface of the guest"),
	OPT(struct vm_opts, size, SIZE, "size", 0, "SIZE", "of the private disk; none: memory",
	    .min = 16 << 20),
	OPT(struct vm_opts, tty, FLAG, "tty", 't', NULL, "give the command a terminal"),
	OPT(struct vm_opts, attach, FLAG, "attach", 'a', NULL,
	    "its input and output go to the host, not the console"),
	OPT(struct vm_opts, stay, FLAG, "stay", 0, NULL,
	    "keep the machine on when the command ends"),
	OPT_END
};

static int cmd_vm(struct image_store *s, const void *opts, char **args, int n, struct err **e)
{
	struct vm_opts *o = (struct vm_opts *)(uintptr_t)opts;
	_cleanup_(closep) int lock = store_lock(s, "lock", LOCK_SH, &cli_op, e);
	_cleanup_(parts_done) struct image_parts p = { 0 };
	struct vm_request q = { .kernel = o->kernel,
				.hostname = o->hostname,
				.user = o->user,
				.cwd = o->cwd,
				.size = o->size,
				.tty = o->tty,
				.attach = o->attach,
				.stay = o->stay,
				.dir = args[1],
				.args = n > 2 ? args + 2 : NULL };
	struct image_desc d;
	int r = lock < 0 ? lock : index_find(s, args[0], &d, e);

	if (r == 0)
		r = parts_read(s, &d, NULL, &p, e);
	if (r == 0)
		r = unpack_image(s, &p, 0, &cli_op, e);
	if (r == 0 && (vec_push(&o->env, NULL) < 0 || vec_push(&o->network, NULL) < 0))
		r = err_sys(e, ENOMEM, "vm");
	if (r < 0)
		return r;
	q.env = o->env.v;
	q.network = o->network.v;
	o->env.n--;
	o->network.n--;
	return vm_prepare(s, &p, &q, &cli_op, e);
}

const struct cli_cmd cli_vm_cmds[] = {
	{ "kernel-install", "", "make a guest kernel from the distribution's package", kernel_opts,
	  sizeof(struct kernel_opts), 0, 0, false, cmd_kernel_install },
	{ "kernel-ls", "", "list guest kernels", no_opts, sizeof(struct no_opts), 0, 0, false,
	  cmd_kernel_ls },
	{ "kernel-rm", "VERSION", "remove a guest kernel", no_opts, sizeof(struct no_opts), 1, 1,
	  false, cmd_kernel_rm },
	{ "vm", "IMAGE DIR [COMMAND...]", "make all that a VM of this image needs in DIR (vm.json)",
	  vm_opts, sizeof(struct vm_opts), 2, 1000, false, cmd_vm },
	{ NULL },
};
