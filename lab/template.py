"""Templates: a generic host, booted once, saved, and cloned by every `lab up` of the same shape.

A template is a folder of the cache, templates/KEY, made under another name and renamed, like an
image.  KEY covers the image, QEMU and the shape without cards and disks."""

import hashlib
import os
import shutil
import time

from . import client, qemu, state
from .err import LabError
from .place import Lock, cache_dir

KEEP = 6


def ensure(shape, image, say=lambda text: None):
    """The folder of the template for `shape`, made if the cache does not have it."""
    with open(qemu.__file__, 'rb') as f:
        more = [qemu.version(), hashlib.sha256(f.read()).hexdigest()]
    key = shape.template_key(image.key, more)
    folder = os.path.join(cache_dir(), 'templates', key)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    if os.path.exists(folder):
        os.utime(folder)
        return folder
    with Lock(os.path.join(cache_dir(), 'template-%s.lock' % key[:2])):
        if not os.path.exists(folder):
            _make(folder, shape, image, say)
            _prune()
    return folder


def _make(folder, shape, image, say):
    started = time.monotonic()
    say('booting a template host (%s, %d cpus, %d MiB)'
        % (shape.accel, shape.cpus, shape.memory >> 20))
    new = folder + '.new'
    work = folder + '.work'
    for path in (new, work):
        if os.path.isdir(path):
            state.down(path)
            shutil.rmtree(path, ignore_errors=True)
    os.mkdir(new)
    bare = dict(shape.dump(), nics=0, disks=[])
    config = {'count': 1, 'shape': bare, 'image': image.folder, 'data': os.path.join(work, 'data'),
              'owner': os.getpid(), 'make_template': new, 'password': ''}
    try:
        state.start(work, config)
        client.ask(work, 'up')
        failed = client.ask(work, 'settle', host='h1')
        if failed:
            say('units that failed in the template: ' + failed.strip())
        client.ask(work, 'save_template', folder=new)
        open(os.path.join(new, 'lock'), 'w').close()
        os.rename(new, folder)
    except LabError as e:
        raise LabError('make a template host: %s' % e) from None
    finally:
        state.down(work)
        shutil.rmtree(new, ignore_errors=True)
    say('template %s: %.0f s' % (os.path.basename(folder), time.monotonic() - started))


def _prune():
    """Remove all but the KEEP newest, those in use, and none that others may be making."""
    entries = [e for e in os.scandir(os.path.join(cache_dir(), 'templates'))
               if e.is_dir() and '.' not in e.name]
    entries.sort(key=lambda e: e.stat().st_mtime, reverse=True)
    for entry in entries[KEEP:]:
        try:
            with Lock(os.path.join(entry.path, 'lock'), wait=False):
                os.rename(entry.path, entry.path + '.gone')
            shutil.rmtree(entry.path + '.gone')
        except (LabError, OSError):
            continue
