/* Pseudo-terminals without path names after the first: the slave is asked from the master (TIOCGPTPEER), so what
 * lies at /dev/pts does not matter.  -errno on failure. */
#ifndef SYS_PTY_H
#define SYS_PTY_H

#include "base/types.h"

/* A new pair from the devpts mounted at `ptmx`'s file system (an open dirfd + path, e.g. a root and
 * "dev/pts/ptmx").  -ENOTTY: that is no devpts. */
int pty_open(int dirfd, const char *ptmx, int *master, int *slave);
int pty_resize(int fd, unsigned int rows, unsigned int cols);
/* Make fd the controlling terminal of the calling session leader and its standard input, output and error. */
int pty_adopt(int fd);

#endif
