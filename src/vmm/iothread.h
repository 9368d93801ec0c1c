/* The threads of strata-vmm, and who runs on which:
 *
 *	main     loop of machine.c: signals, control socket, console, timers of legacy devices; life-cycle ops.
 *	vcpuN    KVM_RUN and register callbacks (with the device's lock held).  Never blocks on I/O.
 *	ioN      one loop each, made by the first vm_io_loop(): queue work, disk and packet I/O.
 *
 * Rule of quiescing (machine.c): every vCPU is signalled, then all are waited for; then each device's quiesce(),
 * in reverse plug order, on the main thread.  A device stops its part of an I/O loop by iothread_call(): when
 * that returned, none of its callbacks runs and none will start.  Resume goes the other way round: devices in
 * plug order, then vCPUs.  An I/O loop itself never stops: it may serve several devices. */
#ifndef VMM_IOTHREAD_H
#define VMM_IOTHREAD_H

#include "base/err.h"
#include "base/loop.h"

struct vm;

/* The main thread's loop. */
struct loop *vm_main_loop(struct vm *vm);
/* The loop of I/O thread `hint` modulo the configured number (default 1); its thread is started by the first
 * call.  NULL with e set: the thread could not be made.  Main thread, from construct() or plug(). */
struct loop *vm_io_loop(struct vm *vm, unsigned int hint, struct err **e);

/* Run fn(arg) on the loop's thread and wait until it has returned.  Main or vCPU thread, not a loop's own (on
 * the loop's own thread it is called at once).  The main loop must not be the target from a vCPU thread: the
 * main thread may be waiting for that vCPU. */
void iothread_call(struct loop *l, void (*fn)(void *arg), void *arg);

/* For machine.c: the calling thread runs l; stop and join all I/O threads (devices are gone already). */
void iothread_adopt(struct loop *l);
void iothread_stop_all(struct vm *vm);

#endif
