/* nftables, in the namespace where nft_open() ran: whole rulesets as text in one transaction (libnftables), and
 * single set elements as netlink messages, because a text transaction first reads back what is there, which
 * costs more with every port, and an element change does not.
 *
 * Thread: one at a time. */
#ifndef SYS_NFT_H
#define SYS_NFT_H

#include "base/buf.h"
#include "sys/netlink.h"

struct nft; /* one namespace's nftables */

/* netns_fd -1: the thread's own namespace. */
int nft_open(int netns_fd, struct nft **ret, struct err **e);
void nft_close(struct nft *n);
DEFINE_CLEANUP(struct nft *, nft_close);

/* Run the commands in one transaction: all or none.  -errno with nft's own complaint. */
int nft_run(struct nft *n, const char *commands, struct err **e);
/* The number of the ruleset's last change by anybody; to notice what others did. */
int nft_generation(struct nft *n, uint32_t *ret, struct err **e);

/* ---- elements ---- */

#define NFT_KEY_MAX 64

struct nft_elem {
	uint8_t family; /* NFPROTO_BRIDGE, NFPROTO_INET */
	const char *table, *set;
	uint8_t key[NFT_KEY_MAX]; /* as the kernel keeps it: every field padded to 4 bytes */
	uint8_t key_len;
	uint8_t data[NFT_KEY_MAX]; /* maps: the value */
	uint8_t data_len;	   /* 0: none */
};

/* Fields of keys and values, in their order; multi-byte numbers come in network order. */
void nft_key(struct nft_elem *el, const void *field, size_t len);
void nft_key_ifname(struct nft_elem *el, const char *name);
void nft_data(struct nft_elem *el, const void *field, size_t len);
/* The value of a map whose values have one field: its length is not padded. */
void nft_value(struct nft_elem *el, const void *field, size_t len);

struct nft_batch { /* zero-initialise */
	struct nl_batch nl;
	size_t n;
};
int nft_put_elem(struct nft_batch *b, const struct nft_elem *el, bool add);
/* All or none.  Adding what is there is fine; removing what is not there refuses the whole batch. */
int nft_commit(struct nft *n, struct nft_batch *b, struct err **e);
void nft_batch_done(struct nft_batch *b);

/* ---- counters ---- */

struct nft_count {
	const char *name; /* of a named counter, or of the interface that a set's element is */
	uint64_t packets, bytes;
};
typedef int nft_count_fn(void *arg, const struct nft_count *c); /* negative ends the walk */
/* Every named counter of a table.  -ENOENT: no such table. */
int nft_counters(struct nft *n, uint8_t family, const char *table, nft_count_fn *fn, void *arg,
		 struct err **e);
/* The counters of a set of interface names; name NULL: all its elements, else that one.  -ENOENT: none such. */
int nft_set_counts(struct nft *n, uint8_t family, const char *table, const char *set,
		   const char *name, nft_count_fn *fn, void *arg, struct err **e);

#endif
