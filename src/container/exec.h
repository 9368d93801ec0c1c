/* Another process in a running container. */
#ifndef CONTAINER_EXEC_H
#define CONTAINER_EXEC_H

#include "container/status.h"

struct exec_result {
	pid_t pid;
	uint64_t start; /* of pid, see sys/proc.h */
	int master;	/* of its terminal; -1: none */
};

struct exec_opts {
	const char *root, *id;
	const char *
		process_file; /* a process object; NULL: the container's, changed by what follows */
	const char *process_text; /* the same as text, process_len bytes; NULL: none */
	size_t process_len;
	char **args;			   /* NULL: keep */
	char *const *env;		   /* added; NULL-terminated or NULL */
	const char *cwd, *user;		   /* "uid[:gid]" */
	char *const *groups, *const *caps; /* added */
	const char *apparmor, *label, *console_socket, *pid_file;
	char *const *
		cgroups; /* below the container's: "path" or "controller,...:path"; NULL-terminated or NULL */
	bool tty, no_new_privs, detach, ignore_paused;
	unsigned int preserve_fds;
	struct exec_result *ret; /* as in struct create_opts */
};

/* Returns the exit status, or 0 with detach. */
int container_exec(const struct exec_opts *o, struct err **e);

#endif
