#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""`wherry disk serve` and the clients that people have: libnbd's tools, qemu-img and qemu-io, nbdkit, fio; TLS with
certificates and keys; sockets handed over; clients that do wrong.

usage: nbd.py WHERRY [NBDKIT_PLUGIN]"""
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

WHERRY = os.path.abspath(sys.argv[1])
PLUGIN = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else None
SIZE = 16 << 20
cases = []


def case(*tools):
    def add(f):
        cases.append((f, tools))
        return f
    return add


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def run(*command, status=0, **more):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, **more)
    check(status is None or p.returncode == status, f"{' '.join(command)}: status {p.returncode}: {p.stdout}")
    return p.stdout


class Serve:
    """A server that ends with its block."""

    def __init__(self, *options, persistent=True, listen=("-k", "s.sock"), fds=(), env=None):
        ready_in, ready_out = os.pipe()
        self.process = subprocess.Popen(
            [WHERRY, "disk", "serve", "--ready-fd", str(ready_out), "--print-uri", *listen, *(["-t"] if persistent else []), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[ready_out, *fds], text=True, env=env)
        os.close(ready_out)
        ready = os.read(ready_in, 10)
        os.close(ready_in)
        if ready != b"ready\n":
            raise AssertionError("not ready: " + self.process.communicate(timeout=30)[1])
        self.uri = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def end(self, by=signal.SIGTERM):
        if by:
            self.process.send_signal(by)
        error = self.process.communicate(timeout=30)[1]
        check(self.process.returncode == 0, f"the server ended with {self.process.returncode}: {error}")

    def __exit__(self, kind, value, trace):
        if kind:
            self.process.kill()
            self.process.communicate()
        elif self.process.returncode is None:
            self.end()


def content(name, seed=1):
    data = bytearray(SIZE)
    for i in range(0, SIZE, 1 << 20):
        if (i >> 20) % 3:
            data[i:i + 300000] = random.Random(seed + i).randbytes(300000)
    with open(name, "wb") as f:
        f.write(data)
    return bytes(data)


def make(name, fmt):
    content("in.raw")
    if os.path.exists(name):
        os.unlink(name)
    run("qemu-img", "convert", "-f", "raw", "-O", fmt, "in.raw", name)


@case("nbdinfo", "qemu-img")
def information():
    make("a.qcow2", "qcow2")
    with Serve("-f", "qcow2", "-x", "disk", "-D", "for people", "a.qcow2") as s:
        d = json.loads(run("nbdinfo", "--json", s.uri))
        e = d["exports"][0]
        check(d["structured"] and not d["TLS"], f"protocol: {d}")
        check(e["export-size"] == SIZE and e["can_fast_zero"] and e["can_multi_conn"] and e["can_df"], f"export: {e}")
        check(e["contexts"] == ["base:allocation", "qemu:allocation-depth"], f"contexts: {e['contexts']}")
        d = json.loads(run("nbdinfo", "--list", "--json", s.uri))
        check([(e["export-name"], e["description"]) for e in d["exports"]] == [("disk", "for people")], f"list: {d}")
        run("nbdinfo", s.uri.replace("/disk?", "/other?"), status=1)
    with Serve("-f", "qcow2", "-r", "a.qcow2") as s:
        check(json.loads(run("nbdinfo", "--json", s.uri))["exports"][0]["is_read_only"], "it is not read-only")


@case("nbdcopy", "qemu-img")
def copies():
    for fmt in "raw", "qcow2":
        make("a", fmt)
        with Serve("-f", fmt, "a") as s:
            run("nbdcopy", s.uri, "out.raw")
            check(open("in.raw", "rb").read() == open("out.raw", "rb").read(), f"{fmt}: read")
            content("new.raw", 7)
            run("nbdcopy", "--flush", "new.raw", s.uri)
            run("nbdcopy", s.uri, "out.raw")
            check(open("new.raw", "rb").read() == open("out.raw", "rb").read(), f"{fmt}: written")
        run("qemu-img", "compare", "-f", "raw", "-F", fmt, "new.raw", "a")
        if fmt == "qcow2":
            run("qemu-img", "check", "-f", fmt, "a")


@case("qemu-img", "qemu-io")
def qemu():
    make("a.qcow2", "qcow2")
    with Serve("-f", "qcow2", "a.qcow2") as s:
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", "in.raw", s.uri)
        out = run("qemu-io", "-f", "raw", *sum([["-c", c] for c in (
            "write -P 7 1M 3M", "read -P 7 2M 1M", "flush", "write -z 1M 512K", "read -P 0 1M 512k", "discard 2M 1M",
            "write -z -u 3M 64k", "read -P 0 3M 64k", "write -f -P 9 10M 4k", "read -P 9 10M 4k", "aio_write -P 3 12M 64k",
            "aio_write -P 4 13M 64k", "aio_flush", "read -P 3 12M 64k", "read -P 4 13M 64k", "write -P 5 100 1", "read -P 5 100 1")],
            []), s.uri, status=None)
        check("verification failed" not in out and "failed: I" not in out, out)
        run("qemu-img", "convert", "-f", "raw", "-O", "raw", s.uri, "out.raw")
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "out.raw", "a.qcow2")
    run("qemu-img", "check", "a.qcow2")
    with Serve("-f", "qcow2", "-x", "new", "a.qcow2") as s:
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "in.raw", s.uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "in.raw", "a.qcow2")


@case("nbdkit", "nbdcopy")
def through_nbdkit():
    make("a.qcow2", "qcow2")
    with Serve("-f", "qcow2", "-x", "disk", "a.qcow2") as s:
        run("nbdkit", "-U", "-", "nbd", s.uri, "--run", 'nbdcopy "$uri" out.raw')
    check(open("in.raw", "rb").read() == open("out.raw", "rb").read(), "through nbdkit")


@case("nbdkit", "nbdcopy", "nbdinfo", "qemu-img", "qemu-io")
def nbdkit_plugin():
    if not PLUGIN:
        print("    not here: the plugin was not built (package nbdkit-plugin-dev)")
        return
    make("a.qcow2", "qcow2")
    base = ["nbdkit", "-U", "-", PLUGIN, "file=a.qcow2", "format=qcow2", "--run"]
    run(*base, 'nbdcopy "$uri" out.raw')
    check(open("in.raw", "rb").read() == open("out.raw", "rb").read(), "read")
    extents = json.loads(run(*base, 'nbdinfo --map --json "$uri"'))
    check({e["description"] for e in extents} == {"data", "hole,zero"}, f"{extents}")
    content("new.raw", 9)
    run(*base, 'nbdcopy --flush new.raw "$uri" && qemu-io -f raw -c "write -P 3 1001 3000" -c "read -P 3 1001 3000" -c "write -z -u 1M 100k" '
        '-c "read -P 0 1M 100k" -c "discard 4M 1M" "$uri"')
    run("qemu-img", "check", "-q", "a.qcow2")
    if shutil.which("fio"):  # many at once; blocks that share sectors, whose other half must not be lost
        for size, depth in ("4k", 32), ("3000", 16):
            run(*base, f'fio --name=x --ioengine=nbd --uri="$uri" --rw=randwrite --bs={size} --size=8M --iodepth={depth} --verify=crc32c')
        run("qemu-img", "check", "-q", "a.qcow2")
    out = run("nbdkit", "-U", "-", PLUGIN, "file=a.qcow2", "--run", "true", status=1)
    check("format" in out, out)
    out = run("nbdkit", "-U", "-", PLUGIN, "file=a.qcow2", "format=qcow2", "nonsense=1", "--run", "true", status=1)
    check("nonsense" in out, out)


@case("fio")
def fio_verifies():
    for aio in "io_uring", "threads":
        for fmt, cache in ("qcow2", "writeback"), ("raw", "none"):
            run(WHERRY, "disk", "create", "-f", fmt, f"f-{aio}-{fmt}", "8M")
            try:
                s = Serve("-f", fmt, "--aio", aio, "--cache", cache, f"f-{aio}-{fmt}")
            except AssertionError as e:
                if "io_uring" in str(e) or "cache=none" in str(e):
                    print(f"    not here: {e}")
                    continue
                raise
            with s:
                out = run("fio", "--name=v", "--ioengine=nbd", "--uri=" + s.uri, "--thread", "--rw=randwrite", "--bsrange=4k-64k",
                          "--size=8M", "--iodepth=32", "--verify=crc32c", "--do_verify=1", "--randrepeat=1", "--output-format=normal")
                check("err= 0" in out, out)


@case("nbdinfo", "certtool", "psktool")
def tls():
    make("a", "raw")
    os.makedirs("pki", exist_ok=True)
    for name in "ca", "server", "client":
        run("certtool", "--generate-privkey", "--key-type", "ecdsa", "--outfile", f"pki/{name}-key.pem")
    with open("ca.info", "w") as f:
        f.write("cn = test\nca\ncert_signing_key\nexpiration_days = 2\n")
    run("certtool", "--generate-self-signed", "--load-privkey", "pki/ca-key.pem", "--template", "ca.info", "--outfile", "pki/ca-cert.pem")
    for name, purpose in ("server", "tls_www_server"), ("client", "tls_www_client"):
        with open("c.info", "w") as f:
            f.write(f"cn = localhost\ndns_name = localhost\n{purpose}\nsigning_key\nexpiration_days = 2\n")
        run("certtool", "--generate-certificate", "--load-privkey", f"pki/{name}-key.pem", "--load-ca-certificate", "pki/ca-cert.pem",
            "--load-ca-privkey", "pki/ca-key.pem", "--template", "c.info", "--outfile", f"pki/{name}-cert.pem")
    run("psktool", "-u", "alice", "-p", "keys.psk")
    run("psktool", "-u", "mallory", "-p", "wrong.psk")
    folder = os.path.abspath("pki")
    with Serve("-f", "raw", "--tls-certificates", "pki", "--tls-verify-peer", "a", listen=("-b", "localhost", "-p", "0")) as s:
        port = s.uri.split(":")[2].split("/")[0]
        good = f"nbds://localhost:{port}/?tls-certificates={folder}"
        check("with TLS" in run("nbdinfo", good), "no TLS")
        run("nbdcopy", good, "out.raw")
        check(open("in.raw", "rb").read() == open("out.raw", "rb").read(), "through TLS")
        run("nbdcopy", "in.raw", good)
        run("nbdinfo", f"nbd://localhost:{port}/", status=1)  # plain
        os.makedirs("nobody", exist_ok=True)
        shutil.copy("pki/ca-cert.pem", "nobody")
        run("nbdinfo", f"nbds://localhost:{port}/?tls-certificates={os.path.abspath('nobody')}", status=1)
        run("nbdinfo", good)  # it lives
    with Serve("-f", "raw", "--tls", "on", "--tls-psk", "keys.psk", "a") as s:
        uri = s.uri.replace("nbd+unix", "nbds+unix").replace("///", "//alice@/") + "&tls-psk-file=" + os.path.abspath("keys.psk")
        check("with TLS" in run("nbdinfo", uri), "no TLS with a key")
        check("without TLS" in run("nbdinfo", s.uri), "plain was allowed")
        run("nbdinfo", uri.replace("alice", "mallory").replace("keys.psk", "wrong.psk"), status=1)


@case("nbdinfo")
def handed_over():
    make("a", "raw")
    here = socket.socket(socket.AF_UNIX)
    here.bind("systemd.sock")
    here.listen()
    code = ("import os,sys\nos.dup2(int(sys.argv[1]),3)\nos.environ.update(LISTEN_PID=str(os.getpid()),LISTEN_FDS='1')\n"
            "os.execv(sys.argv[2],sys.argv[2:])")
    p = subprocess.Popen([sys.executable, "-c", code, str(here.fileno()), WHERRY, "disk", "serve", "-f", "raw", "-x", "y", "a"],
                         pass_fds=[here.fileno()], stderr=subprocess.PIPE, text=True)
    here.close()
    run("nbdinfo", "nbd+unix:///y?socket=systemd.sock")
    check(p.wait(timeout=30) == 0, "without -t it ends with its last client")


@case("nbdinfo")
def several():
    make("a", "raw")
    make("b.qcow2", "qcow2")
    with Serve("-x", "one", "-f", "raw", "--add", "two=b.qcow2,format=qcow2,ro", "--pid-file", "pid", "a") as s:
        d = json.loads(run("nbdinfo", "--list", "--json", s.uri))
        check([(e["export-name"], e["is_read_only"]) for e in d["exports"]] == [("one", False), ("two", True)], f"{d}")
        check(int(open("pid").read()) == s.process.pid, "pid file")
        p = subprocess.run([WHERRY, "disk", "serve", "-r", "-k", "s.sock", "-f", "qcow2", "b.qcow2"], stderr=subprocess.PIPE, text=True)
        check(p.returncode == 125 and p.stderr.count("\n") == 1 and "s.sock" in p.stderr, f"the socket is in use: {p.stderr}")
    check(not os.path.exists("pid") and not os.path.exists("s.sock"), "left something behind")


@case("qemu-io")
def locked():
    run(WHERRY, "disk", "create", "l.qcow2", "8M")
    with Serve("-f", "qcow2", "l.qcow2"):
        out = run("qemu-io", "-f", "qcow2", "-c", "write 0 4k", "l.qcow2", status=1)
        check("lock" in out, out)
        run("qemu-img", "info", "-U", "l.qcow2")
        run(WHERRY, "disk", "info", "l.qcow2")
        out = run(WHERRY, "disk", "serve", "-k", "other.sock", "-f", "qcow2", "l.qcow2", status=125)
        check("in use" in out, out)


@case("fio", "qemu-img", "qemu-io", "nbdcopy")
def compacts_while_it_is_used():
    """The file of a disk becomes shorter while a client writes and verifies; then the work is broken off."""
    for i in "a.qcow2", "b.qcow2", "copy.raw", "c.sock":
        if os.path.exists(i):
            os.unlink(i)
    run("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "256M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 192M", "-c", "discard 0 120M", "a.qcow2")
    before = os.stat("a.qcow2").st_size
    with Serve("-f", "qcow2", "-x", "disk", "--control", "c.sock", "a.qcow2") as s:
        check(os.stat("c.sock").st_mode & 0o777 == 0o600, "the control socket is for its owner")
        fio = subprocess.Popen(["fio", "--name=x", "--ioengine=nbd", "--uri=" + s.uri, "--rw=randwrite", "--bs=4k", "--size=16M",
                                "--offset=200M", "--iodepth=8", "--verify=crc32c", "--loops=2"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        d = json.loads(run(WHERRY, "disk", "compact", "--json", "--control", "c.sock", "disk"))
        out = fio.communicate(timeout=120)
        check(fio.returncode == 0, f"fio: {out}")
        check(d["file-size"] < before - (100 << 20) and d["file-size-before"] >= before, f"{d}")
        check("no export" in run(WHERRY, "disk", "compact", "--control", "c.sock", "other", status=125), "other")
        c = socket.socket(socket.AF_UNIX)
        c.settimeout(30)
        c.connect("c.sock")
        c.sendall(b"expand\n")
        check(c.makefile().read().startswith("error"), "another request")
        c = socket.socket(socket.AF_UNIX)
        c.connect("c.sock")
        c.sendall(b"compact disk\n")
        c.close()  # gone again: nothing happens to the image
        run("nbdcopy", s.uri, "copy.raw")
    check(not os.path.exists("c.sock"), "the socket is gone")
    run("qemu-img", "check", "-q", "a.qcow2")
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "copy.raw", "a.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "read -P 0 0 120M", "-c", "read -P 5 120M 72M", "a.qcow2")


@case("unshare", "nbdcopy", "qemu-img")
def full_disk():
    """The file's disk is full: the client is told, and what it wrote before is there when the server has ended."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        print("    not here: no user namespaces")
        return
    os.makedirs("full", exist_ok=True)
    with open("big.raw", "wb") as f:
        f.write(random.Random(8).randbytes(8 << 20))
    script = """mount -t tmpfs -o size=4m none full && qemu-img create -q -f qcow2 full/z.qcow2 64M
        "$0" disk serve -f qcow2 -k z.sock --ready-fd 9 full/z.qcow2 9>ready & p=$!
        while [ ! -s ready ] && kill -0 $p; do :; done
        nbdcopy big.raw 'nbd+unix:///?socket=z.sock' && exit 20
        wait $p && qemu-img check -q full/z.qcow2 && "$0" disk info --json -f qcow2 full/z.qcow2 &&
        "$0" disk map --json -f qcow2 full/z.qcow2"""
    out = run("unshare", "-rm", "sh", "-c", script, WHERRY)
    check("No space left" in out and '"data": true' in out, out)


