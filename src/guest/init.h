/* strata-init: what its files know of each other.  One process, one thread, one loop; pid 1. */
#ifndef GUEST_INIT_H
#define GUEST_INIT_H

#include <sys/types.h>
#include "base/buf.h"
#include "base/loop.h"
#include "ext/json.h"
#include "guest/guest.h"

/* Say something on the console; the host's log of the machine. */
void say(const char *fmt, ...) _printf_(1, 2);

/* setup.c: what must be there before any process runs. */
int setup_early(void);		      /* /proc, /sys, /dev, modules */
int setup_config_fw(struct buf *ret); /* from fw_cfg; -ENOENT: none */
int setup_root(const struct json_in *config,
	       struct err **e); /* disks, overlay, mounts; / is the image then */
int setup_host(const struct json_in *config,
	       struct err **e); /* host name, hosts, resolv.conf, sysctl */

/* netif.c */
int setup_network(const struct json_in *config, struct err **e);

/* process.c */
struct proc_spec {
	char **args, **env;
	const char *cwd, *user; /* "", "uid", "uid:gid", "name", "name:group" */
	bool tty;
	int rows, cols;
};
struct proc_fds {
	int in, out, err; /* of our side; with a tty `err` is -1 and the others are its master */
};
/* Strings of the spec: args and env are the caller's to free. */
int proc_spec_read(const struct json_in *v, struct proc_spec *ret, struct err **e);
void proc_spec_done(struct proc_spec *s);
/* fds NULL: it gets the console.  The pid, or -errno: also when exec fails, with the reason. */
pid_t proc_start(const struct proc_spec *s, struct proc_fds *fds, struct err **e);

/* A child that runs fn(arg) instead of a program, as root; its status is what fn returns. */
pid_t proc_fork(int (*fn)(void *arg), void *arg, struct proc_fds *fds, struct err **e);

/* copy.c: for proc_fork(); arg is the path of a folder */
int copy_out(void *arg); /* writes it as tar to stdout */
int copy_in(void *arg);	 /* makes it where it is missing, and unpacks the tar of stdin into it */

/* agent.c */
struct agent;
/* on_config: called once with the host's config, when the guest waits for one. */
int agent_new(struct loop *loop, void (*on_config)(struct json *config),
	      void (*on_power)(bool reboot, int timeout), struct agent **ret);
/* Start the main process; attach: its stdio goes over stream 0 instead of the console. */
int agent_start_main(struct agent *a, const struct proc_spec *s, bool attach, struct err **e);
void agent_signal_main(struct agent *a, int signo); /* no effect when it does not run */
/* A child ended (any: pid 1 reaps orphans too).  true: it was the main process. */
bool agent_reaped(struct agent *a, pid_t pid, int status);
void agent_fail_main(struct agent *a, const struct err *e); /* it could not be started */
void agent_wait_config(struct agent *a, bool wait);
/* All frames are out, or nobody listens. */
bool agent_idle(const struct agent *a);

#endif
