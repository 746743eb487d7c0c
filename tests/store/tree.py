#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""The tree over 9P in three dialects: what DataKit's clients rely on. usage: tree.py WHERRY-STORE"""
import struct
import sys
import threading

import p9
from serve import Store

DIALECTS = ('9P2000', '9P2000.u', '9P2000.L')


def fails(text, number, fn, *arguments, c):
    try:
        fn(*arguments)
    except p9.Error as e:
        if c.L or c.u:
            assert e.errno == number, (e.errno, number, e.text)
        if not c.L and text:
            assert e.text == text, (e.text, text)
        return
    raise AssertionError('%s%r did not fail' % (fn.__name__, arguments))


def basics(store, c):
    b = 'b' + c.dialect[-1]
    assert sorted(c.ls('')) == ['branch', 'commits', 'debug', 'remotes', 'snapshots', 'trees']
    fails('No such file or directory', 2, c.walk, 'nothing', c=c)
    fails('No such file or directory', 2, c.walk, 'branch/nothing/head', c=c)
    c.mkdir('branch', b)
    assert b in c.ls('branch')
    assert c.read('branch/%s/head' % b) == b'\n'
    fails("Can't walk from a file", 20, c.walk, 'branch/%s/head/x' % b, c=c)
    first = store.commit(c, b, {'a': b'1', 'dir/x': b'2'}, message='one')
    assert c.read('branch/%s/ro/a' % b) == b'1'
    assert store.git('show', b + ':dir/x') == '2'
    assert store.git('log', '--format=%B', '-1', b).strip() == 'one'
    assert c.ls('branch/%s/transactions' % b) == []
    assert sorted(c.ls('branch/%s/ro' % b)) == ['a', 'dir']
    second = store.commit(c, b, {'a': b'1 more', 'foo': b'bar', 'dir/x': None})
    assert c.read('branch/%s/ro/a' % b) == b'1 more'
    assert sorted(c.read('snapshots/%s/diff/%s' % (second, first)).decode().splitlines()) == ['* a', '+ foo', '- dir/x']
    assert sorted(c.read('branch/%s/diff/%s' % (b, first)).decode().splitlines()) == ['* a', '+ foo', '- dir/x']
    snap = 'snapshots/' + first
    assert c.read(snap + '/hash').decode() == first and c.read(snap + '/msg') == b'one\n' and c.read(snap + '/parents') == b''
    assert c.read('snapshots/%s/parents' % second).decode() == first + '\n'
    assert c.read(snap + '/ro/dir/x') == b'2'
    assert first.encode() in c.read('commits/' + first)
    fails('No such file or directory', 2, c.read, 'commits/' + '0' * 40, c=c)
    fails('No such file or directory', 2, c.read, 'snapshots/%s/hash' % first[:10], c=c)
    blob = store.git('rev-parse', b + ':foo').strip()
    assert c.read('trees/F-' + blob) == b'bar'
    tree = store.git('rev-parse', b + '^{tree}').strip()
    assert sorted(c.ls('trees/D-' + tree)) == ['a', 'foo']
    assert c.read('branch/%s/at/~1/ro/a' % b) == b'1'
    assert second in c.read('branch/%s/log' % b).decode().splitlines()[0]
    assert len(c.read('branch/%s/history/foo.node/log' % b).splitlines()) == 1


