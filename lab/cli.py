"""The command line.  Standard output is data, standard error is chatter; exit status 0, 1 (failed),
2 (usage), and for `exec` the command's own, 124 (time-out) or 125 (the host or the lab went
away)."""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import time

from . import client, place, state
from .err import BROKEN, LabError, UsageError

EXAMPLES = '''examples:
  lab build                                  make the host image (once; a minute or two)
  lab up 3                                   h1, h2 and h3 on networks mgmt and net1
  lab up 2 --disks 2x4G --nics 3 --name ha   a second lab beside it, with more in its hosts
  lab exec h1 -- ping -c 1 h2                run a command; its exit status and output
  lab exec h1                                a shell
  lab put h1 build/bin/ /usr/local/          a folder into a host, as /usr/local/bin
  lab share h1 build /mnt/build              a big one, as a read-only disk: faster
  lab cut h1 net1; lab heal h1               pull a cable out, put all back
  lab kill h2; lab poweron h2                a power cut
  lab bmc h1                                 its power controller, for curl or ipmitool
  lab ns -- tcpdump -ni net1                 what passes the switch
  lab forward h1:443                         its web console in a browser here
  lab snapshot clean; lab restore clean      each test starts from the same state
  lab run 2 -- tests/ha.sh                   a lab for one command; it is gone afterwards
  lab down                                   the end; nothing is left

Which lab: --name NAME (default: 'default') or --dir DIR, or $LAB_NAME, $LAB_DIR.
'''


def say(text):
    """Progress for people."""
    print('lab: ' + text, file=sys.stderr, flush=True)


# ---- commands; each gets the parsed arguments and the lab's directory


def cmd_build(args, directory):
    from . import accel, image, shape, template
    started = time.monotonic()
    made = image.ensure(say)
    if not args.image_only:
        chosen, _ = accel.choose()
        template.ensure(shape.Shape(accel=chosen), made, say)
    say('image %s is ready (%.1f s)' % (made.key, time.monotonic() - started))
    print(made.folder)


def cmd_up(args, directory):
    from . import accel
    chosen, reason = accel.choose(args.accel)
    try:
        _up(args, directory, chosen, reason)
    except LabError as e:
        if e.status != BROKEN or chosen != 'kvm' or args.accel != 'auto':
            raise
        # The probes were content with this KVM, the hosts are not.
        accel.distrust('QEMU failed on this KVM: %s' % e)
        say('%s; without KVM, then' % e)
        _up(args, directory, *accel.choose('auto'))


def _up(args, directory, chosen, reason):
    from . import image, shape, template
    count = shape.parse_count(args.count, 'hosts', 1, 99)
    wanted = shape.Shape(memory=shape.parse_size(args.memory, '--memory'),
                         cpus=shape.parse_count(args.cpus, '--cpus', 1, 64),
                         disks=shape.parse_disks(args.disks),
                         nics=shape.parse_count(args.nics, '--nics', 0, 8), accel=chosen,
                         threads=args.tcg_threads,
                         numa=shape.parse_count(args.numa, '--numa', 1, 8),
                         iommu=args.iommu, qemu=args.qemu)
    wanted.check()
    started = time.monotonic()
    if state.alive(directory):
        raise LabError("start a lab in %s: there is one; 'lab down' ends it" % directory)
    made = image.ensure(say)
    base = None if args.cold else template.ensure(wanted, made, say)
    owner = args.owner
    config = {'count': count, 'shape': wanted.dump(), 'image': made.folder, 'template': base,
              'data': place.data_dir(directory), 'owner': owner,
              'password': secrets.token_hex(8)}
    state.start(directory, config, say)
    try:
        client.ask(directory, 'up', say=say)
    except BaseException:
        if not args.keep:
            state.down(directory)
        raise
    say('%d host%s up in %.1f s (%s: %s)' % (count, 's'[:count > 1], time.monotonic() - started,
                                             chosen, reason))


