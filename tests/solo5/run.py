#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Solo5's spt guests: what the ABI gives works, on raw and qcow2 disks and two networks; what it does not give ends the guest.

usage: run.py WHERRY GUEST"""
import os
import signal
import subprocess
import sys
import tempfile

wherry, guest = map(os.path.abspath, sys.argv[1:3])


def check(what, good):
    if not good:
        sys.exit(f"not ok: {what}")


def run(*words, status, pattern, binary=guest):
    p = subprocess.run([wherry, "run", *words, binary], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=60)
    check(f"{words}: status {p.returncode}, not {status}; wanted {pattern}: {p.stdout}", p.returncode == status and pattern in p.stdout)
    return p.stdout


def attack(letter, *words, what):
    p = subprocess.run([wherry, "run", *words, guest, "--", "A" + letter], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=60)
    check(f"attack {letter}: status {p.returncode}: {p.stdout}", p.returncode == 124 and what in p.stdout)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for name in "raw", "compare":
        with open(name, "wb") as f:
            f.truncate(65536)
    subprocess.run([wherry, "disk", "create", "-f", "qcow2", "qcow2", "64K"], check=True, stdout=subprocess.DEVNULL)
    raw, qcow2 = ("--disk", "data=raw,format=raw"), ("--disk", "data=qcow2,format=qcow2")
    for disk in raw, qcow2, ("--disk", "data=compare,format=raw,cache=none"):
        run(*disk, status=7, pattern="ok last block")
    run("--sandbox", "minimal", "--memory", "4M", *raw, status=7, pattern="ok last block")
    with open("raw", "rb") as f:
        block = f.read()[1024:1536]
    check("the disk has it", block == bytes(i * 7 & 255 for i in range(512)))
    subprocess.run([wherry, "disk", "convert", "-f", "qcow2", "-O", "raw", "qcow2", "out"], check=True, stdout=subprocess.DEVNULL)
    with open("out", "rb") as f:
        check("the qcow2 disk has it", f.read()[1024:1536] == block)

    p = subprocess.run([wherry, "run", *raw, guest, "--", "F"], stdout=subprocess.PIPE, timeout=60)
    check(f"all of the console's output: {len(p.stdout)} bytes, status {p.returncode}", p.returncode == 9 and len(p.stdout) == 1500000)

    fault, refused = "guest fault: access outside", "a forbidden system call"
    for letter in "tozx":
        attack(letter, *raw, what=fault)
    for letter in "mbwsdnerc":
        attack(letter, *raw, what=refused)
    for letter in "bws":
        attack(letter, *qcow2, what=refused)

    run(status=125, pattern="its disk data is not attached")
    run("--disk", "nothing=raw,format=raw", status=125, pattern="the guest has no disk of this name")
    run("--memory", "1M", *raw, status=125, pattern="too little memory")
    with open("odd", "wb") as f: # the block layer rounds it up
        f.truncate(65536 - 100)
    run("--disk", "data=odd,format=raw", status=7, pattern="ok last block")

    p = subprocess.Popen([wherry, "run", *qcow2, guest, "--", "S"], stdout=subprocess.PIPE, text=True)
    check("it started", p.stdout.readline() == "hello from spt\n")
    p.send_signal(signal.SIGTERM)
    check("a signal ends it", p.wait(timeout=60) == 128 + signal.SIGKILL)
