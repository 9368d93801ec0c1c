"""A small HTTP/1.1 server side: one request after the other on one connection.  RFC 9110 and 9112,
as far as clients of a power controller go: no chunked requests, no pipelining beyond taking
turns."""

import asyncio
import dataclasses
import json

MAX_HEAD, MAX_BODY, IDLE = 16384, 65536, 60
REASONS = {200: 'OK', 201: 'Created', 204: 'No Content', 400: 'Bad Request', 401: 'Unauthorized',
           404: 'Not Found', 405: 'Method Not Allowed', 409: 'Conflict', 411: 'Length Required',
           413: 'Content Too Large', 500: 'Internal Server Error', 501: 'Not Implemented'}


@dataclasses.dataclass
class Request:
    """Header names are in lower case."""

    method: str
    path: str
    headers: dict
    body: bytes = b''

    def json(self):
        """The body as an object; ValueError when it is none."""
        value = json.loads(self.body or b'{}')
        if not isinstance(value, dict):
            raise ValueError('a JSON object is wanted')
        return value


@dataclasses.dataclass
class Response:
    """body: bytes as they are, anything else as JSON, None for nothing."""

    status: int = 200
    body: object = None
    headers: dict = dataclasses.field(default_factory=dict)


class BadRequest(Exception):
    """What a client sent cannot be read; status says how."""

    def __init__(self, status):
        super().__init__(REASONS[status])
        self.status = status


def parse_head(head):
    """(method, path, headers, keep alive) of the bytes up to the empty line; BadRequest."""
    try:
        lines = head.decode('ascii').split('\r\n')
        method, path, version = lines[0].split(' ')
    except (UnicodeDecodeError, ValueError):
        raise BadRequest(400) from None
    if version not in ('HTTP/1.1', 'HTTP/1.0') or not path.startswith('/'):
        raise BadRequest(400)
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(':')
        if not colon or not name or name != name.strip():
            raise BadRequest(400)
        headers[name.lower()] = value.strip()
    if 'transfer-encoding' in headers:
        raise BadRequest(501)
    close = headers.get('connection', '').lower() == 'close' or version == 'HTTP/1.0'
    return method, path.split('?')[0], headers, not close


async def serve(reader, writer, handler):
    """Answer requests with handler(Request) → Response until the client is done."""
    try:
        alive = True
        while alive:
            try:
                request, alive = await asyncio.wait_for(_read(reader), IDLE)
                response = await handler(request)
                head_only = request.method == 'HEAD'
            except BadRequest as e:
                response, alive, head_only = Response(e.status), False, False
            _write(writer, response, alive, head_only)
            await writer.drain()
    except (ConnectionError, OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
        pass
    finally:
        writer.close()


async def _read(reader):
    try:
        head = await reader.readuntil(b'\r\n\r\n')
    except asyncio.LimitOverrunError:
        raise BadRequest(413) from None
    if len(head) > MAX_HEAD:
        raise BadRequest(413)
    method, path, headers, alive = parse_head(head[:-4])
    length = headers.get('content-length', '0')
    if not length.isdigit():
        raise BadRequest(400)
    if int(length) > MAX_BODY:
        raise BadRequest(413)
    body = await reader.readexactly(int(length))
    return Request(method, path, headers, body), alive


def _write(writer, response, alive, head_only):
    body = response.body
    headers = dict(response.headers)
    if body is None:
        data = b''
    elif isinstance(body, bytes):
        data = body
    else:
        data = json.dumps(body, indent=2).encode() + b'\n'
        headers.setdefault('Content-Type', 'application/json')
    if response.status != 204:
        headers['Content-Length'] = str(len(data))
    headers['Connection'] = 'keep-alive' if alive else 'close'
    lines = ['HTTP/1.1 %d %s' % (response.status, REASONS[response.status])]
    lines += ['%s: %s' % item for item in headers.items()]
    writer.write('\r\n'.join(lines).encode() + b'\r\n\r\n' + (b'' if head_only else data))
