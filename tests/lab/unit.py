#!/usr/bin/env python3
"""The lab's own parsers and protocols, without a host: words of the command line, frames, HTTP,
IPMI sessions, sparse copies, cpio.  TAP on standard output."""
import asyncio
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

SOURCE = os.environ.get('SOURCE') or os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, SOURCE)
sys.dont_write_bytecode = True

from lab import accel, aes, archive, cli, http, image, initrd, ipmi, net  # noqa: E402
from lab import place, power, redfish, rmcp  # noqa: E402
from lab import shape, snapshot, state, template, wire  # noqa: E402
from lab.err import BROKEN, LabError, UsageError  # noqa: E402


class Words(unittest.TestCase):
    def test_sizes(self):
        for text, size in (('2G', 2 << 30), ('512M', 512 << 20), ('64', 64 << 20),
                           ('1.5g', 3 << 29), ('8GiB', 8 << 30), ('1T', 1 << 40)):
            self.assertEqual(shape.parse_size(text, 'x'), size)
        for text in ('', '0', 'G', '-1G', '1X', '2 G', '1G2', '0x10', '1e3'):
            with self.assertRaises(UsageError, msg=text):
                shape.parse_size(text, 'x')

    def test_disks(self):
        self.assertEqual(shape.parse_disks('2x4G'), [4 << 30] * 2)
        self.assertEqual(shape.parse_disks('1G,2x2G'), [1 << 30, 2 << 30, 2 << 30])
        self.assertEqual(shape.parse_disks('0'), [])
        for text in ('x', '2x', 'x4G', '0x4G', '17x1G', '1G,', '2x4Gx', '1K'):
            with self.assertRaises(UsageError, msg=text):
                shape.parse_disks(text)

    def test_counts(self):
        self.assertEqual(shape.parse_count('7', 'x', 1, 9), 7)
        for text in ('', '0', '10', '-1', '1.0', 'one', '١'):
            with self.assertRaises(UsageError, msg=text):
                shape.parse_count(text, 'x', 1, 9)

    def test_shape_limits(self):
        shape.Shape(nics=8, disks=[1 << 30] * 8).check()
        for bad in (shape.Shape(nics=8, disks=[1 << 30] * 9), shape.Shape(memory=1 << 20),
                    shape.Shape(cpus=3, numa=2)):
            with self.assertRaises(UsageError):
                bad.check()

    def test_template_key_leaves_out_what_is_plugged(self):
        one = shape.Shape(nics=0)
        other = shape.Shape(nics=5, disks=[1])
        self.assertEqual(one.template_key('i', []), other.template_key('i', []))
        for other in (shape.Shape(cpus=4), shape.Shape(memory=1 << 30), shape.Shape(accel='kvm'),
                      shape.Shape(qemu=['-device', 'x'])):
            self.assertNotEqual(one.template_key('i', []), other.template_key('i', []))
        self.assertNotEqual(one.template_key('i', []), one.template_key('j', []))

    def test_lab_names(self):
        self.assertEqual(place.lab_dir('a.b-1'), os.path.join(place.labs_dir(), 'a.b-1'))
        for name in ('', '..', 'a/b', '.x', 'a b', 'x' * 33):
            if name:
                with self.assertRaises(UsageError, msg=name):
                    place.lab_dir(name)
        self.assertEqual(place.lab_dir(path='/tmp/x/../y'), '/tmp/y')

    def test_command_lines(self):
        def parsed(*argv):
            args = cli._parse(list(argv))
            return args.verb, getattr(args, 'host', None), getattr(args, 'command', None)
        self.assertEqual(parsed('exec', 'h1', 'ls', '-l'), ('exec', 'h1', ['ls', '-l']))
        self.assertEqual(parsed('exec', 'h1', '--', 'ls', '-l'), ('exec', 'h1', ['ls', '-l']))
        self.assertEqual(parsed('exec', 'h1', '--name', 'b', '--', 'ls'), ('exec', 'h1', ['ls']))
        self.assertEqual(parsed('exec', 'h1', 'sh', '-c', 'x', '--', 'y'),
                         ('exec', 'h1', ['sh', '-c', 'x', '--', 'y']))
        self.assertEqual(parsed('exec', 'h1', '--', 'a', '--', 'b'),
                         ('exec', 'h1', ['a', '--', 'b']))
        self.assertEqual(parsed('exec', '--timeout', '3', 'h1', 'ls'), ('exec', 'h1', ['ls']))
        self.assertEqual(parsed('exec', 'h1'), ('exec', 'h1', []))

    def test_addresses_do_not_meet(self):
        seen = [a for k in range(1, 100) for n in range(8) for a in net.addresses(k, n)]
        seen += [net.bmc_address(k) + '/24' for k in range(1, 100)] + ['10.77.0.254/24']
        self.assertEqual(len(seen), len(set(seen)))
        macs = {net.mac(k, n) for k in range(1, 100) for n in range(8)}
        self.assertEqual(len(macs), 99 * 8)
        self.assertIn('10.77.1.2 h2-net1\n', net.hosts_file(2, 2))


