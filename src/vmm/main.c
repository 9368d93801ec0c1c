/* strata-vmm: one virtual machine a process.  Command line, then machine.c does the rest.
 * Exit status: 0 the guest powered off (or was killed by the operator), 1 error, 2 usage, 3 guest reset with
 * --no-reboot, 4 guest panic; with --test-devices (value << 1) | 1 of the debug exit port. */
#include <malloc.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#define LOG_MODULE "main"
#include "base/fault.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/str.h"
#include "vmm/console.h"
#include "vmm/ctl.h"
#include "vmm/device_ops.h"
#include "vmm/devargs.h"
#include "vmm/machine.h"
#include "vmm/sandbox.h"
#include "vmm/snapshot.h"

enum { EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_RESET, EXIT_PANIC };

struct args {
	char *kernel, *initrd, *append, *firmware, *name, *console, *ctl, *restore, *incoming,
		*share;
	uint64_t cpus, memory;
	bool hugepages, shared_memory, no_reboot, test_devices, paused, jail;
	int sandbox;
	uint64_t uid;
	struct devargs dev;
};

static const char *const sandbox_names[] = { "off", "errno", "kill", NULL };

static const struct opt run_opts[] = {
	OPT(struct args, kernel, STR, "kernel", 0, "FILE",
	    "bzImage, ELF (PVH, multiboot, bare) or flat payload"),
	OPT(struct args, initrd, STR, "initrd", 0, "FILE",
	    "initial RAM disk (multiboot: the module)"),
	OPT(struct args, append, STR, "append", 0, "TEXT", "kernel command line"),
	OPT(struct args, firmware, STR, "firmware", 0, "FILE",
	    "firmware image, instead of a kernel"),
	OPT(struct args, cpus, U64, "cpus", 0, "N", "virtual CPUs", .min = 1, .max = VM_CPUS_MAX),
	OPT(struct args, memory, SIZE, "memory", 0, "SIZE", "guest memory", .min = MIB,
	    .max = 64 * TIB),
	OPT(struct args, name, STR, "name", 0, "NAME", "name of the vm"),
	DEVARGS_OPTS(struct args, dev),
	OPT(struct args, share, STR, "share", 0, "tag=T,path=DIR", "not in this release"),
	OPT(struct args, console, STR, "console", 0, "stdio|socket:PATH|none",
	    "where the serial port goes"),
	OPT(struct args, ctl, STR, "ctl", 0, "SOCKET", "listen for control here"),
	OPT(struct args, hugepages, FLAG, "hugepages", 0, NULL, "guest memory of 2 MiB pages"),
	OPT(struct args, shared_memory, FLAG, "shared-memory", 0, NULL,
	    "guest memory that vhost-user can map"),
	OPT(struct args, restore, STR, "restore", 0, "DIR", "go on from a snapshot"),
	OPT(struct args, incoming, STR, "incoming", 0, "FROM", "not in this release"),
	OPT(struct args, paused, FLAG, "paused", 0, NULL, "do not run before `ctl resume`"),
	OPT(struct args, jail, FLAG, "jail", 0, NULL,
	    "drop every privilege before the guest runs (start as root)"),
	OPT(struct args, uid, U64, "jail-uid", 0, "UID",
	    "user and group id of the jail; default 65534", .min = 1, .max = UINT32_MAX - 1),
	OPT(struct args, sandbox, ENUM, "seccomp", 0, "off|errno|kill",
	    "system call filters; default kill with --jail", .choices = sandbox_names),
	OPT(struct args, no_reboot, FLAG, "no-reboot", 0, NULL,
	    "end with status 3 when the guest resets"),
	OPT(struct args, test_devices, FLAG, "test-devices", 0, NULL, "exit port 0xf4 and fw_cfg"),
	OPT_END
};

struct run {
	struct vm *vm;
	struct loop *loop;
	struct console *console;
	struct ctl *ctl;
	struct watch term, intr, hup;
	int kvm_fd;
	bool no_reboot;
};

static void on_event(struct vm *vm, enum vm_event what, uint32_t value)
{
	struct run *run = vm->event_data;
	_cleanup_(err_freep) struct err *e = NULL;

	switch (what) {
	case VM_EVENT_POWEROFF:
		loop_stop(run->loop, EXIT_OK);
		break;
	case VM_EVENT_RESET:
		if (run->no_reboot) {
			loop_stop(run->loop, EXIT_RESET);
		} else if (vm_reset(vm, &e) < 0) {
			log_err("the guest cannot be reset", "error", e);
			loop_stop(run->loop, EXIT_ERROR);
		}
		break;
	case VM_EVENT_PANIC:
		log_warn("the guest panicked");
		loop_stop(run->loop, EXIT_PANIC);
		break;
	case VM_EVENT_CRASHLOADED:
		log_warn("the guest panicked and runs its crash kernel");
		break;
	case VM_EVENT_DEBUG_EXIT:
		loop_stop(run->loop, (int)(value << 1 | 1) & 0xff);
		break;
	case VM_EVENT_ERROR:
		loop_stop(run->loop, EXIT_ERROR);
		break;
	}
}

