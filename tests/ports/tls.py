# SPDX-License-Identifier: ISC
import os
import socket
import ssl
import port

image = os.path.join(port.build('tls'), 'tls-server')
with port.Server(image, 4433) as s:
    s.wait_for('Setting up the SSL data')  # it listens soon after, and does not flush what it says of that
    while True:
        try:
            socket.create_connection(('127.0.0.1', s.port), 60).close()
            break
        except ConnectionError:
            assert s.process.poll() is None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(5):
        with context.wrap_socket(socket.create_connection(('127.0.0.1', s.port), 60)) as t:
            t.sendall(b'GET / HTTP/1.0\r\n\r\n')
            answer = b''
            while True:
                data = t.recv(4096)
                if not data:
                    break
                answer += data
            assert b'200 OK' in answer and b'Successful connection using: TLS' in answer, answer
            assert t.version() in ('TLSv1.2', 'TLSv1.3')
    # not TLS at all: the server goes on
    with socket.create_connection(('127.0.0.1', s.port), 60) as plain:
        plain.sendall(b'GET / HTTP/1.0\r\n\r\n')
        try:
            while plain.recv(4096):
                pass
        except ConnectionResetError:
            pass
    with context.wrap_socket(socket.create_connection(('127.0.0.1', s.port), 60)) as t:
        t.sendall(b'GET / HTTP/1.0\r\n\r\n')
        assert b'200 OK' in t.recv(4096)
print('tls: handshakes in threads, a client that speaks no TLS')
