/* Messages between the runtime and a container's first process; see init.h. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include "container/final.h"
#include "container/init.h"

#define FDS_MAX 24

int msg_send(int sock, int kind, int value, const char *text, const int *fds, size_t n_fds)
{
	struct final_msg m = { .kind = (uint32_t)kind, .value = value };
	struct iovec iov = { .iov_base = &m };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} c = { 0 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (text)
		snprintf(m.text, sizeof(m.text), "%s", text);
	iov.iov_len = FINAL_MSG_HEAD + (text ? strlen(m.text) + 1 : 0);
	if (n_fds > 0) {
		h.msg_control = &c;
		h.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c.h.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		c.h.cmsg_level = SOL_SOCKET;
		c.h.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&c.h), fds, n_fds * sizeof(int));
	}
	do {
		n = sendmsg(sock, &h, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int msg_recv(int sock, int timeout_ms, struct final_msg *m, int *fds, size_t *n_fds)
{
	struct iovec iov = { .iov_base = m, .iov_len = sizeof(*m) };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} c = { 0 };
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)
	};
	struct cmsghdr *cm;
	size_t room = n_fds ? *n_fds : 0, got = 0;
	ssize_t n;

	if (n_fds)
		*n_fds = 0;
	if (timeout_ms >= 0) {
		struct pollfd p = { .fd = sock, .events = POLLIN };
		int r;

		do {
			r = poll(&p, 1, timeout_ms);
		} while (r < 0 && errno == EINTR);
		if (r == 0)
			return -ETIMEDOUT;
	}
	memset(m, 0, sizeof(*m));
	do {
		n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	for (cm = CMSG_FIRSTHDR(&h); cm; cm = CMSG_NXTHDR(&h, cm)) {
		size_t k, count;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		count = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (k = 0; k < count; k++) {
			int fd;

			memcpy(&fd, (char *)CMSG_DATA(cm) + k * sizeof(int), sizeof(int));
			if (got < room)
				fds[got++] = fd;
			else
				close(fd);
		}
	}
	if (n_fds)
		*n_fds = got;
	if (n == 0)
		return -EPIPE;
	if ((size_t)n < FINAL_MSG_HEAD)
		return -EPROTO;
	m->text[sizeof(m->text) - 1] = '\0';
	return 0;
}
