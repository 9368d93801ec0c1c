/* The console: where the serial port's bytes go and come from.  "stdio" or "socket:PATH".
 *
 * Output goes into a ring first, which the main loop drains; a client of the socket that comes (again) gets what the
 * ring still holds and then what follows, so the first boot messages are never lost to a late reader.  A reader
 * that is too slow loses the oldest bytes (counted), the guest is never held up.
 * Thread: console_write and console_input_ready any; the rest main. */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include "base/err.h"
#include "base/loop.h"

struct console;

/* spec NULL: "none", output is kept in the ring alone.  stdio on a terminal is set to raw mode until console_free();
 * there Ctrl-A x calls on_quit. */
int console_new(struct loop *l, const char *spec, void (*on_quit)(void *arg), void *arg,
		struct console **ret, struct err **e);
void console_free(struct console *c); /* writes out what stdio still owes; NULL ok */

void console_write(struct console *c, const void *data, size_t len);
/* Where input goes: take returns how many bytes it took; the rest is offered again after console_input_ready(). */
void console_set_input(struct console *c,
		       size_t (*take)(void *arg, const uint8_t *data, size_t len), void *arg);
void console_input_ready(struct console *c);

struct console_stats {
	uint64_t out_bytes, lost_bytes, in_bytes, connects;
};
void console_stats(struct console *c, struct console_stats *ret);

#endif