class Frames(unittest.TestCase):
    def test_any_cut(self):
        frames = [(wire.STDOUT, 1, b'abc'), (wire.EXIT, 7, b''), (wire.STDIN, 2, wire.MAGIC * 10),
                  (wire.STDERR, 3, bytes(wire.MAX_PAYLOAD))]
        data = b''.join(wire.pack(*f) for f in frames)
        rng = random.Random(1)
        for _ in range(50):
            parser, got, at = wire.Parser(), [], 0
            while at < len(data):
                n = rng.choice((1, 2, 3, 15, 16, 17, 100, 40000))
                got += parser.feed(data[at:at + n])
                at += n
            self.assertEqual(got, frames)
            self.assertEqual(parser.skipped, 0)

    def test_finds_its_feet_again(self):
        """After a restore the other end may stand anywhere in a frame."""
        old = wire.pack(wire.STDIN, 9, os.urandom(wire.MAX_PAYLOAD))
        for cut in (1, 5, 15, 16, 17, 1000, len(old) - 1):
            parser = wire.Parser()
            parser.feed(old[:cut])
            got = parser.feed(wire.resync(b'12345678'))
            self.assertEqual(got[-1], (wire.RESET, 0, b'12345678'), cut)

    def test_noise(self):
        rng = random.Random(2)
        parser = wire.Parser()
        good = wire.pack(wire.STDOUT, 5, b'here')
        for _ in range(200):
            noise = bytes(rng.choice(b'SLab\x00\x01\xff') for _ in range(rng.randrange(64)))
            got = parser.feed(noise + bytes(wire.MAX_PAYLOAD) + good)
            self.assertIn((wire.STDOUT, 5, b'here'), got)

    def test_too_long_is_no_frame(self):
        head = struct.pack('!BII', wire.STDOUT, 1, wire.MAX_PAYLOAD + 1)
        import zlib
        bad = wire.HEADER.pack(wire.MAGIC, wire.STDOUT, 0, zlib.crc32(head) & 0xffff, 1,
                               wire.MAX_PAYLOAD + 1)
        parser = wire.Parser()
        self.assertEqual(parser.feed(bad + wire.pack(wire.EXIT, 1)), [(wire.EXIT, 1, b'')])


