#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""The verbs of `wherry store`, the Git protocol, the mount, and what is left after a kill or a power cut. usage: verbs.py WHERRY-STORE"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import p9
from serve import Store

program = sys.argv[1]


def verbs(store):
    run = store.run
    one = run('put', store.repo, 'a/b', input=b'first\n').stdout.decode().strip()
    assert run('cat', store.repo, 'a/b').stdout == b'first\n'
    assert store.git('rev-parse', 'main').strip() == one
    two = run('apply', store.repo, input=b'message m\nhead %s\nput c x y\nmv a/b a/d\n' % one.encode()).stdout.decode().strip()
    assert run('ls', store.repo).stdout == b'a/\nc\n' and run('cat', store.repo, 'c').stdout == b'x y\n'
    assert sorted(run('diff', store.repo, one, two).stdout.decode().splitlines()) == ['+ a/d', '+ c', '- a/b']
    r = run('apply', store.repo, input=b'head %s\nput c z\n' % one.encode(), check=False)
    assert r.returncode == 125 and b'condition failed: head' in r.stderr
    run('branch', store.repo, 'side', one)
    run('put', store.repo + '@side', 's', input=b's')
    run('merge', store.repo, 'side')
    assert run('cat', store.repo, 's').stdout == b's'
    assert len(run('log', store.repo).stdout.splitlines()) == 4
    assert run('log', store.repo, 'c').stdout.decode().startswith(two)
    run('put', store.repo + '@side', 'c', input=b'other')
    r = run('merge', store.repo, 'side', check=False)
    assert r.returncode == 125 and b'Merge conflict' in r.stderr
    run('branch', store.repo, '-d', 'side')
    assert b'side' not in run('branch', store.repo).stdout
    run('rm', store.repo, 's')
    assert run('cat', store.repo, 's', check=False).returncode == 127
    run('gc', store.repo)
    run('fsck', store.repo)
    assert b'branches: 1\n' in run('stats', store.repo).stdout
    for bad in (('put', '/nothing/at/all', 'x'), ('cat', store.repo, 'a'), ('log', store.repo + '@x y'), ('dance', store.repo), ('cat', store.repo),
                ('put', store.repo, '../x'), ('put', store.repo, '.git/x'), ('serve', store.repo, '--listen', 'pigeon:1'), ('serve', store.repo)):
        r = run(*bad, input=b'', check=False)
        assert r.returncode in (125, 127) and len(r.stderr.splitlines()) == 1, (bad, r)


def watching(store):
    head = store.git('rev-parse', 'main').strip()
    w = subprocess.Popen([program, 'watch', store.repo, head], stdout=subprocess.PIPE)
    new = store.run('put', store.repo, 'watched', input=b'1').stdout.decode().strip()
    assert w.stdout.readline().decode().startswith('commit ' + new)
    outside = store.git('commit-tree', '-m', 'out', '-p', new, new + '^{tree}').strip()
    store.git('update-ref', 'refs/heads/main', outside)
    assert w.stdout.readline().decode().startswith('commit ' + outside)
    w.terminate()
    w.wait()
    w.stdout.close()


