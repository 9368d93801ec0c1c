"""The supervisor's end of the serial port to the agent of one host: streams and calls over frames.

States: not ready (host starting, or the agent not heard of) → ready.  lost() goes back and fails
everything under way; it is called when the host resets, stops, dies or is restored."""

import asyncio
import json
import os

from . import wire
from .err import LabError


class Link:
    """on_ready() is called each time the agent answers a new RESET."""

    def __init__(self, host, on_ready):
        self.host = host                # its name, for messages
        self.on_ready = on_ready
        self.ready = False
        self.nonce = b''
        self.streams = {}               # id -> on_frame(kind, payload); kind None: host lost
        self.calls = {}
        self.serial = 0
        self.transport = None

    async def connect(self, sock, resync):
        """Take a new socket to a new QEMU.  resync: the agent may be amid a frame (after a
        restore)."""
        self.lost()
        if self.transport:
            self.transport.abort()
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_unix_connection(lambda: _Port(self), sock=sock)
        self.hello(resync)

    def hello(self, resync=False):
        """Ask the agent to start afresh."""
        self.nonce = os.urandom(8)
        self.transport.write(wire.resync(self.nonce) if resync
                             else wire.pack(wire.RESET, 0, self.nonce))

    def lost(self):
        """Whatever was under way is over."""
        self.ready = False
        streams, self.streams = self.streams, {}
        for on_frame in streams.values():
            on_frame(None, b'')
        calls, self.calls = self.calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(LabError('%s: went away' % self.host, 125))
                future.exception()

    def close(self):
        """Lose the connection for good."""
        self.lost()
        if self.transport:
            self.transport.abort()
            self.transport = None

    def send(self, kind, stream, payload=b''):
        """One frame to the agent; dropped when there is nobody."""
        if self.transport:
            self.transport.write(wire.pack(kind, stream, payload))

    def open(self, spec, on_frame):
        """Start a command; returns its stream."""
        self.serial += 1
        self.streams[self.serial] = on_frame
        self.send(wire.EXEC, self.serial, json.dumps(spec).encode())
        return self.serial

    async def call(self, name, timeout=200, **arguments):
        """Ask the agent something about its host; the value it returns."""
        self.serial += 1
        stream = self.serial
        future = self.calls[stream] = asyncio.get_running_loop().create_future()
        self.send(wire.CALL, stream, json.dumps(dict(arguments, call=name)).encode())
        try:
            reply = await asyncio.wait_for(future, timeout)
        except asyncio.TimeoutError:
            raise LabError("%s: no answer to '%s' within %d s"
                           % (self.host, name, timeout)) from None
        finally:
            self.calls.pop(stream, None)
        if 'error' in reply:
            raise LabError('%s: %s: %s' % (self.host, name, reply['error']))
        return reply['value']

    def frame(self, kind, stream, payload):
        """One frame from the agent."""
        if kind == wire.READY:
            if payload == self.nonce:
                self.ready = True
                self.on_ready()
            elif not payload:           # the agent has just started
                self.lost()
                self.hello()
        elif not self.ready:
            return                      # the tail of an earlier life
        elif kind == wire.REPLY:
            future = self.calls.get(stream)
            if future and not future.done():
                future.set_result(json.loads(payload))
        elif stream in self.streams:
            on_frame = self.streams[stream]
            if kind == wire.EXIT:
                del self.streams[stream]
            on_frame(kind, payload)


class _Port(asyncio.Protocol):
    def __init__(self, link):
        self.link = link
        self.parser = wire.Parser()

    def data_received(self, data):
        for frame in self.parser.feed(data):
            self.link.frame(*frame)
