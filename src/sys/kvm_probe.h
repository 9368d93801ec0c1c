/* How fast does KVM here run unmodified 64-bit guests?
 *
 * Some hosts offer /dev/kvm and emulate every guest instruction; a stock kernel would take minutes to boot there.  The probe
 * runs a counting loop in long mode in a throw-away VM for a moment and reads how far it came.  Hardware runs billions a
 * second; below KVM_PROBE_NATIVE KVM emulates.  Source: Linux Documentation/virt/kvm/api.rst; Intel SDM vol. 3, 4.5. */
#ifndef SYS_KVM_PROBE_H
#define SYS_KVM_PROBE_H

#include "base/err.h"
#include "base/types.h"

#define KVM_PROBE_NATIVE 50000000ULL /* iterations a second */

/* Takes about `span` (50 to 200 ms are enough).  *ret: iterations a second.  -ENOENT: no /dev/kvm; -EACCES; -EIO: the loop does not
 * run at all.  Thread: any; uses SIGALRM-free time limits. */
int kvm_probe(nsec_t span, uint64_t *ret, struct err **e);

#endif
