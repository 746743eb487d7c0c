#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Many clients at once: compare-and-set under contention, watchers, clients that do not read, hang up or send nonsense.
usage: clients.py WHERRY-STORE"""
import os
import random
import socket
import struct
import sys
import threading

import p9
from serve import Store


def counters(store):
    """Concurrent increments by compare-and-set: each value is given once, in the order of history."""
    c = store.client()
    c.mkdir('branch', 'count')
    c.write('branch/count/apply', 'put n 0\n')
    given, failures, lock = [], [0], threading.Lock()

    def work(dialect):
        me = store.client(dialect)
        me.mkdir('branch', 'count')
        tree = me.open('branch/count/watch/n.node/tree.live')
        me.clunk(tree)
        for _ in range(60):
            while True:
                fid = me.open('branch/count/watch/n.node/tree.live')
                blob = me.read_at(fid, 0, 100).decode().strip()[2:]
                me.clunk(fid)
                value = int(me.read('trees/F-' + blob))
                try:
                    me.write('branch/count/apply', 'message %d\nif n %s\nput n %d\n' % (value + 1, blob, value + 1))
                except p9.Error as e:
                    assert 'condition failed' in e.text or e.errno == 11, e
                    with lock:
                        failures[0] += 1
                    continue
                with lock:
                    given.append(value + 1)
                break
        me.close()
    threads = [threading.Thread(target=work, args=(d,)) for d in ('9P2000', '9P2000.u', '9P2000.L', '9P2000')]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(given) == list(range(1, 241)), (len(given), len(set(given)))
    log = store.git('log', '--first-parent', '--reverse', '--format=%s', 'count').split('\n')
    assert [x for x in log if x.isdigit()] == [str(i) for i in range(1, 241)], log
    c.close()


def transactions(store):
    """Random transactions of several clients, each on paths of its own and one in common: all that was acknowledged is in the history."""
    done, lock = {}, threading.Lock()

    def work(number):
        me, rng = store.client(), random.Random(number)
        me.mkdir('branch', 'many')
        mine = {}
        for i in range(40):
            changes = {'c%d/f%d' % (number, rng.randrange(6)): b'%d' % rng.randrange(1000) for _ in range(rng.randrange(1, 4))}
            if mine and rng.randrange(4) == 0:
                changes[rng.choice(sorted(mine))] = None
            store.commit(me, 'many', {k: v for k, v in changes.items()}, name='t%d' % i, message='m %d %d' % (number, i))
            for k, v in changes.items():
                if v is None:
                    mine.pop(k, None)
                else:
                    mine[k] = v
        with lock:
            done.update(mine)
        me.close()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    files = store.git('ls-tree', '-r', '--name-only', 'many').split()
    assert sorted(files) == sorted(done), (files, sorted(done))
    c = store.client()
    for path, value in done.items():
        assert c.read('branch/many/ro/' + path) == value
    messages = store.git('log', '--format=%s', 'many').split('\n')
    assert all('m %d %d' % (n, i) in messages for n in range(4) for i in range(40))
    c.close()


def watchers(store):
    """A thousand reads that wait: each is told, in the end none is left."""
    clients = [store.client(msize=8192) for _ in range(10)]
    clients[0].mkdir('branch', 'w')
    store.commit(clients[0], 'w', {'a': b'0'})
    waiting = []
    for c in clients:
        for _ in range(100):
            fid = c.open('branch/w/head.live')
            assert len(c.read_at(fid, 0, 100)) == 41
            waiting.append((c, fid, c.send('read', struct.pack('<IQI', fid, 41, 100))))
    head = store.commit(clients[0], 'w', {'a': b'1'}, name='again')
    for c, fid, tag in waiting:
        assert c.wait(tag)[4:].decode().strip() == head
    for c, fid, tag in waiting[:500]:
        c.send('read', struct.pack('<IQI', fid, 82, 100))
    for c in clients[:5]:
        c.close()  # with reads that wait
    other = clients[9]
    for c, fid, tag in waiting[500:600]:
        c.clunk(fid)
    stats = dict(line.split() for line in other.read('debug/stats').decode().splitlines())
    assert stats['waiting'] == '0' and int(stats['streams']) == 400, stats
    for c in clients[5:]:
        c.close()


def nonsense(store):
    """What no client sends ends that client, and nobody else."""
    good = store.client('9P2000.L')
    live = good.open('branch/w/head.live')
    good.read_at(live, 0, 100)
    for raw in (b'', b'\0\0\0\0', b'\3\0\0\0abc', b'\xff\xff\xff\x7f' + b'x' * 100, b'\7\0\0\0\x64\xff\xff', b'GET / HTTP/1.0\r\n\r\n' * 20,
                struct.pack('<IBH', 19, 110, 1) + b'\0' * 12, os.urandom(5000)):
        s = socket.socket(socket.AF_UNIX)
        s.connect(store.socket)
        s.sendall(raw)
        s.shutdown(socket.SHUT_WR)
        s.settimeout(20)
        try:
            while s.recv(65536):
                pass
        except ConnectionResetError:
            pass
        s.close()
        assert len(good.read('branch/w/head')) == 41
    # one that asks and never reads the answers
    deaf = store.client('9P2000.L', msize=1 << 20)
    deaf.sock.settimeout(0.5)
    store.commit(good, 'w', {'big': os.urandom(1 << 20)}, name='big')
    fid = deaf.open('branch/w/ro/big')
    try:
        for i in range(2000):
            deaf.send('read', struct.pack('<IQI', fid, 0, 1 << 20), tag=i)
    except socket.timeout:
        pass
    for i in range(5):
        store.commit(good, 'w', {'x': b'%d' % i}, name='d%d' % i)
    # when it reads at last, all that it asked for comes
    asked, deaf2 = 60, store.client('9P2000.L', msize=1 << 20)
    fid2 = deaf2.open('branch/w/ro/big')
    for i in range(asked):
        deaf2.send('read', struct.pack('<IQI', fid2, 0, 1 << 20), tag=i)
    store.commit(good, 'w', {'y': b'1'}, name='e')
    for i in range(asked):
        assert len(deaf2.wait(i)) > 1000000
    deaf2.close()
    deaf.close()
    # more waiting reads than are kept
    greedy = store.client()
    try:
        for i in range(5000):
            fid = greedy.open('branch/w/reflog')
            greedy.send('read', struct.pack('<IQI', fid, 0, 10))
    except (EOFError, OSError):
        pass
    assert len(good.read('branch/w/head')) == 41
    greedy.close()
    # names and paths
    for name in ('..', '.', '.git', 'a/b', '', 'x' * 300, '.GIT'):
        good.mkdir('branch/w/transactions', 'n')
        try:
            good.mkdir('branch/w/transactions/n/rw', name)
            raise AssertionError('made %r' % name)
        except p9.Error:
            pass
        good.write('branch/w/transactions/n/ctl', 'close')
    good.mkdir('branch/w/transactions', 'deep')
    fid = good.walk('branch/w/transactions/deep/rw')
    depth = 0
    try:
        while depth < 400:
            good.call('mkdir', struct.pack('<I', fid) + p9.s('d') + struct.pack('<II', 0o755, 0))
            good.call('walk', struct.pack('<IIH', fid, fid, 1) + p9.s('d'))
            depth += 1
    except p9.Error as e:
        assert e.errno == 36, e
    assert 200 < depth < 300, depth
    good.close()


def corrupt(store):
    """A broken object is an error where it is met, and only there."""
    c = store.client('9P2000.L')
    store.commit(c, 'broken', {'good': b'g' * 100, 'bad': b'b' * 100})
    blob = store.git('rev-parse', 'broken:bad').strip()
    path = os.path.join(store.repo, 'objects', blob[:2], blob[2:])
    os.chmod(path, 0o644)
    whole = open(path, 'rb').read()
    for damage in (whole[:5], whole[:-3], b'', os.urandom(40), whole[:-6] + b'\0' * 6):
        with open(path, 'wb') as f:
            f.write(damage)
        try:
            c.read('branch/broken/ro/bad')
            raise AssertionError('read a broken object')
        except p9.Error as e:
            assert e.errno == 5, e
        assert c.read('branch/broken/ro/good') == b'g' * 100
    with open(path, 'wb') as f:
        f.write(whole)
    assert c.read('branch/broken/ro/bad') == b'b' * 100
    with open(store.repo + '/refs/heads/nonsense', 'w') as f:
        f.write('not a hash\n')
    assert 'broken' in c.ls('branch')
    os.unlink(store.repo + '/refs/heads/nonsense')
    c.close()


def main():
    with Store(sys.argv[1]) as store:
        for fn in (counters, transactions, watchers, nonsense, corrupt):
            fn(store)
            print('ok', fn.__name__, flush=True)
        c = store.client()
        stats = dict(line.split() for line in c.read('debug/stats').decode().splitlines())
        assert stats['streams'] == '0' and stats['transactions_open'] == '0' and stats['nodes_live'] == '0' and stats['connections'] == '1', stats
        c.close()


main()
