#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Drives examples/diskkit as a program with a disk of its own: writes, reads, a discard, many at once; the image is
checked by qemu-img where there is one.
usage: diskkit.py DISKKIT [LIBRARY_FOLDER]"""
import os
import shutil
import subprocess
import sys
import tempfile

diskkit = os.path.abspath(sys.argv[1])
env = dict(os.environ, LD_LIBRARY_PATH=sys.argv[2]) if len(sys.argv) > 2 else None


def run(*arguments, text="", status=0):
    p = subprocess.run([diskkit, *arguments], input=text, text=True, capture_output=True, timeout=60, env=env)
    assert p.returncode == status, (arguments, p.returncode, p.stdout, p.stderr)
    return p.stdout if not status else p.stderr


with tempfile.TemporaryDirectory(prefix="wherry-diskkit-") as work:
    disk = work + "/d.qcow2"
    run("new", disk, str(64 << 20))
    assert "exist" in run("new", disk, "1048576", status=1).lower()
    out = run(disk, text="".join(f"w {i * 100} this is {i}\n" for i in range(200)) + "f\n").splitlines()
    assert len(out) == 201 and all("written" in x or "flushed" in x for x in out), out
    out = run(disk, text="d 0 128\nf\nr 100\n" + "".join(f"r {i * 100}\n" for i in range(2, 200)) + "r 99999999\n")
    answers = dict(x.split(": ", 1) for x in out.splitlines())
    assert answers["15000"] == "this is 150" and answers["100"] == "", answers
    assert answers["99999999"] == "Invalid argument", answers
    assert "w SECTOR" in run(disk, text="what\n")
    if shutil.which("qemu-img"):
        subprocess.run(["qemu-img", "check", "-q", disk], check=True)
print("ok")
