"""The OpenAPI 3.1 document of the REST API."""

from .c_rest import routes

DURATION = '^[0-9]+(ns|us|ms|s|m|h|d)?$'
INT64_MAX = 2**63 - 1


def ref(name):
    return {'$ref': '#/components/schemas/' + name}


class Document:
    def __init__(self, schema):
        self.schema, self.schemas = schema, {}

    # -- values --

    def scalar(self, f):
        s = {}
        if f.base in ('integer', 'size', 'bitrate'):
            s = {'type': 'integer', 'format': 'int64'}
        elif f.base == 'number':
            s = {'type': 'number', 'format': 'double'}
        elif f.base == 'boolean':
            s = {'type': 'boolean'}
        elif f.base == 'duration':
            return {'type': 'string', 'pattern': DURATION, 'examples': ['30s', '5m']}
        elif f.base == 'time':
            return {'type': 'string', 'format': 'date-time'}
        elif f.base == 'any':
            return {}
        else:
            return self.text(f)
        if f.base != 'boolean':
            s.update({k: v for k, v in (('minimum', f.min), ('maximum', f.max)) if v is not None and v != INT64_MAX})
        return s

    def text(self, f):
        s = {'type': 'string', 'maxLength': f.max_length}
        if f.min_length:
            s['minLength'] = f.min_length
        if f.base == 'secret':
            s['format'] = 'password'
        if f.format and f.shape != 'map':
            s.update(self.format(f.format))
        return s

    @staticmethod
    def format(f):
        if f.pattern:
            return {'pattern': f.pattern}
        return {'format': f.check} if f.check in ('ipv4', 'ipv6') else {'x-format': f.check}

    def value(self, f, patch):
        if isinstance(f.base, str):
            return self.scalar(f)
        return ref(self.add(f.base, patch and f.is_struct and f.shape == 'one'))

    def field(self, f, patch):
        s = self.value(f, patch)
        if f.shape == 'list':
            s = {'type': 'array', 'items': s, 'maxItems': f.max_items}
            if f.min_items:
                s['minItems'] = f.min_items
        elif f.shape == 'map':
            s = {'type': 'object', 'additionalProperties': s, 'maxProperties': f.max_items}
            if f.format:
                s['propertyNames'] = dict(self.format(f.format), maxLength=f.format.max_length)
        if patch and not f.required:
            if '$ref' in s:
                s = {'anyOf': [s, {'type': 'null'}]}
            elif 'type' in s:
                s['type'] = [s['type'], 'null']
        s['description'] = self.describe(f)
        if f.readonly or f.status:
            s['readOnly'] = True
        if f.has_default and not patch:
            s['default'] = f.default_number if f.base in ('integer', 'number', 'size', 'bitrate') else f.default
        if f.mutable:
            s['x-mutable'] = f.mutable
        if f.unit:
            s['x-unit'] = f.unit
        s['x-since'] = f.since
        return s

    @staticmethod
    def describe(f):
        text = f.help
        if f.base == 'size':
            text += ' (bytes; text such as "512M" is read too)'
        if f.base == 'bitrate':
            text += ' (bit/s; text such as "100M" is read too)'
        if f.when:
            text += '; only when %s is %s' % (f.when[1].name, f.when[2])
        if f.at_most:
            text += '; at most %s' % f.at_most[1].name
        if f.at_least:
            text += '; at least %s' % f.at_least[1].name
        return text

    def add(self, t, patch=False):
        """Puts a type among the schemas; returns its name there."""
        name = t.title + ('Patch' if patch else '')
        if name in self.schemas:
            return name
        self.schemas[name] = s = {}
        if t.kind == 'enum':
            s.update({'type': 'string', 'enum': list(t.values), 'description': t.help + ' ' + '; '.join(
                '%s: %s' % kv for kv in t.values.items())})
            return name
        s.update({'type': 'object', 'description': t.help, 'additionalProperties': False,
                  'properties': {f.name: self.field(f, patch) for f in t.fields if not (patch and f.status)}})
        required = [f.name for f in t.fields if f.required]
        if required and not patch:
            s['required'] = required
        return name

    def list_of(self, t):
        name = t.title + 'List'
        self.schemas.setdefault(name, {
            'type': 'object', 'description': 'A list of these: %s' % t.help, 'required': ['items'], 'properties': {
                'items': {'type': 'array', 'items': ref(self.add(t))},
                'next': {'type': 'string', 'description': "there is more: ask again with after=this"}}})
        return name

    # -- paths --

    def parameters(self, route):
        params, result = self.schema.docs['rest']['params'], []
        for p in route.params:
            f = self.schema.formats[params[p]['format']]
            result.append({'name': p, 'in': 'path', 'required': True, 'description': params[p]['help'],
                           'schema': dict({'type': 'string', 'maxLength': f.max_length}, **self.format(f))})
        for f in route.query.fields if route.query else []:
            schema = self.field(f, False)
            description = schema.pop('description')
            result.append({'name': f.name, 'in': 'query', 'required': f.required, 'description': description, 'schema': schema})
        return result

    def body(self, route):
        if route.upload:
            return {'required': True, 'content': {route.upload: {'schema': {'type': 'string', 'format': 'binary'}}}}
        if not route.request:
            return None
        patch = route.method == 'PATCH'
        kind = 'application/merge-patch+json' if patch else 'application/json'
        # What has no required field may be left out.
        return {'required': patch or any(f.required for f in route.request.fields),
                'content': {kind: {'schema': ref(self.add(route.request, patch))}}}

    def answer(self, route):
        if route.task:
            text = 'A task; with ?wait= it may have ended already.'
            if route.result:
                text += ' Its result is the %s.' % route.result.name.replace('_', ' ')
            return {'description': text, 'content': {'application/json': {'schema': ref(self.add(self.schema.types['task']))}},
                    'headers': {'Location': {'description': 'path of the task', 'schema': {'type': 'string'}}}}
        if route.websocket:
            return {'description': 'The connection speaks WebSocket from here on.'}
        if route.content:
            content = {'type': 'object'} if route.content == 'application/json' else {'type': 'string'}
            return {'description': 'Done.', 'content': {route.content: {'schema': content}}}
        if route.list:
            return {'description': 'The list.', 'content': {'application/json': {'schema': ref(self.list_of(route.list))}}}
        if route.stream:
            return {'description': 'One JSON object a line.',
                    'content': {'application/x-ndjson': {'schema': ref(self.add(route.response))}}}
        if route.response:
            return {'description': 'Done.', 'content': {'application/json': {'schema': ref(self.add(route.response))}}}
        return {'description': 'Done.'}

    def operation(self, route):
        errors = {'description': 'The request failed.', 'content': {'application/json': {'schema': {
            'type': 'object', 'required': ['error'], 'additionalProperties': False,
            'properties': {'error': ref(self.add(self.schema.types['error']))}}}}}
        op = {'operationId': route.name, 'summary': route.help, 'description': 'Role: %s.' % route.role, 'tags': [route.tag],
              'parameters': self.parameters(route), 'responses': {str(route.status): self.answer(route), '4XX': errors, '5XX': errors}}
        body = self.body(route)
        if body:
            op['requestBody'] = body
        if not op['parameters']:
            del op['parameters']
        op['security'] = [] if route.role == 'none' else [{'token': []}, {'certificate': []}]
        return op

    def make(self, version):
        paths = {}
        for r in routes(self.schema):
            paths.setdefault(r.path, {})[r.method.lower()] = self.operation(r)
        rest = self.schema.docs['rest']
        return {
            'openapi': '3.1.0',
            'info': {
                'title': 'Strata', 'version': version,
                'description': 'The REST API of stratad, on the local socket /run/strata/strata.sock and, when enabled, over HTTPS.',
                'contact': {'name': 'Strata'},
                'license': {'name': 'LGPL-2.1-or-later', 'identifier': 'LGPL-2.1-or-later'}},
            'servers': [{'url': 'https://{host}:8443', 'variables': {'host': {'default': 'localhost', 'description': 'a host of the cloud'}}}],
            'tags': [{'name': n, 'description': d} for n, d in rest['tags'].items()],
            'paths': paths,
            'components': {
                'schemas': dict(sorted(self.schemas.items())),
                'securitySchemes': {
                    'token': {'type': 'http', 'scheme': 'bearer', 'description': 'a token of strata token create'},
                    'certificate': {'type': 'mutualTLS', 'description': 'a client certificate of strata certificate add'}}}}


def make(schema, version='0.1.0'):
    return Document(schema).make(version)
