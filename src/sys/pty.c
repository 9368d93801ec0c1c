/* Pseudo-terminals; see pty.h. */
#include "sys/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "sys/openat2.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#define DEVPTS_MAGIC 0x1cd1

int pty_open(int dirfd, const char *ptmx, int *master, int *slave)
{
	_cleanup_(closep) int m = -1;
	struct statfs st;
	int s, zero = 0;

	m = root_open(dirfd, ptmx, O_RDWR | O_NOCTTY, 0);
	if (m < 0)
		return m;
	if (fstatfs(m, &st) < 0)
		return -errno;
	if (st.f_type != DEVPTS_MAGIC)
		return -ENOTTY;
	if (ioctl(m, TIOCSPTLCK, &zero) < 0)
		return -errno;
	s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (s < 0)
		return -errno;
	*slave = s;
	*master = TAKE_FD(m);
	return 0;
}

int pty_resize(int fd, unsigned int rows, unsigned int cols)
{
	struct winsize ws = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };

	return ioctl(fd, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

int pty_adopt(int fd)
{
	int i;

	if (ioctl(fd, TIOCSCTTY, 0) < 0)
		return -errno;
	for (i = 0; i < 3; i++)
		if (fd != i && dup2(fd, i) < 0)
			return -errno;
	return 0;
}
