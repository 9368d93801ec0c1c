"""The schema as Python objects: read, checked, names resolved.  docs/internals/schema.md describes the dialect."""

import json
import os
import re
from datetime import datetime

from .pattern import Automaton, PatternError

SCALARS = ('string', 'secret', 'integer', 'number', 'boolean', 'size', 'bitrate', 'duration', 'time', 'any')
MUTABLE = ('always', 'stopped', 'never')
FIELD_KEYS = {
    'type', 'help', 'unit', 'default', 'min', 'max', 'min_length', 'max_length', 'format', 'min_items', 'max_items', 'key',
    'required', 'optional', 'readonly', 'conflict', 'mutable', 'when', 'at_most', 'at_least', 'since', 'example'}
TYPE_KEYS = {'help', 'fields', 'values', 'resource', 'path', 'mutable', 'since'}
MAX_FIELDS = 64  # presence is a 64-bit set while parsing
DEFAULT_MAX_LENGTH = 255
DEFAULT_MAX_ITEMS = 64
FIRST_VERSION = '0.1'
INT64_MAX = 2**63 - 1
C_WORDS = set('''auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while bool'''.split())


class SchemaError(Exception):
    pass


def fail(where, text):
    raise SchemaError('%s: %s' % (where, text))


def check_keys(where, d, known):
    for key in d:
        if key not in known:
            fail(where, "unknown attribute '%s'" % key)


def parse_size(text, base=1024, units='KMGTP'):
    m = re.match(r'^([0-9]+)([%s]?)$' % units, text)
    if not m:
        raise ValueError(text)
    return int(m.group(1)) * base ** (units.index(m.group(2)) + 1 if m.group(2) else 0)


DURATIONS = (('d', 86400 * 10**9), ('h', 3600 * 10**9), ('m', 60 * 10**9), ('s', 10**9), ('ms', 10**6), ('us', 10**3), ('ns', 1))


def parse_duration(text):
    m = re.match(r'^([0-9]+)([a-z]+)$', text)
    units = dict(DURATIONS)
    if not m or m.group(2) not in units:
        raise ValueError(text)
    return int(m.group(1)) * units[m.group(2)]


def show_scaled(n, base, units):
    """1073741824 → '1G', exactly."""
    unit = 0
    while unit < len(units) and n and n % base == 0:
        n //= base
        unit += 1
    return '%d%s' % (n, ([''] + list(units))[unit])


