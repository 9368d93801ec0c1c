"""See shim.sh.  Arguments: bundle, scratch folder, runtime's root.  Prints "ok NAME" or "not ok NAME" lines."""
import fcntl, hashlib, json, os, signal, socket, struct, subprocess, sys, termios, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from shim_client import Shim, read_all

bundle, scratch, root = sys.argv[1:4]
os.makedirs(scratch)
base = json.load(open(bundle + '/config.json'))
count = 0


def check(name, good, *why):
    print(('ok ' if good else 'not ok ') + name, flush=True)
    if not good and why:
        print('  got:', *why, flush=True)


def eq(name, got, want):
    check(name, got == want, repr(got), 'want:', repr(want))


def config(text, change=None):
    c = json.loads(json.dumps(base))
    c['process']['args'] = ['sh', '-c', text]
    if change:
        change(c)
    json.dump(c, open(bundle + '/config.json', 'w'))


def terminal(c):
    c['process']['terminal'] = True


def shim(text, change=None, start=True, create=True, **kw):
    """A shim with its folder; its container has a log in there."""
    global count
    count += 1
    config(text, change)
    d = '%s/%d' % (scratch, count)
    os.mkdir(d, 0o700)
    s = Shim.start(d)
    s.dir, s.id = d, 's%d' % count
    s.log = kw.pop('log', dict(path=d + '/log', format='raw'))
    if create:
        s.created = s.call('create', id=s.id, root=root, bundle=bundle, start=start, log=s.log, **kw)
    return s


def ended(s):
    e = s.event('exit')
    s.proc.wait(60)
    return e


def record(s):
    return json.load(open(s.dir + '/exit.json'))


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.01)
    return False


def rss(pid):
    t = open('/proc/%d/smaps_rollup' % pid).read()
    return {l.split(':')[0]: int(l.split()[1]) for l in t.splitlines()[1:] if 'kB' in l}


# -- run to the end
s = shim("echo out; echo err >&2; exit 5", log=dict(path=scratch + '/json.log'))
e = ended(s)
eq('the exit status comes as an event', (e['status'], e['signal'], e['oom'], e['error']), (5, 0, False, None))
eq('and as a file', {k: v for k, v in e.items() if k != 'event'}, record(s))
lines = [json.loads(l) for l in open(scratch + '/json.log')]
eq('the log is json-file', sorted((l['stream'], l['log']) for l in lines), [('stderr', 'err\n'), ('stdout', 'out\n')])
check('with times', all(l['time'].startswith('20') and l['time'].endswith('Z') for l in lines))
eq('the shim ends with status 0', s.proc.returncode, 0)
check('its socket is gone', not os.path.exists(s.dir + '/shim.sock'))
s = shim('kill -9 $$', lambda c: c['linux'].update(namespaces=[n for n in c['linux']['namespaces'] if n['type'] != 'pid']))
e = ended(s)
eq('a signal is told', (e['status'], e['signal']), (137, 9))

# -- create, start, state, attach
s = shim('read x; echo "got $x"; cat; echo end', start=False, stdin='once')
check('create waits for start', s.created['ok'] and s.call('state')['status'] == 'created', s.created)
check('a second create is refused', not s.call('create', id='x', root=root, bundle=bundle)['ok'])
r, fds = s.call('attach', wait=True, want_fds=True)
eq('attach gives two sockets', (r['ok'], len(fds)), (True, 2))
check('start', s.call('start')['ok'] and s.event('started') is not None)
check('start twice is refused', not s.call('start')['ok'])
a = socket.socket(fileno=fds[0])
a.sendall(b'hello\nmore\n')
a.shutdown(socket.SHUT_WR)
eq('input goes in, output comes out, to its end', read_all(a.detach()), b'got hello\nmore\nend\n')
eq('standard error is separate', read_all(fds[1]), b'')
ended(s)
eq('the log has it, too', open(s.dir + '/log').read(), 'got hello\nmore\nend\n')

