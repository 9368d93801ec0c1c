"""IPMI over LAN: RMCP datagrams, IPMI 1.5 sessions (MD5) and IPMI 2.0 sessions (RMCP+, cipher
suites 3 and 17) of one power controller.  Specification: IPMI v2.0 revision 1.1, chapter 13 and 22.

One user, kept by rmcp.Server.account.  A datagram that is not well formed or not authentic is
dropped without a word; what it could change, it changes only after that."""

import asyncio
import dataclasses
import hashlib
import hmac
import os
import struct
import time

from . import ipmi
from .aes import Aes

NONE, MD5, RMCP_PLUS = 0, 2, 6          # authentication types, 13.6
IDLE = 60                               # seconds after which a session is forgotten
MAX_SESSIONS = 32
# Cipher suites, 22.15.2: id -> (authentication, integrity, confidentiality)
SUITES = {3: (1, 1, 1), 17: (3, 4, 1)}
HASH = {1: hashlib.sha1, 3: hashlib.sha256}
ICV_SIZE = {1: 12, 3: 16}               # RAKP 4, by authentication algorithm
MAC_SIZE = {1: 12, 4: 16}               # session packets, by integrity algorithm
OPEN, OPENED, RAKP1, RAKP2, RAKP3, RAKP4 = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15


@dataclasses.dataclass
class Session:
    """One session of either version; our id is its key in Server.sessions."""

    id: int
    version: int                        # 1 or 2
    peer_id: int = 0
    active: bool = False
    privilege: int = ipmi.USER
    limit: int = ipmi.ADMIN             # what the client asked for
    challenge: bytes = b''
    in_seq: int = 0                     # highest seen
    seen: int = 0                       # bitmap of the ones just below it
    out_seq: int = 0
    used: float = 0.0
    suite: tuple = ()
    name: bytes = b''
    role: int = 0
    rm: bytes = b''
    rc: bytes = b''
    sik: bytes = b''
    k1: bytes = b''
    aes: object = None
    last: tuple = (b'', None)           # the newest request and the task that answers it

    def fresh(self, seq):
        """Is `seq` one not seen before, near the highest seen (6.12.13)?  Remembers it if so."""
        ahead = (seq - self.in_seq) & 0xffffffff
        if seq and (ahead <= 32 or not self.in_seq) and ahead:
            self.seen = (self.seen << ahead | 1 << (ahead - 1)) & 0xffffffff if ahead <= 32 else 0
            self.in_seq = seq
            return True
        behind = (self.in_seq - seq) & 0xffffffff
        if seq and 0 < behind <= 32 and not self.seen >> (behind - 1) & 1:
            self.seen |= 1 << (behind - 1)
            return True
        return False

    def next_seq(self):
        """For the next packet we send; zero means "outside a session" and is left out."""
        self.out_seq = self.out_seq % 0xffffffff + 1
        return self.out_seq


