"""The distribution's archive as this machine is set up to use it: nothing here names a server.

sources() gives mmdebstrap the Debian entries of the machine's own apt configuration; versions()
gives the cache key the version of every package that an image would contain today."""

import hashlib
import json
import os
import subprocess

from .err import LabError
from .place import SOURCE, cache_dir

LISTS = '/var/lib/apt/lists'


def packages():
    """The package names of packaging/deps-lab.txt and deps-run.txt, sorted."""
    names = set()
    for which in ('lab', 'run'):
        with open(os.path.join(SOURCE, 'packaging', 'deps-%s.txt' % which)) as f:
            for line in f:
                line = line.split('#')[0].strip()
                if line:
                    names.add(line)
    return sorted(names)


def sources():
    """(suite, [one-line apt sources]) of the Debian archives that apt knows here.  A machine whose
    lists were never fetched, or were thrown away, fetches them now."""
    suite, lines = _sources()
    if not suite:
        _apt(['apt-get', 'update', '-q'])
        suite, lines = _sources()
    if not suite:
        raise LabError("look for the Debian archive in apt's configuration: none found")
    return suite, lines


def _sources():
    out = _apt(['apt-get', 'indextargets', '--format',
                '$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CREATED_BY)'])
    lines, suite = [], None
    for row in out.splitlines():
        origin, label, uri, release, component, made = row.split('|')
        if origin != 'Debian' or made != 'Packages' or component != 'main':
            continue
        lines.append('deb %s %s %s' % (uri, release, component))
        if label == 'Debian' and '-' not in release:
            suite = suite or release
    return suite, sorted(set(lines))


def versions():
    """{package: version} of everything that `apt-get install` would put into an empty system.

    Asking apt costs seconds, so the answer is kept until apt's lists or our list change."""
    names = packages()
    mark = hashlib.sha256(json.dumps([names, _lists_mark()]).encode()).hexdigest()
    memo = os.path.join(cache_dir(), 'versions.json')
    try:
        with open(memo) as f:
            kept = json.load(f)
        if kept['mark'] == mark:
            return kept['versions']
    except (OSError, ValueError, KeyError):
        pass
    ask = ['apt-get', 'install', '-s', '--no-install-recommends',
           '-o', 'Dir::State::status=/dev/null', '?essential', 'apt'] + names
    try:
        out = _apt(ask)
    except LabError:                    # lists without our packages: none, or very old ones
        _apt(['apt-get', 'update', '-q'])
        out = _apt(ask)
        mark = hashlib.sha256(json.dumps([names, _lists_mark()]).encode()).hexdigest()
    found = {}
    for line in out.splitlines():
        word = line.split()
        if len(word) > 2 and word[0] == 'Inst':
            found[word[1]] = word[2].lstrip('(')
    tmp = '%s.%d' % (memo, os.getpid())
    with open(tmp, 'w') as f:
        json.dump({'mark': mark, 'versions': found}, f)
    os.rename(tmp, memo)
    return found


def _lists_mark():
    marks = []
    for entry in sorted(os.scandir(LISTS), key=lambda e: e.name):
        if entry.is_file() and entry.name != 'lock':
            st = entry.stat()
            marks.append([entry.name, st.st_size, st.st_mtime_ns])
    return marks


def _apt(argv):
    env = dict(os.environ, LC_ALL='C', DEBIAN_FRONTEND='noninteractive')
    try:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise LabError("ask apt (%s): %s" % (' '.join(argv[:2]), e)) from None
    if done.returncode:
        tail = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise LabError("ask apt (%s): %s; 'apt-get update' may help"
                       % (' '.join(argv[:2]), ' / '.join(tail)))
    return done.stdout
