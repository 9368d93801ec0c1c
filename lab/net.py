"""The networks of a lab: one kernel bridge each, one tap a cable, all in a network namespace that
only the lab's own processes hold.  When the last of them is gone, so is every bridge and tap; no
name is left on the machine, two labs may use the same addresses, and no packet has a way out.

Network 0 is the management network `mgmt`, the others are `net1`, `net2`…  Host k has 10.77.n.k and
fd77:0:0:n::k on network n; 10.77.0.254 is the lab itself, 10.77.0.(100+k) the power controller of
k."""

import ctypes
import os
import subprocess
import threading

from .err import LabError

CLONE_NEWNET = 0x40000000
MTU = 9216                              # a host may raise its cards to this
libc = ctypes.CDLL(None, use_errno=True)


def network_name(n):
    """mgmt, net1, net2…"""
    return 'net%d' % n if n else 'mgmt'


def addresses(host, n):
    """What host number `host` has on network `n`, with prefix lengths."""
    return ['10.77.%d.%d/24' % (n, host), 'fd77:0:0:%x::%x/64' % (n, host)]


def bmc_address(host):
    """Where the power controller of host number `host` listens on the management network."""
    return '10.77.0.%d' % (100 + host)


def mac(host, n):
    """Locally administered, the same in every lab: 52:54:77:network:00:host."""
    return '52:54:77:%02x:00:%02x' % (n, host)


def tap_name(host, n):
    """The lab's end of the cable."""
    return 'h%de%d' % (host, n)


def hosts_file(count, nics):
    """/etc/hosts of every host: h1 on the management network, h1-net1 on net1, h1-bmc."""
    lines = ['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback',
             '10.77.0.254 lab']
    for k in range(1, count + 1):
        for n in range(nics):
            names = ('h%d h%d-mgmt' % (k, k)) if n == 0 else 'h%d-net%d' % (k, n)
            lines += ['%s %s' % (a.split('/')[0], names) for a in addresses(k, n)]
        lines.append('%s h%d-bmc' % (bmc_address(k), k))
    return '\n'.join(lines) + '\n'


def enter():
    """Put this process into a network namespace of its own; returns a descriptor of the old one."""
    old = os.open('/proc/self/ns/net', os.O_RDONLY | os.O_CLOEXEC)
    if libc.unshare(CLONE_NEWNET) != 0:
        e = ctypes.get_errno()
        raise LabError("make the lab's network namespace: %s; the lab needs root" % os.strerror(e))
    return old


def inside(fd, function):
    """Call function in the network namespace `fd` and return its value: sockets it makes stay
    there.  A thread of its own, as a namespace belongs to a thread."""
    result = []

    def work():
        try:
            if libc.setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), 'setns')
            result.append((function(), None))
        except Exception as e:          # handed to the caller below
            result.append((None, e))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    value, error = result[0]
    if error:
        raise error
    return value


def build(count, nics):
    """Bridges, taps and the lab's own addresses."""
    batch = ['link set lo up']
    for n in range(nics):
        name = network_name(n)
        batch += ['link add %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0' % name,
                  'link set %s mtu %d up' % (name, MTU)]
    for k in range(1, count + 1):
        for n in range(nics):
            tap = tap_name(k, n)
            batch += ['tuntap add dev %s mode tap vnet_hdr' % tap,
                      'link set %s mtu %d master %s up' % (tap, MTU, network_name(n))]
        if nics:
            batch.append('addr add %s/24 dev mgmt' % bmc_address(k))
    if nics:
        batch.append('addr add 10.77.0.254/24 dev mgmt')
    # No address of their own on the cables: whoever listens there sees only what hosts send.
    for name in ('all', 'default'):
        _write('/proc/sys/net/ipv6/conf/%s/disable_ipv6' % name, '1')
    ip(batch)
    for k in range(1, count + 1):
        for n in range(nics):
            # A cable carries LACP and STP frames, a bridge would not (IEEE 802.1D 7.12.6).
            _write('/sys/class/net/%s/brport/group_fwd_mask' % tap_name(k, n), '65533')


def plug(host, n, connected):
    """Connect or disconnect the cable at the switch; disconnecting forgets what was learnt
    there."""
    ip(['link set %s %s' % (tap_name(host, n), 'up' if connected else 'down')])


def ip(batch):
    """Run `ip` commands, one per line."""
    done = subprocess.run(['ip', '-batch', '-'], input='\n'.join(batch) + '\n', text=True,
                          capture_output=True, timeout=30)
    if done.returncode:
        raise LabError("set the lab's network up: ip: %s" % done.stderr.strip())


def _write(path, text):
    try:
        with open(path, 'w') as f:
            f.write(text)
    except OSError:
        pass                            # an older kernel: the rest works
