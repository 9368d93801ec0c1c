/* Numbers and layouts of the NBD protocol, all big-endian on the wire.
 * Spec: the NetworkBlockDevice project's doc/proto.md ("Values", "Reply types", "Structured reply types"). */
#ifndef STORAGE_NBD_PROTO_H
#define STORAGE_NBD_PROTO_H

#include "base/types.h"

#define NBD_PORT 10809

#define NBD_MAGIC	     0x4e42444d41474943ULL /* "NBDMAGIC" */
#define NBD_OPT_MAGIC	     0x49484156454f5054ULL /* "IHAVEOPT" */
#define NBD_REP_MAGIC	     0x0003e889045565a9ULL
#define NBD_REQUEST_MAGIC    0x25609513U
#define NBD_SIMPLE_MAGIC     0x67446698U
#define NBD_STRUCTURED_MAGIC 0x668e33efU

#define NBD_STRING_MAX	4096U	   /* of an export's name or a context's */
#define NBD_PAYLOAD_MAX (32 * MIB) /* of one read or write; clients assume at least this */

enum { /* handshake flags, both directions */
       NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
       NBD_FLAG_NO_ZEROES = 1 << 1,
};

enum nbd_opt {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ERR(n) (0x80000000U + (n))
enum nbd_rep {
	NBD_REP_ACK = 1,
	NBD_REP_SERVER = 2,
	NBD_REP_INFO = 3,
	NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR_UNSUP    NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY   NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID  NBD_REP_ERR(3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN  NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERR(7)
#define NBD_REP_ERR_TOO_BIG  NBD_REP_ERR(9)

enum nbd_info {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

enum { /* transmission flags: what an export can do */
       NBD_FLAG_HAS_FLAGS = 1 << 0,
       NBD_FLAG_READ_ONLY = 1 << 1,
       NBD_FLAG_SEND_FLUSH = 1 << 2,
       NBD_FLAG_SEND_FUA = 1 << 3,
       NBD_FLAG_SEND_TRIM = 1 << 5,
       NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
       NBD_FLAG_SEND_DF = 1 << 7,
       NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
       NBD_FLAG_SEND_CACHE = 1 << 10,
       NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum nbd_cmd {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

enum {
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
	NBD_CMD_FLAG_DF = 1 << 2,
	NBD_CMD_FLAG_REQ_ONE = 1 << 3,
	NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

enum {
	NBD_CHUNK_DONE = 1, /* flag: the last of its reply */
	NBD_CHUNK_NONE = 0, /* types */
	NBD_CHUNK_OFFSET_DATA = 1,
	NBD_CHUNK_BLOCK_STATUS = 5,
	NBD_CHUNK_ERROR = 32769,
};

enum {
	NBD_STATE_HOLE = 1,
	NBD_STATE_ZERO = 2,
}; /* base:allocation */

enum nbd_errno {
	NBD_OK = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

struct nbd_request {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t length;
} _packed_;

struct nbd_simple_reply {
	uint32_t magic, error;
	uint64_t cookie;
} _packed_;

struct nbd_chunk {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie;
	uint32_t length;
} _packed_;

struct nbd_option {
	uint64_t magic;
	uint32_t option, length;
} _packed_;

struct nbd_option_reply {
	uint64_t magic;
	uint32_t option, type, length;
} _packed_;

#endif
