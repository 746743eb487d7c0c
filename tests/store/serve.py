# SPDX-License-Identifier: ISC
"""A store in a temporary folder and `wherry store serve` on it, for tests."""
import os
import subprocess
import tempfile

import p9


class Store:
    def __init__(self, program, *options):
        self.dir = tempfile.TemporaryDirectory(prefix='wherry-store-')
        self.program = program
        self.repo = os.path.join(self.dir.name, 'repo.git')
        self.socket = os.path.join(self.dir.name, 'socket')
        self.options = options
        self.server = None
        self.run('init', self.repo)

    def run(self, *arguments, input=None, check=True):
        r = subprocess.run([self.program, *arguments], input=input, capture_output=True, timeout=60)
        assert not check or r.returncode == 0, (arguments, r)
        return r

    def git(self, *arguments, check=True):
        r = subprocess.run(['git', '-C', self.repo, *arguments], capture_output=True, timeout=120)
        assert not check or r.returncode == 0, (arguments, r)
        return r.stdout.decode()

    def __enter__(self):
        self.start()
        return self

    def start(self):
        self.server = subprocess.Popen([self.program, 'serve', self.repo, '--listen', 'unix:' + self.socket, *self.options],
                                       stdout=subprocess.PIPE)
        line = self.server.stdout.readline()
        assert line.startswith(b'listening'), line

    def stop(self):
        self.server.terminate()
        assert self.server.wait(30) == 0, 'the server ended with %d' % self.server.returncode

    def __exit__(self, kind, value, trace):
        try:
            if kind:
                self.server.kill()
                self.server.wait()
            else:
                self.stop()
                self.git('fsck', '--strict', '--no-dangling')
        finally:
            self.server.stdout.close()
            self.dir.cleanup()

    def client(self, dialect='9P2000', **more):
        return p9.Client(self.socket, dialect, **more)

    def commit(self, c, branch, files, name='t', message='test'):
        """One transaction over 9P; files: path -> bytes, None = remove. Returns the head."""
        c.mkdir('branch', branch)
        c.mkdir('branch/%s/transactions' % branch, name)
        rw = 'branch/%s/transactions/%s/rw' % (branch, name)
        for path, data in files.items():
            if data is None:
                c.remove(rw + '/' + path)
                continue
            at = rw
            for step in path.split('/')[:-1]:
                try:
                    c.mkdir(at, step)
                except p9.Error:
                    pass
                at += '/' + step
            c.create(at, path.split('/')[-1], data)
        c.write('branch/%s/transactions/%s/msg' % (branch, name), message)
        c.write('branch/%s/transactions/%s/ctl' % (branch, name), 'commit')
        return c.read('branch/%s/head' % branch).decode().strip()
