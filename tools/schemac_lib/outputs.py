"""What schemac makes: file name → text."""

import os

from . import c_cli, c_rest, c_types


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
