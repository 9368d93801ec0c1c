/* The shim's knowledge of its container, and the requests that read and change it; see shim.h for what they mean. */
#ifndef CONTAINER_SHIM_STATE_H
#define CONTAINER_SHIM_STATE_H

#include "container/shim_io.h"
#include "container/shim_job.h"

enum shim_phase { SHIM_NEW, SHIM_CREATING, SHIM_CREATED, SHIM_RUNNING, SHIM_ENDING, SHIM_ENDED };

struct shim_exec {
	struct list node;
	char *name;
	pid_t pid; /* 0: not started yet */
	bool ended;
	int status; /* as waitpid() gave it */
};

struct shim {
	struct loop *loop;
	const char *dir; /* as given */
	int dirfd, listen_fd;
	char *id, *root, *bundle;
	enum shim_phase phase;
	bool failed; /* the container could not be made */
	bool stop_wanted;
	pid_t pid;
	uint64_t start;
	int status;
	nsec_t started, ended; /* real time; 0: not */
	int oom_fd, oom_count_fd;
	int64_t oom_kills;
	uint64_t cpu_usec, memory_peak;
	char *error; /* JSON object; NULL */
	struct shim_io io;
	struct watch listen_watch, child_watch, term_watch, oom_watch;
	struct timer stop_timer, end_timer;
	struct list clients, jobs, execs;
	size_t n_clients, n_execs_ended;
	/* Processes that ended before the job that started them has said who they are; only while such a job runs. */
	struct {
		pid_t pid;
		int status;
	} early[16];
	size_t n_early, n_starting;
};

struct shim_client {
	struct list node;
	struct rpc_conn conn;
	struct shim *s;
	bool events;
};

/* fd: the first connection, or -1. */
int shim_init(struct shim *s, struct loop *l, const char *dir, int fd, struct err **e);
void shim_done(struct shim *s);

/* -- between the shim's files -- */
void shim_request(struct shim_client *c, struct rpc_frame *f);
void shim_event(struct shim *s, const char *text); /* to all who want events */
/* The program ended: see "THE END" in shim.h. */
void shim_ended(struct shim *s);
void shim_record_json(const struct shim *s, struct buf *b); /* the members, without braces */
void shim_write_record(struct shim *s);
int shim_write_self(struct shim *s, struct err **e);
/* A child has ended that some job was about to name. */
bool shim_take_early(struct shim *s, pid_t pid, int *status);
void shim_program_ended(struct shim *s, int status);
void shim_exec_ended(struct shim *s, struct shim_exec *x, int status);
int shim_watch_oom(struct shim *s);
int64_t shim_oom_kills(const struct shim *s);
int shim_code(int status);		  /* waitpid()'s status as a shell has it */
bool shim_finished(const struct shim *s); /* nothing is left to do or to send */
void shim_check_end(struct shim *s);

#endif
