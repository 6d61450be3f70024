#!/usr/bin/env python3
"""Does the planner know how long a step takes, and what it takes of memory?

    bench/predict.py [--sluice build/release/sluice] [--rounds 5] [--steps 6] [--only NAME] [--out FILE]

Trains three configs that nobody measured beforehand: one that is resident, one whose blocks are at home in host memory
and one whose optimizer state is at home on disk. In turns: `sluice doctor --quick --save`, a run of each with that
description, and again. A run prints what was predicted on the machine as it was a moment ago, and what was measured.
Prints the median of the rounds' ratios and whether it is within 15%, and whether the run took exactly the bytes of
device, host and disk that `sluice plan` says.
"""
import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench" / "peers"))
sys.path.insert(0, str(ROOT / "bench"))
import common  # noqa: E402
import stream  # noqa: E402

CONFIG = """\
model = {{ family = "gpt2", layers = LAYERS, width = WIDTH, heads = HEADS, context = 256, vocab = 2048 }}
data = {{ train = "{corpus}" }}
batch = {{ tokens = {tokens}, sequence = 256 }}
plan = {{ micro_batch = MICRO, state = "exact" }}
run = {{ validate_every = 0, save_every = 0 }}
"""
STREAMS = ["--plan.schedule=layer-major", "--plan.recompute=block"]
# layers, width, heads, micro-batch, tokens of a step, more options
CASES = {
    "resident": (6, 384, 6, 4, 4096, []),
    "host": (24, 256, 4, 4, 8192, [*STREAMS, "--plan.homes=host"]),
    "disk": (16, 320, 5, 4, 8192, [*STREAMS, "--plan.homes=optimizer=disk"]),
}
WITHIN = 0.15


def config_of(work, name):
    layers, width, heads, micro, tokens, options = CASES[name]
    text = CONFIG
    for key, value in (("LAYERS", layers), ("WIDTH", width), ("HEADS", heads), ("MICRO", micro)):
        text = text.replace(key, str(value))
    return stream.prepared(work / name, text, tokens), tokens, options


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", choices=list(CASES), action="append")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "bench" / "predict")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    lines, good = [], True

    def show(line):
        print(line, flush=True)
        lines.append(line)

    show("$ bench/predict.py " + " ".join(sys.argv[1:]))
    show(common.machine())
    cases = {name: config_of(options.work, name) for name in options.only or CASES}
    machine = options.work / "machine.toml"
    found = {name: [] for name in cases}
    for _ in range(options.rounds):
        common.output_of(options.sluice, "doctor", "--quick", "--json", "--save", machine, "--disk", options.work)
        for name, (config, tokens, more) in cases.items():
            rows = stream.trained(options.sluice, config, tokens, options.steps, *more, "--machine", machine)[1]
            found[name].append(next(row for row in rows if "predicted" in row))
    for name, (config, tokens, more) in cases.items():
        rows = found[name]
        pairs = [(row["predicted"]["tokens_per_second"], row["measured"]["tokens_per_second"]) for row in rows]
        off = common.median([measured / predicted - 1 for predicted, measured in pairs])
        plan = stream.plan_of(options.sluice, config, *more)
        planned = {"device": plan["device"], "host": plan["memory"]["host"], "disk": plan["disk"]["scratch"]}
        exact = all(row["taken"] == planned for row in rows)
        show(f"{name:<9} predicted {common.median([p for p, _ in pairs]):.0f} tokens/s, measured "
             f"{common.median([m for _, m in pairs]):.0f}; median of {len(pairs)} rounds {off:+.1%}"
             f"{'' if abs(off) <= WITHIN else ', NOT WITHIN 15%'} (each round: "
             f"{', '.join(f'{m / p - 1:+.1%}' for p, m in pairs)}); bound by {rows[-1]['predicted']['bound']}")
        show(f"{'':<9} memory {'exact' if exact else 'DIFFERS'}: " +
             ", ".join(f"{bytes_} bytes of {tier}" for tier, bytes_ in planned.items()))
        good = good and exact and abs(off) <= WITHIN
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
