"""What the measurements with real clusters share: a cluster of `cairn dev`, files in it, and programs that use them."""

import json, os, subprocess, time

MIB = 1 << 20


class Cluster:
    def __init__(self, cairn, root):
        self.cairn, self.root, self.mount = cairn, root, root + '/mnt'

    def run(self, *args):
        done = subprocess.run([self.cairn, *args], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.stdout

    def dev(self, *args):
        return self.run('dev', *args, '--root', self.root)

    def up(self, chunkservers=5):
        shape = ['--chunkservers', str(chunkservers)]
        if not os.path.exists(self.root + '/cluster.json'):
            shape += ['--mount', self.mount, '--masters', '3', '--replicas', '3']
        self.dev('up', *shape)
        self.parts = self.processes()
        self.masters = ','.join(p['address'] for p in self.parts if p['role'] == 'master')

    def processes(self):
        return json.loads(self.dev('ps', '--json'))

    def leader(self):
        while True:
            for process in self.processes():
                if process.get('leader'):
                    return process['name']
            time.sleep(0.05)

    def ask(self, *args):
        return json.loads(self.run('--masters', self.masters, '--json', 'admin', *args))

    def data_dir(self, name):
        return next(p['data_dirs'][0] for p in self.parts if p['name'] == name)

    def address(self, name):
        return next(p['address'] for p in self.parts if p['name'] == name)

    def is_whole(self):
        """Every chunk of every file has its copies. (Chunks that a writer has got and not written yet are its own matter.)"""
        current = lambda chunk: sum(replica['state'] == 'current' for replica in chunk['replicas'])
        return self.is_idle() and all(current(chunk) >= 3 for chunk in self.ask('chunks', '/'))

    def is_idle(self, status=None):
        status = status or self.ask('status')
        return status['short_chunks'] + status['repairs_waiting'] + status['repairs_under_way'] == 0

    def wait_whole(self, patience=900):
        begun = time.monotonic()
        while not self.is_whole():
            if time.monotonic() - begun > patience:
                raise RuntimeError('not whole in time')
            time.sleep(0.5)


def write_files(cluster, mib, largest=64):
    """Mixed files: 60 KB, 4 MiB and `largest` MiB."""
    noise, left, number, large = os.urandom(MIB), mib, 0, []
    while left > 0:
        size = largest if number % 8 == 0 else 4 if number % 2 else 0
        path = f'{cluster.mount}/f{number}'
        with open(path, 'wb') as file:
            file.write(noise[:60000]) if size == 0 else [file.write(noise) for _ in range(size)]
            file.flush()
            os.fsync(file.fileno())
        if size:
            large.append((path, size * MIB))
        left -= size or 0.06
        number += 1
    return number, large


class Programs:
    """Three reads of 16 KiB, past the kernel's cache, to one write of 16 KiB with fsync."""

    def __init__(self, binary, cluster, large, directory):
        self.file = directory + '/samples'
        self.process = subprocess.Popen(
            [binary, cluster.mount + '/w', *(path for path, _ in large)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.samples, self.errors = [], 0

    def say(self, what):
        self.process.stdin.write(what + '\n')
        self.process.stdin.flush()
        return float(self.process.stdout.readline().replace('ok', '0'))

    def capacity(self, seconds):
        return self.say(f'closed {seconds}')

    def begin(self, rate):
        """Open loop: what is due is not put off because what came before was late."""
        self.say(f'open {rate}')

    def end(self):
        self.errors += int(self.say(f'end {self.file}'))
        with open(self.file) as lines:
            split = (line.split(None, 3) for line in lines)
            self.samples = [(float(due), float(took), kind) for due, took, kind, *_ in split]

    def p99(self, since, until, kind=None):
        took = sorted(t for at, t, k in self.samples if since <= at < until and kind in (None, k))
        return (took[int(len(took) * 0.99)], len(took)) if took else (0.0, 0)

    def done_per_s(self, since, until):
        """Operations that ended well in that span, per second."""
        done = sum(1 for at, took, kind in self.samples if since <= at + took < until and kind != 'error')
        return done / (until - since)