class Files(unittest.TestCase):
    def test_sparse_copy(self):
        rng = random.Random(3)
        with tempfile.TemporaryDirectory() as tmp:
            for size in (0, 4096, 1 << 20, 5 << 20):
                source = os.memfd_create('source')
                os.ftruncate(source, size)
                for _ in range(5 if size else 0):
                    os.pwrite(source, os.urandom(4096), rng.randrange(0, size, 4096))
                path = os.path.join(tmp, 'copy')
                with open(path, 'wb+') as f:
                    os.ftruncate(f.fileno(), size)
                    snapshot.copy_sparse(source, f.fileno())
                    f.seek(0)
                    self.assertEqual(f.read(), os.pread(source, size, 0))
                    self.assertLessEqual(os.fstat(f.fileno()).st_blocks * 512, 5 * 8192)
                os.close(source)

    def test_cpio_by_an_outside_judge(self):
        archive = initrd.Cpio()
        archive.add('bin', 0o040755)
        archive.add('bin/odd', 0o100750, b'x' * 5)
        archive.add('bin/link', 0o120777, b'odd')
        with tempfile.TemporaryDirectory() as tmp:
            try:
                subprocess.run(['busybox', 'cpio', '-id'], input=archive.close(), cwd=tmp,
                               check=True, capture_output=True)
            except FileNotFoundError:
                self.skipTest('needs busybox')
            with open(os.path.join(tmp, 'bin/link'), 'rb') as f:
                self.assertEqual(f.read(), b'xxxxx')
            self.assertEqual(os.stat(os.path.join(tmp, 'bin/odd')).st_mode, 0o100750)

    def test_only_our_files_are_removed(self):
        with tempfile.TemporaryDirectory() as tmp:
            folder = os.path.join(tmp, 'lab')
            os.makedirs(os.path.join(folder, 'data'))
            for name in ('ctl.sock', 'lab.json', 'h1.console', 'precious'):
                open(os.path.join(folder, name), 'w').close()
            state.remove_files(folder, os.path.join(folder, 'data'))
            self.assertEqual(os.listdir(folder), ['precious'])
            os.unlink(os.path.join(folder, 'precious'))
            state.remove_files(folder, os.path.join(folder, 'data'))
            self.assertFalse(os.path.exists(folder))

    def test_locks(self):
        with tempfile.TemporaryDirectory() as tmp:
            path = os.path.join(tmp, 'lock')
            with place.Lock(path, shared=True), place.Lock(path, shared=True, wait=False):
                with self.assertRaises(LabError):
                    with place.Lock(path, wait=False):
                        pass
            with place.Lock(path, wait=False):
                pass


