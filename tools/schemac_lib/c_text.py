"""Small pieces of C text."""


def string(s):
    """A C string literal, or NULL."""
    if s is None:
        return 'NULL'
    out = []
    for b in s.encode():
        c = chr(b)
        if c in '"\\':
            out.append('\\' + c)
        elif c == '\n':
            out.append('\\n')
        elif 32 <= b < 127:
            out.append(c)
        else:
            out.append('\\%03o' % b)
    return '"%s"' % ''.join(out)


def long_string(s, width=4000):
    """A literal in pieces: compilers bound the length of one."""
    return '\n'.join(string(s[i:i + width]) for i in range(0, len(s), width)) or '""'


def number(n):
    return 'INT64_MIN' if n == -2**63 else '%dLL' % n


def macro(*parts):
    return '_'.join(p.upper().replace('-', '_').replace('.', '_') for p in parts)


def comment(text):
    return '/* %s */' % text.replace('*/', '* /')


def byte_table(values, per_line=32):
    lines = [', '.join(str(v) for v in values[i:i + per_line]) for i in range(0, len(values), per_line)]
    return '\t' + ',\n\t'.join(lines) + ',\n'


def banner(what):
    return '/* %s.  Made by tools/schemac; change schema/ instead. */\n' % what


def guarded(name, body):
    guard = macro('gen', name) + '_H'
    return '#ifndef %s\n#define %s\n\n%s\n#endif\n' % (guard, guard, body)
