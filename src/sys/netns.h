/* Named network namespaces, as `ip netns` shows them: a namespace kept alive by a bind mount under /run/netns.
 *
 * Thread: entering changes the calling thread only; a function that enters leaves before it returns. */
#ifndef SYS_NETNS_H
#define SYS_NETNS_H

#include "base/err.h"

#define NETNS_DIR "/run/netns"

struct netns_saved {
	int fd; /* the namespace to return to */
};

/* Move the thread into the namespace of fd.  netns_leave() aborts when the way back is barred: a thread in a
 * namespace that it does not expect must not go on. */
int netns_enter(int fd, struct netns_saved *saved, struct err **e);
void netns_leave(struct netns_saved *saved);

/* A new namespace under `name`; *ret: its fd.  -EEXIST: the name is taken. */
int netns_create(const char *name, int *ret, struct err **e);
/* -ENOENT: no such name; a leftover file without a namespace counts as none. */
int netns_open(const char *name, int *ret, struct err **e);
/* Unmount and remove the name; the namespace ends with its last user.  Not there: 0. */
int netns_delete(const char *name, struct err **e);
/* fd on the thread's own namespace. */
int netns_self(struct err **e);
/* Calls fn for each name in NETNS_DIR with this prefix; negative ends the walk and is returned. */
int netns_each(const char *prefix, int (*fn)(const char *name, void *arg), void *arg);
/* Do the two fds mean the same namespace? */
bool netns_same(int a, int b);

#endif
