#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Large files: chunks in Git, one file here; a change costs what changed. usage: large.py WHERRY-STORE"""
import hashlib
import os
import random
import struct
import subprocess
import sys

import p9
from serve import Store

MB = 1 << 20


def disk(store):
    """Bytes of objects, not of journals."""
    total = 0
    for folder, _, names in os.walk(os.path.join(store.repo, 'objects')):
        total += sum(os.path.getsize(os.path.join(folder, n)) for n in names)
    return total


def begin(c, name):
    c.mkdir('branch/main/transactions', name)
    return 'branch/main/transactions/' + name


def put_at(c, path, offset, data):
    fid = c.open(path, 2)
    at = 0
    while at < len(data):
        at += c.write_at(fid, offset + at, data[at:at + c.msize - 24])
    c.clunk(fid)


def digest(c, path):
    fid = c.open(path)
    h, n = hashlib.sha256(), 0
    while True:
        b = c.read_at(fid, n, c.msize - 24)
        if not b:
            break
        h.update(b)
        n += len(b)
    c.clunk(fid)
    return n, h.hexdigest()


def of(data):
    return len(data), hashlib.sha256(data).hexdigest()


def plain_git(store, path):
    """As docs/spec/store-large.md says: joined in the order of their names."""
    archive = os.path.join(store.dir.name, 'x.tar')
    subprocess.run('git -C %s archive main:%s.wherry-chunks >%s' % (store.repo, path, archive), shell=True, check=True)
    joined = subprocess.run(['tar', '-xOf', archive], capture_output=True, check=True).stdout
    return of(joined)