def show_duration(n):
    if n == 0:
        return '0s'
    for name, unit in DURATIONS:
        if n % unit == 0:
            return '%d%s' % (n // unit, name)


class Format:
    def __init__(self, name, d):
        where = 'formats.json: ' + name
        check_keys(where, d, {'pattern', 'check', 'max_length', 'help', 'examples', 'bad'})
        self.name, self.help, self.max_length = name, d['help'], d['max_length']
        self.pattern, self.check = d.get('pattern'), d.get('check')
        self.examples, self.bad = d['examples'], d['bad']
        if bool(self.pattern) == bool(self.check):
            fail(where, 'needs pattern or check, and not both')
        if not self.pattern:
            return
        try:
            self.automaton = Automaton(self.pattern)
        except PatternError as e:
            fail(where, e)
        for text in self.examples:
            if not self.automaton.matches(text) or len(text) > self.max_length:
                fail(where, "example '%s' does not fit" % text)
        for text in self.bad:
            if self.automaton.matches(text) and len(text) <= self.max_length:
                fail(where, "bad example '%s' fits" % text)


class Field:
    """One field of a struct type.  `base` is a scalar's name or a Type; `shape` is one, list or map."""

    def __init__(self, schema, owner, name, d, where):
        check_keys(where, d, FIELD_KEYS)
        if not re.match(r'^[a-z][a-z0-9_]*$', name):
            fail(where, 'field names are lower_case')
        self.owner, self.name, self.d, self.where = owner, name, d, where
        self.cname = name + '_' if name in C_WORDS else name
        text = d['type']
        self.shape = {'[]': 'list', '{}': 'map'}.get(text[-2:], 'one')
        self.type_name = text if self.shape == 'one' else text[:-2]
        self.base = self.type_name if self.type_name in SCALARS else schema.find_type(self.type_name, where)
        self.help = d.get('help') or fail(where, 'needs help')
        first = self.help.split()[0]
        if self.help[-1] == '.' or re.match(r'^[A-Z][a-z]+$', first) and first not in PROPER:
            fail(where, "help begins in lower case and has no final stop: '%s'" % self.help)
        self.unit, self.since = d.get('unit'), d.get('since', owner.since)
        self.required, self.readonly, self.conflict = (bool(d.get(k)) for k in ('required', 'readonly', 'conflict'))
        self.mutable = d.get('mutable', owner.mutable)
        if self.mutable not in MUTABLE + (None,):
            fail(where, "mutable is one of %s" % ', '.join(MUTABLE))
        self.hidden = self.status = False
        self.min_items, self.max_items = d.get('min_items', 0), d.get('max_items', DEFAULT_MAX_ITEMS)
        if self.shape == 'map' and self.base != 'string':
            fail(where, 'maps hold strings')
        self.read_optional(d)
        self.read_text(schema, d)
        self.read_numbers(d)
        self.read_default(d)

    # -- kinds --

    @property
    def is_struct(self):
        return isinstance(self.base, Type) and self.base.kind == 'struct'

    @property
    def is_enum(self):
        return isinstance(self.base, Type) and self.base.kind == 'enum'

    @property
    def is_text(self):
        return self.base in ('string', 'secret')

    @property
    def is_number(self):
        return self.base in ('integer', 'number', 'size', 'bitrate', 'duration', 'time')

    @property
    def pointer(self):
        """An optional object is a pointer in C."""
        return self.is_struct and self.shape == 'one' and self.optional

    @property
    def embedded(self):
        return self.is_struct and self.shape == 'one' and not self.optional

    @property
    def has_flag(self):
        """Does a `bool has_x` stand beside it in C?"""
        if self.shape != 'one':
            return self.optional
        return not (self.is_struct or self.is_text or self.base == 'any' or self.required or self.has_default)

    @property
    def has_default(self):
        return self.default is not None

    def read_optional(self, d):
        self.optional = bool(d.get('optional'))
        if self.optional and not (self.is_struct or self.shape == 'list'):
            fail(self.where, "'optional' is for objects and lists: other fields are optional unless required or with a default")
        if self.optional and self.required:
            fail(self.where, 'required and optional')

    def read_text(self, schema, d):
        self.format = None
        if 'format' in d:
            if self.base != 'string':
                fail(self.where, 'format is for strings')
            self.format = schema.formats.get(d['format']) or fail(self.where, "unknown format '%s'" % d['format'])
        limit = self.format.max_length if self.format and self.shape != 'map' else DEFAULT_MAX_LENGTH
        self.min_length, self.max_length = d.get('min_length', 0), d.get('max_length', limit)
        if not self.is_text and ('max_length' in d or 'min_length' in d):
            fail(self.where, 'lengths are for strings')

    # -- numbers --

    def number(self, v, what):
        """A bound or default as the number that C holds."""
        try:
            if self.base == 'size':
                return v if isinstance(v, int) else parse_size(v)
            if self.base == 'bitrate':
                return v if isinstance(v, int) else parse_size(v, 1000, 'kMGT')
            if self.base == 'duration':
                return parse_duration(v)
            if self.base == 'time':
                return int(datetime.fromisoformat(v.replace('Z', '+00:00')).timestamp()) * 10**9
            if self.base == 'number' and isinstance(v, (int, float)):
                return float(v)
            if self.base == 'integer' and isinstance(v, int):
                return v
        except (ValueError, AttributeError):
            pass
        fail(self.where, '%s: %r is not a %s' % (what, v, self.base))

    def read_numbers(self, d):
        self.min = self.max = None
        for what in ('min', 'max'):
            if what in d:
                if not self.is_number:
                    fail(self.where, '%s is for numbers' % what)
                setattr(self, what, self.number(d[what], what))
        if self.base in ('size', 'bitrate', 'duration', 'time') and self.min is None:
            self.min = 0
        if self.base == 'size' and self.max is None:
            self.max = INT64_MAX
        if self.min is not None and self.max is not None and self.min > self.max:
            fail(self.where, 'min is above max')
        self.unsigned = self.base == 'integer' and self.min is not None and self.min >= 0

    def read_default(self, d):
        self.default = d.get('default')
        if self.default is None:
            return
        if self.required or self.shape != 'one' or self.is_struct or self.base == 'any':
            fail(self.where, 'cannot have a default')
        if self.is_number:
            self.default_number = self.number(self.default, 'default')
            if (self.min is not None and self.default_number < self.min) or (self.max is not None and self.default_number > self.max):
                fail(self.where, 'the default is out of range')
        elif self.is_enum:
            if self.default not in self.base.values:
                fail(self.where, "the default '%s' is not a value of %s" % (self.default, self.base.name))
        elif self.base == 'boolean':
            if not isinstance(self.default, bool):
                fail(self.where, 'the default is not a boolean')
        elif len(self.default) > self.max_length or (
                self.format and self.format.pattern and not self.format.automaton.matches(self.default)):
            fail(self.where, 'the default breaks the rules')

    def show(self, n):
        """A number in the field's own form: 1G, 30s."""
        if self.base == 'size':
            return show_scaled(n, 1024, 'KMGTP')
        if self.base == 'bitrate':
            return show_scaled(n, 1000, 'kMGT')
        if self.base == 'duration':
            return show_duration(n)
        return '%g' % n if isinstance(n, float) else str(n)

    # -- references to siblings, once all fields of the type are there --

    def sibling(self, name, what):
        for i, f in enumerate(self.owner.fields):
            if f.name == name:
                return i, f
        fail(self.where, "%s: no field '%s' beside it" % (what, name))

    def resolve(self):
        d = self.d
        self.when = self.at_most = self.at_least = self.key = None
        if 'when' in d:
            name, _, value = d['when'].partition('=')
            i, cond = self.sibling(name, 'when')
            if cond.has_flag or cond.shape != 'one' or not (cond.is_enum or cond.base == 'boolean'):
                fail(self.where, "when: '%s' must be an enum or boolean that is always there" % name)
            if cond.is_enum and value not in cond.base.values or cond.base == 'boolean' and value not in ('true', 'false'):
                fail(self.where, "when: '%s' has no value '%s'" % (name, value))
            number = list(cond.base.values).index(value) if cond.is_enum else int(value == 'true')
            self.when = (i, cond, value, number)
        for what in ('at_most', 'at_least'):
            if what in d:
                i, other = self.sibling(d[what], what)
                if not self.is_number or other.base != self.base or self.base == 'number' or self.shape != 'one':
                    fail(self.where, '%s: two numbers of one kind' % what)
                setattr(self, what, (i, other))
        if 'key' in d:
            if self.shape != 'list' or not self.is_struct:
                fail(self.where, 'key is for lists of objects')
            for i, f in enumerate(self.base.fields):
                if f.name == d['key'] and f.is_text and f.shape == 'one':
                    self.key = (i, f)
            if not self.key:
                fail(self.where, "key: %s has no text field '%s'" % (self.base.name, d['key']))
        if self.embedded and not self.required and not self.status:
            for f in self.base.fields:
                if f.required:
                    fail(self.where, "is always there, but %s.%s is required: make it optional" % (self.base.name, f.name))


PROPER = {'Strata', 'Linux'}  # capitals that a help text may begin with


class Type:
    """A struct or an enum."""

    def __init__(self, name, d, file):
        where = '%s.json: %s' % (file.name, name)
        check_keys(where, d, TYPE_KEYS)
        if not re.match(r'^[a-z][a-z0-9_]*$', name):
            fail(where, 'type names are lower_case')
        self.name, self.d, self.file, self.where = name, d, file, where
        self.help = d.get('help') or fail(where, 'needs help')
        if self.help[-1] != '.':
            fail(where, 'help of a type is a sentence')
        self.cname = file.prefix + name
        self.since = d.get('since', FIRST_VERSION)
        self.mutable = d.get('mutable')
        self.resource = d.get('resource')
        self.kind = 'enum' if 'values' in d else 'struct'
        self.path = d.get('path', name)
        self.values = d.get('values', {})
        self.fields = []
        self.title = ''.join(part.capitalize() for part in name.split('_'))
        if self.title in ('Vm',):
            self.title = 'VmConfig'
        if ('fields' in d) + ('values' in d) + ('resource' in d) != 1:
            fail(where, 'needs fields, values or resource')

    def read(self, schema):
        if self.kind == 'enum':
            for value, help_text in self.values.items():
                if not re.match(r'^[a-z0-9][a-z0-9_.-]*$', value) or not help_text:
                    fail(self.where, "bad value '%s'" % value)
            return
        fields = dict(self.d.get('fields', {}))
        if self.resource:
            fields = dict(schema.find_type(self.resource['meta'], self.where).d['fields'])
            fields['spec'] = {'type': self.resource['spec'], 'help': 'what is wanted'}
            fields['status'] = {'type': self.resource['status'], 'help': 'what is', 'readonly': False}
        for name, d in fields.items():
            f = Field(schema, self, name, d, '%s.%s' % (self.where, name))
            if self.resource and name == 'spec':
                f.hidden = True
                f.mutable = f.base.mutable
            if self.resource and name == 'status':
                f.status = True
            self.fields.append(f)
        if len(self.fields) > MAX_FIELDS:
            fail(self.where, 'more than %d fields' % MAX_FIELDS)

    def field(self, name):
        for f in self.fields:
            if f.name == name:
                return f
        return None

    def uses(self):
        return [f.base for f in self.fields if isinstance(f.base, Type)]


class File:
    def __init__(self, name, d):
        self.name, self.d = name, d
        self.prefix = d.get('prefix', 'api_')
        self.about = d.get('about') or fail(name + '.json', "needs 'about'")
        self.types = []


SPECIAL = ('formats', 'errors', 'cli')  # files without types


def drop_planned(docs):
    """Routes that nothing serves yet, and commands that need one of them, are not there for anybody."""
    routes = docs['rest']['routes']
    for name in [n for n, d in routes.items() if d.get('planned')]:
        del routes[name]

    def keep(command):
        if 'commands' in command:
            command['commands'] = {n: c for n, c in command['commands'].items() if keep(c)}
            return bool(command['commands'])
        needed = [command['route']] if 'route' in command else command.get('routes', [])
        return not command.get('planned') and all(r in routes for r in needed)

    keep(docs['cli'])


class Schema:
    """With `planned`: also what is designed but not served yet."""

    def __init__(self, folder, planned=False):
        self.files, self.types, self.formats = [], {}, {}
        self.docs = {}
        for entry in sorted(os.listdir(folder)):
            if not entry.endswith('.json'):
                continue
            path = os.path.join(folder, entry)
            with open(path, encoding='utf-8') as f:
                try:
                    self.docs[entry[:-5]] = json.load(f, object_pairs_hook=no_duplicates)
                except ValueError as e:
                    fail(path, e)
        if not planned:
            drop_planned(self.docs)
        for name, d in self.docs['formats']['formats'].items():
            self.formats[name] = Format(name, d)
        for name, d in self.docs.items():
            if name not in SPECIAL:
                self.add_file(File(name, d))
        for t in self.types.values():
            t.read(self)
        for t in self.types.values():
            for f in t.fields:
                f.resolve()
        self.order = self.sort_types()
        self.check_resources()

    def add_file(self, file):
        self.files.append(file)
        check_keys(file.name + '.json', file.d, {'about', 'prefix', 'types', 'base', 'params', 'routes', 'tags'})
        for name, d in file.d.get('types', {}).items():
            if name in self.types:
                fail(file.name + '.json', "type '%s' is in %s.json too" % (name, self.types[name].file.name))
            t = Type(name, d, file)
            self.types[name] = t
            file.types.append(t)

    def find_type(self, name, where):
        return self.types.get(name) or fail(where, "unknown type '%s'" % name)

    def sort_types(self):
        """Types after the types that they hold; a circle is an error."""
        order, state = [], {}

        def visit(t, trail):
            if state.get(t.name) == 'done':
                return
            if state.get(t.name):
                fail(t.where, 'holds itself: %s' % ' → '.join(trail + [t.name]))
            state[t.name] = 'open'
            for used in t.uses():
                visit(used, trail + [t.name])
            state[t.name] = 'done'
            order.append(t)

        for t in self.types.values():
            visit(t, [])
        return order

    def check_resources(self):
        for t in self.types.values():
            if not t.resource:
                continue
            spec, top = t.field('spec').base, {f.name for f in t.fields}
            for f in spec.fields:
                if f.name in top:
                    fail(f.where, 'messages leave spec out, so its fields cannot be named like those of every object')

    def resolve_path(self, t, path, where):
        """The fields along 'cpu.count' from type t; resources may leave spec out."""
        chain = []
        for part in path.split('.'):
            f = t.field(part)
            if not f and t.resource:
                chain.append(t.field('spec'))
                f = t.field('spec').base.field(part)
            if not f:
                fail(where, "%s has no field '%s'" % (t.name, part))
            chain.append(f)
            t = f.base
        return chain


def no_duplicates(pairs):
    d = {}
    for key, value in pairs:
        if key in d:
            raise ValueError("'%s' is there twice" % key)
        d[key] = value
    return d