class Server:
    """datagram() answers one datagram with one or with None."""

    def __init__(self, switch, account):
        self.commands = ipmi.Commands(switch)
        self.guid = bytes.fromhex(switch.host.uuid().replace('-', ''))
        self.user = account[0].encode()
        self.password = account[1].encode()
        self.sessions = {}

    async def datagram(self, data):
        """13.1: RMCP header, then ASF presence or IPMI."""
        if len(data) < 5 or data[0] != 6:
            return None
        if data[3] == 6:
            return self._pong(data)
        if data[3] != 7:
            return None
        self._expire()
        try:
            answer = await (self._packet20 if data[4] == RMCP_PLUS else self._packet15)(data[4:])
        except (struct.error, IndexError):
            return None
        return b'\x06\x00\xff\x07' + answer if answer else None

    def _pong(self, data):
        """13.2.4: "yes, there is IPMI here"."""
        if len(data) < 12 or data[8] != 0x80:
            return None
        return b'\x06\x00\xff\x06\x00\x00\x11\xbe\x40' + data[9:10] + b'\x00\x10' \
            + b'\x00\x00\x11\xbe\x00\x00\x00\x00\x81' + bytes(7)

    # ---- IPMI 1.5

    async def _packet15(self, data):
        kind, seq, number = struct.unpack_from('<BII', data)
        at = 9
        code = b''
        if kind != NONE:
            code, at = data[9:25], 25
        message = data[at + 1:at + 1 + data[at]]
        session = self.sessions.get(number)
        if number:
            if not session or session.version != 1 or kind != MD5 or \
                    not hmac.compare_digest(code, self._md5(number, message, seq)):
                return None
            if session.active and not session.fresh(seq):
                return None
            session.used = time.monotonic()
        request = ipmi.parse(message)
        if not request:
            return None
        answer = self._session_command(request, session)
        if answer is None:
            if not session or not session.active:
                return None
            answer = await self._once(session, message, request)
        if not session:
            return struct.pack('<BIIB', NONE, 0, 0, len(answer)) + answer
        seq = session.next_seq() if session.active else 0
        return struct.pack('<BII', MD5, seq, number) + self._md5(number, answer, seq) \
            + bytes([len(answer)]) + answer

    def _md5(self, number, message, seq):
        """22.17.1: the authentication code of a packet."""
        key = self.password[:16].ljust(16, b'\0')
        return hashlib.md5(key + struct.pack('<I', number) + message + struct.pack('<I', seq)
                           + key).digest()

    def _session_command(self, request, session):
        """Commands about sessions; the response message, or None when it is another command."""
        netfn, _, _, _, command, data = request
        if netfn != ipmi.APP:
            return None
        if command == 0x38:             # 22.13 channel authentication capabilities
            channel = 1 if data[0] & 15 == 14 else data[0] & 15
            version2 = data[0] & 0x80
            return ipmi.reply(request, ipmi.OK, bytes(
                [channel, 0x80 | 1 << MD5 if version2 else 1 << MD5, 0x04,
                 0x03 if version2 else 0x00, 0, 0, 0, 0]))
        if command == 0x54:             # 22.15 cipher suites, 16 bytes a time
            records = b''.join(bytes([0xc0, n, a, 0x40 | i, 0x80 | c])
                               for n, (a, i, c) in SUITES.items())
            at = (data[2] & 0x3f) * 16
            return ipmi.reply(request, ipmi.OK, b'\x01' + records[at:at + 16])
        if command == 0x39 and not session:     # 22.16 session challenge
            name = data[1:17].rstrip(b'\0')
            if data[0] & 15 != MD5:
                return ipmi.reply(request, ipmi.BAD_FIELD)
            if name != self.user:
                return ipmi.reply(request, 0x81)
            new = self._new_session(1)
            new.challenge = os.urandom(16)
            return ipmi.reply(request, ipmi.OK, struct.pack('<I', new.id) + new.challenge)
        if not session:
            return None
        if command == 0x3a and not session.active:      # 22.17 activate session
            kind, limit, challenge, seq = struct.unpack('<BB16sI', data)
            if kind & 15 != MD5 or not hmac.compare_digest(challenge, session.challenge):
                return ipmi.reply(request, ipmi.BAD_FIELD)
            session.active = True
            session.limit = min(limit & 15, ipmi.ADMIN)
            session.out_seq = (seq - 1) & 0xffffffff
            session.in_seq = 0
            start = struct.unpack('<I', os.urandom(4))[0] & 0x7fffffff | 1
            session.in_seq = start - 1
            return ipmi.reply(request, ipmi.OK, struct.pack('<BIIB', MD5, session.id, start,
                                                            session.limit))
        if not session.active:
            return None
        if command == 0x3b:             # 22.18 privilege level
            if data[0] & 15 > session.limit:
                return ipmi.reply(request, 0x81)
            session.privilege = data[0] & 15 or session.privilege
            return ipmi.reply(request, ipmi.OK, bytes([session.privilege]))
        if command == 0x3c:             # 22.19 close
            if struct.unpack('<I', data[:4])[0] != session.id:
                return ipmi.reply(request, 0x87)
            self.sessions.pop(session.id, None)
            return ipmi.reply(request, ipmi.OK)
        return None

    # ---- IPMI 2.0

    async def _packet20(self, data):
        kind = data[1]
        number, seq, length = struct.unpack_from('<IIH', data, 2)
        payload = data[12:12 + length]
        if len(payload) < length:
            return None
        if kind in (OPEN, RAKP1, RAKP3):
            made = {OPEN: self._open, RAKP1: self._rakp1, RAKP3: self._rakp3}[kind](payload)
            if not made:
                return None
            return struct.pack('<BBIIH', RMCP_PLUS, kind + 1, 0, 0, len(made)) + made
        if kind & 0x3f:
            return None                 # serial over LAN and vendors' payloads
        session = self.sessions.get(number) if number else None
        if not session:
            if number or kind:
                return None
            request = ipmi.parse(payload)       # outside a session: only about sessions
            answer = self._session_command(request, None) if request else None
            return answer and struct.pack('<BBIIH', RMCP_PLUS, 0, 0, 0, len(answer)) + answer
        if not session.active or session.version != 2 or kind != 0xc0:
            return None                 # both protections were agreed on, both are needed
        if not self._authentic(session, data, 12 + length) or not session.fresh(seq):
            return None
        session.used = time.monotonic()
        message = self._decrypt(session, payload)
        request = ipmi.parse(message) if message else None
        if not request:
            return None
        answer = self._session_command(request, session)
        if answer is None:
            answer = await self._once(session, message, request)
        return self._seal(session, answer)

    def _open(self, p):
        """13.17, 13.18: agree on a cipher suite."""
        tag, asked, peer = struct.unpack_from('<BBxxI', p)
        algorithms = []
        for i in range(3):
            at = 8 + 8 * i
            if p[at] != i or p[at + 3] not in (0, 8):
                return bytes([tag, 0x12, 0, 0]) + struct.pack('<I', peer)
            # a length of zero means "any"
            algorithms.append(p[at + 4] & 0x3f if p[at + 3] else SUITES[3][i])
        if tuple(algorithms) not in SUITES.values():
            return bytes([tag, 0x11, 0, 0]) + struct.pack('<I', peer)
        session = self._new_session(2)
        session.peer_id = peer
        session.suite = tuple(algorithms)
        session.limit = min(asked & 15 or ipmi.ADMIN, ipmi.ADMIN)
        chosen = b''.join(bytes([i, 0, 0, 8, algorithms[i], 0, 0, 0]) for i in range(3))
        return struct.pack('<BBBxII', tag, 0, session.limit, peer, session.id) + chosen

    def _rakp1(self, p):
        """13.20, 13.21: who is asking; proves that we know the password."""
        tag, number = struct.unpack_from('<BxxxI', p)
        session = self.sessions.get(number)
        if not session or session.version != 2 or session.active or session.rm:
            return bytes([tag, 0x02, 0, 0]) + bytes(4)
        session.rm, session.role = p[8:24], p[24]
        session.name = p[28:28 + p[27]]
        peer = struct.pack('<I', session.peer_id)
        if session.name != self.user or session.role & 15 > ipmi.ADMIN:
            self.sessions.pop(number)
            return bytes([tag, 0x0d, 0, 0]) + peer
        session.limit = min(session.limit, session.role & 15 or session.limit)
        session.rc = os.urandom(16)
        proof = self._hmac(session, self.password, peer + struct.pack('<I', session.id) + session.rm
                           + session.rc + self.guid + self._who(session))
        return bytes([tag, 0, 0, 0]) + peer + session.rc + self.guid + proof

    def _rakp3(self, p):
        """13.22, 13.23: the client proves it; the session's keys."""
        tag, status, number = struct.unpack_from('<BBxxI', p)
        session = self.sessions.get(number)
        if not session or session.version != 2 or session.active or not session.rm:
            return bytes([tag, 0x02, 0, 0]) + bytes(4)
        peer = struct.pack('<I', session.peer_id)
        wanted = self._hmac(session, self.password, session.rc + peer + self._who(session))
        if status or not hmac.compare_digest(p[8:], wanted):
            self.sessions.pop(number)
            return bytes([tag, 0x0f, 0, 0]) + peer
        session.sik = self._hmac(session, self.password,
                                 session.rm + session.rc + self._who(session))
        # 13.32: constants as long as the SHA-1 hash, whatever the hash
        session.k1 = self._hmac(session, session.sik, b'\x01' * 20)
        session.aes = Aes(self._hmac(session, session.sik, b'\x02' * 20)[:16])
        session.active = True
        check = self._hmac(session, session.sik,
                           session.rm + struct.pack('<I', session.id) + self.guid)
        return bytes([tag, 0, 0, 0]) + peer + check[:ICV_SIZE[session.suite[0]]]

    @staticmethod
    def _who(session):
        return bytes([session.role, len(session.name)]) + session.name

    @staticmethod
    def _hmac(session, key, data):
        return hmac.new(key, data, HASH[session.suite[0]]).digest()

    def _authentic(self, session, data, end):
        """13.28: pad, its length, next header 7, then the code over all since the type byte."""
        size = MAC_SIZE[session.suite[1]]
        body, code = data[:-size], data[-size:]
        if len(data) < end + 2 + size or body[-1] != 7 or len(body) != end + body[-2] + 2:
            return False
        return hmac.compare_digest(code, self._hmac(session, session.k1, body)[:size])

    def _decrypt(self, session, payload):
        """13.29: vector, then blocks that end in 1, 2, 3… and their number."""
        if len(payload) < 32 or len(payload) % 16:
            return None
        plain = session.aes.decrypt(payload[:16], payload[16:])
        pad = plain[-1]
        if pad > 15 or plain[-1 - pad:-1] != bytes(range(1, pad + 1)):
            return None
        return plain[:-1 - pad]

    def _seal(self, session, message):
        pad = -(len(message) + 1) % 16
        vector = os.urandom(16)
        payload = vector + session.aes.encrypt(vector, message + bytes(range(1, pad + 1))
                                               + bytes([pad]))
        packet = struct.pack('<BBIIH', RMCP_PLUS, 0xc0, session.peer_id, session.next_seq(),
                             len(payload)) + payload
        fill = -(len(packet) + 2) % 4
        packet += b'\xff' * fill + bytes([fill, 7])
        return packet + self._hmac(session, session.k1, packet)[:MAC_SIZE[session.suite[1]]]

    async def _once(self, session, message, request):
        """A client that hears nothing for a second sends its request again: that must not switch
        the host twice.  Its sequence number tells a repeated request from an equal one."""
        if session.last[0] != message:
            session.last = (message, asyncio.ensure_future(
                self.commands.run(request, session.privilege)))
        return ipmi.reply(request, *await asyncio.shield(session.last[1]))

    def _new_session(self, version):
        while len(self.sessions) >= MAX_SESSIONS:       # the one idle for longest goes
            del self.sessions[min(self.sessions.values(), key=lambda s: s.used).id]
        number = 0
        while not number or number in self.sessions:
            number = struct.unpack('<I', os.urandom(4))[0]
        session = Session(number, version, used=time.monotonic())
        self.sessions[number] = session
        return session

    def _expire(self):
        old = time.monotonic() - IDLE
        for session in [s for s in self.sessions.values() if s.used < old]:
            del self.sessions[session.id]
