#!/usr/bin/env python3
"""fuzz_api.py SOCKET [N [SEED]]: N requests made from /v1/openapi.json, right and broken, against a running stratad.

Every answer must be one that the document promises for its operation: status, media type, and the JSON's schema; nothing may be a
5xx but what the document calls so by its id (a host that lacks something), and the daemon must live.  What is sent depends on the seed alone.
Prints a line a failure, and at the end how many requests of each outcome there were.  Exit status 1 when something failed."""

import http.client
import json
import random
import re
import socket
import sys
import urllib.parse

# What would fetch or make whole systems when it is asked properly: only ever asked wrongly.
HEAVY = {'image_bootstrap', 'image_pull', 'image_push', 'kernel_install'}


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__('localhost', timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class Judge:
    """The part of JSON Schema 2020-12 that the document uses; complains about any other."""

    KNOWN = {'type', 'enum', 'properties', 'required', 'additionalProperties', 'items', 'maxItems', 'minItems', 'minLength', 'maxLength',
             'pattern', 'minimum', 'maximum', 'format', 'description', 'default', 'readOnly', '$ref', 'anyOf', 'examples', 'maxProperties',
             'propertyNames', 'title'}
    KINDS = {'string': str, 'object': dict, 'array': list, 'null': type(None)}

    def __init__(self, document):
        self.schemas = document['components']['schemas']
        self.patterns = {}

    def kind_fits(self, kind, v):
        if kind == 'boolean':
            return isinstance(v, bool)
        if kind == 'integer':
            return isinstance(v, int) and not isinstance(v, bool)
        if kind == 'number':
            return isinstance(v, (int, float)) and not isinstance(v, bool)
        return isinstance(v, self.KINDS[kind])

    def check(self, s, v, where):
        """None, or what is wrong."""
        for key in s:
            if key not in self.KNOWN and not key.startswith('x-'):
                return '%s: the document uses %s' % (where, key)
        if '$ref' in s:
            return self.check(self.schemas[s['$ref'].rsplit('/', 1)[1]], v, where)
        if 'anyOf' in s:
            return None if any(self.check(x, v, where) is None for x in s['anyOf']) else where + ': fits none of anyOf'
        kinds = s.get('type')
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds and not any(self.kind_fits(k, v) for k in kinds):
            return '%s: %r is no %s' % (where, v, '|'.join(kinds))
        if 'enum' in s and v not in s['enum']:
            return '%s: %r is not in %s' % (where, v, s['enum'])
        if isinstance(v, str):
            return self.text(s, v, where)
        if isinstance(v, (int, float)) and not isinstance(v, bool):
            if not s.get('minimum', v) <= v <= s.get('maximum', v):
                return '%s: %r is out of range' % (where, v)
        if isinstance(v, list):
            if len(v) > s.get('maxItems', len(v)) or len(v) < s.get('minItems', 0):
                return '%s: %d items' % (where, len(v))
            return next((w for w in (self.check(s.get('items', {}), x, '%s[%d]' % (where, i)) for i, x in enumerate(v)) if w), None)
        if isinstance(v, dict):
            return self.members(s, v, where)
        return None

    def text(self, s, v, where):
        if not s.get('minLength', 0) <= len(v) <= s.get('maxLength', len(v)):
            return '%s: %d characters' % (where, len(v))
        if 'pattern' in s:
            p = self.patterns.setdefault(s['pattern'], re.compile(s['pattern']))
            if not p.search(v):
                return '%s: %r does not fit %s' % (where, v, s['pattern'])
        if s.get('format') == 'date-time' and not re.match(r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$', v):
            return '%s: %r is no time' % (where, v)
        return None

    def members(self, s, v, where):
        props, extra = s.get('properties', {}), s.get('additionalProperties', True)
        for name in s.get('required', []):
            if name not in v:
                return '%s: %s is missing' % (where, name)
        for name, x in v.items():
            schema = props.get(name, extra)
            if schema is False:
                return '%s: %s is not in the document' % (where, name)
            wrong = self.check(schema if isinstance(schema, dict) else {}, x, '%s.%s' % (where, name))
            if wrong:
                return wrong
        return None


class Maker:
    """Values that fit a schema, and values that do not."""

    ODD = ['', ' ', '-', '.', '..', '../../etc/passwd', 'a' * 64, 'A' * 5000, '\0', '\n', '%s%n', "'; --", 'ü', '\U0001f600', 'null', '0', '-1',
           '9' * 30, '1e400', '[]', '{}', '<x>', '\\', '"', '/', 'default', '00000000-0000-7000-8000-000000000000', '0000']

    def __init__(self, rng, schemas, names):
        self.rng, self.schemas, self.names = rng, schemas, names

    def pick(self, *options):
        return self.rng.choice(options)

    def text(self, s):
        if 'enum' in s:
            return self.rng.choice(s['enum'])
        if s.get('format') == 'date-time':
            return self.pick('2026-01-01T00:00:00Z', '1970-01-01T00:00:00.000Z', '2199-12-31T23:59:59Z')
        if s.get('examples') and self.rng.random() < 0.7:
            return self.rng.choice(s['examples'])
        return self.pick('default', 'fuzz', 'fuzz-%d' % self.rng.randrange(40), '1', '1.2.3.4', '10.%d.0.0/24' % self.rng.randrange(200), '/mnt/x', 'a=b',
                         '5s', '2m', '%04x' % self.rng.randrange(65536), self.rng.choice(self.names))

    def good(self, s, depth=0):
        if '$ref' in s:
            return self.good(self.schemas[s['$ref'].rsplit('/', 1)[1]], depth)
        if 'anyOf' in s:
            return self.good(self.rng.choice(s['anyOf']), depth)
        kind = s.get('type', 'null')
        kind = self.rng.choice(kind) if isinstance(kind, list) else kind
        if kind == 'string':
            return self.text(s)
        if kind in ('integer', 'number'):
            low, high = s.get('minimum', 0), s.get('maximum', 2**40)
            return self.rng.choice([low, high, int(low), min(int(low) + self.rng.randrange(100), int(high)), s.get('default', low)])
        if kind == 'boolean':
            return self.rng.random() < 0.5
        if kind == 'array':
            return [self.good(s['items'], depth + 1) for _ in range(self.rng.choice([0, 1, 1, 2]) if depth < 4 else 0)]
        if kind == 'object':
            return self.object(s, depth)
        return None

    def object(self, s, depth):
        v = {}
        for name, field in s.get('properties', {}).items():
            if field.get('readOnly'):
                continue
            if name in s.get('required', []) or self.rng.random() < (0.35 if depth < 2 else 0.2):
                v[name] = self.good(field, depth + 1)
        if isinstance(s.get('additionalProperties'), dict) and self.rng.random() < 0.5:
            v['k%d' % self.rng.randrange(9)] = 'v'
        return v

    def odd(self):
        return self.rng.choice([None, True, -1, 0, 1.5, 2**31, 2**53, 2**63, -2**63, 1e308, [], {}, [[]], {'a': {}}, [None] * 100] + self.ODD)

    def broken(self, v):
        """v with something wrong somewhere."""
        if isinstance(v, dict) and v and self.rng.random() < 0.85:
            name = self.rng.choice(sorted(v))
            way = self.rng.randrange(4)
            v = dict(v)
            if way == 0:
                v[name] = self.broken(v[name])
            elif way == 1:
                v[name] = self.odd()
            elif way == 2:
                del v[name]
            else:
                v[self.rng.choice([name + 'x', '', 'id', 'status', 'revision', 'created', 'spec'])] = self.odd()
            return v
        if isinstance(v, list) and v and self.rng.random() < 0.7:
            v = list(v)
            i = self.rng.randrange(len(v))
            v[i] = self.broken(v[i])
            return v
        return self.odd()


class Fuzzer:
    def __init__(self, path, seed):
        self.path, self.rng, self.connection = path, random.Random(seed), None
        self.failures, self.counts = 0, {}
        self.document = json.loads(self.call('GET', '/v1/openapi.json', None, {})[2])
        self.judge = Judge(self.document)
        self.names = ['default']
        self.maker = Maker(self.rng, self.document['components']['schemas'], self.names)
        self.operations = [(p, m.upper(), op) for p, ops in self.document['paths'].items() for m, op in ops.items()
                           if not self.is_endless(op)]

    @staticmethod
    def is_endless(op):
        return '101' in op['responses']

    def call(self, method, target, body, headers):
        if not self.connection:
            self.connection = Unix(self.path)
        try:
            self.connection.putrequest(method, target, skip_accept_encoding=True)
            for k, v in headers.items():
                self.connection.putheader(k, v)
            if body is not None:
                self.connection.putheader('Content-Length', str(len(body)))
            self.connection.endheaders(body)
            r = self.connection.getresponse()
            data = r.read()
            if r.will_close:
                self.connection.close()
                self.connection = None
            return r.status, r.getheader('Content-Type') or '', data
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise

    def fail(self, method, target, body, text):
        self.failures += 1
        if self.failures <= 20:
            print('%s %s %s: %s' % (method, target, (body or b'')[:600].decode(errors='replace'), text))

    def target(self, path, op):
        text = path
        for p in op.get('parameters', []):
            if p['in'] != 'path':
                continue
            v = self.maker.text(p['schema']) if self.rng.random() < 0.8 else self.rng.choice(Maker.ODD[1:])  # '' is another path
            text = text.replace('{%s}' % p['name'], urllib.parse.quote(v, safe='' if self.rng.random() < 0.9 else '/%'))
        query = []
        for p in op.get('parameters', []):
            if p['in'] != 'query' or self.rng.random() > 0.25:
                continue
            if p['name'] in ('follow', 'wait', 'timeout'):
                continue  # these may take their time, as they should
            v = self.maker.good(p['schema']) if self.rng.random() < 0.8 else self.maker.odd()
            for x in v if isinstance(v, list) else [v]:
                query.append((p['name'], x if isinstance(x, str) else json.dumps(x)))
        if self.rng.random() < 0.03:
            query.append((self.rng.choice(['x', '', 'project']), self.rng.choice(Maker.ODD)))
        if path.endswith('/wait'):
            query.append(('timeout', '0s'))
        return text + ('?' + urllib.parse.urlencode(query) if query else '')

    def body(self, op):
        """Body and its kind: JSON that fits, JSON that does not, text that is none."""
        content = op.get('requestBody', {}).get('content', {})
        if not content:
            return (None, {}) if self.rng.random() < 0.95 else (b'{"a":1}', {'Content-Type': 'application/json'})
        kind, media = next(iter(content.items()))
        headers = {'Content-Type': kind}
        if not kind.endswith('json'):
            return self.rng.randbytes(self.rng.randrange(2000)), headers
        v = self.maker.good(media['schema'])
        if op['operationId'] in HEAVY:
            v = dict(v, nonsense=1)
        elif self.rng.random() < 0.5:
            v = self.maker.broken(v)
        text = json.dumps(v, ensure_ascii=self.rng.random() < 0.5, allow_nan=True).encode(errors='surrogatepass')
        if self.rng.random() < 0.08:
            text = bytearray(text)
            for _ in range(self.rng.randrange(1, 4)):
                if text:
                    text[self.rng.randrange(len(text))] = self.rng.randrange(256)
            text = bytes(text[:self.rng.randrange(len(text) + 1)])
        if self.rng.random() < 0.02:
            headers['Content-Type'] = self.rng.choice(['text/plain', 'application/xml', 'application/jsonx;charset=x'])
        if self.rng.random() < 0.05:
            headers['If-Match'] = self.rng.choice(['"1"', '*', '1', '"x"', '"99999999999999999999"', '"-1"'])
        return text, headers

    def promised(self, op, status):
        r = op['responses']
        return r.get(str(status)) or r.get('%dXX' % (status // 100))

    def check(self, method, target, body, op, answer):
        status, kind, data = answer
        self.counts[status] = self.counts.get(status, 0) + 1
        promise = self.promised(op, status)
        if promise is None:
            return self.fail(method, target, body, 'status %d is not promised: %s' % (status, data[:300]))
        content = promise.get('content')
        if not content:
            return self.fail(method, target, body, 'a body is not promised: %s' % data[:300]) if data else None
        plain = kind.split(';')[0]
        if plain not in content and plain != 'application/openmetrics-text':
            return self.fail(method, target, body, 'media type %s is not promised' % kind)
        if plain not in ('application/json', 'application/x-ndjson'):
            return None
        for text in data.splitlines() if plain.endswith('ndjson') else [data]:
            try:
                v = json.loads(text)
            except ValueError as e:
                return self.fail(method, target, body, 'no JSON: %s: %s' % (e, text[:300]))
            wrong = self.judge.check(content[plain]['schema'], v, 'answer')
            if wrong:
                return self.fail(method, target, body, '%d: %s' % (status, wrong))
            self.learn(v)
            if status >= 500 and v['error']['id'] in ('request.internal', 'request.unavailable'):
                return self.fail(method, target, body, 'the daemon failed: %s' % text[:300])
        return None

    def learn(self, v):
        """Names and ids that there are, for later requests."""
        for o in v.get('items', [v])[-3:] if isinstance(v, dict) else []:
            if isinstance(o, dict) and len(self.names) < 400:
                self.names.extend(x for x in (o.get('id'), o.get('name')) if isinstance(x, str))

    def one(self):
        path, method, op = self.rng.choice(self.operations)
        target, (body, headers) = self.target(path, op), self.body(op)
        if self.rng.random() < 0.02:
            method = self.rng.choice(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'BREW'])
            known = {m.upper(): o for m, o in self.document['paths'][path].items()}
            op = known.get(method, {'responses': {'4XX': op['responses']['4XX']}})
            if self.is_endless(op):
                return
        try:
            self.check(method, target, body, op, self.call(method, target, body, headers))
        except (OSError, http.client.HTTPException) as e:
            # what HTTP itself forbids (a NUL in the first line, say) may close the connection; the daemon must still be there
            try:
                self.call('GET', '/v1', None, {})
            except (OSError, http.client.HTTPException) as e2:
                self.fail(method, target, body, 'the daemon is gone: %r, %r' % (e, e2))
                print('%d failures; it ended here' % self.failures)
                sys.exit(1)
            self.counts['closed'] = self.counts.get('closed', 0) + 1


def main():
    path, n, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000, int(sys.argv[3]) if len(sys.argv) > 3 else 20261121
    f = Fuzzer(path, seed)
    for _ in range(n):
        f.one()
    print('%d requests to %d operations: %s; %d failures' % (n, len(f.operations), ', '.join(
        '%s: %d' % kv for kv in sorted(f.counts.items(), key=lambda kv: str(kv[0]))), f.failures))
    sys.exit(f.failures > 0)


main()
