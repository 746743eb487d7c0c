#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""wherry run --confine: what the kernel says about the monitor of a running guest, with and without.

usage: confine.py WHERRY IMAGES_DIR"""
import os
import re
import signal
import subprocess
import sys
import tempfile

wherry, images = sys.argv[1:3]
failed = 0


def check(what, ok):
    global failed
    if not ok:
        failed += 1
        print(f"not ok: {what}")


def monitor(*options, keep=()):
    """The monitor's line in /proc while its guest runs, and how many of `keep` it still has."""
    p = subprocess.Popen([wherry, "run", "--engine", "proc", *options, f"{images}/idle"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=keep)
    p.stdout.readline()  # confined before this was read from the guest
    with open(f"/proc/{p.pid}/status") as f:
        status = dict(re.findall(r"^(\w+):\s*(\S+)", f.read(), re.M))
    owner = os.stat(f"/proc/{p.pid}/mem").st_uid
    has = 0
    for fd in keep:
        try:
            has += os.readlink(f"/proc/{p.pid}/fd/{fd}") == os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass
    p.send_signal(signal.SIGTERM)
    p.send_signal(signal.SIGTERM)
    p.wait(20)
    return status, owner, has, p.stderr.read().decode()


with tempfile.TemporaryFile() as f:
    os.set_inheritable(f.fileno(), True)
    on, _, has, said = monitor(keep=(f.fileno(),))
    check("filter", on["Seccomp"] == "2" or "no seccomp" in said)
    check("no new rights", on["NoNewPrivs"] == "1")
    check("inherited descriptor is closed", has == 0)
    # an argument with "fd" in it may name one: then /proc is looked through
    _, _, has, _ = monitor("--name", f"fd{os.getpid()}", keep=(f.fileno(),))
    check("inherited descriptor is closed in the end", has == 0)
    off, _, has, _ = monitor("--confine", "off", keep=(f.fileno(),))
    check("off: no filter", off["Seccomp"] == "0")
    check("off: rights as before", off["NoNewPrivs"] == "0")
    check("off: descriptor is there", has == 1)
    log, _, _, _ = monitor("--confine", "log")
    check("log: filter", log["Seccomp"] == "2")

p = subprocess.run([wherry, "run", "--confine", "maybe", "x"], capture_output=True, text=True)
check("a word that is none", p.returncode == 125 and "--confine is on, off or log" in p.stderr)
print("ok" if not failed else f"{failed} failed")
sys.exit(failed != 0)
