"""C tables of the errors and of the REST routes."""

import re

from .c_text import banner, comment, guarded, macro, string
from .model import check_keys, fail

METHODS = ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')
ROLES = ('none', 'viewer', 'operator', 'admin')
ROUTE_KEYS = {
    'method', 'path', 'base', 'role', 'query', 'request', 'response', 'list', 'task', 'result', 'status', 'content', 'upload',
    'stream', 'websocket', 'tag', 'help', 'planned'}


def errors(schema):
    table = schema.docs['errors']['errors']
    for eid, d in table.items():
        where = 'errors.json: ' + eid
        check_keys(where, d, {'status', 'help', 'hint'})
        if not re.match(r'^[a-z][a-z0-9_]*\.[a-z0-9_]+$', eid) or len(eid) > 47 or not 400 <= d['status'] <= 599:
            fail(where, 'bad id or status')
    for name, eid in schema.docs['errors']['sys'].items():
        if eid not in table:
            fail('errors.json: ' + name, "unknown id '%s'" % eid)
    return table


def errors_header(schema):
    body = '#include "gen/error.h"\n\n'
    for eid, d in errors(schema).items():
        body += '#define %s %s %s\n' % (macro('err', eid), string(eid), comment('%d: %s' % (d['status'], d['help'])))
    return banner('Ids of errors, for err_set()') + guarded('errors', body)


def errors_source(schema):
    body = '#include "gen/errors.h"\n\n#include <errno.h>\n\n/* by id, for bisection */\nconst struct gen_error gen_errors[] = {\n'
    table = errors(schema)
    for eid in sorted(table):
        d = table[eid]
        body += '\t{ %s, %d, %s, %s },\n' % (string(eid), d['status'], string(d['help']), string(d.get('hint')))
    body += '};\nconst size_t gen_n_errors = %d;\n\nconst struct gen_sys_error gen_sys_errors[] = {\n' % len(table)
    for name, eid in schema.docs['errors']['sys'].items():
        body += '\t{ %s, %s },\n' % (name, string(eid))
    return banner('Ids of errors') + body + '\t{ 0, NULL },\n};\n'


class Route:
    def __init__(self, schema, name, d):
        rest, where = schema.docs['rest'], 'rest.json: ' + name
        check_keys(where, d, ROUTE_KEYS)
        self.name, self.d, self.where = name, d, where
        self.method, self.role, self.tag, self.help = d['method'], d['role'], d['tag'], d['help']
        self.path = d.get('base', rest['base']) + d['path']
        if len(self.path) > 1:
            self.path = self.path.rstrip('/')
        self.params = re.findall(r'\{([a-z_]+)\}', self.path)
        if self.method not in METHODS or self.role not in ROLES or self.tag not in rest['tags']:
            fail(where, 'unknown method, role or tag')
        for p in self.params:
            if p not in rest['params']:
                fail(where, "unknown parameter '%s'" % p)
        for what in ('query', 'request', 'response', 'list', 'result'):
            setattr(self, what, schema.find_type(d[what], where) if d.get(what) else None)
        self.task, self.content, self.upload = d.get('task'), d.get('content'), d.get('upload')
        self.stream, self.websocket = bool(d.get('stream')), bool(d.get('websocket'))
        default = 202 if self.task else 101 if self.websocket else 200
        self.status = d.get('status', default)
        answers = [x for x in (self.response, self.list, self.task, self.content, self.websocket) if x]
        if len(answers) != (0 if self.status == 204 else 1):
            fail(where, 'needs one of response, list, task, content, websocket, or status 204')


def routes(schema):
    seen, result = {}, []
    for name, d in schema.docs['rest']['routes'].items():
        r = Route(schema, name, d)
        key = (r.method, re.sub(r'\{[a-z_]+\}', '{}', r.path))
        if key in seen:
            fail(r.where, 'the same as ' + seen[key])
        seen[key] = name
        result.append(r)
    return result


