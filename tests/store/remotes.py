#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Remotes: remembered, pushed to without being asked, never forced; such that hang or lie. usage: remotes.py WHERRY-STORE"""
import os
import socket
import subprocess
import sys
import threading
import time

import p9
from serve import Store


def git(repo, *arguments, check=True):
    return subprocess.run(['git', '-C', repo, *arguments], capture_output=True, check=check, timeout=60).stdout.decode().strip()


def until(what, seconds=20, why=None):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, why and why()
        time.sleep(0.02)


def wait_error(c, name, text):
    until(lambda: text in c.read('remotes/%s/error' % name), why=lambda: (c.read('remotes/%s/error' % name), c.read('remotes/%s/state' % name), c.read('remotes/%s/lag' % name)))


class Server:
    """A TCP server that does what `fn` does with each connection."""
    def __init__(self, fn):
        self.sock = socket.socket()
        self.sock.bind(('127.0.0.1', 0))
        self.sock.listen(8)
        self.kept = []
        self.fn = fn
        self.url = 'git://127.0.0.1:%d/x' % self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c = self.sock.accept()[0]
            except OSError:
                return
            self.kept.append(c)
            try:
                self.fn(c)
            except OSError:
                pass

    def close(self):
        self.sock.close()
        for c in self.kept:
            c.close()


def auto_push(store, c):
    far = os.path.join(store.dir.name, 'far.git')
    subprocess.run(['git', 'init', '-q', '--bare', '-b', 'main', far], check=True)
    head = store.commit(c, 'main', {'a': b'1'})
    c.mkdir('remotes', 'far')
    c.write('remotes/far/url', 'file://' + far)
    c.write('remotes/far/timeout', '30')
    c.write('remotes/far/auto-push', 'main kept/x\n')
    until(lambda: git(far, 'rev-parse', '--verify', '-q', 'main', check=False) == head)
    for i in range(5):
        head = store.commit(c, 'main', {'a': b'%d' % (i + 2)}, name='p%d' % i)
    store.commit(c, 'other', {'b': b'1'})
    until(lambda: git(far, 'rev-parse', 'main') == head)
    until(lambda: c.read('remotes/far/state') == b'idle\n')
    assert c.read('remotes/far/lag') == b'main 0\n', c.read('remotes/far/lag')
    assert 'other' not in git(far, 'branch')
    # remembered by the next server, which brings what was committed meanwhile
    c.close()
    store.stop()
    head = store.run('put', store.repo + '@main', 'later', input=b'x').stdout.decode().strip()
    store.start()
    c = store.client()
    assert c.ls('remotes') == ['far'] and c.read('remotes/far/auto-push') == b'main kept/x'
    assert c.read('remotes/far/timeout') == b'30'
    until(lambda: git(far, 'rev-parse', 'main') == head)
    # somebody else moved it: an error that says so, and nothing is forced
    until(lambda: c.read('remotes/far/state') == b'idle\n')
    subprocess.run('git clone -q %s work && cd work && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m theirs && '
                   'git push -q' % far, shell=True, check=True, cwd=store.dir.name, stderr=subprocess.DEVNULL)
    theirs = git(far, 'rev-parse', 'main')
    store.commit(c, 'main', {'a': b'ours'}, name='d')
    wait_error(c, 'far', b'rejected')
    assert git(far, 'rev-parse', 'main') == theirs and c.read('remotes/far/lag') == b'main 1\n'
    # fetched and merged, it goes through
    until(lambda: write_when_free(c, 'remotes/far/fetch', 'main'))
    assert theirs in store.git('rev-parse', 'refs/wherry/remotes/far/main')
    c.mkdir('branch/main/transactions', 'm')
    c.write('branch/main/transactions/m/merge', theirs)
    c.write('branch/main/transactions/m/ctl', 'commit')
    until(lambda: git(far, 'rev-parse', 'main') == c.read('branch/main/head').decode().strip())
    # gone for a while, then there again
    os.rename(far, far + '.away')
    store.commit(c, 'main', {'a': b'away'}, name='e')
    until(lambda: c.read('remotes/far/state') == b'failed\n')
    os.rename(far + '.away', far)
    until(lambda: git(far, 'rev-parse', 'main') == c.read('branch/main/head').decode().strip())
    until(lambda: c.read('remotes/far/error') == b'')
    c.wstat('remotes/far', 'near')
    assert c.ls('remotes') == ['near'] and os.listdir(os.path.join(store.repo, 'wherry/remotes')) == ['near']
    c.remove('remotes/near')
    assert os.listdir(os.path.join(store.repo, 'wherry/remotes')) == []
    return c