# -- much output, a slow reader that is waited for, one that is not
n = 6 << 20
s = shim('sleep 0.2; dd if=/dev/zero bs=65536 count=%d 2>/dev/null | tr "\\0" x' % (n // 65536), start=False)
r, slow = s.call('attach', wait=True, want_fds=True)
r, dead = s.call('attach', want_fds=True)
s.call('start')
got = b''
a = socket.socket(fileno=slow[0])
a.settimeout(60)
while True:
    b = a.recv(4096 if len(got) < 200000 else 1 << 20)
    if not b:
        break
    got += b
eq('a slow reader gets everything', (len(got), hashlib.md5(got).hexdigest()), (n, hashlib.md5(b'x' * n).hexdigest()))
a.close()
os.close(slow[1])
ended(s)
eq('so does the log', os.path.getsize(s.dir + '/log'), n)
check('one that does not read is cut off', 0 < len(read_all(dead[0])) < n)
os.close(dead[1])

# -- exec
s = shim('sleep 1000')
pid = s.created['pid']
# its maker hands it over by ending
check('the shim is the parent', until(lambda: int(open('/proc/%d/stat' % pid).read().split(')')[1].split()[1]) == s.proc.pid))
i, o = os.pipe(), os.pipe()
r = s.call('exec', fds=[i[0], o[1], o[1]], exec='x1', args=['sh', '-c', 'read a; echo $a $HERE; id -u; exit 3'], env=['HERE=there'], user='7:8')
os.close(i[0])
os.close(o[1])
os.write(i[1], b'in\n')
eq('exec: streams, variables, user', (r['ok'], os.fdopen(o[0]).read()), (True, 'in there\n7\n'))
eq('exec: its status', s.event('exec_exit', exec='x1')['status'], 3)
os.close(i[1])
r = s.call('exec', exec='x2', args=['nosuch'])
check('exec of a missing program says so', not r['ok'] and 'executable file not found in $PATH' in r['error']['text'], r)
p = dict(base['process'], args=['sh', '-c', 'kill -15 $$'])
check('exec takes a process object', s.call('exec', exec='x3', process=p)['ok'])
eq('exec: a signal', s.event('exec_exit', exec='x3')['signal'], 15)
quick = [s.send('exec', exec='q%d' % k, args=['true']) for k in range(20)]
check('20 execs at once', all(s.reply(q)[0]['ok'] for q in quick))
check('all of them end', all(s.event('exec_exit', exec='q%d' % k)['status'] == 0 for k in range(20)))
r, fds = s.call('exec', exec='t1', args=['sh', '-c', 'tty; stty size; read x; stty size'], terminal=True, want_fds=True)
eq('exec with a terminal gives its master', (r['ok'], len(fds)), (True, 1))
fcntl.ioctl(fds[0], termios.TIOCSWINSZ, struct.pack('HHHH', 33, 44, 0, 0))
os.write(fds[0], b'\n')
text = b''
try:
    while b := os.read(fds[0], 4096):
        text += b
except OSError:
    pass
os.close(fds[0])
check('which is one', b'/dev/pts/0' in text and b'33 44' in text, text)
s.event('exec_exit', exec='t1')
s.call('exec', exec='long', args=['sleep', '1000'])

# -- the daemon dies and comes back
check('limits change', s.call('update', resources={'pids': {'limit': 55}})['ok'])
eq('and show in the statistics', s.call('stats')['stats'].get('pids', {}).get('limit'), 55)
eq('ps lists both', len(s.call('ps')['pids']), 2)
s.sock.close()
other = Shim.connect(s.dir)
st = other.call('state')
eq('a new connection sees the state', (st['id'], st['pid'], st['status']), (s.id, pid, 'running'))
eq('with the execs', [(x['exec'], x['running'], x['status']) for x in st['execs'] if x['exec'] in ('x1', 'long')], [('x1', False, 3), ('long', True, 0)])
check('unknown operations are refused', other.call('nonsense')['error']['id'] == 'shim.op')
check('pause', other.call('pause')['ok'] and other.call('state')['status'] == 'paused')
check('no exec while paused', not other.call('exec', exec='p', args=['true'])['ok'])
check('resume', other.call('resume')['ok'] and other.call('state')['status'] == 'running')
m = rss(s.proc.pid)
print('shim memory:', m.get('Rss'), 'KiB resident,', m.get('Pss'), 'KiB proportional,', m.get('Private_Dirty'), 'KiB its own', flush=True)
if 'libc.so' in open('/proc/%d/maps' % s.proc.pid).read():
    print('skip it is smaller than 1 MiB', flush=True)  # built without musl-gcc, or with a sanitizer
else:
    check('it is smaller than 1 MiB', m['Rss'] < 1024, m)
other.call('events')
check('pause again', other.call('pause')['ok'])
check('delete kills a paused one', other.call('delete')['ok'])
e = other.event('exit')
eq('with its status', (e['status'], e['signal']), (137, 9))
check('then the connection ends', other.recv() is None)
s.proc.wait(60)

# -- nobody is there at the end
s = shim('sleep 0.3; echo late; exit 4')
s.sock.close()
check('it ends alone', until(lambda: os.path.exists(s.dir + '/exit.json')) and s.proc.wait(60) == 0)
eq('and leaves its record', record(s)['status'], 4)
eq('and its log', open(s.dir + '/log').read(), 'late\n')

# -- a terminal
s = shim('stty size; read x; stty size; echo "x=$x"', terminal, start=False)
check('a container with a terminal', s.created['ok'] and s.created['terminal'], s.created)
r, fds = s.call('attach', wait=True, want_fds=True)
eq('attach gives one socket', len(fds), 1)
s.call('resize', rows=21, cols=81)
s.call('start')
a = socket.socket(fileno=fds[0])
a.settimeout(60)
text = a.recv(4096)
while b'21 81' not in text:
    text += a.recv(4096)
s.call('resize', rows=22, cols=82)
a.sendall(b'typed\n')
text += read_all(a.detach())
check('sizes and input arrive', b'22 82' in text and b'x=typed' in text, text)
eq('its end', ended(s)['status'], 0)

# -- out of memory
mem = [p for p in ('/sys/fs/cgroup/memory/memory.limit_in_bytes', '/sys/fs/cgroup/memory.max') if os.path.exists(p)] or \
    'memory' in open('/sys/fs/cgroup/cgroup.controllers').read().split() if os.path.exists('/sys/fs/cgroup/cgroup.controllers') else \
    os.path.exists('/sys/fs/cgroup/memory')
if mem:
    s = shim('tail /dev/zero', lambda c: c['linux'].update(resources=dict(base['linux']['resources'], memory={'limit': 16 << 20, 'swap': 16 << 20})))
    e = ended(s)
    check('the OOM killer is told', e['oom'] and e['oom_kills'] >= 1, e)
    check('the highest memory use is in the record', e['memory_peak'] >= 8 << 20, e)
else:
    print('skip the OOM killer is told')

# -- what cannot be made
s = shim('true', lambda c: c['process'].update(args=['/nosuch']))
check('a missing program fails create', not s.created['ok'] and 'nosuch' in s.created['error']['text'], s.created)
s.proc.wait(60)
eq('the record has the error', (record(s)['status'], record(s)['error']['text']), (125, s.created['error']['text']))
s = shim('true', log=dict(path=scratch + '/none/log'))
check('a log that cannot be opened fails create', not s.created['ok'] and s.created['error']['errno'] == 2, s.created)
s.event('exit')
s.proc.wait(60)
s = shim('true', create=False)
s.sock.close()
eq('a shim that is given nothing ends', s.proc.wait(60), 1)

# -- signals to the shim
s = shim('trap "echo term; exit 9" TERM; while :; do sleep 0.05; done')
until(lambda: b'sleep' in subprocess.run(['ps', '-e', '-o', 'ppid=,args='], capture_output=True).stdout and
      int(open('/proc/%d/status' % s.created['pid']).read().split('SigCgt:')[1].split()[0], 16) & 1 << 14)
s.proc.send_signal(signal.SIGTERM)
eq('SIGTERM stops the container', ended(s)['status'], 9)
s = shim('sleep 1000')
s.proc.kill()
s.proc.wait()
check('a killed shim leaves the container', os.path.exists('/proc/%d' % s.created['pid']))
try:
    Shim.connect(s.dir)
    gone = False
except ConnectionRefusedError:
    gone = True
check('its socket refuses', gone)
eq('delete --force cleans up', subprocess.run(['strata-oci', '--root', root, 'delete', '--force', s.id]).returncode, 0)
check('the container is gone', not os.path.exists('/proc/%d/root/bin' % s.created['pid']))
