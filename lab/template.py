"""Templates: a generic host, booted once, saved, and cloned by every `lab up` of the same shape.

A template is a folder of the cache, templates/KEY, made under another name and renamed, like an
image.  KEY covers the very disk it is a layer of (Image.identity: an image that was removed and
made again is another one), QEMU, how hosts are started and saved, and the shape without cards and
disks.  template.json names the image; a template dies with it."""

import hashlib
import json
import os
import shutil
import time

from . import client, host, qemu, snapshot, state
from .err import LabError
from .image import Image
from .place import Lock, cache_dir, hold

KEEP = 6
held = []                               # locks of the templates that this process has asked for


def key(shape, image):
    """The name of the template for `shape` over `image`."""
    more = [qemu.version()]
    for module in (qemu, host, snapshot):
        with open(module.__file__, 'rb') as f:
            more.append(hashlib.sha256(f.read()).hexdigest())
    with open(__file__, 'rb') as f:
        more.append(hashlib.sha256(f.read()).hexdigest())
    if shape.accel == 'kvm':            # -cpu host is part of what was saved
        with open('/proc/cpuinfo') as f:
            more.append(sorted({line for line in f if line.startswith(('model name', 'flags'))}))
    return shape.template_key([image.key, image.identity], more)


def ensure(shape, image, say=lambda text: None):
    """The folder of the template for `shape`, made if the cache does not have it, and kept while
    this process lives."""
    name = key(shape, image)
    folder = os.path.join(cache_dir(), 'templates', name)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    if os.path.exists(folder):
        os.utime(folder)
        held.append(hold(folder))
        return folder
    with Lock(_maker(name)):
        if not os.path.exists(folder):
            _make(folder, shape, image, say)
        held.append(hold(folder))
        prune(name)
    return folder


def _maker(name):
    """The lock of whoever makes a template whose name begins like that."""
    return os.path.join(cache_dir(), 'template-%s.lock' % name[:2])


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
        qemu.check_disk(os.path.join(new, 'root.qcow2'))
        with open(os.path.join(new, 'template.json'), 'w') as f:
            json.dump({'image': image.folder, 'identity': image.identity, 'failed': failed}, f)
        open(os.path.join(new, 'lock'), 'w').close()
        os.rename(new, folder)
    except LabError as e:
        raise LabError('make a template host: %s' % e, e.status) from None
    finally:
        state.down(work)
        shutil.rmtree(new, ignore_errors=True)
    say('template %s: %.0f s' % (os.path.basename(folder), time.monotonic() - started))


def prune(mine=''):
    """Remove all but the KEEP newest, those whose image is gone, and what killed makers have left;
    none in use.  `mine`: the name whose maker's lock the caller holds."""
    top = os.path.join(cache_dir(), 'templates')
    whole = []
    for entry in sorted(os.scandir(top), key=lambda e: e.stat().st_mtime, reverse=True):
        if '.' in entry.name:
            _sweep(entry, mine)
        else:
            whole.append(entry)
    for i, entry in enumerate(whole):
        if i < KEEP and _stands(entry.path):
            continue
        try:
            with Lock(os.path.join(entry.path, 'lock'), wait=False):
                os.rename(entry.path, entry.path + '.gone')
            shutil.rmtree(entry.path + '.gone')
        except (LabError, OSError):
            continue


def _stands(folder):
    """Is the image of this template still the one it was made over?"""
    try:
        with open(os.path.join(folder, 'template.json')) as f:
            made = json.load(f)
        return Image(made['image']).identity == made['identity']
    except (OSError, ValueError, KeyError):
        return False


def _sweep(entry, mine):
    """Remove NAME.new, NAME.work and NAME.gone unless somebody is at it."""
    if entry.name[:2] == mine[:2]:
        return                          # the lock is ours: _make() has removed what was in its way
    try:
        with Lock(_maker(entry.name), wait=False):
            state.down(entry.path)
            shutil.rmtree(entry.path, ignore_errors=True)
    except LabError:
        pass