static void on_quit(void *arg)
{
	loop_stop(((struct run *)arg)->loop, EXIT_OK);
}

static void on_term(struct watch *w, const struct signalfd_siginfo *si)
{
	loop_stop(((struct run *)w->data)->loop, EXIT_OK);
}

static int check_args(const struct args *a, struct err **e)
{
	unsigned int ways = (a->kernel != NULL) + (a->firmware != NULL) + (a->restore != NULL);

	if (a->incoming)
		return err_set(e, ENOTSUP, "vmm.later",
			       "--incoming: this release has no live migration");
	if (a->share)
		return err_set(e, ENOTSUP, "vmm.later", "--share: this release has no virtio-fs");
	if (ways != 1)
		return err_set(e, EINVAL, "vmm.usage",
			       "give one of --kernel, --firmware and --restore");
	if (!a->kernel && (a->initrd || a->append))
		return err_set(e, EINVAL, "vmm.usage", "--initrd and --append go with --kernel");
	if (a->memory % MIB)
		return err_set(e, EINVAL, "vmm.usage", "--memory must be whole MiB");
	if (a->hugepages && a->memory % (2 * MIB))
		return err_set(e, EINVAL, "vmm.usage",
			       "--memory must be a multiple of 2M with --hugepages");
	if (a->restore && (a->hugepages || a->shared_memory))
		return err_set(
			e, EINVAL, "vmm.usage",
			"a restored vm's memory is the snapshot's: no --hugepages, no --shared-memory");
	return 0;
}

static int start(struct args *a, struct run *run, struct buf *state, struct snapshot_machine *m,
		 struct err **e)
{
	struct vm_config cfg = {
		.name = a->name,
		.hv = &hv_kvm,
		.kvm_fd = -1,
		.memory_fd = -1,
		.n_cpus = (unsigned int)a->cpus,
		.memory = a->memory,
		.io_threads = 1,
		.backing = a->hugepages	      ? GMEM_HUGE
			   : a->shared_memory ? GMEM_SHARED
					      : GMEM_ANON,
		.kernel = a->kernel,
		.initrd = a->initrd,
		.append = a->append,
		.firmware = a->firmware,
		.no_reboot = a->no_reboot,
		.test_devices = a->test_devices,
	};
	int r = 0;

	if (a->restore) {
		r = snapshot_open(a->restore, m, &cfg.memory_fd, state, e);
		if (r < 0)
			return r;
		cfg.boot = VM_BOOT_RESTORE;
		cfg.n_cpus = m->n_cpus;
		cfg.memory = m->memory;
		cfg.restore_kind = m->boot_kind;
		cfg.restore_rom = m->rom_size;
		cfg.test_devices = m->test_devices;
		cfg.kernel = *m->kernel ? m->kernel : NULL;
		cfg.initrd = *m->initrd ? m->initrd : NULL;
		cfg.append = *m->append ? m->append : NULL;
		cfg.firmware = *m->firmware ? m->firmware : NULL;
	}
	cfg.kvm_fd = run->kvm_fd =
		open("/dev/kvm", O_RDWR | O_CLOEXEC); /* a failure is vm_new()'s to word */
	r = vm_new(&cfg, run->loop, &run->vm, e);
	safe_close(cfg.memory_fd);
	if (r < 0)
		return r;
	run->vm->on_event = on_event;
	run->vm->event_data = run;
	r = console_new(run->loop, a->console, on_quit, run, &run->console, e);
	if (r < 0)
		return r;
	run->vm->console = run->console;
	/* What has a path is opened here; then the jail, before any other thread and before guest data is read. */
	r = devargs_create(&a->dev, run->vm, e);
	if (r == 0 && a->ctl)
		r = ctl_new(run->vm, a->ctl, a->restore ? state : NULL, &run->ctl, e);
	if (r == 0 && a->jail)
		r = sandbox_jail((uid_t)a->uid, (gid_t)a->uid, e);
	if (r == 0) {
		sandbox_setup((enum sandbox_mode)a->sandbox);
		sandbox_enter(SANDBOX_MAIN);
		r = vm_build(run->vm, e);
	}
	if (r == 0 && a->restore)
		r = snapshot_load(run->vm, state, e);
	if (r < 0)
		return r;
	return a->paused ? 0 : vm_start(run->vm, e);
}

static pid_t jailed;

static void pass_on(int signo)
{
	kill(jailed, signo);
}

/* The jail's pid namespace: its first process goes on (-1); this one waits for it, passes signals on and gives its exit
 * status. */
