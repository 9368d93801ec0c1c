"""IPMI commands of one host's power controller: the messages inside a session (rmcp.py has
sessions).

Specification: IPMI v2.0 revision 1.1; section numbers below are its.  Values are little endian."""

import struct
import uuid

from . import power

APP, CHASSIS = 0x06, 0x00
OK, INVALID_COMMAND, TIMEOUT, BAD_LENGTH, BAD_FIELD, NO_PRIVILEGE, BAD_STATE, FAILED = \
    0x00, 0xc1, 0xc3, 0xc7, 0xcc, 0xd4, 0xd5, 0xff
USER, OPERATOR, ADMIN = 2, 3, 4
BOOT_PARAMETERS = {0: 1, 1: 1, 2: 1, 3: 1, 4: 2, 5: 5}  # 28.13: parameter -> length


def checksum(data):
    """Two's complement of the sum, 13.8."""
    return -sum(data) & 0xff


def parse(message):
    """(netfn, lun, requester, seq and lun, command, data) of an IPMB request, 13.8; None when it is
    none."""
    if len(message) < 7 or checksum(message[:2]) != message[2] \
            or checksum(message[3:-1]) != message[-1]:
        return None
    if message[1] >> 2 & 1:             # an odd netfn is a response
        return None
    return message[1] >> 2, message[1] & 3, message[3], message[4], message[5], message[6:-1]


def reply(request, code, data=b''):
    """The response message to a parsed request."""
    netfn, lun, requester, seq, command, _ = request
    head = bytes([requester, (netfn | 1) << 2 | seq & 3])
    body = bytes([0x20, seq & 0xfc | lun, command, code]) + data
    return head + bytes([checksum(head)]) + body + bytes([checksum(body)])


class Commands:
    """run() answers a request of a session that has `privilege`."""

    def __init__(self, switch):
        self.power = switch
        self.boot = {n: bytes(length) for n, length in BOOT_PARAMETERS.items()}
        # what, least privilege: appendix G
        self.table = {
            (APP, 0x01): (self._device_id, USER),
            (APP, 0x37): (self._guid, 0),
            (APP, 0x08): (self._guid, USER),
            (APP, 0x42): (self._channel_info, USER),
            (CHASSIS, 0x00): (self._capabilities, USER),
            (CHASSIS, 0x01): (self._status, USER),
            (CHASSIS, 0x02): (self._control, OPERATOR),
            (CHASSIS, 0x07): (self._restart_cause, USER),
            (CHASSIS, 0x08): (self._set_boot, OPERATOR),
            (CHASSIS, 0x09): (self._get_boot, OPERATOR),
        }

    async def run(self, request, privilege):
        """(completion code, data)."""
        netfn, _, _, _, command, data = request
        function, least = self.table.get((netfn, command), (None, 0))
        if not function:
            return INVALID_COMMAND, b''
        if privilege < least:
            return NO_PRIVILEGE, b''
        try:
            return await function(data)
        except (IndexError, struct.error):
            return BAD_LENGTH, b''
        except power.Refused:
            return BAD_STATE, b''
        except power.ERRORS:
            return FAILED, b''

    async def _device_id(self, data):
        """20.1: id, revision, firmware 1.0, IPMI 2.0, "chassis device", no manufacturer."""
        return OK, bytes([0x20, 0x01, 0x01, 0x00, 0x02, 0x80, 0, 0, 0, 1, 0])

    async def _guid(self, data):
        """22.14: the number on the host's board."""
        return OK, uuid.UUID(self.power.host.uuid()).bytes_le

    async def _channel_info(self, data):
        """22.24: channel 1, 802.3 LAN, IPMB messages, sessions, no vendor."""
        if data[0] & 15 not in (1, 14):
            return BAD_FIELD, b''
        return OK, bytes([1, 4, 1, 0x80, 0xf2, 0x1b, 0, 0, 0])

    async def _capabilities(self, data):
        """28.1."""
        return OK, bytes([0, 0x20, 0x20, 0x20, 0x20])

    async def _status(self, data):
        """28.2; "always off after mains return" as nothing switches on by itself."""
        on = self.power.state() != power.OFF
        return OK, bytes([0x01 if on else 0x00, 0, 0x40])

    async def _control(self, data):
        """28.3."""
        verbs = {0: 'off', 1: 'on', 2: 'cycle', 3: 'reset', 4: 'nmi', 5: 'shut_down'}
        verb = verbs.get(data[0] & 15)
        if not verb:
            return BAD_FIELD, b''
        await getattr(self.power, verb)()
        return OK, b''

    async def _restart_cause(self, data):
        """28.11."""
        cause = {'command': 1, 'reset': 1, 'cycle': 1, 'soft': 10}.get(self.power.cause, 0)
        return OK, bytes([cause, 1])

    async def _set_boot(self, data):
        """28.12: kept and given back; a lab host has one thing to boot."""
        parameter = data[0] & 0x7f
        if parameter not in self.boot:
            return 0x80, b''
        if len(data) > 1:
            length = BOOT_PARAMETERS[parameter]
            self.boot[parameter] = bytes(data[1:1 + length]).ljust(length, b'\0')
        return OK, b''

    async def _get_boot(self, data):
        """28.13."""
        parameter = data[0] & 0x7f
        if parameter not in self.boot:
            return 0x80, b''
        return OK, bytes([1, parameter]) + self.boot[parameter]
