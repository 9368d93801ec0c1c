/* What a VM says and is told: its log, and everybody who has its console open.
 *
 * Output goes to the log and to each reader from the moment it attached.  A reader that is VMIO_BEHIND_MAX behind is cut off; the
 * guest and the log never wait for it.  Input of all is mixed, as on a console that two people share.
 * Thread: the loop's. */
#ifndef NODE_ENGINE_VMIO_H
#define NODE_ENGINE_VMIO_H

#include "base/linelog.h"
#include "node/engine.h"

#define VMIO_BEHIND_MAX (1U << 20)

struct vmio { /* zeroed; private */
	struct loop *loop;
	bool tty;	 /* one stream for both directions */
	bool input_once; /* the end of one reader's input ends the guest's */
	bool input_over; /* it has come */
	struct list readers;
	struct linelog log;
	/* Takes some bytes for the guest, returns how many. NULL: it has no input now. */
	size_t (*input)(void *arg, const void *data, size_t n);
	void (*input_end)(void *arg);
	void *arg;
};

void vmio_init(struct vmio *io, struct loop *loop, bool tty, bool input_once);
/* path NULL: no log. */
int vmio_log(struct vmio *io, const char *path, uint64_t max_size, unsigned int max_files,
	     struct err **e);
void vmio_output(struct vmio *io, int fd, const void *data, size_t n); /* fd: 1 or 2 */
/* The guest takes input from now on; what readers said before is not lost. */
void vmio_input_begin(struct vmio *io, size_t (*input)(void *arg, const void *data, size_t n),
		      void (*input_end)(void *arg), void *arg);
void vmio_input_room(struct vmio *io); /* input() takes something again */
int vmio_attach(struct vmio *io, struct engine_stream *ret, struct err **e);
/* No more output: readers get what is left for them, then the end of the file. */
void vmio_end(struct vmio *io);
void vmio_done(struct vmio *io); /* at once; twice: no effect */

#endif
