"""The command line of schema/cli.json: commands with their flags resolved against the fields that they set."""

import re

from .c_rest import routes
from .model import Field, Type, check_keys, fail

FLAG_KEYS = {
    'name', 'short', 'arg', 'field', 'value', 'help', 'type', 'format', 'max_length', 'values', 'default', 'syntax', 'head',
    'head_else', 'none', 'keys', 'complete'}
COMMAND_KEYS = {'help', 'text', 'object', 'operands', 'flags', 'examples', 'commands', 'route', 'routes', 'planned'}
# Flags that every command made from a route alone knows; others must be fields of the route's query.
GENERIC_FLAGS = {'output', 'format', 'no-headers', 'filter', 'no-wait'}
OPERAND_KEYS = {'name', 'kind', 'field', 'optional', 'repeat', 'rest', 'assign'}
KINDS = (
    'none', 'file', 'instance', 'image', 'kernel', 'volume', 'storage', 'datastore', 'network', 'portgroup', 'firewall', 'host',
    'project', 'token', 'certificate', 'task', 'snapshot', 'device', 'interface')
SYNTAXES = ('kv', 'port', 'mount', 'tmpfs')


class Flag:
    """`target` is the field that it sets, `own` the description of a value that is the command's own."""

    def __init__(self, schema, command, d, where, own_type):
        where = '%s --%s' % (where, d.get('name'))
        check_keys(where, d, FLAG_KEYS)
        if not re.match(r'^[a-z][a-z0-9-]*$', d['name']):
            fail(where, 'bad name')
        self.d, self.where, self.name, self.short = d, where, d['name'], d.get('short')
        self.path, self.value, self.syntax = d.get('field'), d.get('value'), d.get('syntax')
        self.head, self.head_else, self.none = d.get('head'), d.get('head_else'), d.get('none')
        self.keys, self.complete = d.get('keys', {}), d.get('complete')
        self.target = self.own = None
        if self.complete not in KINDS + (None,) or self.syntax not in SYNTAXES + (None,):
            fail(where, 'unknown complete or syntax')
        if self.path:
            self.set_target(schema, command)
        else:
            self.set_own(schema, own_type)
        self.help = d.get('help', self.target.help if self.target else None) or fail(where, 'needs help')
        self.arg = d.get('arg')
        if bool(self.arg) == (self.is_boolean or self.value is not None):
            fail(where, 'switches take no arg, others need one')

    @property
    def field(self):
        return self.target or self.own

    @property
    def is_boolean(self):
        return self.field.base == 'boolean' and self.field.shape == 'one'

    @property
    def repeats(self):
        return self.field.shape != 'one'

    def set_target(self, schema, command):
        if not command.type:
            fail(self.where, 'has a field, but the command has no object')
        self.target = schema.resolve_path(command.type, self.path, self.where)[-1]
        if self.target.is_struct and not self.syntax:
            fail(self.where, 'sets an object: needs a syntax')
        if self.target.is_struct:
            elem = self.target.base
            for path in [self.head, self.head_else] + list(self.keys.values()):
                if path:
                    schema.resolve_path(elem, path, self.where)

    def set_own(self, schema, own_type):
        d = {k: self.d[k] for k in ('format', 'max_length', 'default') if k in self.d}
        d['type'] = self.d.get('type', 'string')
        d['help'] = self.d['help']
        if 'values' in self.d:
            values = Type(own_type.name + '_' + self.name.replace('-', '_'),
                          {'help': 'Values.', 'values': {v: v for v in self.d['values']}}, own_type.file)
            d['type'] = values.name
            schema = OwnTypes(schema, values)
        if d['type'] == 'boolean':
            d['default'] = False
        self.own = Field(schema, own_type, self.name.replace('-', '_'), d, self.where)
        self.own.resolve()


class OwnTypes:
    """The schema with one more type."""

    def __init__(self, schema, extra):
        self.formats, self.schema, self.extra = schema.formats, schema, extra

    def find_type(self, name, where):
        return self.extra if name == self.extra.name else self.schema.find_type(name, where)


class OwnFile:
    name, prefix = 'cli', 'cli_'


