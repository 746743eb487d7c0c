# SPDX-License-Identifier: ISC
"""Redis' own test-suite against the image, then what survives a restart."""
import os
import re
import shutil
import socket
import subprocess
import port

out = port.build('redis')
image = os.path.join(out, 'redis-server')
SUITES = ['unit/type/string', 'unit/type/hash', 'unit/type/set', 'unit/type/zset', 'unit/keyspace', 'unit/pubsub', 'unit/multi']


class Client:
    def __init__(self, s):
        self.socket = socket.create_connection(('127.0.0.1', s.port), 60)
        self.file = self.socket.makefile('rb')

    def ask(self, line):
        self.socket.sendall(line.encode() + b'\r\n')
        first = self.file.readline().decode().strip()
        if first[:1] == '$' and first != '$-1':
            data = self.file.read(int(first[1:]) + 2)
            return data[:-2].decode()
        return first


with port.folder() as d:
    options = ['-v', f'{d}:/data', '--memory', '128M']
    arguments = ['--protected-mode', 'no', '--dir', '/data']
    if shutil.which('tclsh'):
        with port.Server(image, 6379, *arguments, '--save', '', '--enable-debug-command', 'yes', options=options) as s:
            s.wait_for('Ready to accept')
            p = subprocess.run(['./runtest', '--host', '127.0.0.1', '--port', str(s.port), '--clients', '1', '--tags',
                                '-slow -needs:repl -needs:save'] + [w for n in SUITES for w in ('--single', n)],
                               cwd=os.path.join(out, 'src'), capture_output=True, text=True, timeout=600)
            said = re.sub(r'\x1b\[[0-9;]*m', '', p.stdout)
            passed, failed = said.count('[ok]'), re.findall(r'.*(?:\[err\]|\[exception\]).*', said)
            assert p.returncode == 0 and not failed and passed > 300, (passed, failed, said[-2000:])
            print(f"{passed} of redis' own tests passed")
            s.stop()
    else:
        print("skipped: redis' own tests need tclsh")
    with port.Server(image, 6379, *arguments, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always', options=options) as s:
        s.wait_for('Ready to accept')
        c = Client(s)
        for i in range(200):
            assert c.ask(f'SET key{i} value{i}') == '+OK'
        assert c.ask('SAVE') == '+OK'
        assert c.ask('BGSAVE').startswith('-'), 'a background save needs fork: an error, not a claim'
        s.process.kill()  # no shutdown: what was acknowledged is in the append-only file
        s.process.wait()
    assert os.path.getsize(os.path.join(d, 'dump.rdb')) > 2000
    with port.Server(image, 6379, *arguments, '--save', '', '--appendonly', 'yes', options=options) as s:
        s.wait_for('Ready to accept')
        c = Client(s)
        assert c.ask('DBSIZE') == ':200' and c.ask('GET key199') == 'value199'
        s.stop()
print('redis: own tests, append-only file across a kill, SAVE')
