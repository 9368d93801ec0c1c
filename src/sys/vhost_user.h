/* The vhost-user protocol: numbers, layouts, and messages with descriptors over a unix socket; for both ends.
 * Spec: QEMU's docs/interop/vhost-user.rst.  All fields are in the host's byte order.
 *
 * Users: storage/export/vhost_user.c (back end), vmm/virtio/vhost_user.c (front end).
 * Trust: the peer may be hostile: sizes are checked before anything is read, descriptors beyond the limit are closed.
 * Thread: a socket's two directions belong to one thread each. */
#ifndef SYS_VHOST_USER_H
#define SYS_VHOST_USER_H

#include "base/err.h"
#include "base/types.h"

#define VU_FDS_MAX     8U
#define VU_REGIONS_MAX 8U /* of one SET_MEM_TABLE */
#define VU_CONFIG_MAX  256U
#define VU_PAYLOAD_MAX 512U /* no message that we know is longer */
#define VU_QUEUES_MAX  64U

enum vu_op {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_LOG_BASE = 6,
	VU_SET_LOG_FD = 7,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_GET_INFLIGHT_FD = 31,
	VU_SET_INFLIGHT_FD = 32,
	VU_RESET_DEVICE = 34,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
};

enum vu_backend_request {
	VU_BACKEND_CONFIG_CHANGE = 2,
};

/* Virtio feature bit: protocol features exist, rings begin disabled. */
#define VU_F_PROTOCOL_FEATURES 30

enum vu_protocol_feature {
	VU_P_MQ = 0,
	VU_P_LOG_SHMFD = 1,
	VU_P_REPLY_ACK = 3,
	VU_P_BACKEND_REQ = 5,
	VU_P_CONFIG = 9,
	VU_P_INFLIGHT_SHMFD = 12,
	VU_P_RESET_DEVICE = 13,
	VU_P_CONFIGURE_MEM_SLOTS = 15,
};

enum { /* header flags */
       VU_VERSION = 1,
       VU_VERSION_MASK = 3,
       VU_REPLY = 4,
       VU_NEED_REPLY = 8,
};

#define VU_NO_FD     0x100U /* of SET_VRING_KICK, CALL and ERR: none comes along */
#define VU_RING_MASK 0xffU

struct vu_ring_state {
	uint32_t index, num;
};

struct vu_ring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log; /* the front end's addresses */
};

struct vu_region {
	uint64_t gpa, size, uaddr, mmap_offset; /* uaddr: the front end's address */
};

struct vu_mem_table {
	uint32_t n, pad;
	struct vu_region region[VU_REGIONS_MAX];
};

struct vu_mem_reg {
	uint64_t pad;
	struct vu_region region;
};

struct vu_config {
	uint32_t offset, size, flags;
	uint8_t data[VU_CONFIG_MAX];
};

struct vu_inflight {
	uint64_t mmap_size, mmap_offset;
	uint16_t n_queues, queue_size;
};

struct vu_header {
	uint32_t request, flags, size;
} _packed_;

struct vu_msg {
	struct vu_header h;
	union {
		uint64_t u64;
		struct vu_ring_state state;
		struct vu_ring_addr addr;
		struct vu_mem_table mem;
		struct vu_mem_reg mem_reg;
		struct vu_config config;
		struct vu_inflight inflight;
		uint8_t bytes[VU_PAYLOAD_MAX];
	} p; /* what the peer did not send is zero */
	int fds[VU_FDS_MAX];
	unsigned int n_fds;
};

/* The least payload that a request must carry, or -1 for one that is not known. */
int vu_payload_size(enum vu_op r);

/* Receive one message.  stop_fd: ends the waiting when it becomes readable (-ECANCELED), or -1.  timeout: of the whole
 * message once it has begun, and of its beginning when `wait` is not set; NSEC_FOREVER allowed.
 * -ENODATA: orderly end between messages; -EPROTO: malformed; -ETIMEDOUT; -errno. */
int vu_recv(int fd, int stop_fd, nsec_t timeout, bool wait, struct vu_msg *m);
/* Send m with h.size bytes of payload; its descriptors are borrowed.  -EPIPE without a signal; waits at most `timeout`
 * for a peer that does not read. */
int vu_send(int fd, const struct vu_msg *m, nsec_t timeout);
/* Close what is left of m's descriptors (take one with TAKE_FD). */
void vu_msg_done(struct vu_msg *m);

/* ---- the record of requests in flight (split rings), shared by back ends that follow each other ----
 *
 * One region a queue, vu_inflight_size() bytes each.  Whoever maps it treats it as hostile. */
struct vu_inflight_desc {
	uint8_t inflight, pad[5];
	uint16_t next;	  /* of the last batch */
	uint64_t counter; /* order of arrival */
};

struct vu_inflight_queue {
	uint64_t features;
	uint16_t version, desc_num, last_batch_head, used_idx;
	struct vu_inflight_desc desc[];
};
#define VU_INFLIGHT_VERSION 1

static inline uint64_t vu_inflight_size(uint16_t queue_size)
{
	return ALIGN_UP(sizeof(struct vu_inflight_queue) +
				(uint64_t)queue_size * sizeof(struct vu_inflight_desc),
			(uint64_t)64);
}

#endif
