"""Man pages of the command line and of the configuration file, in man(7)."""

from . import cli

DATE = '2026-11-21'


def escape(text):
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return '\n'.join('\\&' + line if line[:1] in ".'" else line for line in text.split('\n'))


def sentence(text):
    return escape(text[:1].upper() + text[1:]) + '.'


def title(name, section):
    return '.\\" Made by tools/schemac; change schema/ instead.\n.TH %s %d "%s" "Strata" "Strata manual"\n.ad l\n.nh\n' % (
        escape(name.upper()), section, DATE)


def tagged(tag, text):
    return '.TP\n%s\n%s\n' % (tag, escape(text))


def flag(f):
    names = ['\\-' + f.short] if f.short else []
    names.append('\\-\\-' + escape(f.name))
    tag = '.B ' + names[0] if len(names) == 1 else '.BR %s ", " %s' % tuple(names)
    if f.arg:
        tag = '.BI "%s " "%s"' % (', '.join(names), escape(f.arg))
    return tagged(tag, cli.flag_help(f))


def groups(groups, heading='.SS'):
    text = ''
    for name, flags in groups:
        text += '%s %s\n' % (heading, escape(name)) + ''.join(flag(f) for f in flags)
    return text


def synopsis(c):
    words = ['strata'] + c.words
    text = '.B %s\n' % escape(' '.join(words))
    rest = c.usage()[len(' '.join(words)):].strip()
    return text + ('.RI %s\n' % ' '.join('"%s"' % escape(w) if i == 0 else '" %s"' % escape(w)
                                        for i, w in enumerate(rest.split(' '))) if rest else '')


def examples(c, heading=''):
    text = ''
    for i, (command, what) in enumerate(c.examples):
        if what:
            text += '%s%s:\n' % ('' if heading and i == 0 else '.PP\n', escape(what[:1].upper() + what[1:]))
        text += '.RS 4\n.EX\n%s\n.EE\n.RE\n' % escape(command)
    return heading + text if text else ''


def page_name(c):
    """The page of `strata image` is not that of the program strata-image."""
    name = 'strata-' + '-'.join(c.words)
    return name + '-command' if name in ('strata-disk', 'strata-image', 'strata-net', 'strata-oci', 'strata-vmm') else name


SEE = '.SH SEE ALSO\n%s\n'


def see(*pages):
    rows = ['.BR %s (%d)' % (escape(n), s) for n, s in pages]
    return SEE % ' ,\n'.join(rows)


def command_page(c):
    """A command, or a group with all its commands."""
    name = page_name(c)
    text = title(name, 1) + '.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n' % (escape(name), escape(c.help))
    leaves = [x for x in c.walk() if not x.commands]
    for i, x in enumerate(leaves):
        text += ('.br\n' if i else '') + synopsis(x)
    text += '.SH DESCRIPTION\n' + sentence(c.help) + '\n'
    if c.text:
        text += '.PP\n' + escape(c.text) + '\n'
    if not c.commands:
        text += '.SH OPTIONS\n' + groups(c.groups) if c.groups else ''
        text += examples(c, '.SH EXAMPLES\n')
    else:
        text += '.SH COMMANDS\n'
        for x in leaves:
            text += '.SS %s\n' % escape(x.usage()) + sentence(x.help) + '\n'
            text += '.PP\n' + escape(x.text) + '\n' if x.text else ''
            text += ''.join(flag(f) for f in x.flags())
            text += examples(x)
    text += '.SH EXIT STATUS\n0: done. 1: failed; standard error says what was being done, why it failed, and what to do.\n'
    text += '2: the command line is wrong.\n'
    return text + see(('strata', 1), ('stratad', 8))


def main_page(root):
    text = title('strata', 1) + '.SH NAME\nstrata \\- %s\n.SH SYNOPSIS\n.B strata\n.RI COMMAND " [FLAGS]" " [OPERANDS]"\n' % escape(root.help)
    text += '''.SH DESCRIPTION
The command line of Strata: a client of the REST API of
.BR stratad (8).
Objects are named by name, by id, or by a prefix of the id that fits no other; where a command takes several, it does for
the others what it cannot do for one.
Long operations are waited for, with their progress on a terminal; Ctrl\\-C ends the waiting, not the operation.
.SH COMMANDS
'''
    for c in root.commands:
        text += '.TP\n.BR %s (1)\n%s\n' % (escape(page_name(c)), sentence(c.help))
    text += '.SH OPTIONS\nThese are understood by every command.\n' + ''.join(flag(f) for f in root.flags())
    text += '''.SH OUTPUT
Data goes to standard output, everything else to standard error. Tables fit the terminal; with
.B \\-o wide
they have more columns, with
.BR "\\-o json" ", " "\\-o yaml" " and " "\\-o name"
programs can read them.
.B \\-\\-format
fills in fields:
.EX
    strata ps \\-\\-format '{name} {status.nics.0.addresses.0}'
.EE
.B \\-\\-filter
takes a field and a pattern:
.EX
    strata ps \\-f kind=vm \\-f 'labels.team=a*'
.EE
.SH EXIT STATUS
0: done. 1: failed. 2: the command line is wrong.
.B run
and
.B exec
end with the status of what they ran.
.SH ENVIRONMENT
.TP
.B STRATA_SERVER
The daemon: unix:PATH or https://HOST:PORT; /run/strata/strata.sock without it.
.TP
.B STRATA_PROJECT
The project to work in.
.TP
.BR STRATA_TOKEN ", " STRATA_CA ", " STRATA_CERT ", " STRATA_KEY
Who we are to a daemon that is reached by https; see the options of the same names.
.TP
.B NO_COLOR
No colours.
'''
    return text + see(*[(page_name(c), 1) for c in root.commands], ('stratad', 8), ('stratad.yaml', 5))


def default_of(f):
    if f.has_default:
        return ' Default: %s.' % (str(f.default).lower() if f.base == 'boolean' else f.default)
    return ''


def config_fields(t, prefix=''):
    text = ''
    for f in t.fields:
        path = prefix + f.name
        text += '.TP\n.B %s\n%s' % (escape(path), sentence(f.help))
        text += escape(default_of(f)) + '\n'
        if f.is_struct and f.shape == 'one':
            text += config_fields(f.base, path + '.')
    return text


def config_page(schema):
    t = schema.types['stratad']
    return title('stratad.yaml', 5) + '''.SH NAME
stratad.yaml \\- configuration of the Strata node daemon
.SH SYNOPSIS
.I /etc/strata/stratad.yaml
.SH DESCRIPTION
A YAML document. Without the file, and for every field that it leaves out, the defaults hold; options of
.BR stratad (8)
win over it. A field that is not known, or a value that breaks a rule, is refused with its path, and the daemon does not start.
.PP
On SIGHUP the file is read again: log levels and everything below
.B https
and
.B metrics
change at once, other fields with the next start. A file with a mistake changes nothing and is named in the log.
.SH FIELDS
A dot stands for a level.
''' + config_fields(t) + '''.SH EXAMPLES
.EX
group: strata
log:
  level: info,api=debug
https:
  listen: ":8443"
.EE
''' + see(('strata', 1), ('stratad', 8))


def pages(schema):
    """File name → text."""
    root = cli.load(schema)
    result = {'strata.1': main_page(root), 'stratad.yaml.5': config_page(schema)}
    for c in root.commands:
        result[page_name(c) + '.1'] = command_page(c)
    return result
