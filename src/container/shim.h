/* strata-shim: one small process per container, which outlives the daemon.
 *
 * It makes the container (in a child of its own, by the functions of this room), is its parent, keeps its console and writes
 * its log, learns how it ends and whether the OOM killer struck, starts further programs in it, and tells whoever is connected.
 * The daemon may die, come back, and connect again: nothing is lost but what it was told while nobody listened, and
 * `state` has the sum of that.
 *
 *	strata-shim --dir DIR [--fd N]
 *
 * DIR belongs to the caller: it exists, is private to one container, on a tmpfs by choice (/run/strata/shim/ID), and is removed
 * by the caller when the shim has ended.  N is a connected unix stream socket, the first connection: so `create` can be sent
 * before the process has even started, and events come on it unasked.  The shim leaves the caller's session, closes every
 * other descriptor, and never prints.  Environment: nothing is read and nothing is handed on.
 *
 * In DIR the shim keeps
 *	shim.sock   where to connect (mode 0600; only root and its own user are answered)
 *	shim.json   {"version","pid","start","id","root","bundle"}: the shim's own pid and start time (/proc/PID/stat field 22)
 *	exit.json   the record of the end (below), written and renamed into place before the exit event is sent
 *
 * PROTOCOL.  Frames of base/rpc.h.  Requests {"op":OP,"seq":N,...}; to each one reply {"seq":N,"ok":true,...} or
 * {"seq":N,"ok":false,"error":{"id","errno","text"}}, in any order: a slow operation does not hold up others.  Unknown fields
 * are ignored; an unknown op is refused with id "shim.op".  `state`.features names what this shim can do.
 *
 *  create  id, root, bundle    as `strata-oci --root ROOT run -b BUNDLE ID`; once in a shim's life
 *	    start: true         also start it (false: it waits for `start`)
 *	    manager: "cgroupfs" "systemd" "disabled"        default cgroupfs
 *	    stdin: "none"       /dev/null (default); "open": a pipe that attached connections write to, it stays open;
 *		   "once": the same, but closed when an attached connection has closed its side for writing
 *	    log: {path, format: "json-file" "cri" "raw", max_size: bytes (0: no limit), max_files: N}
 *	    config, no_pivot, no_new_keyring                as the options of strata-oci
 *	    -> pid, start (its start time), terminal, warnings: [text]
 *	    On failure nothing is left of the container, the shim writes exit.json with "error" and ends.
 *  start   -> {}
 *  kill    signal (number or "SIGTERM"), all: false
 *  exec    exec: NAME, process: {an OCI process object}, or args, env, cwd, user as changes of the container's own process;
 *	    terminal comes from process.terminal (or terminal); no_wait: do not fail in a paused container
 *	    fds: standard input, output, error (any number from the left, the others are /dev/null), given to the program as
 *	    they are: nothing is copied through the shim.  With a terminal no fd is taken, and the reply carries its master
 *	    -> pid, start
 *  attach  stdin: true, output: true, wait: false
 *	    -> fds: [0] a stream socket: container's standard input (or terminal) in, standard output (or terminal) out;
 *		    [1] standard error (not with a terminal).  Half-close [0] to end the input.  End of file: the program ended.
 *	    wait: true: when the reader is slow, the container waits, as in a shell's pipe (a foreground `run`).
 *	    wait: false: a reader that is a megabyte behind is cut off; the container and its log never wait for it
 *  resize  rows, cols          of the container's terminal (an exec's terminal is resized by whoever holds its master)
 *  pause, resume               -> {} when it is so
 *  update  resources: {linux.resources of the specification}
 *  stats   -> stats: what `strata-oci events --stats` has under "data"
 *  ps      -> pids: [...]
 *  reopen  the log file was renamed by somebody else: begin a new one
 *  events  send events on this connection, too
 *  state   -> version, features, id, pid, start, status ("creating" "created" "running" "paused" "stopped"), terminal, oom_kills,
 *	    log: {bytes, dropped}, execs: [{exec, pid, running, status}] (the ended ones: the last 32),
 *	    exit: the record, once it has ended
 *  delete  kill what runs (SIGKILL) and end; the reply comes when the container is gone
 *
 * Events: {"event":"started"} · {"event":"oom","kills":N} · {"event":"exec_exit","exec","status","signal"} ·
 *	{"event":"warning","text"} · {"event":"exit",RECORD}, the last frame: then the shim closes its connections and ends.
 *
 * RECORD (exit.json, the exit event, state.exit):
 *	{"version":1,"id","pid","status":N as a shell has it (128+signal),"signal":S or 0,"oom":bool,"oom_kills":N,
 *	 "started":RFC 3339 or "","ended":RFC 3339,"cpu_usec":N,"memory_peak":bytes,"log_dropped":bytes,"error":null or {"id","errno","text"}}
 *	error: the container could not be made, or not be cleaned up.  A container that never ran has status 125, 126 or 127.
 *
 * THE END.  When the program ends: what is still in its pipes is logged, everything else in the container is killed, its
 * cgroups and the runtime's folder are removed and poststop hooks run (as `strata-oci delete`), exit.json is written, the exit
 * event goes out, the shim ends with status 0.  Nobody has to be there.
 *
 * THE DAEMON COMES BACK.  For each DIR: exit.json is there: it has ended, take the record, remove DIR.  Else connect to
 * shim.sock: it answers: `events`, `state`.  It does not (ECONNREFUSED, ENOENT, and the process of shim.json is gone): the shim
 * was killed; `strata-oci --root ROOT delete --force ID` removes what is left, the exit status is lost (call it 255).
 * A killed shim does not take the container's processes with it, but its log and console end there.
 *
 * SIGTERM: SIGTERM to the container, after ten seconds SIGKILL (a host that shuts down).  Other signals are ignored.
 * Thread: one, an event loop; what may block runs in children.  Trust: who may connect may do all that root can; what the
 * container writes is hostile and only ever copied. */
#ifndef CONTAINER_SHIM_H
#define CONTAINER_SHIM_H

#define SHIM_VERSION	  1
#define SHIM_SOCKET	  "shim.sock"
#define SHIM_FILE	  "shim.json"
#define SHIM_EXIT	  "exit.json"
#define SHIM_BEHIND_MAX	  (1U << 20) /* bytes an attached reader may lag */
#define SHIM_EXECS_KEPT	  32
#define SHIM_STOP_SECONDS 10

#endif
