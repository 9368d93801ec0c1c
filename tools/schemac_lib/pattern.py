"""Regular expressions of the schema, made into tables: a pattern is written once and checked by the C code, by
JSON Schema validators and by TypeScript alike.

The dialect is what all of them agree on: literals, \\-escaped punctuation, [classes] with ranges and negation,
( ), |, ?, *, +, {m}, {m,}, {m,n}; always anchored (^...$).  A pattern becomes a minimal deterministic automaton
over bytes, so that matching is one table step a byte, whatever the text.
"""

MAX_STATES = 255
ALL = frozenset(range(1, 256))  # NUL ends a C string


class PatternError(ValueError):
    pass


class Parser:
    """Pattern text to a syntax tree: ('set', bytes) ('cat', [..]) ('alt', [..]) ('rep', node, min, max|None)."""

    def __init__(self, text):
        self.s = text
        self.i = 0

    def peek(self):
        return self.s[self.i] if self.i < len(self.s) else ''

    def take(self):
        c = self.peek()
        if not c:
            raise PatternError('ends too early')
        self.i += 1
        return c

    def parse(self):
        if not (self.s.startswith('^') and self.s.endswith('$')):
            raise PatternError('must be anchored: ^...$')
        self.s = self.s[1:-1]
        node = self.alternatives()
        if self.i < len(self.s):
            raise PatternError("unexpected '%s'" % self.peek())
        return node

    def alternatives(self):
        branches = [self.sequence()]
        while self.peek() == '|':
            self.take()
            branches.append(self.sequence())
        return branches[0] if len(branches) == 1 else ('alt', branches)

    def sequence(self):
        parts = []
        while self.peek() and self.peek() not in '|)':
            parts.append(self.repeated())
        return ('cat', parts)

    def repeated(self):
        node = self.atom()
        while self.peek() and self.peek() in '?*+{':
            c = self.take()
            if c == '{':
                low, high = self.bounds()
            else:
                low, high = {'?': (0, 1), '*': (0, None), '+': (1, None)}[c]
            node = ('rep', node, low, high)
        return node

    def bounds(self):
        end = self.s.index('}', self.i)
        text = self.s[self.i:end]
        self.i = end + 1
        low, comma, high = text.partition(',')
        return int(low), (int(high) if high else None) if comma else int(low)

    def atom(self):
        c = self.take()
        if c == '(':
            if self.s.startswith('?:', self.i):
                self.i += 2
            node = self.alternatives()
            if self.take() != ')':
                raise PatternError("missing ')'")
            return node
        if c == '[':
            return ('set', self.char_class())
        if c == '.':
            return ('set', ALL - {10})
        if c == '\\':
            c = self.escaped()
        elif c in '^$*+?{}':
            raise PatternError("unexpected '%s'" % c)
        return ('cat', [('set', frozenset([b])) for b in c.encode()])

    def escaped(self):
        c = self.take()
        if c.isalnum():
            raise PatternError("escape \\%s is not portable" % c)
        return c

    def char_class(self):
        negated = self.peek() == '^'
        if negated:
            self.take()
        members = set()
        while self.peek() != ']':
            low = self.class_char()
            if self.peek() == '-' and self.s[self.i + 1:self.i + 2] not in (']', ''):
                self.take()
                high = self.class_char()
                if high < low:
                    raise PatternError('range in reverse')
                members.update(range(low, high + 1))
            else:
                members.add(low)
        self.take()
        return frozenset(ALL - members if negated else members)

    def class_char(self):
        c = self.take()
        if c == '\\':
            c = self.escaped()
        if not ' ' <= c <= '~':
            raise PatternError('only ASCII in classes')
        return ord(c)


