"""Where things are: the cache (images, templates, packages) and the directory of one lab.

A lab's directory holds sockets and small files, by default /run/strata-lab/NAME; its disks and
snapshots are big and lie beside it when the caller chose the directory, else in the cache, because
/run is usually memory."""

import fcntl
import os
import re
import tempfile

from .err import LabError, UsageError

SOURCE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
NAME_RE = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z')


def cache_dir():
    """$LAB_CACHE, else /var/cache/strata-lab for root, else the XDG cache of the user."""
    path = os.environ.get('LAB_CACHE')
    if not path:
        if os.geteuid() == 0:
            path = '/var/cache/strata-lab'
        else:
            base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
            path = os.path.join(base, 'strata-lab')
    os.makedirs(path, mode=0o755, exist_ok=True)
    return path


def labs_dir():
    """The folder of all labs that have a name and no --dir."""
    if os.geteuid() == 0:
        return '/run/strata-lab'
    base = os.environ.get('XDG_RUNTIME_DIR') or tempfile.gettempdir()
    return os.path.join(base, 'strata-lab-%d' % os.geteuid())


def lab_dir(name=None, path=None):
    """The directory that --name or --dir (or $LAB_NAME, $LAB_DIR) means."""
    if path is None and name is None:
        path = os.environ.get('LAB_DIR')
        name = os.environ.get('LAB_NAME')
    if path:
        return os.path.abspath(path)
    name = name or 'default'
    if not NAME_RE.match(name):
        raise UsageError("lab name '%s': use letters, digits, '.', '_' and '-', at most 32" % name)
    return os.path.join(labs_dir(), name)


def data_dir(directory):
    """Where a lab's disks and snapshots lie."""
    if os.path.dirname(directory) == labs_dir():
        return os.path.join(cache_dir(), 'labs', os.path.basename(directory))
    return os.path.join(directory, 'data')


class Lock:
    """A file lock as a context; shared for users of a thing, exclusive for its maker or remover.
    The kernel drops it when the process dies, so a lock is never stale."""

    def __init__(self, path, shared=False, wait=True):
        self.path = path
        self.how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        self.fd = -1

    def __enter__(self):
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self.fd, self.how)
        except BlockingIOError:
            self.close()
            raise LabError("lock '%s': held by another process" % self.path) from None
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        """Give the lock up; a second time has no effect."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def hold(folder):
    """A shared lock on a finished folder of the cache: nobody prunes it until the lock is closed.
    LabError when it is gone, or was replaced while we waited."""
    path = os.path.join(folder, 'lock')
    gone = LabError("use '%s': it was removed meanwhile; try again" % folder)
    if not os.path.exists(path):
        raise gone
    try:
        lock = Lock(path, shared=True).__enter__()
    except FileNotFoundError:
        raise gone from None
    try:
        if os.path.samestat(os.fstat(lock.fd), os.stat(path)):
            return lock
    except FileNotFoundError:
        pass
    lock.close()
    raise gone