def export(store):
    folder = os.path.join(store.dir.name, 'export')
    branch = store.repo + '@settings'
    store.run('apply', branch, input=b'put a 1\nput d/b 2\nput d/c 3\nprogram x 0\n')
    e = subprocess.Popen([program, 'export', '--follow', branch, folder], stdout=subprocess.PIPE)
    assert e.stdout.readline() == b'exported\n'
    open(folder + '/own', 'w').write('kept')
    assert open(folder + '/d/b').read() == '2\n' and os.access(folder + '/x', os.X_OK)
    store.run('apply', branch, input=b'put a new\nrm d\nput d file\nput e/f/g 4\n')
    assert e.stdout.readline() == b'exported\n'
    assert open(folder + '/a').read() == 'new\n' and open(folder + '/d').read() == 'file\n' and open(folder + '/e/f/g').read() == '4\n'
    store.run('apply', branch, input=b'rm e\nrm d\nput d/again 5\n')
    assert e.stdout.readline() == b'exported\n'
    assert sorted(os.listdir(folder)) == ['a', 'd', 'own', 'x'] and os.listdir(folder + '/d') == ['again']
    # a link in the branch leads nowhere else
    os.mkdir(folder + '2')
    c_tree = subprocess.run(['git', '-C', store.repo, 'mktree'], input=b'120000 blob ' + subprocess.run(
        ['git', '-C', store.repo, 'hash-object', '-w', '--stdin'], input=folder.encode() + b'2', capture_output=True).stdout.strip() + b'\td\n',
        capture_output=True).stdout.decode().strip()
    linked = store.git('commit-tree', '-m', 'link', '-p', store.git('rev-parse', 'settings').strip(), c_tree).strip()
    store.git('update-ref', 'refs/heads/settings', linked)
    assert e.stdout.readline() == b'exported\n'
    assert os.readlink(folder + '/d') == folder + '2'
    store.git('update-ref', 'refs/heads/settings', linked + '~1')
    assert e.stdout.readline() == b'exported\n'
    assert os.listdir(folder + '2') == [] and os.listdir(folder + '/d') == ['again']
    e.terminate()
    e.wait()
    e.stdout.close()


