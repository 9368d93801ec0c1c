/* Removes links in the background.  The kernel waits for every processor before a link is gone, some tens of
 * milliseconds, and as long for a thousand at once as for one: so links are collected while the last round runs.
 *
 * Thread: calls from one thread; the work is done by a thread of the reaper's own, started with the first link. */
#ifndef NET_DATAPATH_REAPER_H
#define NET_DATAPATH_REAPER_H

#include "base/err.h"
#include "sys/netlink.h"

struct reaper;

int reaper_new(struct reaper **ret, struct err **e);
void reaper_free(struct reaper *r); /* waits for all */

/* Remove these links of the namespace (NULL ends the list), which may be gone already.  netns_fd is borrowed for the
 * call.  -ENOMEM or why there is no thread: nothing was taken. */
int reaper_add(struct reaper *r, int netns_fd, const char *const *names);
/* True: a link of this name is still to be removed. */
bool reaper_has(struct reaper *r, const char *name);
/* Until nothing is left to be removed; true when something was. */
bool reaper_wait(struct reaper *r);

/* The same at once and in this thread, in a namespace of ours: mark some links, then remove what was marked. */
void reaper_mark(struct nl_batch *b, const char *name);
int reaper_remove(struct nl *nl, struct nl_batch *b, struct err **e);

#endif
