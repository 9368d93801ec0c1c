/* Netlink transport: a socket bound to one network namespace, and batches of requests sent in one system call.
 * Thin over libmnl; knows no rtnetlink or nftables, those are sys/rtnl.h and sys/nft.h.
 *
 * A socket belongs to the namespace it was opened in, whatever the thread does later (sys/netns.h).
 * Thread: one at a time.  Spec: RFC 3549, Documentation/userspace-api/netlink in the kernel tree. */
#ifndef SYS_NETLINK_H
#define SYS_NETLINK_H

#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/types.h"

struct nl {
	struct mnl_socket *s; /* NULL: closed */
	uint32_t seq, portid;
};

/* proto: NETLINK_ROUTE, NETLINK_NETFILTER.  In the namespace of the calling thread. */
int nl_open(struct nl *n, int proto, struct err **e);
/* The same in the namespace of netns_fd; -1: the thread's own. */
int nl_open_at(struct nl *n, int proto, int netns_fd, struct err **e);
void nl_close(struct nl *n); /* closed or zeroed: no effect */

/* Requests collected for one send.  Zero-initialise, end with nl_batch_done(). */
struct nl_batch {
	struct buf b;
	size_t open;	/* offset of the message being built; SIZE_MAX: none */
	unsigned int n; /* messages that will be answered */
	bool started;
};

/* Longest message that may be built with the attribute calls of libmnl. */
#define NL_MSG_MAX 4096

/* Start a message; NLM_F_REQUEST is added, NLM_F_ACK too unless flags has NL_NOACK.  The result is good until
 * the next call; NULL: out of memory. */
#define NL_NOACK 0x8000
struct nlmsghdr *nl_msg(struct nl_batch *b, uint16_t type, unsigned int flags);
void nl_batch_clear(struct nl_batch *b);
void nl_batch_done(struct nl_batch *b);

/* Send everything and read every acknowledgement.  The first refusal is returned with the kernel's own words
 * when it gave any; *at (may be NULL) is the index of the message refused.  The batch is empty afterwards. */
int nl_send(struct nl *n, struct nl_batch *b, unsigned int *at, struct err **e);

/* One request that is answered by data (a dump or a get): fn for every message; negative ends it. */
typedef int nl_data_fn(const struct nlmsghdr *h, void *arg);
int nl_query(struct nl *n, struct nl_batch *b, nl_data_fn *fn, void *arg, struct err **e);

#endif
