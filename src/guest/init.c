/* strata-init: pid 1 of a VM that runs an OCI image.
 *
 * Boot: /proc, /sys, /dev, modules; the config from fw_cfg or from the host over the port; disks and overlay; host
 * name, network; then the image's command.  When that ends its status goes to the host and the machine off (or
 * stays, if the config says so).  What pid 1 owes every system: it reaps orphans and forwards SIGTERM. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include "base/str.h"
#include "guest/init.h"

static struct loop *loop;
static struct agent *agent;
static struct json *config; /* lives to the end: specs borrow from it */
static struct watch w_chld, w_term, w_int, w_pwr;
static struct timer t_off, t_kill;
static bool stay, off_reboot, going_off;
static int stop_signal = SIGTERM;
static nsec_t off_started;

void say(const char *fmt, ...)
{
	char text[1024] = "strata-init: ";
	size_t n = strlen(text);
	va_list ap;
	ssize_t w;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - n - 1, fmt, ap);
	va_end(ap);
	strcat(text, "\n");
	w = write(2, text, strlen(text));
	(void)w;
}

static _noreturn_ void power(void)
{
	signal(SIGCHLD, SIG_IGN);
	kill(-1, SIGKILL);
	sync();
	umount2("/upper", MNT_DETACH);
	reboot(off_reboot ? RB_AUTOBOOT : RB_POWER_OFF);
	for (;;) /* a machine without ACPI: at least stand still */
		reboot(RB_HALT_SYSTEM);
}

static void on_off(struct timer *t)
{
	if (agent_idle(agent) || now_mono() - off_started > 5 * NSEC_PER_SEC)
		power();
}

/* Switch off once the host has been told. */
static void go_off(bool reboot_after)
{
	if (timer_active(&t_off))
		return;
	off_reboot = reboot_after;
	off_started = now_mono();
	/* two beats: what agent_idle() saw written must also have left the port's ring */
	timer_start(loop, &t_off, "off", 20 * NSEC_PER_MSEC, 20 * NSEC_PER_MSEC, on_off);
}

static void on_kill(struct timer *t)
{
	say("the main process does not end: killing it");
	agent_signal_main(agent, SIGKILL);
	go_off(off_reboot);
}

static void on_power(bool reboot_after, int timeout)
{
	going_off = true;
	off_reboot = reboot_after;
	agent_signal_main(agent, stop_signal);
	if (agent_idle(agent))
		go_off(reboot_after);
	else
		timer_start(loop, &t_kill, "kill", timeout * NSEC_PER_SEC, 0, on_kill);
}

static void on_chld(struct watch *w, const struct signalfd_siginfo *si)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (!agent_reaped(agent, pid, status))
			continue;
		if (WIFSIGNALED(status))
			say("the main process was killed by signal %d", WTERMSIG(status));
		else
			say("the main process exited with %d", WEXITSTATUS(status));
		if (!stay || going_off)
			go_off(off_reboot);
	}
}

static void on_stop(struct watch *w, const struct signalfd_siginfo *si)
{
	on_power(si->ssi_signo == SIGINT, 10); /* SIGINT to pid 1 is Ctrl-Alt-Del */
}

static int start(struct err **e)
{
	struct json_in root = json_in(config, "config"), process;
	struct proc_spec spec;
	int64_t version = 1, stop = SIGTERM;
	bool attach = false;
	int r = json_opt_int(&root, "version", 1, GUEST_PROTOCOL, &version, e);

	if (r >= 0)
		r = json_opt_bool(&root, "stay", &stay, e);
	if (r >= 0)
		r = setup_root(&root, e);
	if (r >= 0)
		r = setup_host(&root, e);
	if (r >= 0)
		r = setup_network(&root, e);
	if (r >= 0)
		r = json_need_obj(&root, "process", &process, e);
	if (r >= 0)
		r = json_opt_bool(&process, "attach", &attach, e);
	if (r >= 0)
		r = json_opt_int(&process, "stop_signal", 1, 64, &stop, e);
	if (r < 0)
		return r;
	stop_signal = (int)stop;
	r = proc_spec_read(&process, &spec, e);
	if (r < 0)
		return r;
	r = agent_start_main(agent, &spec, attach, e);
	proc_spec_done(&spec);
	return r;
}

static void on_config(struct json *v)
{
	_cleanup_(err_freep) struct err *e = NULL;

	config = v;
	if (start(&e) == 0)
		return;
	say("%s", err_msg(e));
	agent_fail_main(agent, e);
	go_off(false);
}

static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	for (int i = 0; fd >= 0 && i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

int main(void)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	_cleanup_(err_freep) struct err *e = NULL;
	struct json *v = NULL;
	int r = setup_early();

	open_console();
	if (r < 0)
		say("early mounts: %s", strerror(-r));
	if (getpid() != 1) {
		say("this is the init of a virtual machine");
		return 2;
	}
	reboot(RB_DISABLE_CAD);
	signal(SIGPIPE, SIG_IGN);
	r = loop_new(NULL, &loop);
	if (r == 0)
		r = watch_signal(loop, &w_chld, "children", SIGCHLD, on_chld);
	if (r == 0)
		r = watch_signal(loop, &w_term, "term", SIGTERM, on_stop);
	if (r == 0)
		r = watch_signal(loop, &w_int, "int", SIGINT, on_stop);
	if (r == 0)
		r = watch_signal(loop, &w_pwr, "power", SIGPWR, on_stop);
	if (r == 0)
		r = agent_new(loop, on_config, on_power, &agent);
	if (r < 0) {
		say("start: %s", strerror(-r));
		power();
	}
	if (setup_config_fw(&text) == 0) {
		if (json_parse(buf_str(&text), text.len, NULL, &v, &e) < 0) {
			say("the config in fw_cfg: %s", err_msg(e));
			power();
		}
		on_config(v);
	} else {
		agent_wait_config(agent, true);
	}
	loop_run(loop);
	power();
}
