#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""examples/embed: ten guests in one process, each answers three questions and ends with its count.

usage: embed.py EMBED IMAGE [LIBRARY_FOLDER]"""
import collections
import os
import re
import subprocess
import sys

embed, image = sys.argv[1:3]
env = dict(os.environ)
if len(sys.argv) > 3:
    env["LD_LIBRARY_PATH"] = sys.argv[3]
p = subprocess.run([embed, image], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, env=env)
if p.returncode:
    sys.exit(f"not ok: status {p.returncode}: {p.stderr}")
answers = collections.Counter(re.findall(r"^(guest-\d) got: question \d$", p.stdout, re.M))
ends = dict(re.findall(r"^(guest-\d) ended with status (\d+)$", p.stdout, re.M))
names = [f"guest-{i}" for i in range(10)]
if answers != {n: 3 for n in names} or ends != {n: "3" for n in names}:
    sys.exit(f"not ok:\n{p.stdout}\n{p.stderr}")
print("ok ten guests answered")
bad = subprocess.run([embed, "/dev/null"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, env=env)
if bad.returncode != 1 or "not an image" not in bad.stderr:
    sys.exit(f"not ok: {bad}")
print("ok a bad image is an error, and control comes back")
