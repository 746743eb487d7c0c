#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Tokens at attach: what each allows, and that nothing else gets by. usage: tokens.py WHERRY-STORE"""
import base64
import struct
import sys
import time

import p9
from serve import Store


def fails(fn, *arguments, text=None):
    try:
        fn(*arguments)
    except p9.Error as e:
        assert text is None or text in e.text or e.text == '', (e.text, text)
        return
    raise AssertionError('was allowed: %r' % (arguments,))


def begin(c, name='t'):
    c.mkdir('transactions', name)
    return 'transactions/' + name


def folder(store, dialect):
    """A token for one folder: reads and writes below it, and finds nothing else."""
    token = store.run('token', store.repo + '@main', 'ci', 'a/b').stdout.decode().strip()
    c = store.client(dialect, aname=token)
    assert sorted(c.ls('')) == ['head', 'head.live', 'history', 'ro', 'transactions', 'watch'], c.ls('')
    assert c.ls('ro') == ['in'] and c.read('ro/in') == b'inside\n'
    for path in ('events', 'apply', 'at', 'log', 'diff', 'reflog', 'fast-forward', 'ro/../../../trees', '../../trees',
                 'events@' + c.read('head').decode().strip(), 'ro/secret', 'ro/../secret', 'watch/../../secret'):
        fails(c.walk, path)
    for up in ('ro/..', 'watch/..', 'history/..', '..', '../..', 'ro/../..'):
        fid = c.walk(up)
        fails(c.walk, ['ro', 'secret'], fid)
        c.walk(['ro', 'in'], fid)
    tx = begin(c)
    assert sorted(c.ls(tx)) == ['ctl', 'durability', 'msg', 'origin', 'rw'], c.ls(tx)
    for path in ('merge', 'parents', 'lease', 'diff', 'ours', 'rw/../../parents', 'rw/secret', 'rw/../rw/secret'):
        fails(c.walk, tx + '/' + path)
    assert c.ls(tx + '/rw') == ['in']
    fails(c.remove, tx + '/rw')
    c.create(tx + '/rw', 'new', 'by ci\n')
    c.write(tx + '/msg', 'from the token')
    c.write(tx + '/ctl', 'commit')
    assert store.git('show', 'main:a/b/new') == 'by ci\n'
    assert store.git('log', '-1', '--format=%an', 'main').strip() == 'ci'
    assert store.git('ls-tree', '-r', '--name-only', 'main').split() == ['a/b/in', 'a/b/new', 'a/other', 'secret']
    # a folder that was taken away while the transaction was open, and one that never was
    tx = begin(c, 'u')
    c.remove(tx + '/rw/new')
    c.remove(tx + '/rw/in')
    c.create(tx + '/rw', 'in', 'inside\n')
    c.write(tx + '/ctl', 'commit')
    assert b'\n' in c.read('history/log') and 'ci' in c.read('history/log').decode()
    c.close()
    token = store.run('token', store.repo + '@main', 'ci', 'not/yet').stdout.decode().strip()
    c = store.client(dialect, aname=token)
    fails(c.ls, 'ro')
    tx = begin(c)
    c.create(tx + '/rw', 'x', '1')
    c.write(tx + '/ctl', 'commit')
    assert store.git('show', 'main:not/yet/x') == '1'
    c.close()
    whole = store.client(dialect)
    whole.mkdir('branch/main/transactions', 'clean')
    whole.remove('branch/main/transactions/clean/rw/not')
    whole.write('branch/main/transactions/clean/ctl', 'commit')
    whole.close()


