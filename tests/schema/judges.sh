#!/bin/bash
# Outside judges: redocly on the OpenAPI document, tsc on the TypeScript types, our own compiler on broken schemas.
. "$SOURCE/tests/lib.sh"
made=$BUILD/src/gen
planned=$BUILD/tests/unit/gen # with what is designed but not served yet
npm=$BUILD/schema-npm

# The two programs come from npm once and stay in the build folder.
have() { [ -x "$npm/node_modules/.bin/$1" ]; }
fetch() {
	have "$1" && return
	command -v npm >/dev/null || return
	mkdir -p "$npm"
	timeout 120 npm install --silent --no-fund --no-audit --prefix "$npm" "$2" >"$T/npm.log" 2>&1
	have "$1"
}

cat >"$T/redocly.yaml" <<'YAML'
extends: [recommended]
rules:
  operation-2xx-response: off  # WebSocket paths answer 101
YAML
lint() {
	"$npm/node_modules/.bin/redocly" lint --config "$T/redocly.yaml" "$1" >"$T/lint" 2>&1 || { cat "$T/lint"; return 1; }
	! grep -qE 'You have [0-9]+ (warning|error)' "$T/lint" || { cat "$T/lint"; return 1; }
}
if fetch redocly @redocly/cli; then
	t "OpenAPI document: redocly has nothing to say" lint "$made/openapi.json"
	t "and of all that is designed" lint "$planned/openapi.json"
else
	skip "OpenAPI document: redocly has nothing to say" "no @redocly/cli: npm is not there or cannot be reached"
fi
if fetch tsc typescript; then
	cp "$planned/api.ts" "$T/api.ts"
	cat >"$T/use.ts" <<'TS'
import { Instance, InstanceSpec, Operations, Patch, fields } from "./api";
const spec: InstanceSpec = { kind: "vm", cpu: { count: 2, limit_mhz: 500 }, nics: [{ portgroup: "web" }] };
const one: Instance = { name: "a", spec };
const patch: Patch<Instance> = { spec: { cpu: { limit_mhz: null } } };
const body: Operations["instance_create"]["request"] = one;
const max: 1024 = fields.InstanceCpu.count.max;
// @ts-expect-error a name is required
const unnamed: Instance = { spec };
// @ts-expect-error not a kind
const bad: InstanceSpec = { kind: "vmm" };
export { patch, body, max, unnamed, bad };
TS
	t "TypeScript types: tsc --strict accepts their use and refuses misuse" \
		"$npm/node_modules/.bin/tsc" --noEmit --strict --target es2022 --module esnext --moduleResolution bundler --lib es2022,dom "$T/use.ts"
else
	skip "TypeScript types: tsc --strict accepts their use and refuses misuse" "no typescript: npm is not there or cannot be reached"
fi

# The patterns mean the same to Python's re as to the automata that C runs.
t "patterns: automata agree with Python's re" python3 "$SOURCE/tests/schema/patterns.py" "$SOURCE"

broken() { # broken NAME FILE 'old' 'new' 'message'
	rm -rf "$T/s"
	cp -r "$SOURCE/schema" "$T/s"
	python3 - "$T/s/$2" "$3" "$4" <<'PY'
import sys
path, old, new = sys.argv[1:]
text = open(path, encoding="utf-8").read()
assert old in text, old
open(path, "w", encoding="utf-8").write(text.replace(old, new, 1))
PY
	"$SOURCE/tools/schemac" --planned --check "$T/s" >"$T/out" 2>&1
	t_eq "$1" "$?: $(cat "$T/out")" "1: schemac: $5"
}
broken "a default out of range" instance.json '"default": 1000, "help": "weight against others when CPU' '"default": 0, "help": "weight against others when CPU' \
	'instance.json: instance_cpu.shares: the default is out of range'
broken "an unknown type" instance.json '"type": "instance_cpu"' '"type": "instance_cpus"' "instance.json: instance_spec.cpu: unknown type 'instance_cpus'"
broken "an unknown attribute" instance.json '"default": 1000,' '"defalt": 1000,' "instance.json: instance_cpu.shares: unknown attribute 'defalt'"
broken "a field without help" task.json '"help": "in words"' '"since": "0.1"' 'task.json: event.message: needs help'
broken "a flag of a field that is not there" cli.json '"field": "cpu.count"' '"field": "cpu.cuont"' "cli.json: run --cpus: instance_cpu has no field 'cuont'"
broken "a flag letter twice" cli.json '"name": "hostname",' '"name": "hostname", "short": "n",' 'cli.json: run --hostname: -n is there twice'
broken "a route twice" rest.json '"path": "/exec/{exec}/kill"' '"path": "/exec/{exec}/resize"' 'rest.json: exec_kill: the same as exec_resize'
broken "a bad example" formats.json '"examples": ["web-1"]' '"examples": ["-web"]' "formats.json: name: example '-web' does not fit"
broken "a type in a circle" common.json '"burst_length": {"type": "duration", "min": "100ms", "max": "1h", "default": "1s"' '"burst_length": {"type": "disk_limits[]"' \
	'common.json: bucket: holds itself: bucket → disk_limits → bucket'
done_testing
