#!/usr/bin/env python3
"""Where does the time of Sluice's update go, and what is the limit of each kind of op?

    bench/step.py --program build/bench/bench_step [--models 111m,12m] [--micro-batch 4] [--steps 5] [--out FILE]

For each model of bench/train.py the table of bench_step: milliseconds of an update by kind of op, and the time that
its FLOPs take at the rate of the products or its bytes at the rate of the memory, both as `sluice doctor` measures
them first. Ops above 100% of "memory" read what a cache still holds.
"""
import argparse
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "bench" / "peers")]
import common  # noqa: E402
import train  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", default="build/bench/bench_step")
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--models", default="111m,12m")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--machine", type=pathlib.Path, help="the machine.json that `sluice doctor` kept; default: measure now")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "bench" / "step")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    lines = ["$ bench/step.py " + shlex.join(sys.argv[1:]), common.machine()]
    options.work.mkdir(parents=True, exist_ok=True)
    machine = options.machine or options.work / "sluice" / "machine.json"
    if not options.machine:
        subprocess.run([options.sluice, "doctor"], env={**os.environ, "XDG_CACHE_HOME": str(options.work)},
                       stdout=subprocess.DEVNULL, check=True)
    for name in options.models.split(","):
        shape = common.MODELS[name]
        config = train.Sluice(options.sluice, shape, options.precision, options.work / name).config
        command = [options.program, config, "--machine", machine, "--steps", options.steps,
                   f"--plan.precision={options.precision}", f"--plan.micro_batch={options.micro_batch}",
                   f"--run.tokens={64 * shape.tokens}"]
        table = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout
        lines.append(f"\n{name}: " + table.strip().removeprefix(f"{config}, "))
    print("\n".join(lines))
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
