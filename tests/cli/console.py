#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Consoles of named machines: logs, following them, typing through wherry console, on a terminal too; the same verbs for a Solo5
guest.

usage: console.py WHERRY FOLDER_OF_IMAGES SPT_GUEST"""
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

wherry, images, spt = map(os.path.abspath, sys.argv[1:4])
talker = os.path.join(images, "talker")


def check(what, good):
    if not good:
        sys.exit(f"not ok: {what}")


with tempfile.TemporaryDirectory() as folder:
    env = dict(os.environ, WHERRY_MACHINES=os.path.join(folder, "machines"))
    started = []

    def start(*words, **more):
        p = subprocess.Popen([wherry, *words], cwd=folder, env=env, **dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more))
        started.append(p)
        return p

    def run(*words, status=0, **more):
        p = subprocess.run([wherry, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, timeout=60, **more)
        check(f"{words}: status {p.returncode}, not {status}: {p.stdout}{p.stderr}", p.returncode == status)
        return p.stdout if status == 0 else p.stderr

    def read_until(fd, pattern):
        text = b""
        end = time.monotonic() + 60
        while not re.search(pattern, text):
            check(f"{pattern} in {text[-300:]}", select.select([fd], [], [], end - time.monotonic())[0])
            more = os.read(fd, 65536)
            check(f"{pattern} before the end of {text[-300:]} {[p.poll() for p in started]}", more)
            text += more
        return text

    try:
        check("unknown machine", "there is no machine x" in run("logs", "x", status=125))
        check("no name", "needs the name" in run("console", status=125))
        guest = start("run", "--name", "talk", talker)
        read_until(guest.stdout.fileno(), b"ready\n")
        # Nobody may wait for whoever reads its output here.
        threading.Thread(target=lambda: all(iter(lambda: os.read(guest.stdout.fileno(), 65536), b"")), daemon=True).start()
        check("logs", run("logs", "talk") == "ready\n")
        follower = start("logs", "-f", "talk")
        read_until(follower.stdout.fileno(), b"ready\n")
        # What comes on standard input, and what is typed; the typist shows the past first.
        guest.stdin.write(b"own\n")
        guest.stdin.flush()
        read_until(follower.stdout.fileno(), b"heard own\n")
        typist = start("console", "talk")
        read_until(typist.stdout.fileno(), b"ready\nheard own\n")
        typist.stdin.write(b"one\n" + b"x" * 400 + b"\n" + b"y" * 400 + b"\nfill\n")
        typist.stdin.close()
        text = read_until(typist.stdout.fileno(), b"heard fill\n")
        check("all that was typed", b"heard one\n" in text and b"heard " + b"x" * 400 + b"\n" in text and b"heard " + b"y" * 400 in text)
        check("a typist at the end of its input still listens", typist.poll() is None)
        kept = run("logs", "talk")
        check(f"the last 64 KiB are kept: {len(kept)}", len(kept) == 65536 and kept.endswith("heard fill\n"))
        read_until(follower.stdout.fileno(), b"heard fill\n")

        # Somebody who never reads does not hold up the machine.
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(f"{env['WHERRY_MACHINES']}/talk.sock")
            deaf.sendall(b"GET /v1/console/follow HTTP/1.1\r\n\r\n")
            guest.stdin.write(b"fill\nfill\nlast\n")
            guest.stdin.flush()
            read_until(follower.stdout.fileno(), b"heard last\n")
            read_until(typist.stdout.fileno(), b"heard last\n")

        # On a terminal: keys, and Ctrl-A d.
        child, terminal = pty.fork()
        if not child:
            os.execve(wherry, [wherry, "console", "talk"], env)
        read_until(terminal, b"heard last\r?\n")
        os.write(terminal, b"key\n")
        read_until(terminal, b"heard key\r?\n")
        os.write(terminal, b"\x01d")
        check("leaves by Ctrl-A d", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0)
        check("the machine runs on", guest.poll() is None)
        os.close(terminal)

        guest.stdin.write(b"end\n")
        guest.stdin.flush()
        check("it ends", guest.wait(60) == 3)
        check("followers get the last of it", follower.stdout.read().endswith(b"heard end\n") and follower.wait(60) == 0)
        check("typists, too", typist.stdout.read().endswith(b"heard end\n") and typist.wait(60) == 0)

        # A Solo5 guest has the same verbs.
        with open(os.path.join(folder, "disk"), "wb") as f:
            f.truncate(65536)
        solo = start("run", "--name", "solo", "--disk", "data=disk,format=raw", spt, "--", "S")
        read_until(solo.stdout.fileno(), b"hello from spt\n")
        row = json.loads(run("ps", "--json"))
        check(f"listed {row}", row["name"] == "solo" and row["engine"] == "proc" and row["image"] == os.path.basename(spt))
        check("two of one name", "another machine has this name" in run("run", "--name", "solo", talker, status=125))
        check("its logs", "hello from spt" in run("logs", "solo"))
        run("pause", "solo")
        check("it stands still", json.loads(run("ps", "--json"))["state"] == "paused")
        check("no snapshot of it", run("snapshot", "solo", os.path.join(folder, "snap"), status=125))
        check("and no file", not os.path.exists(os.path.join(folder, "snap")))
        run("resume", "solo")
        check("it runs", json.loads(run("ps", "--json"))["state"] == "running")
        check("metrics", "wherry_machine_running{machine=\"solo\"} 1" in run("stats", "solo"))
        run("stop", "solo")
        check("it has ended", solo.wait(60) == 128 + signal.SIGKILL)
    finally:
        for p in started:
            if p.poll() is None:
                p.kill()
            p.wait()
print("ok")