class Cache(unittest.TestCase):
    """What is kept under /var/cache, with a cache of its own and fake makers."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = folder.name
        patch = mock.patch.dict(os.environ, LAB_CACHE=self.top)
        patch.start()
        self.addCleanup(patch.stop)
        self.made = []

    def image(self, versions):
        """image.ensure() for these package versions."""
        def make(folder, say):
            self.made.append('image')
            os.makedirs(folder)
            with open(os.path.join(folder, 'image.json'), 'w') as f:
                json.dump({'identity': os.urandom(8).hex()}, f)
            open(os.path.join(folder, 'lock'), 'w').close()
        with mock.patch.multiple(archive, packages=lambda: ['a'], versions=lambda: versions), \
                mock.patch.object(image, '_make', make):
            return image.ensure()

    def template(self, made):
        """template.ensure() over that image."""
        def make(folder, one, base, say):
            self.made.append('template')
            os.makedirs(folder)
            with open(os.path.join(folder, 'template.json'), 'w') as f:
                json.dump({'image': base.folder, 'identity': base.identity}, f)
            open(os.path.join(folder, 'lock'), 'w').close()
        with mock.patch.object(template, '_make', make), \
                mock.patch.object(template.qemu, 'version', lambda: '7'):
            return template.ensure(shape.Shape(), made)

    def let_go(self, *images):
        for one in images:
            one.held.close()
        while template.held:
            template.held.pop().close()

    def test_made_once_and_again_when_a_package_changes(self):
        one = self.image({'a': '1'})
        first = self.template(one)
        self.assertEqual(self.image({'a': '1'}).folder, one.folder)
        self.assertEqual(self.template(one), first)
        self.assertEqual(self.made, ['image', 'template'])
        two = self.image({'a': '2'})
        self.assertNotEqual(two.folder, one.folder)
        self.assertNotEqual(self.template(two), first)
        self.assertEqual(self.made, ['image', 'template'] * 2)

    def test_a_template_goes_by_the_disk_not_by_its_recipe(self):
        """An image that was removed and made again has other blocks below its template."""
        one = self.image({'a': '1'})
        first = self.template(one)
        self.let_go(one)
        for path in sorted(os.listdir(one.folder)):
            os.unlink(os.path.join(one.folder, path))
        os.rmdir(one.folder)
        two = self.image({'a': '1'})
        self.assertEqual(two.folder, one.folder)
        second = self.template(two)
        self.assertNotEqual(second, first)
        self.assertFalse(os.path.exists(first), 'the stale template is removed')
        self.assertTrue(os.path.exists(second))

    def test_what_is_used_is_not_pruned(self):
        kept = [self.image({'a': str(i)}) for i in range(image.KEEP + 2)]
        for i, one in enumerate(kept):
            self.assertTrue(os.path.exists(one.folder))
            os.utime(one.folder, (i, i))
        self.let_go(*kept)
        image.prune()
        self.assertEqual(len(os.listdir(os.path.join(self.top, 'images'))), image.KEEP)
        with self.assertRaises(LabError):
            kept[0].hold()

    def test_leftovers_of_killed_makers_go(self):
        one = self.image({'a': '1'})
        folder = os.path.join(self.top, 'templates')
        for name in ('00ab.new', '00ab.work', 'ffab.gone'):
            os.makedirs(os.path.join(folder, name, 'data'))
        with place.Lock(template._maker('ffab')):       # somebody is at it
            self.template(one)
        self.assertEqual([n for n in os.listdir(folder) if '.' in n], ['ffab.gone'])


class Accel(unittest.TestCase):
    """Which accelerator the hosts get, with fake probes."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = folder.name
        patch = mock.patch.dict(os.environ, LAB_CACHE=self.top)
        patch.start()
        self.addCleanup(patch.stop)

    def script(self, name, text):
        path = os.path.join(self.top, name)
        with open(path, 'w') as f:
            f.write('#!/bin/sh\n' + text + '\n')
        os.chmod(path, 0o755)
        return path

    def measure(self, probe, qemu='exit 43'):
        return accel._measure('/dev/null', [self.script('probe', probe)],
                              self.script('qemu', qemu))

    def test_measured(self):
        good, why = self.measure('echo 2e9')
        self.assertTrue(good, why)
        self.assertIn('2000.0 million', why)
        for probe, qemu, word in (('echo 2e6', 'exit 43', 'this KVM emulates'),
                                  ('echo no memory >&2; exit 3', 'exit 43', 'no memory'),
                                  ('kill -ABRT $$', 'exit 43', 'status -6'),
                                  ('echo 2e9', 'echo no MSR >&2; kill -ABRT $$', 'no MSR'),
                                  ('echo 2e9', 'exit 0', 'status 0')):
            good, why = self.measure(probe, qemu)
            self.assertFalse(good)
            self.assertIn(word, why)
        with mock.patch.object(accel, 'PROBE_TIMEOUT', 0.2):
            for probe, qemu in (('sleep 60', 'exit 43'), ('echo 2e9', 'sleep 60')):
                self.assertFalse(self.measure(probe, qemu)[0])
        self.assertIn('not there', accel._measure('/dev/nonesuch')[1])

    def test_qemu_runs_the_boot_sector(self):
        """The probe itself, under emulation, by a real QEMU."""
        try:
            with mock.patch.object(accel, 'PROBE_TIMEOUT', 60):
                why = accel.qemu_boots(accel='tcg', cpu='max')
        except OSError as e:
            why = str(e)
        if 'missing' in why:
            self.skipTest(why)
        self.assertEqual(why, '')

    def test_choice(self):
        answer = [True, 'fast']
        with mock.patch.object(accel, '_measure', lambda: answer), \
                mock.patch.object(accel, '_nested', lambda: True):
            self.assertEqual(accel.choose(), ('kvm', 'fast'))
            answer = [False, 'slow']    # nobody asks again
            self.assertEqual(accel.choose(), ('kvm', 'fast'))
            self.assertEqual(accel.choose('tcg')[0], 'tcg')
            with mock.patch.object(accel, '_boot', lambda: 'the next boot'):
                self.assertEqual(accel.choose(), ('tcg', 'slow'))
                with self.assertRaises(LabError):
                    accel.choose('kvm')
            answer = [True, 'fast']
            self.assertEqual(accel.choose(), ('kvm', 'fast'))
            with mock.patch.object(accel, '_nested', lambda: False):
                self.assertEqual(accel.choose()[0], 'tcg')
                self.assertEqual(accel.choose('kvm')[0], 'kvm')
            accel.distrust('it died')
            self.assertEqual(accel.choose(), ('tcg', 'it died'))

    def test_up_goes_on_without_a_kvm_that_breaks(self):
        tried = []

        def start(args, directory, chosen, reason):
            tried.append(chosen)
            if chosen == 'kvm':
                raise LabError('h1: it does not start (QEMU ended with status -6)', BROKEN)

        with mock.patch.object(accel, '_measure', lambda: [True, 'fast']), \
                mock.patch.object(accel, '_nested', lambda: True), \
                mock.patch.object(cli, 'say', lambda text: None), \
                mock.patch.object(cli, '_up', start):
            cli.cmd_up(cli._parse(['up', '1']), self.top)
            self.assertEqual(tried, ['kvm', 'tcg'])
            cli.cmd_up(cli._parse(['up', '1']), self.top)
            self.assertEqual(tried, ['kvm', 'tcg', 'tcg'])