@case("nbdinfo")
def tells_in_json():
    make("a.qcow2", "qcow2")
    p = subprocess.Popen([WHERRY, "disk", "serve", "--json", "-t", "-p", "0", "-f", "qcow2", "-x", "d", "a.qcow2"], stdout=subprocess.PIPE, text=True)
    text = ""
    for line in p.stdout:
        text += line
        if line == "}\n":
            break
    d = json.loads(text)
    check(d["exports"] == [{"name": "d", "filename": "a.qcow2", "virtual-size": SIZE, "read-only": False}], f"{d}")
    run("nbdinfo", d["uris"][0])
    p.terminate()
    check(p.wait(timeout=30) == 0, "ended")


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect("s.sock")
    return s


def exactly(s, size):
    data = b""
    while len(data) < size:
        more = s.recv(size - len(data))
        check(more, f"cut after {len(data)} of {size} bytes")
        data += more
    return data


def enter(s):
    exactly(s, 18)
    s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0))
    return struct.unpack(">QH", exactly(s, 10))


def ended(s):
    try:
        while s.recv(65536):
            pass
    except ConnectionResetError:
        pass


@case()
def bad_clients():
    run(WHERRY, "disk", "create", "-f", "raw", "w", "8M")
    with Serve("-f", "raw", "--shared", "3", "w"):
        waiting = [connect() for _ in range(2)]  # say nothing
        s = connect()
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        ended(s)
        for cut in range(0, 28 + 4096, 511):  # leaves in the middle of a write
            s = connect()
            enter(s)
            s.sendall((struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 4096) + b"x" * 4096)[:cut])
            s.close()
        s = connect()
        enter(s)  # floods and leaves without reading
        for i in range(100):
            s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, 0, 1 << 20))
        s.close()
        s = connect()
        check(enter(s)[0] == 8 << 20, "size")
        s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 5, 4096, 512) + b"y" * 512)
        check(exactly(s, 16) == struct.pack(">IIQ", 0x67446698, 0, 5), "still works")
        s.close()
        for w in waiting:
            w.close()


folder = tempfile.mkdtemp(prefix="wherry-nbd-")
os.chdir(folder)
bad = ran = 0
try:
    for f, tools in cases:
        missing = [t for t in tools if not shutil.which(t)]
        if missing:
            print(f"skipped: {f.__name__}: no {', '.join(missing)}")
            continue
        try:
            f()
            print(f"ok {f.__name__}")
        except (AssertionError, subprocess.TimeoutExpired, OSError) as e:
            print(f"not ok {f.__name__}: {e}")
            bad += 1
        ran += 1
finally:
    os.chdir("/")
    shutil.rmtree(folder)
print(f"{ran - bad} of {ran} passed")
sys.exit(1 if bad else 0 if ran else 77)
