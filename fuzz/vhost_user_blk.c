/* A vhost-user front end that sends anything, with memory and descriptors that may fit.
 * Input: messages of a byte each for request, flags (1: a memory file comes along, 2: an eventfd, 4: wants an answer) and
 * length, then that many bytes of payload; a request of 0 ends them.  The rest is laid out over the shared memory, where
 * rings may be. */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "base/log.h"
#include "base/rpc.h"
#include "storage/export/vhost_user_blk.h"
#include "sys/vhost_user.h"

#define MEMORY (64 * KIB)

static struct export_threads threads;
static struct disk_export *x;
static struct vu_dev *dev;
static char path[64];
static int mem_fd = -1;
static uint8_t *mem;

static void gone(void)
{
	unlink(path);
}

static void setup(void)
{
	struct disk_cfg cfg = { .driver = "mem", .format = "raw", .mem_size = MIB };
	struct disk *d;

	log_set_levels("error", NULL);
	snprintf(path, sizeof(path), "/tmp/strata-fuzz-vu-%d", (int)getpid());
	atexit(gone);
	mem_fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (mem_fd < 0 || ftruncate(mem_fd, MEMORY) < 0)
		abort();
	mem = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, mem_fd, 0);
	if (mem == MAP_FAILED || export_threads_start(&threads, 1, NULL) < 0 ||
	    disk_open(&cfg, &d, NULL) < 0 || export_new("m", NULL, d, &x, NULL) < 0 ||
	    vu_blk_new(&threads, x, path, 2, &dev, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	nsec_t until = now_mono() + 60 * NSEC_PER_SEC;
	uint8_t sink[512];
	int fd;

	if (!dev)
		setup();
	if (size > 16 * KIB)
		return 0;
	memset(mem, 0, MEMORY);
	fd = rpc_connect(path, NULL);
	if (fd < 0)
		abort();
	while (size >= 3 && data[0] != 0) {
		struct vu_msg m = {
			.h = { data[0], VU_VERSION | (data[1] & 4 ? (uint32_t)VU_NEED_REPLY : 0U),
			       data[2] }
		};
		size_t n = MIN((size_t)data[2], size - 3);

		memcpy(m.p.bytes, data + 3, n);
		if (data[1] & 1)
			m.fds[m.n_fds++] = mem_fd;
		if (data[1] & 2)
			m.fds[m.n_fds++] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		data += 3 + n;
		size -= 3 + n;
		/* the rings' contents are there before the message that starts them */
		if (size > 0 && data[0] == 0)
			memcpy(mem, data, MIN(size, (size_t)MEMORY));
		if (vu_send(fd, &m, NSEC_PER_SEC) < 0)
			size = 0;
		if (m.n_fds && m.fds[m.n_fds - 1] != mem_fd)
			close(m.fds[m.n_fds - 1]);
		while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
	shutdown(fd, SHUT_WR);
	while (recv(fd, sink, sizeof(sink), 0) > 0) /* until it has hung up */
		;
	close(fd);
	while (vu_blk_connected(dev))
		if (now_mono() > until)
			abort(); /* it hangs */
	return 0;
}