static int jail_pid_namespace(const struct args *a)
{
	int status;

	if (geteuid() != 0 || unshare(CLONE_NEWPID) < 0) {
		fprintf(stderr, "strata-vmm: --jail must be started as root\n");
		return EXIT_ERROR;
	}
	jailed = fork();
	if (jailed < 0) {
		fprintf(stderr, "strata-vmm: start the jail: %s\n", strerror(errno));
		return EXIT_ERROR;
	}
	if (jailed == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		return -1;
	}
	signal(SIGTERM, pass_on);
	signal(SIGINT, pass_on);
	signal(SIGHUP, pass_on);
	while (waitpid(jailed, &status, 0) < 0 && errno == EINTR)
		;
	/* From inside the jail their paths are out of reach. */
	if (a->ctl)
		unlink(a->ctl);
	if (a->console && str_starts(a->console, "socket:"))
		unlink(a->console + 7);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_ERROR;
}

static int cmd_run(int argc, char **argv)
{
	struct args a = { .cpus = 1, .memory = 128 * MIB, .uid = 65534, .sandbox = -1 };
	_cleanup_(err_freep) struct err *e = NULL;
	_cleanup_(buf_done) struct buf state = { 0 };
	struct snapshot_machine m = { 0 };
	struct run run = { .kvm_fd = -1 };
	int r = opt_parse(run_opts, &a, argc, argv, false, &e);

	if (r > 0)
		r = err_set(&e, EINVAL, "vmm.usage", "'%s': run takes options only", argv[1]);
	if (r == 0)
		r = check_args(&a, &e);
	if (r == 0)
		r = devargs_parse(&a.dev, &e);
	if (r < 0) {
		fprintf(stderr, "strata-vmm: %s\n", err_msg(e));
		opt_done(run_opts, &a);
		return r == -ENOTSUP ? EXIT_ERROR : EXIT_USAGE;
	}
	run.no_reboot = a.no_reboot;
	if (a.sandbox < 0)
		a.sandbox = a.jail ? SANDBOX_KILL : SANDBOX_OFF;
	if (a.jail && (r = jail_pid_namespace(&a)) >= 0) {
		opt_done(run_opts, &a);
		return r;
	}
	signal(SIGPIPE, SIG_IGN);
	r = loop_new(NULL, &run.loop);
	if (r == 0) {
		run.term.data = run.intr.data = run.hup.data = &run;
		watch_signal(run.loop, &run.term, "term", SIGTERM, on_term);
		watch_signal(run.loop, &run.intr, "int", SIGINT, on_term);
		watch_signal(run.loop, &run.hup, "hup", SIGHUP, on_term);
		r = start(&a, &run, &state, &m, &e);
	}
	if (r == 0)
		r = loop_run(run.loop);
	else {
		console_free(TAKE(run.console)); /* a terminal must be sane before the message */
		fprintf(stderr, "strata-vmm: %s\n", err_msg(e));
		r = EXIT_ERROR;
	}
	ctl_free(run.ctl);
	if (run.vm)
		vm_stop(run.vm);
	console_free(run.console);
	if (run.vm)
		run.vm->console = NULL;
	vm_free(run.vm);
	safe_close(run.kvm_fd);
	devargs_done(&a.dev);
	loop_free(run.loop);
	snapshot_machine_done(&m);
	opt_done(run_opts, &a);
	return r < 0 ? EXIT_ERROR : r;
}

static int usage(FILE *f, int status)
{
	_cleanup_(buf_done) struct buf b = { 0 };

	opt_help(run_opts, 100, &b);
	fprintf(f,
		"strata-vmm: a hypervisor on KVM\n\n"
		"  strata-vmm run OPTIONS\n"
		"  strata-vmm ctl SOCKET status|pause|resume|shutdown|reset|kill|snapshot|set|stats [JSON]\n\n"
		"Options of run:\n%s\n"
		"Exit status: 0 powered off, 1 error, 2 usage, 3 reset with --no-reboot, 4 guest panic.\n",
		buf_str(&b));
	return status;
}

int main(int argc, char **argv)
{
	/* With the number of arenas given the allocator never asks /sys for the number of CPUs, which a thread under its
	 * system call filter must not do. */
	mallopt(M_ARENA_MAX, 4);
	fault_init();
	log_setup("strata-vmm", STDERR_FILENO, LOG_TEXT);
	if (getenv("STRATA_LOG"))
		log_set_levels(getenv("STRATA_LOG"), NULL);
	if (argc >= 2 && strcmp(argv[1], "run") == 0 &&
	    !(argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)))
		return cmd_run(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "ctl") == 0) {
		if (argc == 4 || argc == 5)
			return ctl_client(argv[2], argv[3], argc == 5 ? argv[4] : NULL);
		return usage(stderr, EXIT_USAGE);
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("strata-vmm %s\n", STRATA_VERSION);
		return 0;
	}
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
			  strcmp(argv[1], "run") == 0))
		return usage(stdout, 0);
	return usage(stderr, EXIT_USAGE);
}
