# SPDX-License-Identifier: ISC
import os
import socket
import threading
import port

image = os.path.join(port.build('memcached'), 'memcached')


class Client:
    def __init__(self, s):
        self.socket = socket.create_connection(('127.0.0.1', s.port), 60)
        self.file = self.socket.makefile('rb')

    def ask(self, text, lines=1):
        self.socket.sendall(text)
        return b''.join(self.file.readline() for _ in range(lines))


with port.Server(image, 11211, '-u', 'root', '-t', '4', '-m', '32', '-vv', options=['--memory', '96M']) as s:
    c = Client(s)
    assert c.ask(b'set a 5 0 3\r\nabc\r\n') == b'STORED\r\n'
    assert c.ask(b'get a\r\n', 3) == b'VALUE a 5 3\r\nabc\r\nEND\r\n'
    assert c.ask(b'set n 0 0 1\r\n1\r\n') == b'STORED\r\n' and c.ask(b'incr n 41\r\n') == b'42\r\n'
    assert c.ask(b'add a 0 0 1\r\nx\r\n') == b'NOT_STORED\r\n'
    assert c.ask(b'delete a\r\n') == b'DELETED\r\n' and c.ask(b'get a\r\n') == b'END\r\n'
    big = os.urandom(500000).hex().encode()[:900000]
    assert c.ask(b'set big 0 0 900000\r\n' + big + b'\r\n') == b'STORED\r\n'
    assert c.ask(b'get big\r\n', 3) == b'VALUE big 0 900000\r\n' + big + b'\r\nEND\r\n'
    wrong = []

    def client(n):
        k = Client(s)
        for i in range(200):
            if k.ask(b'set k%d.%d 0 0 2\r\nxy\r\n' % (n, i)) != b'STORED\r\n' or k.ask(b'incr n 1\r\n')[-2:] != b'\r\n':
                wrong.append(i)
    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and c.ask(b'get n\r\n', 3).split()[4] == b'1642'
    s.stop()
print('memcached: four worker threads, 8 clients, large values')
