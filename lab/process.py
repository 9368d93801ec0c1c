"""Children that do not outlive us."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(sig=signal.SIGKILL):
    """For preexec_fn: the kernel sends `sig` to this child when the thread that started it ends,
    however it ends."""
    libc.prctl(PR_SET_PDEATHSIG, sig)
    if os.getppid() == 1:               # it ended before we asked
        os._exit(1)
