# SPDX-License-Identifier: ISC
"""A small 9P client for tests: 9P2000, 9P2000.u and 9P2000.L over a stream socket, several requests under way."""
import socket
import struct

NOFID = 0xffffffff
T = dict(version=100, auth=102, attach=104, flush=108, walk=110, open=112, create=114, read=116, write=118, clunk=120,
         remove=122, stat=124, wstat=126, statfs=8, lopen=12, lcreate=14, symlink=16, rename=20, readlink=22, getattr=24, setattr=26,
         readdir=40, mkdir=72, renameat=74, unlinkat=76)


class Error(Exception):
    def __init__(self, text, number=0):
        super().__init__(text or 'errno %d' % number)
        self.text, self.errno = text, number


def s(text):
    b = text if isinstance(text, bytes) else text.encode()
    return struct.pack('<H', len(b)) + b


def get_s(b, at):
    n = struct.unpack_from('<H', b, at)[0]
    return b[at + 2:at + 2 + n].decode(), at + 2 + n


class Client:
    def __init__(self, address, dialect='9P2000', msize=65536, uname='tester', aname=''):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(30)
        self.sock.connect(address)
        self.dialect, self.fid, self.tag, self.answers = dialect, 1, 0, {}
        self.L, self.u = dialect.endswith('.L'), dialect.endswith('.u')
        r = self.call('version', struct.pack('<I', msize) + s(dialect), 0xffff)
        self.msize = struct.unpack_from('<I', r)[0]
        assert get_s(r, 4)[0] == dialect, r
        extra = struct.pack('<I', 0) if self.L or self.u else b''
        self.call('attach', struct.pack('<II', 0, NOFID) + s(uname) + s(aname) + extra)

    def close(self):
        self.sock.close()

    # ---- messages ----
    def send(self, name, body, tag=None):
        if tag is None:
            self.tag = (self.tag + 1) % 60000
            tag = self.tag
        self.sock.sendall(struct.pack('<IBH', 7 + len(body), T[name], tag) + body)
        return tag

    def recv_exact(self, n):
        b = b''
        while len(b) < n:
            more = self.sock.recv(n - len(b))
            if not more:
                raise EOFError('connection ended')
            b += more
        return b

    def receive(self):
        size, kind, tag = struct.unpack('<IBH', self.recv_exact(7))
        return kind, tag, self.recv_exact(size - 7)

    def wait(self, tag):
        while tag not in self.answers:
            kind, t, body = self.receive()
            self.answers[t] = kind, body
        kind, body = self.answers.pop(tag)
        if kind == 7:
            raise Error('', struct.unpack('<I', body)[0])
        if kind == 107:
            text, at = get_s(body, 0)
            raise Error(text, struct.unpack_from('<I', body, at)[0] if self.u else 0)
        return body

    def call(self, name, body, tag=None):
        return self.wait(self.send(name, body, tag))

    # ---- files ----
    def new_fid(self):
        self.fid += 1
        return self.fid

    def walk(self, path, fid=0):
        names = [p for p in path.split('/') if p] if isinstance(path, str) else path
        new = self.new_fid()
        first, rest = names[:16], names[16:]
        self.call('walk', struct.pack('<IIH', fid, new, len(first)) + b''.join(s(n) for n in first))
        while rest:
            first, rest = rest[:16], rest[16:]
            self.call('walk', struct.pack('<IIH', new, new, len(first)) + b''.join(s(n) for n in first))
        return new

    def clunk(self, fid):
        self.call('clunk', struct.pack('<I', fid))

    def open(self, path, mode=0):
        fid = self.walk(path)
        try:
            self.open_fid(fid, mode)
        except Error:
            self.clunk(fid)
            raise
        return fid

    def open_fid(self, fid, mode=0):
        if self.L:
            self.call('lopen', struct.pack('<II', fid, mode))
        else:
            self.call('open', struct.pack('<IB', fid, mode))

    def read_at(self, fid, offset, count):
        r = self.call('read', struct.pack('<IQI', fid, offset, count))
        return r[4:]

    def write_at(self, fid, offset, data):
        return struct.unpack('<I', self.call('write', struct.pack('<IQI', fid, offset, len(data)) + data))[0]

    def read_fid(self, fid):
        out = b''
        while True:
            b = self.read_at(fid, len(out), self.msize - 24)
            if not b:
                return out
            out += b

    def read(self, path):
        fid = self.open(path)
        try:
            return self.read_fid(fid)
        finally:
            self.clunk(fid)

    def write(self, path, data):
        """Writes an existing file from its beginning."""
        data = data if isinstance(data, bytes) else data.encode()
        fid = self.open(path, 1)
        try:
            at = 0
            while True:
                n = self.write_at(fid, at, data[at:at + self.msize - 24])
                at += n
                if at >= len(data):
                    break
        finally:
            self.clunk(fid)

    def create(self, directory, name, data=b'', perm=0o644):
        data = data if isinstance(data, bytes) else data.encode()
        fid = self.walk(directory)
        try:
            if self.L:
                self.call('lcreate', struct.pack('<I', fid) + s(name) + struct.pack('<III', 2, perm, 0))
            else:
                self.call('create', struct.pack('<I', fid) + s(name) + struct.pack('<IB', perm, 2) + (s('') if self.u else b''))
            at = 0
            while at < len(data):
                at += self.write_at(fid, at, data[at:at + self.msize - 24])
        finally:
            self.clunk(fid)

    def mkdir(self, directory, name):
        fid = self.walk(directory)
        try:
            if self.L:
                self.call('mkdir', struct.pack('<I', fid) + s(name) + struct.pack('<II', 0o755, 0))
            else:
                self.call('create', struct.pack('<I', fid) + s(name) + struct.pack('<IB', 0x800001ed, 0) + (s('') if self.u else b''))
        finally:
            self.clunk(fid)

    def remove(self, path):
        self.call('remove', struct.pack('<I', self.walk(path)))

    def parse_stat(self, b, at):
        size, = struct.unpack_from('<H', b, at)
        end = at + 2 + size
        kind, dev, qt, qv, qp, mode, atime, mtime, length = struct.unpack_from('<HIBIQIIIQ', b, at + 2)
        name, at = get_s(b, at + 2 + 41 - 2 + 0) if False else get_s(b, at + 41)
        out = dict(qid=(qt, qv, qp), mode=mode, mtime=mtime, length=length, name=name)
        for key in ('uid', 'gid', 'muid') + (('extension',) if self.u else ()):
            out[key], at = get_s(b, at)
        assert at + (12 if self.u else 0) == end, (at, end)
        return out, end

    def stat(self, path):
        fid = self.walk(path)
        try:
            if self.L:
                r = self.call('getattr', struct.pack('<IQ', fid, 0x7ff))
                valid, qt, qv, qp, mode, uid, gid, nlink, rdev, size = struct.unpack_from('<QBIQIIIQQQ', r)
                return dict(mode=mode, length=size, qid=(qt, qv, qp))
            return self.parse_stat(self.call('stat', struct.pack('<I', fid)), 2)[0]
        finally:
            self.clunk(fid)

    def wstat(self, path, name='', length=0xffffffffffffffff, mode=0xffffffff):
        fid = self.walk(path)
        b = struct.pack('<HIBIQIIIQ', 0xffff, 0xffffffff, 0xff, 0xffffffff, 0xffffffffffffffff, mode, 0xffffffff, 0xffffffff, length)
        b += s(name) + s('') + s('') + s('')
        if self.u:
            b += s('') + struct.pack('<III', 0xffffffff, 0xffffffff, 0xffffffff)
        try:
            self.call('wstat', struct.pack('<IHH', fid, len(b) + 2, len(b)) + b)
        finally:
            self.clunk(fid)

    def ls(self, path):
        fid = self.open(path)
        names = []
        try:
            if self.L:
                offset = 0
                while True:
                    r = self.call('readdir', struct.pack('<IQI', fid, offset, self.msize - 24))[4:]
                    if not r:
                        return names
                    at = 0
                    while at < len(r):
                        offset, = struct.unpack_from('<Q', r, at + 13)
                        name, at = get_s(r, at + 22)
                        names.append(name)
            b = self.read_fid(fid)
            at = 0
            while at < len(b):
                st, at = self.parse_stat(b, at)
                names.append(st['name'])
            return names
        finally:
            self.clunk(fid)