def operations(store, dialect):
    """read cannot change anything, write cannot touch branches, admin can."""
    def token(allow, where='@main'):
        return store.run('token', store.repo + where, 'who', '--allow', allow).stdout.decode().strip()
    head = store.git('rev-parse', 'main').strip()
    c = store.client(dialect, aname=token('read'))
    assert c.read('ro/secret') == b'hidden\n'
    fails(c.mkdir, 'transactions', 't')
    fails(c.write, 'apply', 'put x 1\n')
    fails(c.write, 'fast-forward', head)
    fails(c.remove, '')
    c.close()
    c = store.client(dialect, aname=token('write', ''))
    assert 'branch' in c.ls('')
    fails(c.mkdir, 'branch', 'other', text='does not allow')
    fails(c.mkdir, 'remotes', 'r')
    fails(c.remove, 'branch/main')
    fails(c.write, 'branch/main/fast-forward', head, text='does not allow')
    c.mkdir('branch/main/transactions', 't')
    c.write('branch/main/transactions/t/ctl', 'close')
    if not c.L:
        fails(c.wstat, 'branch/main', 'moved')
    c.close()
    c = store.client(dialect, aname=token('admin', ''))
    c.mkdir('branch', 'made')
    c.write('branch/made/fast-forward', head)
    c.remove('branch/made')
    c.close()
    # as user name, and a second attach on the same connection
    c = store.client(dialect, uname=token('read'))
    assert 'ro' in c.ls('')
    extra = struct.pack('<I', 0) if c.L or c.u else b''
    for name in ('', 'branch/main'):
        c.call('attach', struct.pack('<II', c.new_fid(), p9.NOFID) + p9.s('x') + p9.s(name) + extra)
    fails(c.write, 'fast-forward', head)
    for name in ('branch/other', token('admin', '')):
        fails(c.call, 'attach', struct.pack('<II', c.new_fid(), p9.NOFID) + p9.s('x') + p9.s(name) + extra)
    c.close()


def forged(store, dialect):
    good = store.run('token', store.repo + '@main', 'x', '--allow', 'read').stdout.decode().strip()
    body, mac = good[6:].split('.')
    plain = base64.urlsafe_b64decode(body + '=' * (-len(body) % 4))
    more = base64.urlsafe_b64encode(plain.replace(b'allow read', b'allow admin')).decode().rstrip('=')
    bad = ['token:', 'token:.', 'token:' + body, 'token:' + body + '.', 'token:' + more + '.' + mac, 'token:' + body + '.' + mac[:-2],
           'token:' + body + '.' + mac + 'A', good + '=', good + '\0', 'token:' + body + '=.' + mac, 'token:' + 'A' * 5000 + '.' + mac,
           'token:' + body + '.' + mac[::-1], 'token:' + body[1:] + '.' + mac, 'token:' + body + '.' + 'A' * 43]
    for i in range(0, len(good), 7):
        if i >= 6 and good[i] != '.':
            bad.append(good[:i] + ('A' if good[i] != 'A' else 'B') + good[i + 1:])
    for text in bad:
        fails(lambda: store.client(dialect, aname=text))
    # nobody attaches without one
    fails(lambda: store.client(dialect, aname='branch/main'), text='token is needed')
    store.client(dialect, aname=good).close()


def over(store):
    token = store.run('token', store.repo + '@main', 'brief', '--ttl', '5s').stdout.decode().strip()
    c = store.client('9P2000.u', aname=token)
    c.read('head')
    fid = c.open('head')
    end = time.monotonic() + 30
    while True:
        try:
            c.read('head')
        except p9.Error as e:
            assert 'expired' in e.text, e.text
            break
        assert time.monotonic() < end
    fails(c.read_at, fid, 0, 10)
    fails(c.mkdir, 'transactions', 't')
    c.close()
    fails(lambda: store.client('9P2000.u', aname=token), text='expired')


def main():
    program = sys.argv[1]
    with Store(program) as store:
        c = store.client()
        store.commit(c, 'main', {'a/b/in': b'inside\n', 'a/other': b'o', 'secret': b'hidden\n'})
        c.close()
        for dialect in ('9P2000', '9P2000.u', '9P2000.L'):
            folder(store, dialect)
            operations(store, dialect)
            c = store.client(dialect)
            c.mkdir('branch/main/transactions', 'back')
            c.remove('branch/main/transactions/back/rw/a/b')
            c.mkdir('branch/main/transactions/back/rw/a', 'b')
            c.create('branch/main/transactions/back/rw/a/b', 'in', 'inside\n')
            c.write('branch/main/transactions/back/ctl', 'commit')
            c.close()
        over(store)
        for bad in (('@main', 'na me'), ('@main', 'x', '../up'), ('@main', 'x', 'a//b'), ('@main', 'x', 'p', '--allow', 'all'),
                    ('@main', 'x', '--ttl', 'soon'), ('@main', '')):
            assert store.run('token', store.repo + bad[0], *bad[1:], check=False).returncode not in (0, -6, -11), bad
    with Store(program, '--tokens') as store:
        for dialect in ('9P2000', '9P2000.L'):
            forged(store, dialect)
    print('ok')


main()
