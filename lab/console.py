"""The serial console of one host: everything it prints goes to a log file and to whoever
watches."""

import asyncio
import os

LOG_LIMIT = 8 << 20                     # then the log starts over, the old one is kept as .1
REPLAY = 2048                           # bytes of the past that a new watcher sees


class Console:
    """One for the life of the lab; connect() is called for each start of the host."""

    def __init__(self, path):
        self.path = path
        self.log = open(path, 'ab', buffering=0)
        self.tail = b''
        self.watchers = set()           # callables that take bytes
        self.transport = None

    async def connect(self, sock):
        """A new QEMU's console."""
        if self.transport:
            self.transport.abort()
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_unix_connection(lambda: _Reader(self), sock=sock)

    def type(self, data):
        """Keys for the host."""
        if self.transport:
            self.transport.write(data)

    def output(self, data):
        """Bytes from the host."""
        if self.log.tell() > LOG_LIMIT:
            self.log.close()
            os.replace(self.path, self.path + '.1')
            self.log = open(self.path, 'ab', buffering=0)
        self.log.write(data)
        self.tail = (self.tail + data)[-REPLAY:]
        for watcher in list(self.watchers):
            watcher(data)

    def close(self):
        """The lab ends."""
        if self.transport:
            self.transport.abort()
        self.log.close()


class _Reader(asyncio.Protocol):
    def __init__(self, console):
        self.console = console

    def data_received(self, data):
        if not self.console.log.closed:
            self.console.output(data)