def transactions(store, c):
    b = 't' + c.dialect[-1]
    store.commit(c, b, {'a': b'1'})
    t = 'branch/%s/transactions/x' % b
    c.mkdir('branch/%s/transactions' % b, 'x')
    fails('Already exists', 17, c.mkdir, 'branch/%s/transactions' % b, 'x', c=c)
    if not c.L:
        fails('Can only contain directories', 1, c.create, 'branch/%s/transactions' % b, 'file', c=c)
        fails('Directory is read-only', 30, c.create, 'branch/%s/ro' % b, 'file', c=c)
    want = {'rw', 'msg', 'parents', 'origin', 'ctl', 'merge', 'diff'}
    assert want <= set(c.ls(t)) and 'conflicts' not in c.ls(t)
    assert c.read(t + '/parents') == c.read('branch/%s/head' % b)
    assert c.read(t + '/origin') == b''
    if c.u:
        fd = c.open(t + '/origin')
        fails('Offset 100 beyond end-of-file (len = 0)', 22, c.read_at, fd, 100, 10, c=c)
    fails('Unknown command "dance"', 22, c.write, t + '/ctl', 'dance', c=c)
    c.create(t + '/rw', 'a', b'longer')
    c.create(t + '/rw', 'a', b'2')  # truncates
    assert c.read(t + '/rw/a') == b'2'
    fid = c.open(t + '/rw/a', 1)
    c.write_at(fid, 4, b'end')
    assert c.read(t + '/rw/a') == b'2\0\0\0end'
    assert c.read('branch/%s/ro/a' % b) == b'1'
    assert c.read(t + '/diff/' + c.read('branch/%s/head' % b).decode().strip()) == b'* a\n'
    c.mkdir(t + '/rw', 'd')
    fails('Already exists', 17, c.mkdir, t + '/rw', 'd', c=c)
    if not c.L:
        fails('Is a directory', 21, c.create, t + '/rw', 'd', c=c)
        c.wstat(t + '/rw/a', name='renamed')
        c.wstat(t + '/rw/renamed', length=1)
        c.wstat(t + '/rw/renamed', mode=0o755)
        fails('Operation not permitted', 1, lambda: c.wstat(t + '/rw/d', mode=0o755), c=c)
        assert c.stat(t + '/rw/renamed')['mode'] & 0o777 == 0o775
        c.wstat(t + '/rw/renamed', name='a')
        c.wstat(t + '/rw/a', mode=0o644)
    fails('Operation not permitted', 1, c.remove, t + '/rw', c=c)
    c.write(t + '/ctl', 'close\n')
    fails('No such file or directory', 2, c.walk, t, c=c)
    c.clunk(fid)
    # two at once: no conflict, then one
    for name in ('p', 'q'):
        c.mkdir('branch/%s/transactions' % b, name)
        c.create('branch/%s/transactions/%s/rw' % (b, name), name, name.encode())
    for name in ('p', 'q'):
        c.write('branch/%s/transactions/%s/ctl' % (b, name), 'commit')
    assert sorted(c.ls('branch/%s/ro' % b)) == ['a', 'p', 'q']
    for name in ('p', 'q'):
        c.mkdir('branch/%s/transactions' % b, name)
        c.create('branch/%s/transactions/%s/rw' % (b, name), 'a', name.encode())
    c.write('branch/%s/transactions/p/ctl' % b, 'commit')
    fails('Merge conflict: Changed on both branches', 125, c.write, 'branch/%s/transactions/q/ctl' % b, 'commit', c=c)
    head = c.read('branch/%s/head' % b).decode().strip()
    q = 'branch/%s/transactions/q' % b
    c.write(q + '/merge', head)
    assert c.read(q + '/merge') == b'ok'
    assert c.read(q + '/conflicts') == b'a\n'
    assert c.read(q + '/ours/a') == b'q' and c.read(q + '/theirs/a') == b'p' and c.read(q + '/base/a') == b'1'
    fails('conflicts file is not empty', 125, c.write, q + '/ctl', 'commit', c=c)
    c.create(q + '/rw', 'a', b'both')
    assert c.read(q + '/conflicts') == b''
    c.write(q + '/ctl', 'commit')
    assert c.read('branch/%s/ro/a' % b) == b'both'
    if not c.L:
        c.wstat('branch/' + b, name=b + 'new')
        assert b + 'new' in c.ls('branch')
        c.wstat('branch/%snew' % b, name=b)
    # an outside commit is refused as fast-forward only when it is none
    other = store.git('commit-tree', '-m', 'alone', store.git('rev-parse', b + '^{tree}').strip()).strip()
    fails('not-fast-forward', 1, c.write, 'branch/%s/fast-forward' % b, other, c=c)
    nxt = store.git('commit-tree', '-m', 'next', '-p', head, '-p', store.git('rev-parse', b).strip(), store.git('rev-parse', b + '^{tree}').strip()).strip()
    c.write('branch/%s/fast-forward' % b, nxt + '\n')
    assert store.git('rev-parse', b).strip() == nxt


def line_of(c, fid, at):
    """The next line of a live file as a patient client reads it. Returns the line and the new offset."""
    while True:
        b = c.read_at(fid, at, 4096)
        if b:
            return b.decode(), at + len(b)
        assert c.L or c.u, 'an empty read in 9P2000 means the end'