class Nfa:
    """Thompson's construction: per state a list of (bytes or None for empty, target)."""

    def __init__(self, node):
        self.edges = []
        self.start = self.state()
        self.accept = self.build(node, self.start)

    def state(self):
        self.edges.append([])
        if len(self.edges) > 100000:
            raise PatternError('too large')
        return len(self.edges) - 1

    def edge(self, a, label, b):
        self.edges[a].append((label, b))

    def build(self, node, at):
        kind = node[0]
        if kind == 'set':
            end = self.state()
            self.edge(at, node[1], end)
            return end
        if kind == 'cat':
            for part in node[1]:
                at = self.build(part, at)
            return at
        if kind == 'alt':
            end = self.state()
            for branch in node[1]:
                first = self.state()
                self.edge(at, None, first)
                self.edge(self.build(branch, first), None, end)
            return end
        _, inner, low, high = node
        for _ in range(low):
            at = self.build(inner, at)
        if high is None:
            loop = self.state()
            self.edge(at, None, loop)
            self.edge(self.build(inner, loop), None, loop)
            return loop
        end = self.state()
        self.edge(at, None, end)
        for _ in range(high - low):
            at = self.build(inner, at)
            self.edge(at, None, end)
        return end

    def closure(self, states):
        todo, seen = list(states), set(states)
        while todo:
            for label, to in self.edges[todo.pop()]:
                if label is None and to not in seen:
                    seen.add(to)
                    todo.append(to)
        return frozenset(seen)


def byte_classes(nfa):
    """Bytes that no edge tells apart share a class; returns class of each byte and one byte of each class."""
    labels = {label for edges in nfa.edges for label, _ in edges if label is not None}
    signatures, class_of, example = {}, [0] * 256, []
    for b in range(256):
        sig = frozenset(i for i, label in enumerate(sorted(labels, key=sorted)) if b in label)
        if sig not in signatures:
            signatures[sig] = len(example)
            example.append(b)
        class_of[b] = signatures[sig]
    return class_of, example


def determinise(nfa, example):
    start = nfa.closure([nfa.start])
    numbers, rows, todo = {frozenset(): 0, start: 1}, [[0] * len(example), None], [start]
    while todo:
        states = todo.pop()
        row = []
        for b in example:
            to = nfa.closure([t for s in states for label, t in nfa.edges[s] if label is not None and b in label])
            if to not in numbers:
                numbers[to] = len(rows)
                rows.append(None)
                todo.append(to)
            row.append(numbers[to])
        rows[numbers[states]] = row
    accept = [False] * len(rows)
    for states, n in numbers.items():
        accept[n] = nfa.accept in states
    return rows, accept


def minimise(rows, accept):
    """Moore's partition refinement; state 0 stays the dead state, state 1 the start."""
    part = [2 if a else 1 for a in accept]
    while True:
        keys, new = {}, []
        for i, row in enumerate(rows):
            key = (part[i],) + tuple(part[t] for t in row)
            new.append(keys.setdefault(key, len(keys)))
        if len(set(new)) == len(set(part)):
            break
        part = new
    number, reps = {}, []
    for i in [0, 1] + list(range(2, len(rows))):
        if new[i] not in number:
            number[new[i]] = len(reps)
            reps.append(i)
    if new[0] == new[1]:
        raise PatternError('matches nothing')
    return [[number[new[t]] for t in rows[i]] for i in reps], [accept[i] for i in reps]


class Automaton:
    """class_of[256], next[state][class], accept[state]; state 0 is dead, state 1 the start."""

    def __init__(self, pattern):
        try:
            nfa = Nfa(Parser(pattern).parse())
        except (ValueError, IndexError) as e:
            raise PatternError("pattern '%s': %s" % (pattern, e)) from None
        self.class_of, example = byte_classes(nfa)
        self.next, self.accept = minimise(*determinise(nfa, example))
        if len(self.next) > MAX_STATES:
            raise PatternError("pattern '%s': %d states; use max_length instead of {m,n}" % (pattern, len(self.next)))

    def matches(self, text):
        state = 1
        for b in text.encode():
            state = self.next[state][self.class_of[b]]
        return self.accept[state]
