# SPDX-License-Identifier: ISC
import gzip
import http.client
import os
import threading
import port

image = os.path.join(port.build('nginx'), 'nginx')
CONFIG = '''
daemon off; master_process off; worker_processes 1; error_log stderr notice; pid /tmp/pid;
events { worker_connections 512; }
http {
    types { text/html html; text/plain txt; application/octet-stream bin; }
    access_log off; sendfile on; keepalive_requests 100000;
    client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c; uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
    server {
        listen 80; root /srv;
        gzip on; gzip_min_length 10; gzip_types text/plain;
        location ~ ^/re/(\\d+)$ { return 200 "number $1\\n"; }
        location /old { return 302 /index.html; }
        location /up/ { proxy_pass http://127.0.0.1:80/; }
    }
}
'''


def get(c, path, method='GET', **headers):
    c.request(method, path, headers={k.replace('_', '-'): v for k, v in headers.items()})
    r = c.getresponse()
    return r.status, r.read(), r


with port.folder() as d:
    os.makedirs(os.path.join(d, 'srv'))
    big = os.urandom(3 << 20)
    text = b'a line of text\n' * 1000
    for name, content in (('index.html', b'<p>hello'), ('big.bin', big), ('text.txt', text)):
        open(os.path.join(d, 'srv', name), 'wb').write(content)
    open(os.path.join(d, 'nginx.conf'), 'w').write(CONFIG)
    with port.Server(image, 80, '-c', '/conf/nginx.conf', options=['-v', f'{d}:/conf:ro', '-v', f'{d}/srv:/srv:ro']) as s:
        s.wait_for('nginx/')
        c = http.client.HTTPConnection('127.0.0.1', s.port, timeout=60)
        assert get(c, '/')[:2] == (200, b'<p>hello')
        assert get(c, '/big.bin')[:2] == (200, big)
        assert get(c, '/big.bin', Range='bytes=1000-1999')[:2] == (206, big[1000:2000])
        status, body, r = get(c, '/text.txt', Accept_Encoding='gzip')
        assert r.getheader('Content-Encoding') == 'gzip' and gzip.decompress(body) == text
        assert get(c, '/re/123')[:2] == (200, b'number 123\n') and get(c, '/re/x')[0] == 404
        assert get(c, '/old')[0] == 302 and get(c, '/', 'HEAD')[:2] == (200, b'')
        assert get(c, '/up/index.html')[:2] == (200, b'<p>hello')  # through itself
        wrong = []

        def client():
            try:
                for _ in range(50):
                    k = http.client.HTTPConnection('127.0.0.1', s.port, timeout=60)
                    if get(k, '/text.txt')[1] != text:
                        wrong.append('content')
                    k.close()
            except OSError as e:
                wrong.append(e)
        threads = [threading.Thread(target=client) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong, wrong
        s.stop()
print('nginx: static, ranges, gzip, regex, proxy, 400 connections by 8 clients')