def live(store, c):
    b = 'l' + c.dialect[-1]
    other = store.client()
    c.mkdir('branch', b)
    head = c.open('branch/%s/head.live' % b)
    tree = c.open('branch/%s/watch/tree.live' % b)
    sub = c.open('branch/%s/watch/d.node/x.node/tree.live' % b)
    log = c.open('branch/%s/reflog' % b)
    line, head_at = line_of(c, head, 0)
    assert line == '\n'
    line, tree_at = line_of(c, tree, 0)
    assert line == 'D-4b825dc642cb6eb9a060e54bf8d69288fbee4904\n'
    line, sub_at = line_of(c, sub, 0)
    assert line == '\n'
    if c.L or c.u:  # the mark of a short read
        for fid, at in ((head, head_at), (tree, tree_at), (sub, sub_at)):
            assert c.read_at(fid, at, 4096) == b''
    waiting = {name: c.send('read', struct.pack('<IQI', fid, at, 4096)) for name, fid, at in
               (('head', head, head_at), ('tree', tree, tree_at), ('sub', sub, sub_at), ('log', log, 0))}
    assert c.read('branch/%s/head' % b) == b'\n'  # others are not held up
    one = store.commit(other, b, {'d/x': b'1'})
    assert c.wait(waiting['head'])[4:].decode() == one + '\n'
    assert c.wait(waiting['tree'])[4:].startswith(b'D-')
    assert c.wait(waiting['sub'])[4:].startswith(b'F-')
    assert c.wait(waiting['log'])[4:].decode() == one + '\n'
    # a change elsewhere does not wake the watch of a path; git's do wake
    tag = c.send('read', struct.pack('<IQI', sub, sub_at + 43, 4096)) if not (c.L or c.u) else None
    if tag is None:
        assert c.read_at(sub, sub_at + 43, 4096) == b''
        tag = c.send('read', struct.pack('<IQI', sub, sub_at + 43, 4096))
    two = store.commit(other, b, {'other': b'1'})
    events = c.open('branch/%s/events@%s' % (b, one))
    line, at = line_of(c, events, 0)
    assert line.startswith('commit ' + two), line
    assert tag not in c.answers
    c.call('flush', struct.pack('<H', tag))
    try:
        c.wait(tag) if tag in c.answers else None
    except p9.Error:
        pass
    new = store.git('commit-tree', '-m', 'outside', '-p', two, store.git('rev-parse', b + '^{tree}').strip()).strip()
    if c.L or c.u:
        assert c.read_at(events, at, 4096) == b''
    tag = c.send('read', struct.pack('<IQI', events, at, 4096))
    store.git('update-ref', 'refs/heads/' + b, new)
    assert c.wait(tag)[4:].decode().startswith('commit ' + new)
    store.git('pack-refs', '--all', '--prune')
    assert c.read('branch/%s/head' % b).decode().strip() == new
    # clunk ends a read that waits
    if c.L or c.u:
        c.read_at(events, at + 1000, 1) if False else None
    fid = c.open('branch/%s/reflog' % b)
    tag = c.send('read', struct.pack('<IQI', fid, 0, 100))
    c.clunk(fid)
    try:
        c.wait(tag)
    except p9.Error as e:
        assert e.errno in (4, 0)
    # bytes sent lately can be read again
    assert c.read_at(head, 0, 1)
    fails('Attempt to seek in stream', 22, c.read_at, head, 10 ** 6, 1, c=c)
    other.close()


def apply(store, c):
    b = 'a' + c.dialect[-1]
    c.mkdir('branch', b)
    fid = c.open('branch/%s/apply' % b, 2)
    text = b'message first\nhead -\nput a hello\ndata d/b%20c 6\nx\ny\nz\n\nif nothing -\n'
    c.write_at(fid, 0, text)
    head = c.read_at(fid, len(text), 100).decode().strip()
    assert head == store.git('rev-parse', b).strip()
    assert c.read('branch/%s/ro/a' % b) == b'hello\n' and c.read('branch/%s/ro/d/b c' % b) == b'x\ny\nz\n'
    fails('condition failed: head', 11, c.write, 'branch/%s/apply' % b, 'head -\nrm a\n', c=c)
    blob = store.git('rev-parse', b + ':a').strip()
    c.write('branch/%s/apply' % b, 'if a %s\nmv a moved\nrm d\n' % blob)
    assert c.ls('branch/%s/ro' % b) == ['moved']
    fails('condition failed: a', 11, c.write, 'branch/%s/apply' % b, 'if a %s\nrm moved\n' % blob, c=c)


def leases(store, c):
    b = 's' + c.dialect[-1]
    one = store.client(c.dialect)
    one.mkdir('branch', b)
    t = 'branch/%s/transactions/long' % b
    one.mkdir('branch/%s/transactions' % b, 'long')
    one.create(t + '/rw', 'f', b'kept')
    one.write(t + '/msg', 'from before')
    assert one.read(t + '/lease') == b'0\n'
    fails('a lease is a number of seconds, at most 604800', 22, one.write, t + '/lease', 'long', c=one)
    one.write(t + '/lease', '600')
    one.close()
    c.mkdir('branch', b)  # one without commits is each connection's own
    assert 'long' in c.ls('branch/%s/transactions' % b)
    fails('Already exists', 17, c.mkdir, 'branch/%s/transactions' % b, 'long', c=c)
    assert 599 <= int(c.read(t + '/lease')) <= 600
    assert b'lease %s long of' % b.encode() in c.read('debug/who')
    assert c.read(t + '/rw/f') == b'kept'
    c.write(t + '/ctl', 'commit')
    assert store.git('log', '--format=%B', b).strip() == 'from before'
    one = store.client(c.dialect)
    one.mkdir('branch', b)
    one.mkdir('branch/%s/transactions' % b, 'short')
    one.write('branch/%s/transactions/short/lease' % b, '1')
    one.mkdir('branch/%s/transactions' % b, 'back')
    one.write('branch/%s/transactions/back/lease' % b, '100')
    one.write('branch/%s/transactions/back/lease' % b, '0')
    one.close()
    for _ in range(200):
        if c.ls('branch/%s/transactions' % b) == []:
            break
        threading.Event().wait(0.05)
    assert c.ls('branch/%s/transactions' % b) == []
    assert b'Tread' in c.read('debug/trace')
    for aname, branch in (('branch/%s,ro' % b, b), ('branch/' + b, b)):
        only = store.client(c.dialect, aname=aname)
        assert 'head' in only.ls('') and only.read('ro/f') == b'kept'
        assert 'head' in only.ls('transactions/../..')
        fails(None, 2, only.walk, 'branch', c=only)
        if aname.endswith('ro'):
            fails('Directory is read-only', 30, only.mkdir, 'transactions', 'x', c=only)
            fails('Read-only file', 30, only.write, 'fast-forward', 'x', c=only)
        only.close()