class Command:
    def __init__(self, schema, name, d, parent=None):
        cli = schema.docs['cli']
        self.name, self.parent, self.d = name, parent, d
        self.words = (parent.words if parent else []) + ([name] if parent else [])
        self.where = where = 'cli.json: ' + (' '.join(self.words) or name)
        check_keys(where, d, COMMAND_KEYS if parent else COMMAND_KEYS | {'about', 'program', 'titles'})
        self.help, self.text = d['help'], d.get('text')
        self.type = schema.find_type(d['object'], where) if 'object' in d else None
        self.operands = d.get('operands', [])
        self.examples = d.get('examples', [])
        self.cname = 'cli_' + '_'.join([w.replace('-', '_') for w in self.words]) if self.words else 'cli_root'
        self.groups = []  # (title, [flags])
        if 'commands' not in d or not parent:
            self.read_flags(schema, cli, d.get('flags', []) if parent else ['@global'])
            self.check_operands(schema)
        if parent and 'commands' not in d and not self.examples:
            fail(where, 'needs examples')
        self.route = None
        if parent and 'commands' not in d:
            self.read_routes(schema)
        self.commands = [Command(schema, n, c, self) for n, c in d.get('commands', {}).items()]

    def read_flags(self, schema, cli, entries):
        own_type = Type(self.cname, {'help': 'Flags.', 'fields': {}}, OwnFile)
        plain, groups = [], []
        for entry in entries:
            if isinstance(entry, dict):
                plain.append(Flag(schema, self, entry, self.where, own_type))
                continue
            group = entry[1:]
            flags = [Flag(schema, self, d, self.where, own_type) for d in cli['flags'][group]]
            groups.append((cli['titles'][group], flags))
        self.groups = ([('Flags', plain)] if plain else []) + groups
        used = {}
        inherited = [f for t, fs in self.root().groups for f in fs] if self.parent else []
        for f in self.flags() + inherited:
            for key in ('--' + f.name, '-' + f.short if f.short else None):
                if key and key in used:
                    fail(f.where, '%s is there twice' % key)
                used[key] = f

    def read_routes(self, schema):
        """`route`: the command is made from it; `routes`: those that a command written by hand needs."""
        if ('route' in self.d) == ('routes' in self.d):
            fail(self.where, 'needs route, or routes when it is written by hand')
        known = {r.name: r for r in routes(schema)}
        for name in [self.d['route']] if 'route' in self.d else self.d['routes']:
            if name not in known:
                fail(self.where, "unknown route '%s'" % name)
        if 'route' not in self.d:
            return
        r = self.route = known[self.d['route']]
        if self.type and self.type not in (r.request, r.query):
            fail(self.where, 'its object is neither the body nor the query of %s' % r.name)
        if len(r.params) > len([o for o in self.operands if not o.get('field')]) or r.websocket or r.upload:
            fail(self.where, '%s cannot be called by operands and flags alone' % r.name)
        fields = {f.name for f in r.query.fields} if r.query else set()
        for f in self.flags():
            if f.own and f.name not in GENERIC_FLAGS and f.name.replace('-', '_') not in fields:
                fail(f.where, 'is no field of the query of %s' % r.name)

    def root(self):
        return self.parent.root() if self.parent else self

    def flags(self):
        return [f for _, fs in self.groups for f in fs]

    def check_operands(self, schema):
        for i, o in enumerate(self.operands):
            check_keys(self.where, o, OPERAND_KEYS)
            if o['kind'] not in KINDS:
                fail(self.where, "unknown kind '%s'" % o['kind'])
            if o.get('field'):
                schema.resolve_path(self.type, o['field'], self.where)
            if (o.get('rest') or o.get('assign')) and i != len(self.operands) - 1:
                fail(self.where, 'only the last operand can be the rest')

    def usage(self):
        text = ' '.join(['strata'] + self.words)
        if self.commands:
            return text + ' COMMAND'
        text += ' [FLAGS]' if self.flags() else ''
        for o in self.operands:
            word = o['name'] + ('...' if o.get('repeat') or o.get('rest') or o.get('assign') else '')
            text += ' [%s]' % word if o.get('optional') else ' ' + word
        return text

    def walk(self):
        yield self
        for c in self.commands:
            yield from c.walk()


def load(schema):
    cli = schema.docs['cli']
    d = {k: v for k, v in cli.items() if k not in ('flags', 'columns')}
    return Command(schema, cli['program'], d)


class Column:
    """A column of a table: `path` as it is in the JSON."""

    def __init__(self, schema, t, name, path):
        where = 'cli.json: columns: %s.%s' % (t.name, name)
        chain = schema.resolve_path(t, path, where)
        self.wide, self.name = name.startswith('+'), name.lstrip('+')
        self.path, self.field = '.'.join(f.name for f in chain), chain[-1]


def columns(schema):
    """Type → columns, for every type that a route lists."""
    given, result = schema.docs['cli']['columns'], {}
    for name, rows in given.items():
        t = schema.find_type(name, 'cli.json: columns')
        result[t] = [Column(schema, t, n, p) for n, p in rows.items()]
    for r in routes(schema):
        if r.list and r.list not in result:
            fail('cli.json: columns', "none for '%s', which %s lists" % (r.list.name, r.name))
    return result


def flag_help(flag):
    """Help with the values and the default that a person may want to know."""
    f, text = flag.field, flag.help
    if f.is_enum and flag.value is None:
        text += ': ' + ', '.join(f.base.values)
    if f.unit:
        text += ' [%s]' % f.unit
    if f.has_default and flag.value is None and not flag.is_boolean:
        text += ' (default %s)' % f.default
    elif flag.is_boolean and f.has_default and f.default and flag.value is None:
        text += ' (default on; --no-%s)' % flag.name
    return text
