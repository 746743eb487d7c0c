# SPDX-License-Identifier: ISC
"""What the port tests share. usage of each: NAME.py WHERRY OUT: builds the port (skips when its source cannot
be had here) and uses the image as its users do."""
import os
import re
import subprocess
import sys
import tempfile
import threading

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../..')


def build(name):
    wherry, out = sys.argv[1:3]
    p = subprocess.run([os.path.join(root, 'ports/build'), '--wherry', wherry, '--out', out, name],
                       stdout=subprocess.PIPE, text=True)
    print(p.stdout, end='', flush=True)
    if p.returncode == 77:
        sys.exit(77)
    assert p.returncode == 0, f'{name} was not built'
    return os.path.join(out, name)


def run(image, *arguments, options=(), text='', status=0):
    """One run to its end; what it wrote on standard output."""
    p = subprocess.run([sys.argv[1], 'run', '--engine', 'proc', *options, image, '--', *arguments], input=text,
                       capture_output=True, text=True, timeout=120)
    assert p.returncode == status, (p.returncode, p.stdout[-2000:], p.stderr[-2000:])
    return p.stdout


class Server:
    """A running image with one published port; `port` is the host's."""

    def __init__(self, image, guest_port, *arguments, options=()):
        self.process = subprocess.Popen(
            [sys.argv[1], 'run', '--engine', 'proc', '--verbose', '-p', f'0:{guest_port}', *options, image, '--', *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines, self.changed, self.port, self.done = [], threading.Condition(), None, False
        threading.Thread(target=self.read, daemon=True).start()
        self.wait(lambda: self.port)

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                m = re.search(r'127\.0\.0\.1:(\d+)', line)
                if m and not self.port:
                    self.port = int(m[1])
                self.changed.notify_all()
        with self.changed:
            self.done = True
            self.changed.notify_all()

    def wait(self, condition, seconds=60):
        with self.changed:
            self.changed.wait_for(lambda: condition() or self.done, seconds)
            assert condition(), 'the server said:\n' + ''.join(self.lines)

    def wait_for(self, text):
        self.wait(lambda: any(text in line for line in self.lines))

    def stop(self, status=0):
        self.process.terminate()
        code = self.process.wait(60)
        assert code == status, (code, ''.join(self.lines[-20:]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def folder():
    return tempfile.TemporaryDirectory(prefix='wherry-port-')