class Node:
    """A part of paths: literal children, and one for any text."""

    def __init__(self, literal):
        self.literal, self.children, self.param, self.routes = literal, {}, None, {}

    def add(self, parts, index, route):
        if not parts:
            self.routes[route.method] = index
            return
        if parts[0].startswith('{'):
            self.param = self.param or Node(None)
            child = self.param
        else:
            child = self.children.setdefault(parts[0], Node(parts[0]))
        child.add(parts[1:], index, route)


def trie(all_routes):
    """Nodes in a row; children of a node stand together, by name."""
    root, rows = Node(''), []
    for i, r in enumerate(all_routes):
        root.add([p for p in r.path.split('/') if p], i, r)
    queue = [root]
    rows.append(root)
    while queue:
        node = queue.pop(0)
        node.first = len(rows)
        kids = [node.children[k] for k in sorted(node.children)]
        node.n = len(kids)
        rows.extend(kids)
        queue.extend(kids)
        if node.param:
            node.param_index = len(rows)
            rows.append(node.param)
            queue.append(node.param)
    return rows


def routes_header(schema):
    body = '#include "gen/route.h"\n\nenum gen_route_id {\n'
    body += ''.join('\t%s, %s\n' % (macro('route', r.name), comment('%s %s' % (r.method, r.path))) for r in routes(schema))
    body += '\tROUTE_MAX\n};\n\nextern const struct gen_route gen_routes[]; /* ROUTE_MAX of them; tests put a longer table in its place */\n\n'
    body += '/* X(ROUTE_PROJECT_GET, project_get) ... for each: for tables of handlers */\n#define GEN_ROUTES(X)'
    body += ''.join(' \\\n\tX(%s, %s)' % (macro('route', r.name), r.name) for r in routes(schema)) + '\n'
    return banner('Routes of the REST API') + guarded('routes', body)


def route_row(schema, r):
    ref = lambda t: '&%s_type' % t.cname if t else 'NULL'
    params = schema.docs['rest']['params']
    row = {
        'id': macro('route', r.name), 'name': string(r.name), 'method': 'GEN_' + r.method, 'path': string(r.path),
        'role': 'GEN_ROLE_' + r.role.upper(), 'query': ref(r.query), 'request': ref(r.request), 'response': ref(r.response),
        'list': ref(r.list), 'result': ref(r.result), 'task': string(r.task), 'content': string(r.content),
        'upload': string(r.upload), 'stream': str(r.stream).lower(), 'websocket': str(r.websocket).lower(),
        'status': r.status, 'n_params': len(r.params), 'help': string(r.help)}
    row['params'] = '{ %s }' % ', '.join('{ %s, &gen_format_%s }' % (string(p), params[p]['format']) for p in r.params)
    if not r.params:
        del row['params']
    return '\t[%s] = { %s },\n' % (macro('route', r.name), ', '.join('.%s = %s' % kv for kv in row.items()))


def routes_source(schema):
    all_routes = routes(schema)
    used = sorted({t.file.name for r in all_routes for t in (r.query, r.request, r.response, r.list, r.result) if t})
    body = '#include "gen/routes.h"\n#include "gen/formats.h"\n' + ''.join('#include "gen/%s.h"\n' % u for u in used)
    body += '\nconst struct gen_route gen_routes[ROUTE_MAX] = {\n' + ''.join(route_row(schema, r) for r in all_routes) + '};\n\n'
    body += 'const struct gen_route_node gen_route_nodes[] = {\n'
    for node in trie(all_routes):
        by = ', '.join('[GEN_%s] = %d' % (m, node.routes[m] + 1) for m in METHODS if m in node.routes)
        body += '\t{ .literal = %s, .first = %d, .n = %d, .param = %d%s },\n' % (
            string(node.literal), node.first, node.n, node.param_index if node.param else 0, ', .routes = { %s }' % by if by else '')
    return banner('Routes of the REST API') + body + '};\n'
