#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Bad input to `wherry run`: one line that names the thing and says what to do, the documented
exit status, and nothing left behind (process, listening port, file, lock).

usage: bad_input.py WHERRY IMAGES_DIR      (hello and idle are in IMAGES_DIR)"""
import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

wherry, images = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
hello, server = images + "/hello", images + "/server"
work = tempfile.mkdtemp(prefix="wherry-test-")
os.chdir(work)
failures = count = 0
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def report(name, problem):
    global failures, count
    count += 1
    failures += problem is not None
    print(("ok " if problem is None else "not ok ") + name + (f": {problem}" if problem else ""), flush=True)


def run(args, **kwargs):
    p = subprocess.run([wherry] + args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=30, text=True, errors="replace", **kwargs)
    return p


def refuses(name, args, status, pattern, **kwargs):
    before = set(os.listdir(work)), processes()
    p = run(args, **kwargs)
    lines = p.stderr.strip().split("\n")
    problem = None
    if p.returncode != status:
        problem = f"status {p.returncode}, wanted {status}: {p.stderr.strip()!r}"
    elif len(lines) != 1 or not lines[0].startswith("wherry: "):
        problem = f"not one line: {p.stderr!r}"
    elif not re.search(pattern, lines[0]):
        problem = f"{lines[0]!r} does not match /{pattern}/"
    elif p.stdout:
        problem = f"wrote to standard output: {p.stdout!r}"
    elif set(os.listdir(work)) != before[0]:
        problem = f"left files behind: {set(os.listdir(work)) - before[0]}"
    elif not settled(before[1]):
        problem = "left processes behind"
    report(name, problem)


def processes():
    """Children of ours that still live: orphans come to us (PR_SET_CHILD_SUBREAPER)."""
    with open(f"/proc/self/task/{os.getpid()}/children") as f:
        found = set()
        for pid in f.read().split():
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(int(pid), os.WNOHANG)[0] == 0:
                    found.add(pid)
        return found


def settled(before):
    """A guest that was killed a moment ago may still be on its way out."""
    for _ in range(50):
        if processes() <= before:
            return True
        time.sleep(0.02)
    return False


def write(name, data):
    with open(os.path.join(work, name), "wb") as f:
        f.write(data)
    return name


elf = open(hello, "rb").read()
aarch64 = bytearray(elf)
aarch64[18:20] = (183).to_bytes(2, "little")
elf32 = bytearray(elf)
elf32[4] = 1

refuses("no command", [], 125, "command")
refuses("unknown command", ["frobnicate"], 125, "frobnicate")
refuses("no image", ["run"], 125, "image")
refuses("missing file", ["run", "nowhere"], 127, "nowhere.*no such file")
refuses("a folder", ["run", "/"], 126, "/")
refuses("empty file", ["run", write("empty", b"")], 126, "empty")
refuses("text file", ["run", write("text", b"#!/bin/sh\necho\n" * 20)], 126, "text.*(not an|ELF)")
refuses("wrong architecture", ["run", write("aarch64", aarch64)], 126, "aarch64.*(x86|machine|architecture)")
refuses("32-bit", ["run", write("elf32", elf32)], 126, "elf32.*(64|class)")
refuses("native program", ["run", "/bin/true"], 126, "/bin/true.*(image|manifest|wherry cc)")
refuses("truncated ELF", ["run", write("short", elf[:5000])], 126, "short")
refuses("cut header", ["run", write("header", elf[:50])], 126, "header")
os.chmod(write("secret", elf), 0)
if os.geteuid() == 0:
    print("note: as root every file can be read: unreadable file not tried")
else:
    refuses("unreadable file", ["run", "secret"], 126, "secret.*ermission")
refuses("too little memory", ["run", "--memory", "16K", hello], 125, "memory")
refuses("too much memory", ["run", "--memory", "999999G", hello], 125, "memory")
refuses("memory that is no size", ["run", "--memory", "much", hello], 125, "much")
refuses("unknown option", ["run", "--frob", hello], 125, "--frob.*(help)")
refuses("option without value", ["run", "--memory"], 125, "--memory")
refuses("unknown engine", ["run", "--engine", "xen", hello], 125, "(auto|proc|kvm).*xen|xen.*(auto|proc|kvm)")
refuses("bad variable", ["run", "-e", "novalue", hello], 125, "novalue")
refuses("bad port", ["run", "-p", "http:80", server], 125, "http:80")
refuses("port over the limit", ["run", "-p", "8080:70000", server], 125, "70000")

busy = socket.socket()
busy.bind(("127.0.0.1", 0))
busy.listen()
port = busy.getsockname()[1]
refuses("busy port", ["run", "-p", f"{port}:80", server], 125, f"{port}.*(use|busy)")
busy.close()
refuses("foreign address", ["run", "-p", "192.0.2.77:0:80", server], 125, "192.0.2.77")

refuses("missing disk", ["run", "--disk", "data=nodisk", hello], 125, "nodisk.*no such file")
refuses("disk without name", ["run", "--disk", "nodisk", hello], 125, "nodisk.*NAME=FILE|NAME=FILE")
refuses("disk with a bad name", ["run", "--disk", "a/b=nodisk", hello], 125, "a/b")
refuses("unknown disk option", ["run", "--disk", "data=empty,fast", hello], 125, "fast")
refuses("unknown disk format", ["run", "--disk", "data=empty,format=vmdk", hello], 125, "vmdk.*(raw|qcow2)")
write("raw", b"\0" * (1 << 20))
refuses("raw called qcow2", ["run", "--disk", "data=raw,format=qcow2", hello], 125, "raw.*qcow2")
run(["disk", "create", "q.qcow2", "1M"])
refuses("qcow2 without a format", ["run", "--disk", "data=q.qcow2", hello], 125, "q.qcow2.*format=qcow2")
damaged = bytearray(open("q.qcow2", "rb").read())
damaged[40:48] = (2**40).to_bytes(8, "big")
refuses("damaged qcow2", ["run", "--disk", "data=" + write("d.qcow2", damaged) + ",format=qcow2", hello], 125, "d.qcow2")
refuses("a folder as disk", ["run", "--disk", "data=/,format=raw", hello], 125, "/")
if os.geteuid() != 0:
    os.chmod("raw", 0o444)
    refuses("unwritable disk", ["run", "--disk", "data=raw", hello], 125, "raw.*(,ro|ermission|read-only)")
# QEMU's locks (byte 201: nobody else may write): an OFD lock as another monitor holds it.
locked = os.open("q.qcow2", os.O_RDWR)
F_OFD_SETLK = 37
import struct
fcntl.fcntl(locked, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 201, 1, 0))
fcntl.fcntl(locked, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 101, 1, 0))
refuses("locked disk", ["run", "--disk", "data=q.qcow2,format=qcow2", hello], 125, "q.qcow2.*(use|lock)")
os.close(locked)

refuses("missing folder", ["run", "-v", "nofolder:/srv", hello], 125, "nofolder.*no such")
refuses("file as folder", ["run", "-v", "raw:/srv", hello], 125, "raw.*(folder|directory)")
refuses("relative mount point", ["run", "-v", "/:srv", hello], 125, "srv")
refuses("mount without a path", ["run", "-v", "/tmp", hello], 125, "/tmp.*DIR:PATH|DIR:PATH")
refuses("mount option", ["run", "-v", "/tmp:/srv:rx", hello], 125, "rx")

if not os.access("/dev/kvm", os.F_OK):
    refuses("no kvm", ["run", "--engine", "kvm", hello], 125, "/dev/kvm.*--engine proc")
elif os.geteuid() == 0 and shutil.which("setpriv"):
    def nobody(args):
        return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] + args
    os.chmod(work, 0o755)
    write("theirs", elf)  # where others may read
    shutil.copy(wherry, "wherry")
    os.chmod("theirs", 0o644)
    p = subprocess.run(nobody(["./wherry", "run", "--engine", "kvm", "theirs"]), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    mode = os.stat("/dev/kvm").st_mode
    if mode & 0o006:
        print("note: /dev/kvm is open to all here: permission not tried")
    else:
        line = p.stderr.strip()
        good = p.returncode == 125 and "\n" not in line and re.search("ermission.*/dev/kvm|/dev/kvm.*ermission", line)
        report("kvm without permission", None if good else f"status {p.returncode}: {line!r}")

# The disk of a guest that runs is locked, and free when it ended.
guest = subprocess.Popen([wherry, "run", "--disk", "data=q.qcow2,format=qcow2", images + "/idle"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
guest.stdout.readline()
refuses("disk of another guest", ["run", "--disk", "data=q.qcow2,format=qcow2", hello], 125, "q.qcow2.*(use|lock)")
guest.terminate()
guest.wait()
p = run(["run", "--disk", "data=q.qcow2,format=qcow2", hello])
report("disk after the guest", None if p.returncode == 0 else p.stderr)

shutil.rmtree(work)
print(f"{count - failures} passed, {failures} failed")
sys.exit(1 if failures else 0)