class FakeLab:
    shape = shape.Shape()


class FakeHost:
    """Enough of host.Host for a power controller; keeps what was asked of it."""

    def __init__(self):
        self.name, self.number, self.lab = 'h1', 1, FakeLab()
        self.proc, self.state, self.cut = object(), 'up', set()
        self.done = []

    def uuid(self):
        return '5354524c-4142-4000-8000-000000000001'

    def nics(self):
        return [{'n': 0, 'mac': '52:54:77:00:00:01'}]

    async def start(self):
        self.done.append('start')
        await asyncio.sleep(0.01)
        self.proc = object()

    async def kill(self):
        self.done.append('kill')
        self.proc = None

    async def reset(self):
        self.done.append('reset')

    async def power_button(self):
        self.done.append('button')

    async def nmi(self):
        self.done.append('nmi')

    def tell_reboot(self):
        self.done.append('reboot')


class Http(unittest.TestCase):
    def exchange(self, data, host=None):
        """What the service answers to these bytes."""
        async def run():
            service = redfish.Redfish(power.Power(host or FakeHost()), ('admin', 'pw'))
            reader = asyncio.StreamReader(limit=http.MAX_HEAD)
            reader.feed_data(data)
            reader.feed_eof()
            out = bytearray()

            class Writer:
                write = staticmethod(out.extend)

                async def drain(self):
                    pass

                def close(self):
                    pass

            await http.serve(reader, Writer(), service.handle)
            return bytes(out)

        return asyncio.run(run())

    AUTH = b'Authorization: Basic YWRtaW46cHc=\r\n'

    def test_heads(self):
        method, path, headers, alive = http.parse_head(b'GET /a?b=c HTTP/1.1\r\nX-Y: z ')
        self.assertEqual((method, path, headers, alive), ('GET', '/a', {'x-y': 'z'}, True))
        for bad in (b'', b'GET /', b'GET x HTTP/1.1', b'GET / HTTP/2', b'GET / HTTP/1.1\r\nnocolon',
                    b'GET / HTTP/1.1\r\n: x', b'GET / HTTP/1.1\r\nA : x', b'\xff / HTTP/1.1',
                    b'GET / HTTP/1.1\r\nTransfer-Encoding: chunked'):
            with self.assertRaises(http.BadRequest, msg=bad):
                http.parse_head(bad)

    def test_two_requests_on_one_connection(self):
        got = self.exchange(b'GET /redfish HTTP/1.1\r\n\r\nGET /redfish/v1/ HTTP/1.1\r\n\r\n')
        self.assertEqual(got.count(b'HTTP/1.1 200 OK'), 2)

    def test_limits(self):
        for status, head in ((b' 413 ', b'GET / HTTP/1.1\r\nA: ' + b'x' * 40000),
                             (b' 413 ', b'POST / HTTP/1.1\r\nContent-Length: 9999999'),
                             (b' 400 ', b'POST / HTTP/1.1\r\nContent-Length: -1')):
            self.assertIn(status, self.exchange(head + b'\r\n\r\n'))

    def test_noise_is_answered_or_dropped(self):
        rng = random.Random(4)
        for _ in range(300):
            got = self.exchange(bytes(rng.choice(b'GET /:\r\n1.HP\xff') for _ in range(200)))
            self.assertTrue(got == b'' or got.startswith(b'HTTP/1.1 4'))

    def test_reset_table(self):
        path = b'/redfish/v1/Systems/h1/Actions/ComputerSystem.Reset'

        def reset(kind, on=True, auth=self.AUTH, body=None):
            host = FakeHost()
            host.proc = object() if on else None
            body = body or b'{"ResetType": "%s"}' % kind.encode()
            got = self.exchange(b'POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s'
                                % (path, auth, len(body), body), host)
            return int(got.split(b' ')[1]), host.done

        self.assertEqual(reset('On', on=False), (204, ['start']))
        self.assertEqual(reset('On'), (204, []))
        self.assertEqual(reset('ForceOff'), (204, ['kill']))
        self.assertEqual(reset('GracefulShutdown'), (204, ['button']))
        self.assertEqual(reset('GracefulShutdown', on=False), (409, []))
        self.assertEqual(reset('PushPowerButton', on=False), (204, ['start']))
        self.assertEqual(reset('PushPowerButton'), (204, ['button']))
        self.assertEqual(reset('ForceRestart'), (204, ['reset']))
        self.assertEqual(reset('GracefulRestart'), (204, ['reboot']))
        self.assertEqual(reset('PowerCycle'), (204, ['kill', 'start']))
        self.assertEqual(reset('Nmi'), (204, ['nmi']))
        self.assertEqual(reset('Nonsense'), (400, []))
        self.assertEqual(reset('', body=b'{'), (400, []))
        self.assertEqual(reset('', body=b'[1]'), (400, []))
        self.assertEqual(reset('ForceOff', auth=b''), (401, []))
        self.assertEqual(reset('ForceOff', auth=b'Authorization: Basic !!\r\n'), (401, []))
        self.assertEqual(reset('ForceOff', auth=b'X-Auth-Token: \r\n'), (401, []))

    def test_every_link_leads_somewhere(self):
        async def run():
            service = redfish.Redfish(power.Power(FakeHost()), ('admin', 'pw'))
            todo, seen = ['/redfish/v1/'], set()
            while todo:
                path = todo.pop()
                if path in seen:
                    continue
                seen.add(path)
                got = await service.handle(http.Request(
                    'GET', path, {'authorization': 'Basic YWRtaW46cHc='}))
                self.assertEqual(got.status, 200, path)
                stack = [got.body]
                while stack:
                    value = stack.pop()
                    if isinstance(value, dict):
                        todo += [v for k, v in value.items() if k == '@odata.id']
                        stack += value.values()
                    elif isinstance(value, list):
                        stack += value
            return seen

        self.assertGreaterEqual(len(asyncio.run(run())), 11)

    def test_sessions(self):
        async def run():
            service = redfish.Redfish(power.Power(FakeHost()), ('admin', 'pw'))
            sessions = '/redfish/v1/SessionService/Sessions'

            async def ask(method, path, token=None, body=b''):
                headers = {'x-auth-token': token} if token else {}
                return await service.handle(http.Request(method, path, headers, body))

            wrong = await ask('POST', sessions, body=b'{"UserName":"admin","Password":"x"}')
            self.assertEqual(wrong.status, 401)
            made = await ask('POST', sessions, body=b'{"UserName":"admin","Password":"pw"}')
            self.assertEqual(made.status, 201)
            token = made.headers['X-Auth-Token']
            self.assertEqual((await ask('GET', sessions, token)).status, 200)
            self.assertEqual((await ask('GET', sessions, token + 'x')).status, 401)
            self.assertEqual((await ask('DELETE', made.headers['Location'], token)).status, 204)
            self.assertEqual((await ask('GET', sessions, token)).status, 401)

        asyncio.run(run())


