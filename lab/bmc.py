"""The power controller of one host on its sockets.

In the lab's own network, for fencing by other hosts, at hN-bmc: Redfish on TCP 80 and 443, IPMI on
UDP 623.  On this machine, for tests and people: 127.0.0.1 with free ports that `lab bmc` tells.
Both need the password of the lab."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess

from . import http, net
from .place import cache_dir
from .power import Power
from .redfish import Redfish
from .rmcp import Server


class Bmc:
    """listen() once; lives as long as the lab."""

    def __init__(self, host, account):
        self.host = host
        self.account = account
        switch = Power(host)
        self.redfish = Redfish(switch, account)
        self.ipmi = Server(switch, account)
        self.servers = []
        self.ports = {}

    async def listen(self, outer, tls):
        """`outer`: the machine's network namespace; `tls`: a context, or None to do without 443."""
        inside = net.bmc_address(self.host.number)
        if self.host.lab.shape.nics:
            await self._http(_tcp(inside, 80))
            if tls:
                await self._http(_tcp(inside, 443), tls)
            await self._udp(_udp(inside, 623))
        web = net.inside(outer, lambda: _tcp('127.0.0.1', 0))
        lan = net.inside(outer, lambda: _udp('127.0.0.1', 0))
        self.ports = {'redfish': web.getsockname()[1], 'ipmi': lan.getsockname()[1]}
        await self._http(web)
        await self._udp(lan)

    def describe(self):
        """For `lab bmc`."""
        return {'redfish': 'http://127.0.0.1:%d' % self.ports['redfish'],
                'ipmi': '127.0.0.1:%d' % self.ports['ipmi'],
                'inside': '%s-bmc' % self.host.name, 'system': self.redfish.system,
                'user': self.account[0], 'password': self.account[1]}

    def close(self):
        """Stop listening."""
        for server in self.servers:
            server.close()

    async def _http(self, sock, tls=None):
        async def client(reader, writer):
            await http.serve(reader, writer, self.redfish.handle)

        self.servers.append(await asyncio.start_server(client, sock=sock, ssl=tls,
                                                       limit=http.MAX_HEAD))

    async def _udp(self, sock):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self.ipmi), sock=sock)
        self.servers.append(transport)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server):
        self.server = server
        self.tasks = set()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        task = asyncio.ensure_future(self._answer(data, addr))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, data, addr):
        answer = await self.server.datagram(data)
        if answer:
            self.transport.sendto(answer, addr)


def certificate(log):
    """A TLS context with a self-signed certificate, kept in the cache; None without openssl."""
    path = os.path.join(cache_dir(), 'bmc.pem')
    if not os.path.exists(path):
        if not shutil.which('openssl'):
            log('no openssl: power controllers go without TLS')
            return None
        tmp = '%s.%d' % (path, os.getpid())
        with open(tmp, 'w') as f:
            os.chmod(tmp, 0o600)
            done = subprocess.run(
                ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
                 '-nodes', '-days', '3650', '-subj', '/CN=lab-bmc', '-keyout', '-', '-out', '-'],
                stdout=f, stderr=subprocess.DEVNULL, timeout=30)
        if done.returncode:
            os.unlink(tmp)
            log('openssl made no certificate: power controllers go without TLS')
            return None
        os.rename(tmp, path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path)
    return tls


def _tcp(address, port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(16)
    return sock


def _udp(address, port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((address, port))
    return sock
