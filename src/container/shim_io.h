/* The streams of a container's first program: its outputs are read, logged and copied to whoever is attached; what those
 * send becomes its input.  All descriptors are non-blocking here.  Thread: the shim's loop. */
#ifndef CONTAINER_SHIM_IO_H
#define CONTAINER_SHIM_IO_H

#include "base/loop.h"
#include "base/linelog.h"

enum shim_stdin { SHIM_STDIN_NONE, SHIM_STDIN_OPEN, SHIM_STDIN_ONCE };

struct shim_io { /* zeroed; fds are -1 after shim_io_init() */
	struct loop *loop;
	struct linelog log;
	enum shim_stdin stdin_mode;
	int out[2]; /* read ends of standard output and error; out[0] the terminal's master */
	int slave;  /* of the terminal, held open; -1 */
	int in; /* write end of standard input, or the terminal's master again; -1: none or closed */
	bool terminal; /* out[0] == in */
	struct watch out_watch[2], in_watch;
	struct buf in_pending;
	bool in_close; /* once in_pending is written */
	struct list attached;
	size_t n_attached;
	void (*idle)(void *arg); /* called when the last attached reader is gone */
	void *arg;
};

void shim_io_init(struct shim_io *io, struct loop *l);
/* Make the pipes; child[0..2] are for the program (close-on-exec, the caller closes them). */
int shim_io_pipes(struct shim_io *io, int child[3], struct err **e);
/* Take a terminal's master in place of pipes. */
int shim_io_terminal(struct shim_io *io, int master, struct err **e);
/* Begin to read. */
int shim_io_start(struct shim_io *io, struct err **e);
/* New sockets for a reader, [0] in and out, [1] standard error (-1 with a terminal); the caller owns them. */
int shim_io_attach(struct shim_io *io, bool input, bool output, bool wait, int fds[2],
		   struct err **e);
int shim_io_resize(struct shim_io *io, unsigned int rows, unsigned int cols, struct err **e);
/* Read what is there without waiting. */
void shim_io_drain(struct shim_io *io);
/* No more will come: readers get what is pending, then end of file. */
void shim_io_finish(struct shim_io *io);
/* Everything goes, readers too. */
void shim_io_done(struct shim_io *io);

#endif
