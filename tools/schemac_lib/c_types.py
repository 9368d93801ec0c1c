"""C structs, enums and the tables that src/gen/object.c and its neighbours work with."""

from .c_text import banner, byte_table, comment, guarded, macro, number, string

C_SCALARS = {
    'string': 'char *', 'secret': 'char *', 'number': 'double ', 'boolean': 'bool ', 'size': 'uint64_t ',
    'bitrate': 'uint64_t ', 'duration': 'nsec_t ', 'time': 'nsec_t ', 'any': 'struct json *'}
KINDS = {
    'string': 'STRING', 'secret': 'SECRET', 'number': 'REAL', 'boolean': 'BOOL', 'size': 'SIZE', 'bitrate': 'BITRATE',
    'duration': 'DURATION', 'time': 'TIME', 'any': 'ANY'}


def value_type(f):
    """The C type of one value of f, ready for a name behind it."""
    if f.is_struct:
        return 'struct %s ' % f.base.cname
    if f.is_enum:
        return 'enum %s ' % f.base.cname
    if f.base == 'integer':
        return 'uint64_t ' if f.unsigned else 'int64_t '
    return C_SCALARS[f.base]


def note(f):
    """What stands beside a member: meaning, unit, bounds."""
    text = f.help
    if f.unit or f.base == 'bitrate':
        text += ' [%s]' % (f.unit or 'bit/s')
    if f.min is not None and f.max is not None and f.base == 'integer':
        text += ' %d..%d' % (f.min, f.max)
    if f.when:
        text += '; when %s=%s' % (f.when[1].name, f.when[2])
    return comment(text)


def member(f):
    if f.shape == 'list':
        text = 'VEC(%s) %s;' % (value_type(f).strip(), f.cname)
    elif f.shape == 'map':
        text = 'struct gen_map %s;' % f.cname
    elif f.pointer:
        text = 'struct %s *%s;' % (f.base.cname, f.cname)
    else:
        text = '%s%s;' % (value_type(f), f.cname)
    return '\t%s %s\n' % (text, note(f)) + ('\tbool has_%s;\n' % f.name if f.has_flag else '')


def enum_constant(t, value):
    return macro(t.cname, value)


def declare_enum(t):
    rows = ''.join('\t%s, %s\n' % (enum_constant(t, v), comment(h)) for v, h in t.values.items())
    return ('%s\nenum %s {\n%s};\nextern const struct gen_enum %s_enum;\n'
            'static inline const char *%s_str(enum %s v)\n{\n\treturn %s_enum.names[v];\n}\n\n' % (
                comment(t.help), t.cname, rows, t.cname, t.cname, t.cname, t.cname))


def declare_struct(t):
    members = ''.join(member(f) for f in t.fields)
    return '%s\nstruct %s {\n%s};\nGEN_DECLARE(%s);\n\n' % (comment(t.help), t.cname, members, t.cname)


def header(schema, file):
    types = [t for t in schema.order if t.file is file]
    others = sorted({u.file.name for t in types for u in t.uses() if u.file is not file})
    body = '#include "gen/object.h"\n' + ''.join('#include "gen/%s.h"\n' % o for o in others) + '\n'
    body += ''.join(declare_enum(t) if t.kind == 'enum' else declare_struct(t) for t in types)
    return banner(file.about) + guarded(file.name, body)


def flags(f):
    names = {
        'REQUIRED': f.required, 'READONLY': f.readonly, 'CONFLICT': f.conflict, 'POINTER': f.pointer,
        'DEFAULT': f.has_default, 'HIDDEN': f.hidden, 'STATUS': f.status, 'MIN': f.min is not None, 'MAX': f.max is not None}
    return ' | '.join('GEN_F_' + n for n, on in names.items() if on) or '0'


def kind(f):
    if f.is_struct:
        return 'GEN_OBJECT'
    if f.is_enum:
        return 'GEN_ENUM'
    if f.base == 'integer':
        return 'GEN_UINT' if f.unsigned else 'GEN_INT'
    return 'GEN_' + KINDS[f.base]


def default_of(f):
    if not f.has_default:
        return {}
    if f.base == 'number':
        return {'rdef': repr(f.default_number)}
    if f.is_number:
        return {'def': number(f.default_number)}
    if f.is_enum:
        return {'def': str(list(f.base.values).index(f.default))}
    if f.base == 'boolean':
        return {'def': str(int(f.default))}
    return {'sdef': string(f.default)}


def bounds_of(f):
    real = f.base == 'number'
    return {('r' if real else '') + what: repr(v) if real else number(v)
            for what, v in (('min', f.min), ('max', f.max)) if v is not None}


