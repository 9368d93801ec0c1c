/* Terminals; see tty.h. */
#include "container/tty.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include "base/atomicfile.h"
#include "base/cleanup.h"
#include "base/types.h"
#include "sys/proc.h"

int tty_connect(const char *path, struct err **e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	_cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), at = -1;

	if (fd < 0)
		return err_sys(e, errno, "socket");
	if (strlen(path) < sizeof(a.sun_path)) {
		strcpy(a.sun_path, path);
	} else {
		at = open(path, O_PATH | O_CLOEXEC);
		if (at < 0)
			return err_sys(e, errno, "console socket '%s'", path);
		snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d", at);
	}
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return err_sys(e, errno, "connect to '%s'", path);
	return TAKE_FD(fd);
}

int tty_send(int sock, int fd)
{
	struct iovec iov = { .iov_base = (char *)"/dev/ptmx", .iov_len = 9 };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { 0 };
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)
	};
	ssize_t n;

	c.h.cmsg_len = CMSG_LEN(sizeof(int));
	c.h.cmsg_level = SOL_SOCKET;
	c.h.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&c.h), &fd, sizeof(int));
	do {
		n = sendmsg(sock, &h, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int tty_recv(int sock)
{
	char text[64];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} c = { 0 };
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)
	};
	ssize_t n;
	int fd;

	do {
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (h.msg_controllen < CMSG_LEN(sizeof(int)) || c.h.cmsg_type != SCM_RIGHTS)
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(&c.h), sizeof(int));
	return fd;
}

static void copy_size(int from, int to)
{
	struct winsize ws;

	if (ioctl(from, TIOCGWINSZ, &ws) == 0)
		ioctl(to, TIOCSWINSZ, &ws);
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* 0: at its end. */
static bool copy(int from, int to)
{
	char buf[16384];
	ssize_t n = read(from, buf, sizeof(buf));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	return n > 0 && write_all(to, buf, (size_t)n) == 0;
}

int tty_wait(pid_t pid, int pidfd, int master, struct err **e)
{
	_cleanup_(closep) int sfd = -1;
	struct termios saved, raw;
	bool is_raw = false, input = master >= 0;
	sigset_t all, old;
	int status = 0, code = -1;
	pid_t r;

	sigfillset(&all);
	sigdelset(&all, SIGTTIN);
	sigdelset(&all, SIGTTOU);
	sigprocmask(SIG_SETMASK, &all, &old);
	sfd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sfd < 0)
		return err_sys(e, errno, "signal descriptor");
	if (master >= 0 && tcgetattr(0, &saved) == 0) {
		copy_size(0, master);
		raw = saved;
		cfmakeraw(&raw);
		is_raw = tcsetattr(0, TCSANOW, &raw) == 0;
	}
	/* It may have ended before the signals were blocked. */
	r = waitpid(pid, &status, WNOHANG);
	if (r == pid)
		code = exit_code(status);
	while (code < 0 && r >= 0) {
		struct pollfd p[4] = { { .fd = pidfd, .events = POLLIN },
				       { .fd = sfd, .events = POLLIN },
				       { .fd = master, .events = POLLIN },
				       { .fd = input ? 0 : -1, .events = POLLIN } };

		if (poll(p, 4, -1) < 0 && errno != EINTR)
			break;
		if (p[2].revents && !copy(master, 1))
			master = -1;
		if (p[3].revents && master >= 0 && !copy(0, master))
			input = false;
		if (p[1].revents) {
			struct signalfd_siginfo si;

			while (read(sfd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
				if (si.ssi_signo == SIGCHLD) {
					if (code < 0 && waitpid(pid, &status, WNOHANG) == pid)
						code = exit_code(status);
					continue;
				}
				if (si.ssi_signo == SIGWINCH && master >= 0)
					copy_size(0, master);
				else
					sys_pidfd_send_signal(pidfd, (int)si.ssi_signo);
			}
		}
		if (code < 0 && p[0].revents) {
			while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
				;
			code = exit_code(status);
		}
	}
	/* What it wrote last. */
	if (master >= 0) {
		struct pollfd p = { .fd = master, .events = POLLIN };

		while (poll(&p, 1, 0) > 0 && p.revents & POLLIN && copy(master, 1))
			;
	}
	if (is_raw)
		tcsetattr(0, TCSANOW, &saved);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return code < 0 ? err_sys(e, errno, "wait for the container") : code;
}