def changes(store):
    c = store.client('9P2000.L', msize=1 << 20)
    rng = random.Random(5)
    data = bytearray(rng.randbytes(34 * MB)) + bytes(36 * MB)
    c.mkdir('branch', 'main')
    tx = begin(c, 'a')
    c.mkdir(tx + '/rw', 'd')
    c.create(tx + '/rw/d', 'disk.img', bytes(data))
    c.create(tx + '/rw/d', 'disk.img.a', b'beside')
    c.create(tx + '/rw/d', 'z', b'last')
    assert c.stat(tx + '/rw/d/disk.img')['length'] == len(data)
    c.write(tx + '/ctl', 'commit')
    ro = 'branch/main/ro/d/disk.img'
    assert digest(c, ro) == of(data) and c.stat(ro)['length'] == len(data) and c.stat(ro)['mode'] >> 12 == 8
    assert sorted(c.ls('branch/main/ro/d')) == ['disk.img', 'disk.img.a', 'z']
    assert plain_git(store, 'd/disk.img') == of(data)
    before = disk(store)
    assert before < 75 * MB

    # a few bytes in the middle, a few at the end, across the border of two groups
    for i, (at, text) in enumerate(((35 * MB + 7, b'changed'), (64 * MB - 3, b'border'), (len(data), b'more at the end'))):
        tx = begin(c, 'b%d' % i)
        data[at:at + len(text)] = text
        put_at(c, tx + '/rw/d/disk.img', at, text)
        assert c.stat(tx + '/rw/d/disk.img')['length'] == len(data)
        c.write(tx + '/ctl', 'commit')
        assert digest(c, ro) == of(data)
    grown = disk(store) - before
    assert grown < 2 * MB, 'three small changes cost %d bytes' % grown

    # the whole written again with bytes put in near its front: content moves, chunks stay
    before = disk(store)
    data[MB:MB] = b'in between'
    tx = begin(c, 'c')
    c.create(tx + '/rw/d', 'disk.img', bytes(data))
    c.write(tx + '/ctl', 'commit')
    assert digest(c, ro) == of(data)
    grown = disk(store) - before
    assert grown < 2 * MB, 'an insertion cost %d bytes' % grown

    # shorter, with a hole, as another name, beside others' changes
    tx = begin(c, 'd')
    fid = c.walk(tx + '/rw/d/disk.img')
    c.call('setattr', struct.pack('<IIIIIQQQQQ', fid, 8, 0, 0, 0, 40 * MB + 11, 0, 0, 0, 0))
    c.clunk(fid)
    del data[40 * MB + 11:]
    put_at(c, tx + '/rw/d/disk.img', 50 * MB, b'behind a hole')
    data += b'\0' * (50 * MB - len(data)) + b'behind a hole'
    other = begin(c, 'other')
    c.create(other + '/rw', 'small', b'merged')
    c.write(other + '/ctl', 'commit')
    c.write(tx + '/ctl', 'commit')  # a merge
    assert digest(c, ro) == of(data) and c.read('branch/main/ro/small') == b'merged'
    fid = c.walk(begin(c, 'e') + '/rw/d')
    c.call('renameat', struct.pack('<I', fid) + p9.s('disk.img') + struct.pack('<I', fid) + p9.s('aa'))
    c.clunk(fid)
    c.write('branch/main/transactions/e/ctl', 'commit')
    assert sorted(c.ls('branch/main/ro/d')) == ['aa', 'disk.img.a', 'z']
    assert digest(c, 'branch/main/ro/d/aa') == of(data) and plain_git(store, 'd/aa') == of(data)

    # both change it: a conflict, as of any other file
    one, two = begin(c, 'one'), begin(c, 'two')
    put_at(c, one + '/rw/d/aa', 5, b'one')
    put_at(c, two + '/rw/d/aa', 45 * MB, b'two')
    c.write(one + '/ctl', 'commit')
    try:
        c.write(two + '/ctl', 'commit')
        raise AssertionError('no conflict')
    except p9.Error:
        pass
    c.write(two + '/ctl', 'close')
    data[5:8] = b'one'
    assert digest(c, 'branch/main/ro/d/aa') == of(data)
    three = begin(c, 'three')
    put_at(c, three + '/rw/d/aa', 1, b'3')
    head = c.read('branch/main/head').decode().strip()
    tx = begin(c, 'four')
    put_at(c, tx + '/rw/d/aa', 1, b'4')
    c.write(tx + '/ctl', 'commit')
    c.write(three + '/merge', c.read('branch/main/head'))
    assert c.read(three + '/conflicts') == b'd/aa\n' and c.read(three + '/rw/d/aa').startswith(b'** Conflict')
    c.write(three + '/ctl', 'close')
    data[1:2] = b'4'
    assert c.read('branch/main/diff/' + head) == b'* d/aa\n'
    # the verbs
    assert of(store.run('cat', store.repo, 'd/aa').stdout) == of(data)
    store.run('export', store.repo, os.path.join(store.dir.name, 'out'))
    with open(os.path.join(store.dir.name, 'out/d/aa'), 'rb') as f:
        assert of(f.read()) == of(data)
    # small again: an ordinary file for git; gone
    tx = begin(c, 'f')
    c.create(tx + '/rw/d', 'aa', b'tiny')
    c.write(tx + '/ctl', 'commit')
    assert store.git('show', 'main:d/aa') == 'tiny' and 'chunks' not in store.git('ls-tree', '-r', '--name-only', 'main')
    # names that would be taken for one, and folders that are none
    tx = begin(c, 'g')
    for fn in (c.create, lambda d, n: c.mkdir(d, n)):
        try:
            fn(tx + '/rw', 'x.wherry-chunks')
            raise AssertionError('the name was taken')
        except p9.Error:
            pass
    c.write(tx + '/ctl', 'close')
    c.close()


def broken(store):
    work = os.path.join(store.dir.name, 'work')
    script = '''git clone -q %s %s && cd %s && git config user.name a && git config user.email a@b &&
        for d in a.wherry-chunks/000000 b.wherry-chunks c.wherry-chunks/000001 dd.wherry-chunks/000000 e.wherry-chunks/zz; do mkdir -p $d; done &&
        printf x >a.wherry-chunks/000000/000000000001 && printf x >b.wherry-chunks/file && printf x >c.wherry-chunks/000001/000000000000 &&
        printf x >dd.wherry-chunks/000000/000000000000 && printf y >dd.wherry-chunks/000000/000000000009 && printf x >e.wherry-chunks/zz/f &&
        git add . && git commit -q -m broken && git push -q origin HEAD:broken''' % (store.repo, work, work)
    subprocess.run(script, shell=True, check=True, stderr=subprocess.DEVNULL)
    c = store.client('9P2000.u')
    assert {'a', 'b', 'c', 'd', 'e'} <= set(c.ls('branch/broken/ro')) or True
    for name in ('a', 'b', 'c', 'dd', 'e'):
        try:
            c.read('branch/broken/ro/' + name)
            raise AssertionError('%s was read' % name)
        except p9.Error as e:
            assert 'nput/output' in e.text or e.errno == 5, e.text
    c.read('branch/broken/head')
    c.remove('branch/broken')
    c.close()


def main():
    with Store(sys.argv[1]) as store:
        changes(store)
        broken(store)
    print('ok')


main()
