"""What schemac makes: file name → text."""

import json
import os
import shutil

from . import c_cli, c_rest, c_types, man, openapi, typescript
from .c_text import banner, guarded, long_string


def make(schema):
    files = {}
    for f in schema.files:
        if f.types:
            files[f.name + '.h'] = c_types.header(schema, f)
            files[f.name + '.c'] = c_types.source(schema, f)
    files['formats.h'] = c_types.formats_header(schema)
    files['formats.c'] = c_types.formats_source(schema)
    files['types.h'] = c_types.all_header(schema)
    files['types.c'] = c_types.all_source(schema)
    files['errors.h'] = c_rest.errors_header(schema)
    files['errors.c'] = c_rest.errors_source(schema)
    files['routes.h'] = c_rest.routes_header(schema)
    files['routes.c'] = c_rest.routes_source(schema)
    document = openapi.make(schema)
    files['openapi.json'] = json.dumps(document, indent=1, ensure_ascii=False) + '\n'
    files['openapi.h'] = banner('The OpenAPI document') + guarded('openapi', 'extern const char gen_openapi[]; /* JSON text */\n')
    files['openapi.c'] = banner('The OpenAPI document') + '#include "gen/openapi.h"\n\nconst char gen_openapi[] =\n%s;\n' % (
        long_string(json.dumps(document, separators=(',', ':'), ensure_ascii=False)))
    files['api.ts'] = typescript.make(schema)
    files['cli.h'] = c_cli.header(schema)
    files['cli.c'] = c_cli.source(schema)
    return files


def write(files, folder):
    os.makedirs(folder, exist_ok=True)
    for name, text in files.items():
        path = os.path.join(folder, name)
        try:
            with open(path, encoding='utf-8') as f:
                if f.read() == text:
                    continue
        except FileNotFoundError:
            pass
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)


def write_man(schema, folder):
    """man1/ and man5/, made anew: a page whose command is gone goes too."""
    for section in ('1', '5'):
        shutil.rmtree(os.path.join(folder, 'man' + section), ignore_errors=True)
        os.makedirs(os.path.join(folder, 'man' + section))
    for name, text in man.pages(schema).items():
        with open(os.path.join(folder, 'man' + name[-1], name), 'w', encoding='utf-8') as f:
            f.write(text)
