#!/usr/bin/env python3
"""numpy's generator and permutations of a seed: tests/goldens/numpy_shuffle.json, anew.

  build/venv/bin/python tools/goldens/numpy_shuffle.py
"""

import json
import pathlib

import numpy

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/goldens/numpy_shuffle.json"
SEEDS = (0, 1, 2357, 2**32 - 1, 2**32, 2**63 + 12345)


def fnv(numbers):
    value = 0xcbf29ce484222325
    for number in numbers:
        value = ((value ^ number) * 0x100000001b3) % 2**64
    return value


def main():
    raw = [{"seed": seed, "numbers": [int(x) for x in numpy.random.PCG64(seed).random_raw(5)]} for seed in SEEDS]
    permutations = []
    for seed in SEEDS:
        for n in (0, 1, 2, 10, 1000, 65537):
            order = [int(x) for x in numpy.random.default_rng(seed).permutation(n)]
            permutations.append({"seed": seed, "n": n, "fnv": fnv(order), "begin": order[:10]})
    rows = {"raw": raw, "permutations": permutations}
    parts = [f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in all_of) + "\n]" for name, all_of in rows.items()]
    OUT.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