def write_when_free(c, path, data):
    try:
        c.write(path, data)
        return True
    except p9.Error as e:
        if 'busy' in e.text:
            return False
        raise


def bad_remotes(store, c):
    hang = Server(lambda s: None)
    cut = Server(lambda s: (s.recv(100), s.sendall(b'0008NAK'), s.close()))
    noise = Server(lambda s: (s.recv(100), s.sendall(os.urandom(4096)), s.close()))
    # it says that it has a commit, and sends no objects
    head = b'0123456789012345678901234567890123456789 refs/heads/main'
    def lie(s):
        s.recv(4096)
        s.sendall(b'%04x' % (len(head) + 4 + 1) + head + b'\0' + b'0000')
        s.recv(4096)
        s.sendall(b'0008NAK\n' + b'PACK\0\0\0\2\0\0\0\0' + b'\0' * 20)
        s.close()
    liar = Server(lie)
    c.mkdir('remotes', 'bad')
    c.write('remotes/bad/timeout', '1')
    other = store.client()
    for server, why in ((hang, b'no end within 1 s'), (cut, b''), (noise, b''), (liar, b'')):
        c.write('remotes/bad/url', server.url)
        fid = c.open('remotes/bad/fetch', 1)
        tag = c.send('write', b''.join((fid.to_bytes(4, 'little'), b'\0' * 8, (4).to_bytes(4, 'little'), b'main')))
        other.read('branch/main/head')  # others are served meanwhile
        try:
            c.wait(tag)
            raise AssertionError('believed %r' % server.url)
        except p9.Error as e:
            assert 'error: cannot' in e.text, e.text
        c.clunk(fid)
        assert why in c.read('remotes/bad/error') and c.read('remotes/bad/error'), c.read('remotes/bad/error')
        assert c.read('remotes/bad/state') == b'failed\n'
        server.close()
    # a repository from which an object was taken
    far = os.path.join(store.dir.name, 'broken.git')
    subprocess.run(['git', 'clone', '-q', '--bare', store.repo, far], check=True)
    subprocess.run('git repack -adq && git unpack-objects -q < $(ls objects/pack/*.pack) ; mkdir p; mv objects/pack/* p; '
                   'git unpack-objects -q < $(ls p/*.pack); tree=$(git rev-parse "main^{tree}"); '
                   'rm -f objects/$(echo $tree | cut -c 1-2)/$(echo $tree | cut -c 3-)', shell=True, check=True, cwd=far, stderr=subprocess.DEVNULL)
    with_new = store.git('rev-parse', 'main').strip()
    fresh = Store(store.program)
    fresh.start()
    f = fresh.client()
    f.mkdir('remotes', 'b')
    f.write('remotes/b/url', far)
    try:
        f.write('remotes/b/fetch', 'main')
        raise AssertionError('took a broken repository')
    except p9.Error:
        pass
    try:
        f.walk('snapshots/' + with_new)
        raise AssertionError('half of it is there')
    except p9.Error:
        pass
    f.close()
    fresh.stop()
    fresh.server.stdout.close()
    fresh.dir.cleanup()
    c.remove('remotes/bad')
    for name in ('..', '.x', 'a b', 'x' * 150):
        try:
            c.mkdir('remotes', name)
            raise AssertionError(name)
        except p9.Error:
            pass


def main():
    with Store(sys.argv[1]) as store:
        c = auto_push(store, store.client('9P2000.u'))
        bad_remotes(store, c)
        c.close()
    print('ok')


main()
