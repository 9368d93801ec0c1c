"""C tables of the command line."""

from . import cli
from .c_text import banner, guarded, macro, string
from .c_types import enum_table, field_row, kind


def field_ref(flag):
    if flag.own:
        return '&%s_values[%d]' % (flag.command.cname, flag.own_index)
    f = flag.target
    return '&%s_fields[%d]' % (f.owner.cname, f.owner.fields.index(f))


def flag_row(flag):
    row = {'name': string(flag.name), 'help': string(cli.flag_help(flag))}
    if flag.short:
        row['letter'] = "'%s'" % flag.short
    for what in ('arg', 'path', 'value', 'head', 'head_else', 'none', 'complete'):
        if getattr(flag, what) is not None:
            row[what] = string(getattr(flag, what))
    if flag.syntax:
        row['syntax'] = 'GEN_SYNTAX_' + flag.syntax.upper()
    if flag.keys:
        row['keys'] = '(const char *const[]){ %s, NULL }' % ', '.join('%s, %s' % (string(k), string(v)) for k, v in flag.keys.items())
    return ', '.join('.%s = %s' % kv for kv in row.items())


def operand_row(o):
    row = {'name': string(o['name']), 'kind': string(o['kind'])}
    if o.get('field'):
        row['path'] = string(o['field'])
    for what in ('optional', 'repeat', 'rest', 'assign'):
        if o.get(what):
            row[what] = 'true'
    return ', '.join('.%s = %s' % kv for kv in row.items())


def own_values(c):
    own = [f for f in c.flags() if f.own]
    enums = ''
    for i, f in enumerate(own):
        f.own_index = i
        if f.own.is_enum:
            enums += enum_table(f.own.base.cname, f.own.name, f.own.base.values).replace('const struct gen_enum', 'static const struct gen_enum')
    if not own:
        return ''
    return enums + 'static const struct gen_field %s_values[] = {\n%s};\n' % (c.cname, ''.join('\t%s,\n' % field_row(f.own) for f in own))


def command_table(c):
    text = own_values(c)
    groups, examples, operands = '', '', ''
    for i, (title, flags) in enumerate(c.groups):
        rows = ''.join('\t{ %s, .field = %s },\n' % (flag_row(f), field_ref(f)) for f in flags)
        text += 'static const struct gen_flag %s_flags%d[] = {\n%s};\n' % (c.cname, i, rows)
        groups += '\t{ %s, %s_flags%d, %d },\n' % (string(title), c.cname, i, len(flags))
    if groups:
        text += 'static const struct gen_flag_group %s_groups[] = {\n%s};\n' % (c.cname, groups)
    for o in c.operands:
        operands += '\t{ %s },\n' % operand_row(o)
    if operands:
        text += 'static const struct gen_operand %s_operands[] = {\n%s};\n' % (c.cname, operands)
    for command, what in c.examples:
        examples += '\t{ %s, %s },\n' % (string(command), string(what))
    if examples:
        text += 'static const struct gen_example %s_examples[] = {\n%s};\n' % (c.cname, examples)
    for sub in c.commands:
        text += command_table(sub)
    if c.commands:
        rows = ''.join('\t{ %s },\n' % command_row(sub) for sub in c.commands)
        text += 'static const struct gen_command %s_commands[] = {\n%s};\n' % (c.cname, rows)
    return text


def command_row(c):
    row = {'name': string(c.name), 'words': string(' '.join(c.words)), 'usage': string(c.usage()), 'help': string(c.help)}
    if c.route:
        row['route'] = '&gen_routes[%s]' % macro('route', c.route.name)
    elif c.parent and not c.commands:
        row['hand'] = hand(c)
    if c.text:
        row['text'] = string(c.text)
    if c.type:
        row['type'] = '&%s_type' % c.type.cname
    for what, items in (('groups', c.groups), ('operands', c.operands), ('examples', c.examples), ('commands', c.commands)):
        if items:
            row[what] = '%s_%s' % (c.cname, what)
            row['n_' + what] = len(items)
    return ', '.join('.%s = %s' % kv for kv in row.items())


def hand(c):
    return macro('cli', *c.words)


def by_hand(root):
    return [c for c in root.walk() if c.parent and not c.commands and not c.route]


def header(schema):
    cs = by_hand(cli.load(schema))
    body = '#include "gen/command.h"\n\n/* Commands that no route alone makes. */\nenum cli_hand {\n\tCLI_BY_ROUTE,\n'
    body += ''.join('\t%s,\n' % hand(c) for c in cs) + '\tCLI_HANDS,\n};\n\n'
    body += '/* X(CLI_RUN, run) ... for each of them: for tables of functions */\n#define CLI_HAND_TABLE(X)'
    body += ''.join(' \\\n\tX(%s, %s)' % (hand(c), '_'.join(c.words).replace('-', '_')) for c in cs)
    body += '\n\nextern const struct gen_command cli_root;\nextern const struct gen_columns cli_columns[]; /* by type; ends with type NULL */\n'
    return banner('The command line of strata') + guarded('cli', body)


def columns_text(tables):
    text, index = '', ''
    for t, columns in tables.items():
        rows = ''.join('\t{ %s, %s, %s, %s },\n' % (string(c.name), string(c.path), kind(c.field), 'true' if c.wide else 'false') for c in columns)
        text += 'static const struct gen_column %s_columns[] = {\n%s};\n' % (t.cname, rows)
        index += '\t{ &%s_type, %s_columns, %d },\n' % (t.cname, t.cname, len(columns))
    return text + '\nconst struct gen_columns cli_columns[] = {\n%s\t{ NULL, NULL, 0 },\n};\n\n' % index


def source(schema):
    root, tables = cli.load(schema), cli.columns(schema)
    for c in root.walk():
        for f in c.flags():
            f.command = c
    types = {f.target.owner for c in root.walk() for f in c.flags() if f.target} | {c.type for c in root.walk() if c.type} | set(tables)
    body = '#include "gen/cli.h"\n#include "gen/formats.h"\n#include "gen/routes.h"\n'
    body += ''.join('#include "gen/%s.h"\n' % n for n in sorted({t.file.name for t in types}))
    body += '\n' + columns_text(tables) + '/* Flags that set fields point to the tables of those fields. */\n' + command_table(root)
    body += 'const struct gen_command cli_root = {\n\t%s\n};\n' % command_row(root)
    return banner('The command line of strata') + body
