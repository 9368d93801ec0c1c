/* See vhost_user.h. */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "sys/vhost_user.h"

int vu_payload_size(enum vu_op r)
{
	switch (r) {
	case VU_GET_FEATURES:
	case VU_SET_OWNER:
	case VU_RESET_OWNER:
	case VU_GET_PROTOCOL_FEATURES:
	case VU_GET_QUEUE_NUM:
	case VU_SET_BACKEND_REQ_FD:
	case VU_RESET_DEVICE:
	case VU_GET_MAX_MEM_SLOTS:
	case VU_SET_LOG_FD:
		return 0;
	case VU_SET_FEATURES:
	case VU_SET_PROTOCOL_FEATURES:
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR:
		return sizeof(uint64_t);
	case VU_SET_VRING_NUM:
	case VU_SET_VRING_BASE:
	case VU_GET_VRING_BASE:
	case VU_SET_VRING_ENABLE:
		return sizeof(struct vu_ring_state);
	case VU_SET_VRING_ADDR:
		return sizeof(struct vu_ring_addr);
	case VU_SET_MEM_TABLE:
		return offsetof(struct vu_mem_table, region);
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG:
		return sizeof(struct vu_mem_reg);
	case VU_GET_CONFIG:
	case VU_SET_CONFIG:
		return offsetof(struct vu_config, data);
	case VU_GET_INFLIGHT_FD:
	case VU_SET_INFLIGHT_FD:
		return offsetof(struct vu_inflight, queue_size) + sizeof(uint16_t);
	case VU_SET_LOG_BASE:
		return 16;
	default:
		return -1;
	}
}

/* 0: readable (or writable); -ECANCELED, -ETIMEDOUT. */
static int wait_for(int fd, short events, int stop_fd, nsec_t until)
{
	struct pollfd p[2] = { { .fd = fd, .events = events },
			       { .fd = stop_fd, .events = POLLIN } };

	for (;;) {
		nsec_t left = until == NSEC_FOREVER ? NSEC_FOREVER : until - now_mono();
		struct timespec ts = { MAX(left, (nsec_t)0) / NSEC_PER_SEC,
				       MAX(left, (nsec_t)0) % NSEC_PER_SEC };
		int n = ppoll(p, stop_fd >= 0 ? 2 : 1, left == NSEC_FOREVER ? NULL : &ts, NULL);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && stop_fd >= 0 && p[1].revents)
			return -ECANCELED;
		if (n > 0)
			return 0;
		if (n == 0 && left <= 0)
			return -ETIMEDOUT;
	}
}

static void take_fds(struct msghdr *mh, struct vu_msg *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		const int *fds = (const int *)(const void *)CMSG_DATA(c);
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			if (m->n_fds < VU_FDS_MAX)
				m->fds[m->n_fds++] = fds[i];
			else
				close(fds[i]);
		}
	}
}

static ssize_t recv_some(int fd, void *p, size_t len, struct vu_msg *m)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = { p, len };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl)
	};
	ssize_t n;

	do
		n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&mh, m);
	return n;
}

int vu_recv(int fd, int stop_fd, nsec_t timeout, bool wait, struct vu_msg *m)
{
	nsec_t until = wait || timeout == NSEC_FOREVER ? NSEC_FOREVER : now_mono() + timeout;
	size_t got = 0, want = sizeof(m->h);
	int r;

	memset(m, 0, sizeof(*m));
	while (got < want) {
		ssize_t n;

		r = wait_for(fd, POLLIN, stop_fd, until);
		if (r < 0)
			goto fail;
		n = got < sizeof(m->h)
			    ? recv_some(fd, (uint8_t *)&m->h + got, sizeof(m->h) - got, m)
			    : recv_some(fd, m->p.bytes + (got - sizeof(m->h)), want - got, m);
		if (n == -EAGAIN)
			continue;
		if (n <= 0) {
			r = n < 0 ? (int)n : got == 0 ? -ENODATA : -EPROTO;
			goto fail;
		}
		if (got == 0 && timeout != NSEC_FOREVER)
			until = now_mono() + timeout;
		got += (size_t)n;
		if (got == sizeof(m->h)) {
			if (m->h.size > VU_PAYLOAD_MAX ||
			    (m->h.flags & VU_VERSION_MASK) != VU_VERSION) {
				r = -EPROTO;
				goto fail;
			}
			want += m->h.size;
		}
	}
	return 0;
fail:
	vu_msg_done(m);
	return r;
}

int vu_send(int fd, const struct vu_msg *m, nsec_t timeout)
{
	nsec_t until = timeout == NSEC_FOREVER ? NSEC_FOREVER : now_mono() + timeout;
	size_t sent = 0, len = sizeof(m->h) + m->h.size;
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
	} ctl = { 0 };
	uint8_t flat[sizeof(m->h) + VU_PAYLOAD_MAX];

	memcpy(flat, &m->h, sizeof(m->h));
	memcpy(flat + sizeof(m->h), m->p.bytes, MIN((size_t)m->h.size, (size_t)VU_PAYLOAD_MAX));
	while (sent < len) {
		struct iovec iov = { flat + sent, len - sent };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;
		int r;

		if (sent == 0 && m->n_fds > 0) {
			struct cmsghdr *c;

			mh.msg_control = &ctl;
			mh.msg_controllen = CMSG_SPACE(m->n_fds * sizeof(int));
			c = CMSG_FIRSTHDR(&mh);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(m->n_fds * sizeof(int));
			memcpy(CMSG_DATA(c), m->fds, m->n_fds * sizeof(int));
		}
		n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n < 0) {
			r = wait_for(fd, POLLOUT, -1, until);
			if (r < 0)
				return r;
			continue;
		}
		sent += (size_t)n;
	}
	return 0;
}

void vu_msg_done(struct vu_msg *m)
{
	for (unsigned int i = 0; i < m->n_fds; i++)
		safe_close(m->fds[i]);
	m->n_fds = 0;
}
