"""A client of QEMU's machine protocol (QMP) on an asyncio loop, with descriptor passing."""

import array
import asyncio
import json
import socket

from .err import LabError


class Qmp:
    """Owns its end of the socket.  on_event(name, data) is called for every event."""

    def __init__(self, sock, on_event):
        self.sock = sock
        self.on_event = on_event
        self.pending = {}
        self.serial = 0
        self.greeting = asyncio.get_running_loop().create_future()
        self.reader = asyncio.ensure_future(self._read())

    async def start(self, timeout):
        """Wait for the greeting and leave negotiation mode."""
        await asyncio.wait_for(asyncio.shield(self.greeting), timeout)
        await self.run('qmp_capabilities')

    async def run(self, command, timeout=120, fd=None, **arguments):
        """The command's return value; LabError with QEMU's words when it refuses or is gone."""
        self.serial += 1
        future = asyncio.get_running_loop().create_future()
        self.pending[self.serial] = future
        message = {'execute': command, 'id': self.serial}
        if arguments:
            message['arguments'] = {k.replace('_', '-'): v for k, v in arguments.items()}
        data = json.dumps(message).encode() + b'\n'
        ancillary = []
        if fd is not None:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))]
        try:
            sent = self.sock.sendmsg([data], ancillary)
            if sent < len(data):
                await asyncio.get_running_loop().sock_sendall(self.sock, data[sent:])
            return await asyncio.wait_for(future, timeout)
        except asyncio.TimeoutError:
            raise LabError('QEMU: no answer to %s within %d s' % (command, timeout)) from None
        except OSError as e:
            raise LabError('QEMU: %s: %s' % (command, e)) from None
        finally:
            self.pending.pop(message['id'], None)

    def close(self):
        """Drop the connection; commands under way fail."""
        self.reader.cancel()
        self._lost()
        self.sock.close()

    async def _read(self):
        loop = asyncio.get_running_loop()
        buf = b''
        while True:
            try:
                data = await loop.sock_recv(self.sock, 65536)
            except OSError:
                data = b''
            if not data:
                self._lost()
                return
            *lines, buf = (buf + data).split(b'\n')
            for line in lines:
                if line.strip():
                    self._message(json.loads(line))

    def _message(self, message):
        if 'event' in message:
            self.on_event(message['event'], message.get('data', {}))
        elif 'QMP' in message:
            if not self.greeting.done():
                self.greeting.set_result(message)
        else:
            future = self.pending.get(message.get('id'))
            if not future or future.done():
                return
            if 'error' in message:
                future.set_exception(LabError('QEMU: ' + message['error']['desc']))
            else:
                future.set_result(message['return'])

    def _lost(self):
        for future in [self.greeting, *self.pending.values()]:
            if not future.done():
                future.set_exception(LabError('QEMU is gone'))
                future.exception()      # nobody may be waiting
