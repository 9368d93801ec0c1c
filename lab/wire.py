"""Frames on the serial port between the supervisor and the agent inside a host.

Shared by both ends (the image holds a copy of this file), so it imports next to nothing.  One
frame:

    magic "SLab" | type u8 | zero u8 | check u16 | stream u32 | length u32 | payload

all big endian; check is the low half of the crc32 of the other fields.  The port is a byte pipe
that a snapshot may cut anywhere: after a restore both ends may stand in the middle of a frame that
never ends.  Hence resync(): enough zero bytes to fill any frame, then RESET; a parser that meets
bytes which are no header skips to the next magic.

Flow: a stream's sender may have WINDOW unacknowledged payload bytes on the way in each direction;
the receiver returns them with CREDIT as it passes them on.  One slow reader so never blocks
another."""

import struct
import zlib

MAGIC = b'SLab'
HEADER = struct.Struct('!4sBBHII')
MAX_PAYLOAD = 32768 - HEADER.size
WINDOW = 512 * 1024

(RESET, READY, CALL, REPLY, EXEC, STDIN, STDOUT, STDERR, EXIT, KILL, CREDIT, RESIZE) = range(1, 13)


def pack(kind, stream, payload=b''):
    """The bytes of one frame; payload is at most MAX_PAYLOAD long."""
    check = zlib.crc32(struct.pack('!BII', kind, stream, len(payload))) & 0xffff
    return HEADER.pack(MAGIC, kind, 0, check, stream, len(payload)) + payload


def resync(nonce):
    """What a (re)connecting supervisor sends first; nonce comes back in READY."""
    return bytes(MAX_PAYLOAD) + pack(RESET, 0, nonce)


class Parser:
    """Turns bytes into frames, whatever the bytes are."""

    def __init__(self):
        self.buf = bytearray()
        self.skipped = 0                # bytes that were no frame, for the curious

    def feed(self, data):
        """Add bytes, return the list of (kind, stream, payload) that are now complete."""
        buf = self.buf
        buf += data
        frames, at = [], 0
        while True:
            if buf[at:at + 4] != MAGIC:
                hit = buf.find(MAGIC, at)
                if hit < 0:
                    hit = max(at, len(buf) - 3)     # a magic may be half here
                    self.skipped += hit - at
                    at = hit
                    break
                self.skipped += hit - at
                at = hit
            if len(buf) - at < HEADER.size:
                break
            _, kind, zero, check, stream, length = HEADER.unpack_from(buf, at)
            good = zlib.crc32(struct.pack('!BII', kind, stream, length)) & 0xffff
            if check != good or zero or length > MAX_PAYLOAD:
                self.skipped += 1
                at += 1
                continue
            if len(buf) - at < HEADER.size + length:
                break
            start = at + HEADER.size
            frames.append((kind, stream, bytes(buf[start:start + length])))
            at = start + length
        del buf[:at]
        return frames
