"""TypeScript types of the API, the rules of its fields for forms, and its operations."""

import json

from .c_rest import routes


def value(f):
    if not isinstance(f.base, str):
        return f.base.title
    if f.base in ('integer', 'number', 'size', 'bitrate'):
        return 'number'
    return {'boolean': 'boolean', 'any': 'unknown'}.get(f.base, 'string')


def field_type(f):
    text = value(f)
    return {'list': '%s[]' % text, 'map': 'Record<string, %s>' % text, 'one': text}[f.shape]


def struct(t):
    rows = ''
    for f in t.fields:
        note = f.help + (' [%s]' % f.unit if f.unit else '')
        rows += '  /** %s */\n  %s%s: %s;\n' % (note.replace('*/', '* /'), f.name, '' if f.required else '?', field_type(f))
    return '/** %s */\nexport interface %s {\n%s}\n\n' % (t.help, t.title, rows)


def enum(t):
    return '/** %s */\nexport type %s = %s;\n\n' % (t.help, t.title, ' | '.join(json.dumps(v) for v in t.values))


def rules(f):
    d = {'help': f.help, 'kind': 'object' if f.is_struct else 'enum' if f.is_enum else f.base, 'shape': f.shape}
    if not isinstance(f.base, str):
        d['type'] = f.base.title
    for key, v in (('min', f.min), ('max', f.max), ('unit', f.unit), ('mutable', f.mutable)):
        if v is not None and v != 2**63 - 1:
            d[key] = v
    if f.is_text:
        d['maxLength'] = f.max_length
    if f.shape != 'one':
        d['maxItems'] = f.max_items
    if f.format and f.format.pattern:
        d['pattern'] = f.format.pattern
    if f.required:
        d['required'] = True
    if f.readonly:
        d['readonly'] = True
    if f.has_default:
        d['default'] = f.default
    if f.when:
        d['when'] = {f.when[1].name: f.when[2]}
    return d


def reachable(schema):
    todo = [t for r in routes(schema) for t in (r.query, r.request, r.response, r.list, r.result) if t]
    todo += [schema.types['task'], schema.types['error']]
    seen = set()
    while todo:
        t = todo.pop()
        if t.name not in seen:
            seen.add(t.name)
            todo += t.uses()
    return [t for t in schema.order if t.name in seen]


def operation(r):
    row = {'method': json.dumps(r.method), 'path': json.dumps(r.path), 'role': json.dumps(r.role)}
    if r.params:
        row['params'] = '[%s]' % ', '.join('%s: string' % p for p in r.params)
    if r.query:
        row['query'] = r.query.title
    if r.request:
        row['request'] = 'Patch<%s>' % r.request.title if r.method == 'PATCH' else r.request.title
    row['response'] = ('Task' if r.task else 'List<%s>' % r.list.title if r.list else r.response.title if r.response else
                       'WebSocket' if r.websocket else 'Blob' if r.content else 'void')
    return '  /** %s */\n  %s: { %s };\n' % (r.help, r.name, '; '.join('%s: %s' % kv for kv in row.items()))


def make(schema):
    types = reachable(schema)
    text = '/* Types of the REST API.  Made by tools/schemac; change schema/ instead. */\n\n'
    text += '/** What a list answers; ask again with after=next while there is one. */\nexport interface List<T> {\n  items: T[];\n  next?: string;\n}\n\n'
    text += ('/** A merge patch: null removes, objects merge, lists are replaced. */\nexport type Patch<T> = T extends unknown[] ? T : '
             'T extends object ? { [K in keyof T]?: Patch<T[K]> | null } : T;\n\n')
    text += ''.join(enum(t) if t.kind == 'enum' else struct(t) for t in types)
    text += 'export interface Operations {\n%s}\n\n' % ''.join(operation(r) for r in routes(schema))
    fields = {t.title: {f.name: rules(f) for f in t.fields} for t in types if t.kind == 'struct'}
    values = {t.title: t.values for t in types if t.kind == 'enum'}
    text += '/** Rules of every field, for forms. */\nexport const fields = %s as const;\n\n' % json.dumps(fields, indent=1, ensure_ascii=False)
    text += '/** What the values of every enumeration mean. */\nexport const values = %s as const;\n' % json.dumps(values, indent=1, ensure_ascii=False)
    return text
