"""Which model this machine can teach in six minutes: shapes are measured from the largest down."""

import json
import time
import tomllib
from pathlib import Path

from program import CONFIG, act, asked_to_stop, call, fail, rows, say, scratch, start, stop_if_asked

# (layers, width), heads of 32. A larger one learns more from each reading; but on five novels a model that reads them
# twice knows less than one of half its size that reads them four times.
SHAPES = ((8, 512), (6, 384), (6, 320), (6, 256), (4, 256), (4, 192), (3, 128))
PASSES, MOST_PASSES = 4.5, 8  # over the novels; beyond that it learns them by heart
TRAIN_SECONDS, MEASURE_SECONDS = 345, 4  # the last validation, saves and samples take the rest of six minutes
FEWEST_MEASURED, FEWEST_STEPS = 4, 300


def name(shape):
    return f"{shape[0]} layers x {shape[1]}"


def options(shape):
    layers, width = shape
    lr = min(2.5e-3, 0.512 / width)
    return [f"--model.layers={layers}", f"--model.width={width}", f"--model.heads={width // 32}",
            f"--optim.lr={lr:g}", f"--optim.lr_end={lr / 25:g}"]


def measured(shape):
    """Tokens per second of some steps."""
    out = scratch("measure")
    quiet = [f"--run.{what}_every=0" for what in ("validate", "save", "sample")]
    with open(f"{out}.log", "w") as log:
        process = start("train", CONFIG, "--out", out, *options(shape), *quiet, stdout=log, stderr=log)
        began = None  # with the first step, which also warms up
        while process.poll() is None and not asked_to_stop():
            time.sleep(0.1)
            steps = len(rows(out, "loss"))
            began = began or (time.monotonic() if steps else None)
            if began and time.monotonic() - began > MEASURE_SECONDS and steps >= FEWEST_MEASURED:
                break
        process.kill()
        process.wait()
    stop_if_asked()
    speeds = [row["tokens_per_second"] for row in rows(out, "loss")][1:]
    if not speeds:
        fail("the measurement ended without a step", Path(f"{out}.log").read_text())
    return len(speeds) / sum(1 / speed for speed in speeds)


def choose(tokens_of_text):
    """(shape, run.tokens in whole steps)."""
    act(f"measure: the largest model that reads the novels {PASSES} times in six minutes")
    step = tomllib.loads(Path(CONFIG).read_text())["batch"]["tokens"]
    most = MOST_PASSES * tokens_of_text // step
    needed = PASSES * tokens_of_text / TRAIN_SECONDS  # tokens a second
    flops = 0  # a second, of the shape measured last: a smaller one does not reach more
    for shape in SHAPES:
        of_token = json.loads(call("plan", CONFIG, "--json", *options(shape)))["flops"]["utilization"]["per_token"]
        if flops and flops / of_token < needed and shape != SHAPES[-1]:
            continue
        per_second = measured(shape)
        flops = per_second * of_token
        passes = per_second * TRAIN_SECONDS / tokens_of_text
        say(f"{name(shape):<18} {of_token / 1e6:6.1f} MFLOP a token, {per_second:9,.0f} tokens/s: "
            f"{passes:.1f} times")
        if passes >= PASSES:
            break
    steps = min(most, max(FEWEST_STEPS, int(TRAIN_SECONDS * per_second / step)))
    say(f"so {name(shape)}, run.tokens = {steps * step:,} ({steps:,} steps of {step:,})")
    return shape, steps * step