def cmd_run(args, directory):
    if not args.command:
        raise UsageError('run: a command is wanted after --')
    args.owner = os.getpid()
    cmd_up(args, directory)
    try:
        env = dict(os.environ, LAB_DIR=directory, LAB=os.path.join(place.SOURCE, 'lab', 'lab'))
        env.pop('LAB_NAME', None)
        return subprocess.run(args.command, env=env).returncode
    except OSError as e:
        raise LabError('run %s: %s' % (args.command[0], e)) from None
    finally:
        state.down(directory)


def cmd_exec(args, directory):
    command = args.command or ['bash', '-l']
    env = {}
    for word in args.env:
        name, equals, value = word.partition('=')
        if not equals:
            raise UsageError("-e '%s': NAME=VALUE is wanted" % word)
        env[name] = value
    tty = args.tty or (not args.command and os.isatty(0) and os.isatty(1))
    if tty and not os.isatty(0):
        raise UsageError('exec -t: standard input is not a terminal')
    return client.execute(directory, args.host, command, env, args.cwd, tty,
                          None if args.no_stdin else 0, timeout=args.timeout)


def cmd_put(args, directory):
    from . import transfer
    transfer.put(directory, args.host, args.source, args.target)


def cmd_get(args, directory):
    from . import transfer
    transfer.get(directory, args.host, args.source, args.target)


def cmd_share(args, directory):
    from . import transfer
    if not os.path.isdir(args.folder):
        raise LabError("share '%s': not a folder" % args.folder)
    data = place.data_dir(directory)
    serial = 'share-%x' % int(time.time() * 1000 % (1 << 40))
    path = os.path.join(data, serial + '.img')
    transfer.image_of(args.folder, path)
    for host in args.host.split(','):
        client.ask(directory, 'share', host=host, path=path, serial=serial, where=args.where)


def cmd_console(args, directory):
    say("console of %s; Ctrl-] leaves" % args.host)
    client.console(directory, args.host)


def cmd_host(args, directory):
    """kill, pause, resume, poweroff: one host, no more arguments."""
    client.ask(directory, args.verb, host=args.host)


def cmd_start(args, directory):
    """reboot, poweron."""
    more = {'force': args.force} if args.verb == 'reboot' else {}
    client.ask(directory, args.verb, host=args.host, wait=not args.no_wait, **more)


def cmd_bmc(args, directory):
    info = client.ask(directory, 'bmc', host=args.host)
    if args.json:
        print(json.dumps(info, indent=1))
        return
    for key, value in info.items():
        print('%-10s %s' % (key, value))


def cmd_forward(args, directory):
    from . import shape
    host, _, port = args.target.partition(':')
    answer = client.ask(directory, 'forward', host=host,
                        port=shape.parse_count(port, 'port', 1, 65535),
                        listen=shape.parse_count(args.listen, '--listen', 0, 65535))
    print('127.0.0.1:%d' % answer['port'])


def cmd_ns(args, directory):
    info = client.ask(directory, 'ls', timeout=10)
    command = args.command or ['bash']
    os.execvp('nsenter', ['nsenter', '--net=/proc/%d/ns/net' % info['pid'], '--'] + command)


def cmd_cut(args, directory):
    client.ask(directory, 'cut', host=args.host, nic=args.nic, cut=args.verb == 'cut')


