#!/usr/bin/env python3
"""patterns.py SOURCE: every pattern of the schema as an automaton and as a Python regular expression, over texts near it."""
import json
import random
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1] + '/tools')
from schemac_lib.pattern import Automaton  # noqa: E402

random.seed(20261121)
with open(sys.argv[1] + '/schema/formats.json', encoding='utf-8') as f:
    formats = json.load(f)['formats']
checked = 0
for name, d in formats.items():
    if 'pattern' not in d:
        continue
    automaton, regex = Automaton(d['pattern']), re.compile(d['pattern'][:-1] + r'\Z', re.ASCII)
    letters = 'aA0fFzZ9.:/-_+@,=[]*~ \n' + ''.join(d['examples'])
    for _ in range(1500):
        text = random.choice(d['examples'] + [''])
        for _ in range(random.randrange(4)):
            at = random.randrange(len(text) + 1)
            text = random.choice((text[:at] + random.choice(letters) + text[at:], text[:at] + text[at + 1:], text[:at] + random.choice(letters) + text[at + 1:]))
        if automaton.matches(text) != bool(regex.match(text)):
            sys.exit('%s: %r: automaton %s' % (name, text, automaton.matches(text)))
        checked += 1
print('%d texts' % checked)
