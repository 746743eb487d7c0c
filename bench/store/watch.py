#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""A thousand idle watchers, and the time from a commit's acknowledgement to a watcher's event. usage: watch.py BUILD"""
import os
import statistics
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tests', 'store'))
from serve import Store  # noqa: E402


def ticks(pid):
    fields = open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()
    return int(fields[11]) + int(fields[12])


with Store(os.path.join(sys.argv[1], 'src/cli/wherry-store')) as store:
    watchers = [store.client(msize=8192) for _ in range(10)]
    writer = store.client()
    store.commit(writer, 'w', {'a': b'0'})
    for c in watchers:
        for _ in range(100):
            fid = c.open('branch/w/watch/a.node/tree.live')
            c.read_at(fid, 0, 100)
            c.send('read', struct.pack('<IQI', fid, 43, 100))
    before = ticks(store.server.pid)
    time.sleep(5)
    print('CPU ticks of 1000 idle watchers in 5 s: %d' % (ticks(store.server.pid) - before))
    live, at, times = store.client(), 41, []
    writer.mkdir('branch', 'l')
    store.commit(writer, 'l', {'a': b'0'})
    fid = live.open('branch/l/head.live')
    live.read_at(fid, 0, 100)
    for i in range(300):
        tag = live.send('read', struct.pack('<IQI', fid, at, 100))
        writer.mkdir('branch/l/transactions', 't%d' % i)
        writer.create('branch/l/transactions/t%d/rw' % i, 'a', b'%d' % i)
        writer.write('branch/l/transactions/t%d/ctl' % i, 'commit')
        begin = time.perf_counter()
        at += len(live.wait(tag)) - 4
        times.append(time.perf_counter() - begin)
    print('commit acknowledged to event read: median %.0f us, p99 %.0f us' % (statistics.median(times) * 1e6, sorted(times)[296] * 1e6))
    start = time.perf_counter()
    for i in range(200):
        writer.write('branch/l/apply', 'put a %d\n' % i)
    print('apply, one client: %.0f/s' % (200 / (time.perf_counter() - start)))
    head = writer.read('branch/l/head').decode().strip()
    start = time.perf_counter()
    for i in range(200):
        writer.mkdir('branch', 'n%d' % i)
        writer.write('branch/n%d/fast-forward' % i, head)
    print('branch made (mkdir, fast-forward), durable: %.0f us' % ((time.perf_counter() - start) / 200 * 1e6))