def cmd_snapshot(args, directory):
    """snapshot, restore."""
    if not re.match(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z', args.snapshot):
        raise UsageError("snapshot name '%s': use letters, digits, '.', '_' and '-'"
                         % args.snapshot)
    answer = client.ask(directory, args.verb, name=args.snapshot)
    say('%s %s: %.1f s' % (args.verb, args.snapshot, answer['seconds']))


def cmd_down(args, directory):
    targets = state.known() if args.all else [directory]
    for target in targets:
        if not state.down(target) and not args.all:
            say('%s: no lab there' % target)


def cmd_ls(args, directory):
    chosen = [directory] if os.path.exists(os.path.join(directory, 'lab.json')) else []
    rows = []
    for path in dict.fromkeys(chosen + state.known()):
        info = {'directory': path, 'state': 'dead', 'hosts': []}
        if state.alive(path):
            info = dict(client.ask(path, 'ls', timeout=10), state='alive')
        rows.append(info)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    table = [('LAB', 'HOST', 'STATE', 'ADDRESS', 'CUT')]
    for info in rows:
        name = os.path.basename(info['directory']) \
            if os.path.dirname(info['directory']) == place.labs_dir() else info['directory']
        if not info['hosts']:
            table.append((name, '-', info['state'], '-', '-'))
        for host in info['hosts']:
            table.append((name, host['name'], host['state'], (host['addresses'] or ['-'])[0],
                          ','.join(host['cut']) or '-'))
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    for row in table:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


# ---- the parser


def _parser(with_command=True):
    """with_command False: the command of exec, run and ns is not part of what is parsed."""
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument('--name', default=argparse.SUPPRESS, help='the lab of this name')
    which.add_argument('--dir', default=argparse.SUPPRESS, help='the lab in this folder')
    top = argparse.ArgumentParser(
        prog='lab', description='Virtual hosts on this machine, for tests and demonstrations.',
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[which])
    subs = top.add_subparsers(metavar='COMMAND', required=True)

    def add(name, function, text, **kwargs):
        sub = subs.add_parser(name, help=text, description=text, parents=[which], **kwargs)
        sub.set_defaults(function=function, verb=name)
        return sub

    sub = add('build', cmd_build, 'make the host image if it is missing or out of date')
    sub.add_argument('--image-only', action='store_true', help='no template for `lab up` yet')

    for name, text in (('up', 'start a lab of N hosts'),
                       ('run', 'start a lab, run a command with $LAB_DIR set, end the lab')):
        sub = add(name, cmd_up if name == 'up' else cmd_run, text)
        sub.add_argument('count', metavar='N', help='number of hosts, called h1 to hN')
        sub.add_argument('--memory', default='2G', help='of each host (2G)')
        sub.add_argument('--cpus', default='2', help='of each host (2)')
        sub.add_argument('--disks', default='0', help='more disks, COUNTxSIZE[,...]: 2x4G (none)')
        sub.add_argument('--nics', default='2', help='cards: eth0 on mgmt, eth1 on net1… (2)')
        sub.add_argument('--numa', default='1', help='NUMA nodes (1)')
        sub.add_argument('--iommu', action='store_true', help='give the hosts an IOMMU')
        sub.add_argument('--accel', choices=('auto', 'kvm', 'tcg'), default='auto',
                         help='auto measures whether KVM is good enough')
        sub.add_argument('--tcg-threads', choices=('single', 'multi'), default='single',
                         help='multi: a thread a cpu; hosts that run VMs need single')
        sub.add_argument('--qemu', action='append', default=[], metavar='ARG',
                         help='one more QEMU argument, as --qemu=ARG; may be repeated')
        sub.add_argument('--cold', action='store_true', help='boot each host, clone no template')
        sub.add_argument('--owner', type=int, metavar='PID', help='end the lab with this process')
        sub.add_argument('--keep', action='store_true', help='keep a lab that failed to start')
        if name == 'run' and with_command:
            sub.add_argument('command', nargs=argparse.REMAINDER, metavar='-- CMD…')

    sub = add('exec', cmd_exec, 'run a command in a host (a login shell without one)')
    sub.add_argument('-t', '--tty', action='store_true', help='on a terminal')
    sub.add_argument('-n', '--no-stdin', action='store_true', help='with empty standard input')
    sub.add_argument('-e', '--env', action='append', default=[], metavar='NAME=VALUE')
    sub.add_argument('-C', '--cwd', help='start in this folder (/root)')
    sub.add_argument('--timeout', type=float, metavar='S', help='end it after S seconds: 124')
    sub.add_argument('host')
    if with_command:
        sub.add_argument('command', nargs=argparse.REMAINDER, metavar='[--] CMD…')

    sub = add('put', cmd_put, 'copy files or folders into a host')
    sub.add_argument('host')
    sub.add_argument('source', nargs='+', metavar='SRC')
    sub.add_argument('target', metavar='DST')
    sub = add('get', cmd_get, 'copy a file or folder out of a host')
    sub.add_argument('host')
    sub.add_argument('source', metavar='SRC')
    sub.add_argument('target', metavar='DST')
    sub = add('share', cmd_share, 'plug a folder into hosts as a read-only disk')
    sub.add_argument('host', metavar='H[,H…]')
    sub.add_argument('folder', metavar='DIR')
    sub.add_argument('where', metavar='MOUNTPOINT')
    sub = add('console', cmd_console, 'the serial console of a host; Ctrl-] leaves')
    sub.add_argument('host')
    for name, text in (('kill', 'pull the plug: the host dies at once'),
                       ('pause', 'freeze a host'), ('resume', 'let a frozen host go on'),
                       ('poweroff', 'press the power button, wait until the host is off')):
        sub = add(name, cmd_host, text)
        sub.add_argument('host')
    for name, text in (('reboot', 'reboot a host, wait until it is back'),
                       ('poweron', 'switch a host on, wait until it is up')):
        sub = add(name, cmd_start, text)
        sub.add_argument('--no-wait', action='store_true')
        if name == 'reboot':
            sub.add_argument('--force', action='store_true', help='the reset button')
        sub.add_argument('host')
    sub = add('bmc', cmd_bmc, 'how to reach the power controller of a host: Redfish and IPMI')
    sub.add_argument('--json', action='store_true')
    sub.add_argument('host')
    for name, text in (('cut', 'pull network cables out of a host: carrier lost, no frame passes'),
                       ('heal', 'put them back')):
        sub = add(name, cmd_cut, text)
        sub.add_argument('host')
        sub.add_argument('nic', nargs='?', help='eth1, net1 or 1; all without it')
    sub = add('forward', cmd_forward, 'a port of 127.0.0.1 that leads to a TCP port of a host')
    sub.add_argument('--listen', default='0', metavar='PORT', help='which port (a free one)')
    sub.add_argument('target', metavar='H:PORT')
    sub = add('ns', cmd_ns, "run a command of this machine in the lab's network: tcpdump, tc")
    if with_command:
        sub.add_argument('command', nargs=argparse.REMAINDER, metavar='[--] CMD…')
    for name, text in (('snapshot', 'save memory, devices and disks of all hosts'),
                       ('restore', 'bring all hosts back to a snapshot')):
        sub = add(name, cmd_snapshot, text)
        sub.add_argument('snapshot', metavar='NAME')
    sub = add('down', cmd_down, 'end a lab and remove its files')
    sub.add_argument('--all', action='store_true', help='every lab with a name')
    sub = add('ls', cmd_ls, 'the labs and their hosts')
    sub.add_argument('--json', action='store_true')
    return top


def _parse(argv):
    """Options may stand anywhere before the `--`; without one they stand before the host."""
    if '--' in argv:
        at = argv.index('--')
        args, rest = _parser(with_command=False).parse_known_args(argv[:at])
        if not rest:
            args.command = argv[at + 1:]
            return args
    args = _parser().parse_args(argv)
    if getattr(args, 'command', None) and args.command[0] == '--':
        args.command = args.command[1:]
    return args


def main(argv):
    """The program; its exit status."""
    if argv[:1] == ['__supervise']:     # how state.py starts the supervisor
        from . import supervisor
        return supervisor.main(argv[1], int(argv[2]))
    try:
        args = _parse(argv)
        directory = place.lab_dir(getattr(args, 'name', None), getattr(args, 'dir', None))
        return args.function(args, directory) or 0
    except LabError as e:
        if str(e):
            print('lab: %s' % e, file=sys.stderr)
        return e.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
