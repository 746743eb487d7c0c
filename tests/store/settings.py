#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""wherry run --settings REPO@BRANCH: what is committed is carried out, and what is taken back is undone.
usage: settings.py WHERRY IMAGES"""
import glob
import json
import os
import subprocess
import sys
import tempfile
import time

wherry, images = sys.argv[1:]
runtime = None


def check(what, good):
    if not good:
        print('failed: %s' % what)
        sys.exit(1)


def store(*words, text=None):
    return subprocess.run([wherry, 'store', *words], input=text, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def until(what, fn):
    end = time.monotonic() + 60
    while not fn():
        check(what, time.monotonic() < end)
        time.sleep(0.02)


with tempfile.TemporaryDirectory(prefix='w-') as folder:
    os.environ['XDG_RUNTIME_DIR'] = folder
    repo, control = os.path.join(folder, 'repo'), os.path.join(folder, 'control')

    def ask(*words):
        answer = subprocess.run([wherry, 'net', *words, '--control', control, '--json'], capture_output=True, text=True, check=True,
                                timeout=20).stdout
        return [json.loads(line) for line in answer.splitlines()]

    def ports():
        return ask('rules')

    store('init', repo)
    server = os.path.join(images, 'server')
    store('apply', repo + '@vm', text='message first\nput ports expose 0:80\nput machine/options --control=%s\n' % control)
    store('apply', repo + '@vm', text='data machine/options %d\n%s' % (len(control) + len(server) + 32, (
        '# the machine\n--control=%s\n%s\n' % (control, server)).ljust(len(control) + len(server) + 32, '\n')))
    guest = subprocess.Popen([wherry, 'run', '--settings', repo + '@vm'], stdout=subprocess.PIPE, text=True)
    try:
        check('the machine that the branch describes runs', 'serving' in guest.stdout.readline())
        kept = glob.glob(folder + '/wherry-settings-*')
        check('one private folder: %r' % [(k, oct(os.stat(k).st_mode)) for k in kept], len(kept) == 1 and os.stat(kept[0]).st_mode & 0o777 == 0o700)
        until('the port of the branch', lambda: len(ports()) == 1)
        head = store('apply', repo + '@vm', text='message a name\nput names dns add db.test 10.1.2.3\nput ports forward 9000=127.0.0.1:9\n')
        until('what was committed', lambda: not ports() and {'name': 'db.test', 'address': '10.1.2.3'} in ask('dns'))
        check('the forward', ask('forwards')[0]['to'] == '127.0.0.1:9')
        who = subprocess.run(['git', '-C', repo, 'log', '-1', '--format=%an %s', 'vm'], capture_output=True, text=True).stdout
        check('it has an author: ' + who, who.endswith(' a name\n') and len(who) > 8)
        subprocess.run(['git', '-C', repo, 'update-ref', 'refs/heads/vm', head + '~1'], check=True)  # undone by Git's own means
        until('what was undone', lambda: len(ports()) == 1 and not ask('forwards'))
    finally:
        guest.kill()  # without a chance to clear up
        guest.wait(20)
        guest.stdout.close()
    until('the folder went with the machine', lambda: not glob.glob(folder + '/wherry-settings-*'))
    p = subprocess.run([wherry, 'run', '--settings', os.path.join(folder, 'none@vm'), server], stderr=subprocess.PIPE, text=True, timeout=60)
    check('no store: %r' % p.stderr, p.returncode == 125 and 'none' in p.stderr)
    check('nothing is left', not glob.glob(folder + '/wherry-settings-*'))
print('ok')
