/* The protocol between the host and strata-init inside a VM.            Full text: docs/internals/guest.md
 *
 * A byte stream (the virtio-console port GUEST_PORT_NAME, or a vsock connection to GUEST_VSOCK_PORT) carries
 * frames: this header in little endian, then `len` bytes.  Stream 0 is the instance's main process; the host
 * numbers others as it likes, and a number is free again after GUEST_EXITED or GUEST_ERROR. */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include "base/types.h"

#define GUEST_PROTOCOL	 1
#define GUEST_PORT_NAME	 "org.strata.guest.0"
#define GUEST_VSOCK_PORT 1024
#define GUEST_FW_CFG	 "opt/strata/config" /* the config, where the machine has fw_cfg */
#define GUEST_FRAME_MAX	 65536		     /* payload bytes */
#define GUEST_WINDOW	 262144 /* bytes a sender may have under way on a stream, each direction */

enum guest_type {
	GUEST_HELLO = 1,  /* g>h  JSON: version, kernel, features; first of every connection */
	GUEST_CONFIG = 2, /* h>g  JSON: the config; only while the guest waits for one */
	GUEST_STARTED =
		3, /* g>h  JSON: pid; on stream 0 when the main process runs, else answers EXEC */
	GUEST_EXITED = 4,  /* g>h  JSON: code (0-255) or signal */
	GUEST_ERROR = 5,   /* g>h  JSON: errno, message; the stream is over */
	GUEST_EXEC = 6,	   /* h>g  JSON: args, env, cwd, user, tty, rows, cols */
	GUEST_STDIN = 7,   /* h>g  bytes; empty: end of input */
	GUEST_STDOUT = 8,  /* g>h  bytes */
	GUEST_STDERR = 9,  /* g>h  bytes */
	GUEST_CREDIT = 10, /* both u32: so many bytes more may be sent on this stream */
	GUEST_SIGNAL = 11, /* h>g  u32: a Linux signal number for the stream's process */
	GUEST_RESIZE = 12, /* h>g  u16 rows, u16 columns */
	GUEST_PUT = 13,	   /* h>g  JSON: path, mode, uid, gid; then STDIN with the content */
	GUEST_GET = 14,	   /* h>g  JSON: path; answered by STDOUT and EXITED 0 */
	GUEST_POWER = 15,  /* h>g  JSON: action poweroff or reboot, timeout in seconds */
	GUEST_PING = 16,   /* h>g  any bytes; comes back as PONG */
	GUEST_PONG = 17,   /* g>h */
};

struct guest_header {
	uint32_t len, stream;
	uint8_t type, zero[3];
} _packed_;

#endif
