/* Terminals outside of the container: the console socket, and `run` without --detach as the terminal's user. */
#ifndef CONTAINER_TTY_H
#define CONTAINER_TTY_H

#include <sys/types.h>
#include "base/err.h"

/* Connected stream socket, close-on-exec; paths of any length. */
int tty_connect(const char *path, struct err **e);
/* Send a descriptor with one message, as runc's console sockets expect it; -errno. */
int tty_send(int sock, int fd);
/* Receive it; -errno. */
int tty_recv(int sock);
/* Wait for the process behind pidfd as its foreground: pass signals on, copy between master (-1: none) and our standard
 * streams (made raw meanwhile).  Returns its exit status as a shell would give it. */
int tty_wait(pid_t pid, int pidfd, int master, struct err **e);

#endif
