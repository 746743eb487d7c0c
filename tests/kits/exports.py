#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""A kit's shared library exports exactly what its public headers declare.

usage: exports.py CC NM LIBRARY INCLUDE_FOLDER... -- OTHER_INCLUDE_FOLDER...   (the kit's own folders first)"""
import pathlib
import re
import subprocess
import sys

cc, nm, library = sys.argv[1:4]
split = sys.argv.index("--")
own, others = sys.argv[4:split], sys.argv[split + 1:]


def declared():
    """Functions and data that the kit's own headers declare, as the compiler sees them after the preprocessor."""
    names = set()
    for folder in own:
        for header in sorted(pathlib.Path(folder).rglob("*.h")):
            text = subprocess.run(cc.split() + ["-E", "-D_GNU_SOURCE", "-x", "c", str(header)] + ["-I" + f for f in own + others],
                                  check=True, stdout=subprocess.PIPE, text=True).stdout
            mine, kept = False, []
            for line in text.splitlines():
                mark = re.match(r'# \d+ "(.*?)"', line)
                if mark:
                    mine = pathlib.Path(mark[1]).resolve() == header.resolve()
                elif mine and not line.startswith("#"):
                    kept.append(line)
            text = "\n".join(kept)
            while True:  # bodies of inline functions and of structs
                less = re.sub(r"\{[^{}]*\}", "@", text)
                if less == text:
                    break
                text = less
            text = re.sub(r"__attribute__\s*\(\(.*?\)\)", "", text, flags=re.S)
            for declaration in re.split(r"[;@]", text):
                if re.search(r"\b(static|typedef)\b", declaration):
                    continue
                function = re.match(r"\s*[\w\s\*]+?\b(wh_\w+)\s*\(", declaration)
                data = re.match(r"\s*extern\s+[\w\s\*]+?\b(wh_\w+)\s*(\[.*\])?\s*$", declaration, re.S)
                if function or data:
                    names.add((function or data)[1])
    return names


def exported():
    lines = subprocess.run([nm, "-D", "--defined-only", library], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    rows = [line.split() for line in lines]
    bad = [r[2] for r in rows if r[1] != "A" and not r[2].endswith("@@WHERRY_0")]
    if bad:
        sys.exit(f"not ok: without version WHERRY_0: {bad}")
    return {r[2].split("@")[0] for r in rows if r[1] != "A"}


want, have = declared(), exported()
if len(want) < 5:
    sys.exit(f"not ok: found only {sorted(want)} in {own}")
for name in sorted(want - have):
    print(f"not ok {name}: declared in a public header, not exported (visibility pragma missing, or not defined)")
for name in sorted(have - want):
    print(f"not ok {name}: exported, declared in no public header")
print(f"{len(want & have)} symbols")
sys.exit(want != have)