def field_row(f, struct=None):
    """struct: the C type that offsets are in; None for flags of commands, which have no struct."""
    key = '"%s":' % f.name
    row = {
        'name': string(f.name), 'key': string(key), 'key_len': len(key), 'flags': flags(f), 'kind': kind(f),
        'shape': 'GEN_' + f.shape.upper(), 'mutable_': 'GEN_' + (f.mutable or 'inherit').upper(),
        'when': f.when[0] if f.when else -1, 'at_most': f.at_most[0] if f.at_most else -1,
        'at_least': f.at_least[0] if f.at_least else -1, 'list_key': f.key[0] if f.key else -1,
        'has': 'offsetof(struct %s, has_%s)' % (struct, f.name) if struct and f.has_flag else 'GEN_NO_HAS'}
    if struct:
        row['offset'] = 'offsetof(struct %s, %s)' % (struct, f.cname)
    if f.when:
        row['when_value'] = f.when[3]
    if f.is_text:
        row['min_len'], row['max_len'] = f.min_length, f.max_length
    if f.shape != 'one':
        row['min_items'], row['max_items'] = f.min_items, f.max_items
    row.update(bounds_of(f))
    row.update(default_of(f))
    if f.is_struct:
        row['type'] = '&%s_type' % f.base.cname
    if f.is_enum:
        row['values'] = '&%s_enum' % f.base.cname
    if f.format:
        row['format'] = '&gen_format_%s' % f.format.name
    row['help'] = string(f.help)
    if f.unit:
        row['unit'] = string(f.unit)
    row['since'] = string(f.since)
    return '{ %s }' % ', '.join('.%s = %s' % kv for kv in row.items())


def enum_table(cname, name, values):
    names = ', '.join(string(v) for v in values)
    helps = ', '.join(string(h) for h in values.values())
    return ('static const char *const %s_names[] = { %s, NULL };\nstatic const char *const %s_helps[] = { %s, NULL };\n'
            'const struct gen_enum %s_enum = { .name = %s, .names = %s_names, .helps = %s_helps, .n = %d };\n\n' % (
                cname, names, cname, helps, cname, string(name), cname, cname, len(values)))


def struct_table(t):
    rows = ''.join('\t%s,\n' % field_row(f, t.cname) for f in t.fields)
    return ('const struct gen_field %s_fields[] = {\n%s};\nconst struct gen_type %s_type = {\n\t.name = %s, .path = %s, '
            '.help = %s,\n\t.size = sizeof(struct %s), .fields = %s_fields, .n = %d, .resource = %s,\n};\n'
            '_Static_assert(sizeof(struct %s) < GEN_NO_HAS, "offsets are 16 bits wide");\n\n' % (
                t.cname, rows, t.cname, string(t.name), string(t.path), string(t.help), t.cname, t.cname, len(t.fields),
                'true' if t.resource else 'false', t.cname))


def source(schema, file):
    body = '#include "gen/%s.h"\n#include "gen/formats.h"\n\n' % file.name
    for t in schema.order:
        if t.file is file:
            body += enum_table(t.cname, t.name, t.values) if t.kind == 'enum' else struct_table(t)
    return banner(file.about) + body


def formats_header(schema):
    body = '#include "gen/object.h"\n\n'
    body += ''.join('extern const struct gen_format gen_format_%s; %s\n' % (n, comment(f.help)) for n, f in schema.formats.items())
    body += '\nextern const struct gen_format *const gen_formats[]; /* all, then NULL */\n'
    return banner('Shapes of text') + guarded('formats', body)


def format_table(f):
    head = '\t.name = %s, .help = %s, .max_len = %d,\n' % (string(f.name), string(f.help), f.max_length)
    if f.check:
        return 'const struct gen_format gen_format_%s = {\n%s\t.check = gen_check_%s,\n};\n\n' % (f.name, head, f.check)
    a, tables = f.automaton, ''
    for what, values in (('classes', a.class_of), ('next', [t for row in a.next for t in row]), ('accept', [int(x) for x in a.accept])):
        tables += 'static const uint8_t %s_%s[] = {\n%s};\n' % (f.name, what, byte_table(values))
    return '%s\n%sconst struct gen_format gen_format_%s = {\n%s\t.classes = %s_classes, .next = %s_next, .accept = %s_accept, .n_classes = %d,\n};\n\n' % (
        comment(f.pattern), tables, f.name, head, f.name, f.name, f.name, len(a.next[0]))


def formats_source(schema):
    body = '#include "gen/formats.h"\n#include "gen/format.h"\n\n' + ''.join(format_table(f) for f in schema.formats.values())
    body += 'const struct gen_format *const gen_formats[] = {\n%s\tNULL,\n};\n' % ''.join(
        '\t&gen_format_%s,\n' % n for n in schema.formats)
    return banner('Shapes of text') + body


def all_header(schema):
    body = ''.join('#include "gen/%s.h"\n' % f.name for f in schema.files if f.types)
    body += '\nextern const struct gen_type *const gen_types[]; /* all, then NULL */\n'
    return banner('Every type of the schema') + guarded('types', body)


def all_source(schema):
    rows = ''.join('\t&%s_type,\n' % t.cname for t in schema.order if t.kind == 'struct')
    return banner('Every type of the schema') + '#include "gen/types.h"\n\nconst struct gen_type *const gen_types[] = {\n%s\tNULL,\n};\n' % rows
