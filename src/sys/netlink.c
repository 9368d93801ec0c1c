/* Netlink transport, see netlink.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "sys/netlink.h"
#include "sys/netns.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

int nl_open(struct nl *n, int proto, struct err **e)
{
	struct mnl_socket *s = mnl_socket_open2(proto, SOCK_CLOEXEC);
	int on = 1, size = 4 << 20;

	*n = (struct nl){ 0 };
	if (!s)
		return err_sys(e, errno, "open netlink socket");
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
		int num = errno;

		mnl_socket_close(s);
		return err_sys(e, num, "bind netlink socket");
	}
	/* Explanations of refusals, and acknowledgements without the request in them; older kernels lack both. */
	mnl_socket_setsockopt(s, NETLINK_EXT_ACK, &on, sizeof(on));
	mnl_socket_setsockopt(s, NETLINK_CAP_ACK, &on, sizeof(on));
	/* A batch of a thousand messages is answered by as many acknowledgements before we read the first. */
	if (setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	n->s = s;
	n->portid = mnl_socket_get_portid(s);
	n->seq = 1;
	return 0;
}

int nl_open_at(struct nl *n, int proto, int netns_fd, struct err **e)
{
	struct netns_saved saved;
	int r;

	if (netns_fd < 0)
		return nl_open(n, proto, e);
	r = netns_enter(netns_fd, &saved, e);
	if (r < 0)
		return r;
	r = nl_open(n, proto, e);
	netns_leave(&saved);
	return r;
}

void nl_close(struct nl *n)
{
	int saved = errno;

	if (n && n->s) {
		mnl_socket_close(n->s);
		n->s = NULL;
	}
	errno = saved;
}

static void end_msg(struct nl_batch *b)
{
	struct nlmsghdr *h;

	if (!b->started)
		return;
	h = (struct nlmsghdr *)(b->b.s + b->open);
	b->b.len = b->open + NLMSG_ALIGN(h->nlmsg_len);
	b->started = false;
}

struct nlmsghdr *nl_msg(struct nl_batch *b, uint16_t type, unsigned int flags)
{
	struct nlmsghdr *h;

	end_msg(b);
	if (buf_reserve(&b->b, NL_MSG_MAX) < 0)
		return NULL;
	memset(b->b.s + b->b.len, 0, NL_MSG_MAX);
	h = mnl_nlmsg_put_header(b->b.s + b->b.len);
	h->nlmsg_type = type;
	h->nlmsg_flags = (uint16_t)((flags & ~NL_NOACK) | NLM_F_REQUEST |
				    (flags & NL_NOACK ? 0 : NLM_F_ACK));
	b->open = b->b.len;
	b->started = true;
	if (!(flags & NL_NOACK))
		b->n++;
	return h;
}

void nl_batch_clear(struct nl_batch *b)
{
	buf_clear(&b->b);
	b->n = 0;
	b->started = false;
}

void nl_batch_done(struct nl_batch *b)
{
	buf_done(&b->b);
	b->n = 0;
	b->started = false;
}

/* The kernel's explanation inside an acknowledgement, or NULL. */
static const char *ext_ack_text(const struct nlmsghdr *h)
{
	const struct nlmsgerr *m = mnl_nlmsg_get_payload(h);
	size_t skip = sizeof(*m);
	const struct nlattr *a;

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return NULL;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += NLMSG_ALIGN(m->msg.nlmsg_len) - sizeof(struct nlmsghdr);
	mnl_attr_for_each(a, h, skip) if (mnl_attr_get_type(a) ==
					  NLMSGERR_ATTR_MSG) return mnl_attr_get_str(a);
	return NULL;
}

static int set_refusal(const struct nlmsghdr *h, int error, struct err **e)
{
	const char *text = ext_ack_text(h);

	if (text)
		return err_set(e, -error, "net.kernel", "%s (%s)", text, err_name(-error));
	return err_sys(e, -error, "netlink");
}

static int number_and_send(struct nl *n, struct nl_batch *b, uint32_t *first, struct err **e)
{
	size_t off = 0;

	end_msg(b);
	if (buf_error(&b->b))
		return err_sys(e, ENOMEM, "build netlink request");
	*first = n->seq;
	while (off < b->b.len) {
		struct nlmsghdr *h = (struct nlmsghdr *)(b->b.s + off);

		h->nlmsg_seq = n->seq++;
		h->nlmsg_pid = n->portid;
		off += NLMSG_ALIGN(h->nlmsg_len);
	}
	if (mnl_socket_sendto(n->s, b->b.s, b->b.len) < 0)
		return err_sys(e, errno, "send netlink request");
	return 0;
}

int nl_send(struct nl *n, struct nl_batch *b, unsigned int *at, struct err **e)
{
	char buf[32768] __attribute__((aligned(8)));
	unsigned int left = b->n;
	uint32_t first;
	int r, bad = 0;

	if (at)
		*at = 0;
	if (b->b.len == 0 && !b->started)
		return 0;
	r = number_and_send(n, b, &first, e);
	while (r == 0 && left > 0) {
		ssize_t len = mnl_socket_recvfrom(n->s, buf, sizeof(buf));
		int rest = (int)len;

		if (len < 0) {
			if (errno == EINTR)
				continue;
			r = err_sys(e, errno, "read netlink acknowledgement");
			break;
		}
		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; mnl_nlmsg_ok(h, rest);
		     h = mnl_nlmsg_next(h, &rest)) {
			const struct nlmsgerr *m = mnl_nlmsg_get_payload(h);

			if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_seq - first >= n->seq - first)
				continue; /* left over from an earlier request */
			if (left > 0)
				left--;
			if (m->error < 0 && !bad) {
				bad = set_refusal(h, m->error, e);
				if (at)
					*at = h->nlmsg_seq - first;
			}
		}
		/* nfnetlink answers a refused batch with fewer acknowledgements than messages. */
		if (bad && left > 0) {
			struct timeval none = { .tv_usec = 1000 };
			int fd = mnl_socket_get_fd(n->s);

			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
			while (mnl_socket_recvfrom(n->s, buf, sizeof(buf)) > 0)
				;
			none.tv_usec = 0;
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
			break;
		}
	}
	nl_batch_clear(b);
	return r < 0 ? r : bad;
}

int nl_query(struct nl *n, struct nl_batch *b, nl_data_fn *fn, void *arg, struct err **e)
{
	char buf[65536] __attribute__((aligned(8)));
	uint32_t first;
	int r = number_and_send(n, b, &first, e), ret = 0;
	bool done = false;

	while (r == 0 && !done) {
		ssize_t len = mnl_socket_recvfrom(n->s, buf, sizeof(buf));
		int rest = (int)len;

		if (len < 0) {
			if (errno == EINTR)
				continue;
			r = err_sys(e, errno, "read netlink answer");
			break;
		}
		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; mnl_nlmsg_ok(h, rest);
		     h = mnl_nlmsg_next(h, &rest)) {
			if (h->nlmsg_seq - first >= n->seq - first)
				continue;
			if (h->nlmsg_type == NLMSG_DONE) {
				done = true;
			} else if (h->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *m = mnl_nlmsg_get_payload(h);

				done = true;
				if (m->error < 0 && ret == 0)
					ret = set_refusal(h, m->error, e);
			} else if (ret == 0) {
				ret = fn(h, arg);
				if (ret < 0)
					err_wrap(e, ret, "read netlink answer");
			}
		}
	}
	nl_batch_clear(b);
	return r < 0 ? r : ret;
}
