#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""wherry run --trace, --profile and wherry inspect.

usage: observe.py WHERRY IMAGE        (observe.c)"""
import os
import re
import signal
import subprocess
import sys
import tempfile

wherry, image = map(os.path.abspath, sys.argv[1:])
failures = 0


def check(name, condition, detail=""):
    global failures
    failures += not condition
    print(("ok " if condition else "not ok ") + name + ("" if condition else f": {detail}"), flush=True)


def run(options, arguments, path=image, engine="proc"):
    return subprocess.run([wherry, "run", "--engine", engine] + options + [path, "--"] + arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60)


def trace(folder):
    p = run(["--trace=file,net"], ["calls"])
    lines = [re.sub(r"^\d+\.\d{6} \[1\] ", "", re.sub(r" <\d+ us>$", "", line)) for line in p.stderr.splitlines()]
    check("the program is not disturbed", p.returncode == 3 and p.stdout == "done\n", (p.returncode, p.stdout, p.stderr))
    check("each line has time, thread and duration",
          all(re.match(r"\d+\.\d{6} \[\d+\] \w+\(.*\) = (-1 E\w+|\?|\d+|0x[0-9a-f]+)( <\d+ us>)?$", line) for line in p.stderr.splitlines()), p.stderr)
    for wanted in ('open("/tmp/x\\"y", O_RDWR|O_CREAT|O_TRUNC|O_CLOEXEC, 0644) = 3', 'write(3, "hello\\nworld\\x07", 12) = 12',
                   'read(3, "hello\\nworld\\x07", 80) = 12', 'open("/no/such", O_RDONLY, 00) = -1 ENOENT', 'mkdir("/tmp/d", 0755) = 0',
                   'openat(AT_FDCWD, "/tmp", O_RDONLY|O_DIRECTORY|O_CLOEXEC, 00) = 4', "socket(2, 1, 0) = 5", "connect(5, 127.0.0.1:9, 16) = -1 ECONNREFUSED"):
        check(f"shows {wanted}", wanted in lines or wanted.replace("O_RDONLY|O_DIRECTORY|O_CLOEXEC", "O_RDONLY|O_CLOEXEC|O_DIRECTORY") in lines, p.stderr)
    check("and nothing of other groups", not any(line.startswith(("nanosleep", "exit")) for line in lines))
    p = run(["--trace=nanosleep,exit_group"], ["calls"])
    names = re.findall(r"\] (\w+)\(", p.stderr)
    check("calls by name", names == ["nanosleep", "exit_group"] and "exit_group(3) = ?" in p.stderr, p.stderr)
    slept = re.search(r"nanosleep.* <(\d+) us>", p.stderr)
    check("a call that waits took that long", int(slept.group(1)) >= 3000, p.stderr)
    # many more than the ring holds, from several threads: none is lost
    p = run(["--trace=lseek"], ["many"])
    check("no call is lost", p.stderr.count("lseek(0, ") == 4 * 5000 and p.returncode == 0, (p.stderr.count("lseek(0, "), p.returncode))
    check("threads are told apart", len(set(re.findall(r"\[(\d+)\] lseek", p.stderr))) == 4)
    p = run(["--trace=nonsense"], ["calls"])
    check("an unknown group is refused", p.returncode == 125 and "no call and no group" in p.stderr, p.stderr)
    subprocess.run(["strip", "-o", f"{folder}/stripped", image], check=True)
    p = run(["--trace=all"], ["calls"], f"{folder}/stripped")
    check("an image without symbols is refused", p.returncode == 125 and "no symbols" in p.stderr, p.stderr)


def profile(folder):
    p = run(["--profile", f"{folder}/folded"], ["compute"])
    lines = [line.rsplit(" ", 1) for line in open(f"{folder}/folded").read().splitlines()]
    counts = {stack: int(n) for stack, n in lines}
    total = sum(counts.values())
    inner = sum(n for stack, n in counts.items() if "main" in stack.split(";") and stack.endswith("hot_function"))
    check("a program's own time is seen, with its callers", p.returncode == 0 and total >= 10 and inner > total * 0.8, (p.stderr, counts))
    p = run(["--profile", f"{folder}/flame.svg"], ["compute"])
    svg = open(f"{folder}/flame.svg").read()
    check("a flame graph", p.returncode == 0 and svg.startswith("<svg") and svg.rstrip().endswith("</svg>") and "hot_function (" in svg, svg[:300])
    import xml.dom.minidom
    xml.dom.minidom.parseString(svg)
    p = run(["--profile", f"{folder}/no/where"], ["compute"])
    check("a place that is none", p.returncode == 125 and "no/where" in p.stderr, p.stderr)


def inspect(folder):
    os.environ["WHERRY_MACHINES"] = f"{folder}/machines"
    guest = subprocess.Popen([wherry, "run", "--engine", "proc", "--name", "looked-at", image, "--", "wait"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    guest.stdout.readline()  # it waits now
    p = subprocess.run([wherry, "inspect", "looked-at"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    text = p.stdout
    check("inspect answers", p.returncode == 0 and re.search(r"^memory total=\d+ free=\d+$", text, re.M), p.stderr + text)
    threads = re.findall(r"^thread tid=(\d+) state=(\w+).*?(?: stack=(\S+))? name=(.*)$", text, re.M)
    check("three threads", len(threads) == 3, text)
    by_name = {t[3]: t for t in threads}
    check("a thread that sleeps, and where", "sleeper" in by_name and by_name["sleeper"][1] == "sleeping" and "pause+0x" in by_name["sleeper"][2], text)
    check("a thread that computes, and where", "spinner" in by_name and by_name["spinner"][1] in ("runnable", "running"), text)
    check("a socket with its address", re.search(r"^fd \d+ kind=socket .*socket=tcp local=0\.0\.0\.0:4711$", text, re.M), text)
    check("a file with its path and position", re.search(r"^fd \d+ kind=file .*position=5 path=/tmp/looked$", text, re.M), text)
    guest.send_signal(signal.SIGKILL)
    guest.wait()
    guest.stdout.close()
    p = subprocess.run([wherry, "inspect", "nobody"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    check("no such machine", p.returncode == 125 and "no machine nobody" in p.stderr, p.stderr)


with tempfile.TemporaryDirectory(prefix="wherry-observe-") as temporary:
    trace(temporary)
    profile(temporary)
    inspect(temporary)
sys.exit(1 if failures else 0)
