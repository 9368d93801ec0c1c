"""Labs from the outside: start a supervisor, find it again, take it down, remove its files."""

import json
import os
import select
import shutil
import subprocess
import sys

from . import client
from .err import LabError
from .place import SOURCE, Lock, labs_dir

FILES = ('ctl.sock', 'lab.json', 'lock', 'supervisor.log')
SUFFIXES = ('.console', '.console.1', '.qemu', '.sock')


def start(directory, config, say=lambda text: None):
    """A supervisor for `config` in `directory`; returns when its control socket answers."""
    if os.path.isdir(directory):
        if alive(directory):
            raise LabError("start a lab in %s: there is one; 'lab down' ends it" % directory)
        if os.path.exists(os.path.join(directory, 'lab.json')):
            say('removing what a dead lab left in %s' % directory)
            down(directory)
        elif os.listdir(directory):
            raise LabError("start a lab in %s: the folder is not empty" % directory)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with open(os.path.join(directory, 'lab.json'), 'w') as f:
        json.dump(config, f, indent=1)
    shutil.rmtree(config['data'], ignore_errors=True)
    os.makedirs(config['data'], mode=0o700)
    ours, theirs = os.pipe()
    with open(os.path.join(directory, 'supervisor.log'), 'ab') as log:
        subprocess.Popen([sys.executable, os.path.join(SOURCE, 'lab', 'lab'), '__supervise',
                          directory, str(theirs)], pass_fds=[theirs], stdin=subprocess.DEVNULL,
                         stdout=log, stderr=log, start_new_session=True, cwd='/')
    os.close(theirs)
    with os.fdopen(ours) as f:
        word = f.read()
    if word != 'ok':
        text = word or _last_line(os.path.join(directory, 'supervisor.log'))
        remove_files(directory, config['data'])
        raise LabError('start a lab in %s: %s' % (directory, text))


def alive(directory):
    """Does a supervisor hold this directory?"""
    path = os.path.join(directory, 'lock')
    if not os.path.exists(path):
        return False
    try:
        with Lock(path, wait=False):
            return False
    except LabError:
        return True


def down(directory):
    """End the lab in `directory`, whatever is left of it.  False when there is none."""
    if not os.path.exists(os.path.join(directory, 'lab.json')):
        return False
    try:
        with open(os.path.join(directory, 'lab.json')) as f:
            data = json.load(f)['data']
    except (OSError, ValueError, KeyError):
        data = None
    if alive(directory):
        try:
            pid = client.ask(directory, 'down', timeout=20)
            _wait_gone(pid, 30)
        except LabError:
            pass
        try:
            with Lock(os.path.join(directory, 'lock')):     # its holder is gone when we get it
                pass
        except FileNotFoundError:
            pass                        # and has removed its files
    remove_files(directory, data)
    return True


def remove_files(directory, data):
    """The files a lab makes, and its folder when nothing else is in it."""
    if data:
        shutil.rmtree(data, ignore_errors=True)
    if not os.path.isdir(directory):
        return
    for name in os.listdir(directory):
        if name in FILES or name.endswith(SUFFIXES):
            try:
                os.unlink(os.path.join(directory, name))
            except FileNotFoundError:
                pass
    try:
        os.rmdir(directory)
    except OSError:
        pass


def known():
    """The directories of all labs that have a name."""
    try:
        entries = sorted(os.scandir(labs_dir()), key=lambda e: e.name)
    except FileNotFoundError:
        return []
    return [e.path for e in entries if os.path.exists(os.path.join(e.path, 'lab.json'))]


def _wait_gone(pid, timeout):
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([fd], [], [], timeout)
    finally:
        os.close(fd)


def _last_line(path):
    try:
        with open(path) as f:
            return f.read().strip().splitlines()[-1]
    except (OSError, IndexError):
        return 'its supervisor died'
