/* What this host can do, what is missing, and the command that gets it.
 * A check looks at the running kernel and the installed programs; it changes nothing. */
#ifndef NODE_DOCTOR_H
#define NODE_DOCTOR_H

#include "ext/json.h"

/* {"checks":[{"name","state":"ok|missing|broken","needed":bool,"detail","fix"}]}; NULL: out of memory.
 * Blocks for about 100 ms (the engine is measured once per process): call it from a worker. */
struct json *doctor_report(void);

/* The engine that `auto` means here, "native" or "qemu", with the reason (static text per process). Any thread. */
const char *doctor_engine(const char **reason);

#endif