def mount(store):
    if not os.path.exists('/dev/fuse') or not shutil.which('fusermount3') and os.getuid():
        print('note: no FUSE here, mount not tested')
        return
    folder = os.path.join(store.dir.name, 'mnt')
    os.mkdir(folder)
    m = subprocess.Popen([program, 'mount', store.repo, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    line = m.stdout.readline()
    if not line.startswith(b'mounted'):
        error = m.stderr.read().decode()
        print('note: mount not tested:', error.strip())
        return
    b = folder + '/branch/main'
    live = open(b + '/head.live', 'rb', buffering=0)
    assert len(live.read(100)) == 41
    lines = []
    reader = threading.Thread(target=lambda: lines.append(live.read(100) or live.read(100)))
    reader.start()
    os.mkdir(b + '/transactions/t')
    rw = b + '/transactions/t/rw'
    shutil.copytree(os.path.dirname(os.path.abspath(__file__)), rw + '/copy')
    os.symlink('copy', rw + '/link')
    os.rename(rw + '/copy/serve.py', rw + '/moved.py')
    with open(rw + '/sparse', 'wb') as f:
        f.seek(100000)
        f.write(b'end')
    os.truncate(rw + '/sparse', 100001)
    os.chmod(rw + '/moved.py', 0o755)
    for bad, error in ((lambda: os.rmdir(rw + '/copy'), OSError), (lambda: os.mkdir(b + '/ro/x'), OSError), (lambda: open(rw + '/none'), FileNotFoundError),
                       (lambda: open(b + '/ro/a/d', 'w'), OSError), (lambda: os.mkdir(b + '/transactions/t'), FileExistsError)):
        try:
            bad()
            raise AssertionError('this should fail')
        except error:
            pass
    with open(b + '/transactions/t/ctl', 'w') as f:
        f.write('commit\n')
    reader.join(30)
    assert lines and lines[0].decode().strip() == store.git('rev-parse', 'main').strip()
    live.close()
    assert open(b + '/ro/sparse', 'rb').read() == b'\0' * 100000 + b'e'
    assert os.readlink(b + '/ro/link') == 'copy' and os.access(b + '/ro/moved.py', os.X_OK)
    assert store.git('ls-tree', 'main', 'moved.py').startswith('100755')
    waiting = subprocess.Popen(['cat', b + '/reflog'], stdout=subprocess.PIPE)
    waiting.kill()  # a read that waits can be killed
    waiting.wait(30)
    waiting.stdout.close()
    m.send_signal(signal.SIGTERM)
    assert m.wait(30) == 0, m.stderr.read()
    m.stdout.close()
    m.stderr.close()


def git_protocol(store):
    server = subprocess.Popen([program, 'serve', store.repo, '--listen', 'git:127.0.0.1:0', '--listen', 'unix:' + store.socket], stdout=subprocess.PIPE)
    url = 'git://' + server.stdout.readline().decode().split('git:')[1].strip() + '/'
    server.stdout.readline()
    c = store.client()
    work = os.path.join(store.dir.name, 'work')
    git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', '-C', work]
    subprocess.run(['git', 'clone', '-q', url, work], check=True, timeout=60)
    live = c.open('branch/main/head.live')
    c.read_at(live, 0, 100)
    open(work + '/pushed', 'w').write('x')
    subprocess.run(git + ['add', 'pushed'], check=True)
    subprocess.run(git + ['commit', '-qm', 'pushed'], check=True)
    subprocess.run(git + ['push', '-q', 'origin', 'main'], check=True, timeout=60)
    assert c.read_at(live, 41, 100).decode().strip() == store.git('rev-parse', 'main').strip()
    assert c.read('branch/main/ro/pushed') == b'x'
    head = store.commit(c, 'main', {'mine': b'1'})
    subprocess.run(git + ['pull', '-q', '--ff-only'], check=True, timeout=60)
    assert subprocess.run(git + ['rev-parse', 'HEAD'], capture_output=True).stdout.decode().strip() == head
    c.close()
    server.terminate()
    assert server.wait(30) == 0
    server.stdout.close()


def pushes_and_commits(store):
    """Commits over 9P while git commits, packs refs and collects at the same time: nothing is lost."""
    store.start()
    c = store.client()
    c.mkdir('branch', 'race')
    store.commit(c, 'race', {'first': b'1'}, name='t')
    stop, mine, theirs = threading.Event(), [], []

    def outside():
        n = 0
        while not stop.is_set():
            head = store.git('rev-parse', 'race').strip()
            new = store.git('commit-tree', '-m', 'git %d' % n, '-p', head, head + '^{tree}').strip()
            r = subprocess.run(['git', '-C', store.repo, 'update-ref', 'refs/heads/race', new, head], capture_output=True)
            if r.returncode == 0:
                theirs.append(new)
            if n % 10 == 5:
                store.git('pack-refs', '--all', '--prune')
            if n % 20 == 10:
                store.git('gc', '-q')
            n += 1
    t = threading.Thread(target=outside)
    t.start()
    for i in range(150):
        store.commit(c, 'race', {'f%d' % i: b'x'}, name='t%d' % i, message='9p %d' % i)
        mine.append(i)
        if i % 50 == 49:  # git, which is slower, gets its turn to win
            before = len(theirs)
            for _ in range(6000):
                if len(theirs) > before or not t.is_alive():
                    break
                threading.Event().wait(0.01)
    stop.set()
    t.join()
    files = store.git('ls-tree', '--name-only', 'race').split()
    assert all('f%d' % i in files for i in mine)
    all_of = set(store.git('rev-list', 'race').split())
    assert theirs and all(h in all_of for h in theirs), len(theirs)
    c.close()
    store.stop()


def kills(store):
    """kill -9 while commits run: what was acknowledged is there, the repository is whole, nothing is locked."""
    for round in range(4):
        store.start()
        c = store.client()
        done = []

        def work():
            try:
                for i in range(10000):
                    store.commit(c, 'kill', {'r%d-%d' % (round, i): b'x' * i}, name='t%d' % i)
                    done.append(i)
            except (EOFError, OSError):
                pass
        t = threading.Thread(target=work)
        t.start()
        while len(done) < 20 + 13 * round:
            threading.Event().wait(0.001)
        store.server.kill()
        store.server.wait()
        store.server.stdout.close()
        t.join()
        c.close()
        files = store.run('ls', store.repo + '@kill').stdout.decode().split()
        assert all('r%d-%d' % (round, i) in files for i in done), (round, len(done))
        store.run('put', store.repo + '@kill', 'after', input=b'1')
        store.git('fsck', '--strict', '--no-dangling')
        assert not [f for _, _, fs in os.walk(store.repo + '/refs') for f in fs if f.endswith('.lock')]


def power_cut(store):
    """What a file system may make of it: every loose file since the last sync lost, emptied or torn, branches as before. The
    journal, which was synced, brings all of it back at the next boot."""
    base = store.run('put', store.repo + '@cut', 'base', input=b'0').stdout.decode().strip()
    store.git('repack', '-adq')
    store.git('prune-packed')
    before = {os.path.join(d, f) for d, _, fs in os.walk(store.repo + '/objects') for f in fs}
    heads = [store.run('put', store.repo + '@cut', 'f%d' % i, input=b'x%d' % i).stdout.decode().strip() for i in range(12)]
    store.run('branch', store.repo, 'new', heads[5])
    lost = sorted({os.path.join(d, f) for d, _, fs in os.walk(store.repo + '/objects') for f in fs} - before)
    assert len(lost) >= 36
    for n, path in enumerate(lost):
        if n % 3 == 0:
            os.unlink(path)
        else:
            os.chmod(path, 0o644)
            os.truncate(path, 0 if n % 3 == 1 else os.path.getsize(path) // 2)
    with open(store.repo + '/refs/heads/cut', 'w') as f:
        f.write(base + '\n')
    os.unlink(store.repo + '/refs/heads/new')
    with open(store.repo + '/refs/heads/cut.lock', 'w') as f:
        f.write('wherry-lock\n')
    env = dict(os.environ, WHERRY_STORE_BOOT_ID='the next boot')
    files = subprocess.run([program, 'ls', store.repo + '@cut'], env=env, capture_output=True, check=True).stdout.decode().split()
    assert all('f%d' % i in files for i in range(12)), files
    assert store.git('rev-parse', 'cut').strip() == heads[-1] and store.git('rev-parse', 'new').strip() == heads[5]
    store.git('fsck', '--strict', '--no-dangling')
    # a branch that others moved elsewhere after the journal's steps stays there
    store.run('put', store.repo + '@cut', 'again', input=b'x')
    other = store.git('commit-tree', '-m', 'elsewhere', store.git('rev-parse', 'cut^{tree}').strip()).strip()
    store.git('update-ref', 'refs/heads/cut', other)
    subprocess.run([program, 'ls', store.repo + '@cut'], env=dict(os.environ, WHERRY_STORE_BOOT_ID='one more'), check=True, capture_output=True)
    assert store.git('rev-parse', 'cut').strip() == other


def full_disk(store):
    """Objects that cannot be written: an error, and nothing half-done."""
    if os.getuid():
        print('note: not root, a full disk is not tested')
        return
    folder = os.path.join(store.dir.name, 'small')
    os.mkdir(folder)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=7m', 'tmpfs', folder], capture_output=True).returncode:
        print('note: no tmpfs to fill')
        return
    try:
        repo = folder + '/r'
        store.run('init', repo)
        store.run('put', repo, 'small', input=b'1')
        head = subprocess.run(['git', '-C', repo, 'rev-parse', 'main'], capture_output=True).stdout
        r = store.run('put', repo, 'large', input=os.urandom(8 << 20), check=False)
        assert r.returncode == 125 and b'No space left' in r.stderr, r
        assert subprocess.run(['git', '-C', repo, 'rev-parse', 'main'], capture_output=True).stdout == head
        subprocess.run(['git', '-C', repo, 'fsck', '--strict'], check=True, capture_output=True)
        store.run('put', repo, 'small', input=b'2')
    finally:
        subprocess.run(['umount', folder])


def main():
    if not shutil.which('git'):
        print('skipped: no git')
        sys.exit(77)
    store = Store(program)
    try:
        for fn in (verbs, watching, export, mount, git_protocol, pushes_and_commits, kills, power_cut, full_disk):
            fn(store)
            print('ok', fn.__name__, flush=True)
    finally:
        if store.server and store.server.poll() is None:
            store.server.kill()
            store.server.wait()
        subprocess.run(['umount', '-q', '-l', os.path.join(store.dir.name, 'mnt')], capture_output=True)
        store.dir.cleanup()


main()