def errors(store, c):
    fails('Unknown fid 77', 9, c.clunk, 77, c=c)
    fid = c.walk('branch')
    fails("Can't read from unopened fid", 9, c.read_at, fid, 0, 1, c=c)
    c.open_fid(fid)
    fails('Already open', 9, c.open_fid, fid, c=c)
    fails('Fid 0 already in use', 9, c.call, 'walk', struct.pack('<IIH', fid, 0, 0), c=c)
    c.clunk(fid)
    for bad in ('.', 'x' * 256, '..x/..', 'a/../../..'):
        try:
            c.clunk(c.walk(bad.split('/')))
        except p9.Error:
            pass
    assert c.walk(['..', '..', 'branch'])
    fails('Read-only file', 30, c.write, 'branch/b%s/ro/a' % c.dialect[-1], 'x', c=c)
    fails('Operation not permitted', 1, c.remove, 'branch/b%s/head' % c.dialect[-1], c=c)
    c.mkdir('branch', 'gone' + c.dialect[-1])
    c.remove('branch/gone' + c.dialect[-1])
    assert 'gone' + c.dialect[-1] not in c.ls('branch')
    c.mkdir('branch', 'with%2Fslash')
    store.commit(c, 'with%2Fslash', {'s' + c.dialect[-1]: b'x'})
    assert 'with/slash' in store.git('branch', '--format=%(refname:short)')


def remotes(store, c):
    n = 'r' + c.dialect[-1]
    c.mkdir('remotes', n)
    fails('error: remote url is not defined', 22, c.write, 'remotes/%s/fetch' % n, 'main', c=c)
    c.write('remotes/%s/url' % n, store.repo)
    fails('error: no head to fetch', 5, c.write, 'remotes/%s/fetch' % n, 'nobranch', c=c)
    c.write('remotes/%s/fetch' % n, 'b' + c.dialect[-1])
    fid = c.open('remotes/%s/head' % n)
    assert line_of(c, fid, 0)[0] == store.git('rev-parse', 'b' + c.dialect[-1])
    assert c.read('remotes/%s/state' % n) == b'idle\n'
    c.write('remotes/%s/url' % n, 'ext::touch /tmp/never\n')
    fails('error: cannot fetch ext::touch /tmp/never', 5, c.write, 'remotes/%s/fetch' % n, 'main', c=c)
    assert b'not allowed' in c.read('remotes/%s/error' % n)
    c.remove('remotes/' + n)


def care(store, c):
    """gc and fsck as files, while commits go on."""
    for what in ('gc', 'fsck'):
        fails(None, 22, c.write, 'debug/' + what, 'now', c=c)
        c.write('debug/%s' % what, 'start')
        head = store.commit(c, 'care', {'x': what.encode()}, name='c' + what)
        while c.read('debug/' + what).startswith(b'running'):
            pass
        assert c.read('debug/' + what).startswith(b'done'), c.read('debug/' + what)
        c.write('debug/' + what, 'run')
        c.write('debug/' + what, 'stop')
        assert c.read('debug/' + what).startswith(b'done')
        assert c.read('branch/care/head').decode().strip() == head
    c.remove('branch/care')


def main():
    with Store(sys.argv[1]) as store:
        for dialect in DIALECTS:
            for fn in (basics, transactions, live, apply, leases, errors, remotes, care):
                c = store.client(dialect)
                fn(store, c)
                c.close()
                print('ok', dialect, fn.__name__)
        c = store.client()
        stats = dict(line.split() for line in c.read('debug/stats').decode().splitlines())
        assert stats['streams'] == '0' and stats['transactions_open'] == '0' and stats['nodes_live'] == '0', stats


main()