class Ipmi(unittest.TestCase):
    def test_aes_vectors(self):
        """FIPS 197 appendix C.1 and SP 800-38A F.2.1."""
        key = aes.Aes(bytes(range(16)))
        plain = bytes.fromhex('00112233445566778899aabbccddeeff')
        self.assertEqual(key.encrypt_block(plain).hex(), '69c4e0d86a7b0430d8cdb78070b4c55a')
        self.assertEqual(key.decrypt_block(key.encrypt_block(plain)), plain)
        key = aes.Aes(bytes.fromhex('2b7e151628aed2a6abf7158809cf4f3c'))
        text = bytes.fromhex('6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51')
        sealed = key.encrypt(bytes(range(16)), text)
        self.assertEqual(sealed.hex(), '7649abac8119b246cee98e9b12e9197d'
                                       '5086cb9b507219ee95db113a917678b2')
        self.assertEqual(key.decrypt(bytes(range(16)), sealed), text)

    @staticmethod
    def message(netfn, command, data=b''):
        head = bytes([0x20, netfn << 2])
        body = bytes([0x81, 4, command]) + data
        return head + bytes([ipmi.checksum(head)]) + body + bytes([ipmi.checksum(body)])

    def test_messages(self):
        good = self.message(6, 1, b'xy')
        self.assertEqual(ipmi.parse(good), (6, 0, 0x81, 4, 1, b'xy'))
        for i in range(len(good)):
            broken = bytearray(good)
            broken[i] ^= 0x40
            self.assertIsNone(ipmi.parse(bytes(broken)))
            self.assertIsNone(ipmi.parse(good[:i]))
        self.assertIsNone(ipmi.parse(self.message(7, 1)))

    def test_privilege(self):
        async def run():
            host = FakeHost()
            commands = ipmi.Commands(power.Power(host))
            off = ipmi.parse(self.message(0, 2, b'\0'))
            self.assertEqual((await commands.run(off, ipmi.USER))[0], ipmi.NO_PRIVILEGE)
            self.assertEqual(host.done, [])
            self.assertEqual((await commands.run(off, ipmi.OPERATOR))[0], ipmi.OK)
            self.assertEqual(host.done, ['kill'])
            soft = ipmi.parse(self.message(0, 2, b'\5'))
            self.assertEqual((await commands.run(soft, ipmi.ADMIN))[0], ipmi.BAD_STATE)
            self.assertEqual((await commands.run(ipmi.parse(self.message(0, 2)), ipmi.ADMIN))[0],
                             ipmi.BAD_LENGTH)
            self.assertEqual((await commands.run(ipmi.parse(self.message(4, 2)), ipmi.ADMIN))[0],
                             ipmi.INVALID_COMMAND)

        asyncio.run(run())

    def test_noise(self):
        """Nothing that is not authentic reaches the host, whatever it looks like."""
        async def run():
            host = FakeHost()
            server = rmcp.Server(power.Power(host), ('admin', 'pw'))
            rng = random.Random(5)
            control = self.message(0, 2, b'\0')
            seeds = [b'\x06\0\xff\x07\0' + bytes(8) + bytes([len(control)]) + control,
                     b'\x06\0\xff\x07\x02' + bytes(24) + bytes([len(control)]) + control,
                     b'\x06\0\xff\x07\x06\xc0' + bytes(8) + b'\x10\0' + control + bytes(40),
                     b'\x06\0\xff\x07\x06\x10' + bytes(8) + b'\x20\0' + bytes(32),
                     b'\x06\0\xff\x07\x06\x12' + bytes(8) + b'\x2c\0' + bytes(44),
                     b'\x06\0\xff\x06\0\0\x11\xbe\x80\0\0\0']
            for _ in range(5000):
                data = bytearray(rng.choice(seeds))
                for _ in range(rng.randrange(6)):
                    data[rng.randrange(4, len(data))] = rng.randrange(256)
                await server.datagram(bytes(data[:rng.randrange(len(data) + 1)]))
            self.assertEqual(host.done, [])
            self.assertLessEqual(len(server.sessions), rmcp.MAX_SESSIONS)

        asyncio.run(run())

    def test_sequence_window(self):
        session = rmcp.Session(1, 2)
        self.assertFalse(session.fresh(0))
        for seq, good in ((1, True), (1, False), (2, True), (5, True), (4, True), (4, False),
                          (3, True), (2, False), (37, True), (100, False), (38, True), (5, False)):
            self.assertEqual(session.fresh(seq), good, seq)


class Tap(unittest.TestResult):
    """One line a test."""

    count = 0

    def line(self, good, test, more=''):
        self.count += 1
        name = '%s.%s' % (type(test).__name__, test.id().rsplit('.', 1)[1])
        print('%sok %d - %s%s' % ('' if good else 'not ', self.count, name, more), flush=True)

    def addSuccess(self, test):
        self.line(True, test)

    def addSkip(self, test, reason):
        self.line(True, test, ' # SKIP ' + reason)

    def _bad(self, test, error):
        self.line(False, test)
        print('\n'.join('# ' + row for row in self._exc_info_to_string(error, test).splitlines()))

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self._bad(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self._bad(test, error)


if __name__ == '__main__':
    result = Tap()
    unittest.defaultTestLoader.loadTestsFromModule(sys.modules['__main__']).run(result)
    print('1..%d' % result.count)
    sys.exit(0 if result.wasSuccessful() else 1)
