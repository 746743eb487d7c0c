#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""git over HTTP, and 9P over vsock, against a served store. usage: http.py WHERRY-STORE"""
import os
import socket
import subprocess
import sys

import p9
from serve import Store


def start(store, *more, listen='http:127.0.0.1:0'):
    p = subprocess.Popen([store.program, 'serve', store.repo, '--listen', listen, '--listen', 'unix:' + store.socket, *more],
                         stdout=subprocess.PIPE)
    where = p.stdout.readline().decode().split('on ')[1].strip()
    p.stdout.readline()
    return p, where


def stop(p):
    p.terminate()
    assert p.wait(30) == 0
    p.stdout.close()


def git(cwd, *arguments, check=True, **env):
    e = dict(os.environ, GIT_TERMINAL_PROMPT='0', GIT_AUTHOR_NAME='a', GIT_AUTHOR_EMAIL='a@b', GIT_COMMITTER_NAME='a',
             GIT_COMMITTER_EMAIL='a@b', **env)
    r = subprocess.run(['git', *arguments], cwd=cwd, capture_output=True, timeout=100, env=e)
    assert not check or r.returncode == 0, r
    return r if not check else r.stdout.decode().strip()


def raw(port, data, shut=False):
    s = socket.create_connection(('127.0.0.1', port))
    s.settimeout(60)
    s.sendall(data)
    if shut:
        s.shutdown(socket.SHUT_WR)
    out = b''
    while True:
        try:
            more = s.recv(65536)
        except ConnectionResetError:
            break
        if not more:
            break
        out += more
    s.close()
    return out


def exchange(store, url):
    work = os.path.join(store.dir.name, 'work')
    git(store.dir.name, 'clone', '-q', url, work)
    assert open(os.path.join(work, 'a')).read() == '1'
    with open(os.path.join(work, 'big'), 'wb') as f:
        f.write(os.urandom(3 << 20))  # more than git sends in one piece: chunks
    git(work, 'add', '.')
    git(work, 'commit', '-q', '-m', 'big')
    git(work, 'push', '-q')
    assert store.git('rev-parse', 'main').strip() == git(work, 'rev-parse', 'HEAD')
    c = store.client('9P2000.L')
    assert c.stat('branch/main/ro/big')['length'] == 3 << 20
    head = store.commit(c, 'main', {'a': b'2'})
    c.close()
    git(work, 'pull', '-q')
    assert git(work, 'rev-parse', 'HEAD') == head
    # two who push at once: one of them is told to fetch first
    git(work, 'commit', '-q', '--allow-empty', '-m', 'x')
    git(store.dir.name, 'clone', '-q', url, 'second')
    git(os.path.join(store.dir.name, 'second'), 'commit', '-q', '--allow-empty', '-m', 'y')
    git(os.path.join(store.dir.name, 'second'), 'push', '-q')
    assert git(work, 'push', '-q', check=False).returncode != 0
    return work


def hostile(port):
    for bad in (b'\r\n\r\n', b'GET\r\n\r\n', b'GET / HTTP/2\r\n\r\n', b'GET /info/refs HTTP/1.1\r\nno colon\r\n\r\n', b'\0' * 100 + b'\r\n\r\n',
                b'POST /git-upload-pack HTTP/1.1\r\nContent-Length: -1\r\n\r\n', b'POST /git-upload-pack HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
                b'POST /git-upload-pack HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n', b'G' * 20000,
                b'POST /git-upload-pack HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n'):
        r = raw(port, bad, shut=True)
        assert r == b'' or r.startswith(b'HTTP/1.1 400'), (bad, r)
    for path in (b'/', b'/config', b'/objects/info/packs', b'/../../etc/passwd', b'/HEAD', b'/wherry/token-key', b'/info/refs',
                 b'/info/refs?service=evil'):
        assert raw(port, b'GET ' + path + b' HTTP/1.1\r\n\r\n').startswith(b'HTTP/1.1 404'), path
    for chunk in (b'zz\r\n', b'ffffffffffffffffffff\r\n', b'5\r\nabcdeX', b'\r\n'):
        raw(port, b'POST /git-upload-pack HTTP/1.1\r\nContent-Type: application/x-git-upload-pack-request\r\n'
                  b'Transfer-Encoding: chunked\r\n\r\n' + chunk, shut=True)


def tokens(store):
    p, where = start(store, '--tokens')
    url = 'http://%s/' + where.split('http:')[1]
    def at(token):
        return 'http://x:%s@%s/' % (token, where.split('http:')[1])
    def token(*more):
        return store.run('token', *more).stdout.decode().strip()
    names = dict(read=token(store.repo, 'r', '--allow', 'read'), admin=token(store.repo, 'adm', '--allow', 'admin'),
                 one=token(store.repo + '@main', 'o', '--allow', 'admin'), bad='token:x.y')
    ls = lambda who: git('/', 'ls-remote', at(names[who]), check=False).returncode
    assert ls('read') == 0 and ls('admin') == 0 and ls('one') != 0 and ls('bad') != 0
    assert git('/', 'ls-remote', 'http://%s/' % where.split('http:')[1], check=False).returncode != 0
    work = os.path.join(store.dir.name, 'second')
    git(work, 'pull', '-q', '--rebase', at(names['read']), 'main')
    git(work, 'commit', '-q', '--allow-empty', '-m', 'z')
    assert git(work, 'push', '-q', at(names['read']), 'HEAD:main', check=False).returncode != 0
    git(work, 'push', '-q', at(names['admin']), 'HEAD:main')
    assert store.git('rev-parse', 'main').strip() == git(work, 'rev-parse', 'HEAD')
    stop(p)
    assert store.run('serve', store.repo, '--listen', 'git:127.0.0.1:0', '--tokens', check=False).returncode != 0


def vsock(store):
    if not hasattr(socket, 'AF_VSOCK'):
        return
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError:
        print('no vsock here')
        return
    p, where = start(store, listen='vsock:0')
    port = int(where.split(':')[1])
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        s.connect((1, port))
    except OSError as e:
        print('vsock without loopback: %s' % e)
        s.close()
        stop(p)
        return
    s.sendall((19).to_bytes(4, 'little') + b'\x64\xff\xff' + (8192).to_bytes(4, 'little') + (6).to_bytes(2, 'little') + b'9P2000')
    assert b'9P2000' in s.recv(100)
    s.close()
    stop(p)


def main():
    store = Store(sys.argv[1])
    store.run('put', store.repo + '@main', 'a', input=b'1')
    p, where = start(store)
    port = int(where.rsplit(':', 1)[1])
    exchange(store, 'http://127.0.0.1:%d/' % port)
    exchange_path = 'http://127.0.0.1:%d/any/name.git' % port
    assert git('/', 'ls-remote', exchange_path)
    hostile(port)
    assert git('/', 'ls-remote', exchange_path)
    stop(p)
    p, where = start(store, '--read-only')
    url = 'http://127.0.0.1:%s/' % where.rsplit(':', 1)[1]
    git('/', 'ls-remote', url)
    assert git(os.path.join(store.dir.name, 'second'), 'push', '-q', url, 'HEAD:other', check=False).returncode != 0
    stop(p)
    tokens(store)
    vsock(store)
    store.git('fsck', '--strict', '--no-dangling')
    store.dir.cleanup()
    print('ok')


main()
