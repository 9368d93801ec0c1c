"""Files into and out of a host: a tar stream through `lab exec`.

Like cp -a: what is put on an existing folder goes into it, a folder is copied whole, owners become
root, modes, links and times stay.  The destination is written under another name first and moved
over, so nobody in the host sees half a program."""

import os
import subprocess
import tempfile

from . import client
from .err import LabError

# $1: destination.  Unpacks one member tree from standard input.
PUT = r'''
set -e
dst=$1 name=$2
case $dst in */) mkdir -p "$dst" ;; esac
if [ -d "$dst" ]; then dst=${dst%/}/$name; fi
mkdir -p "$(dirname "$dst")"
tmp=$(mktemp -d "$(dirname "$dst")/.lab-put.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
tar -x --no-same-owner -p -C "$tmp" -f -
if [ -d "$tmp/$name" ] && [ ! -L "$tmp/$name" ] && [ -d "$dst" ]; then
	cp -a --remove-destination "$tmp/$name/." "$dst/"
else
	mv -Tf "$tmp/$name" "$dst"
fi
'''
GET = r'''
set -e
[ -e "$1" ] || [ -L "$1" ] || { echo "$1: not there" >&2; exit 1; }
exec tar -c --sparse -C "$(dirname "$1")" -f - "$(basename "$1")"
'''


def put(directory, host, sources, target):
    """Copy files or folders of this machine to `target` in the host."""
    if len(sources) > 1 and not target.endswith('/'):
        target += '/'
    for source in sources:
        if not os.path.lexists(source):
            raise LabError('put %s: not there' % source)
        source = os.path.abspath(source)
        name = os.path.basename(source) or 'root'
        tar = subprocess.Popen(['tar', '-c', '--sparse', '--owner=0', '--group=0',
                                '-C', os.path.dirname(source), '-f', '-', name],
                               stdout=subprocess.PIPE)
        with tar.stdout:
            status = client.execute(directory, host, ['sh', '-c', PUT, 'put', target, name],
                                    stdin=tar.stdout.fileno())
        if tar.wait() or status:
            raise LabError('put %s to %s:%s: failed' % (source, host, target))


def get(directory, host, source, target):
    """Copy a file or folder of the host to `target` here."""
    name = os.path.basename(source.rstrip('/'))
    if not name:
        raise LabError("get '%s': a name is wanted" % source)
    into = os.path.join(target, name) if os.path.isdir(target) else target
    folder = os.path.dirname(os.path.abspath(into))
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.lab-get.', dir=folder) as tmp:
        tar = subprocess.Popen(['tar', '-x', '-p', '-C', tmp, '-f', '-'], stdin=subprocess.PIPE)
        try:
            status = client.execute(directory, host,
                                    ['sh', '-c', GET, 'get', source.rstrip('/')],
                                    stdin=None, stdout=tar.stdin.fileno())
        finally:
            tar.stdin.close()
            tar.wait()
        if tar.returncode or status:
            raise LabError('get %s:%s: failed' % (host, source))
        if os.path.isdir(into) and not os.path.islink(into):
            subprocess.run(['cp', '-a', os.path.join(tmp, name, '.'), into], check=True)
        else:
            os.replace(os.path.join(tmp, name), into)


def image_of(folder, path):
    """A read-only file system image of `folder` at `path`: erofs where its maker is here, else
    ext4.  Returns nothing; LabError when neither can be made."""
    attempts = (['mkfs.erofs', '-E', 'noinline_data', '--all-root', path, folder],
                None)
    last = ''
    for argv in attempts:
        if argv is None:
            size = sum(os.lstat(os.path.join(r, n)).st_size
                       for r, d, names in os.walk(folder) for n in names)
            argv = ['mke2fs', '-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', folder,
                    path, '%dK' % (16384 + size * 13 // 10 // 1024)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
        except FileNotFoundError as e:
            last = str(e)
            continue
        if done.returncode == 0:
            return
        last = done.stderr.strip()[-300:]
    raise LabError("make a disk of '%s': %s" % (folder, last))
