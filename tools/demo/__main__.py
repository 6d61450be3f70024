"""A small GPT learns English prose, stops, resumes and speaks: what `make demo` runs once the program is built.

  prepare    five novels of Jane Austen give 2,048 byte pairs and become tokens; Sense and Sensibility is held out whole
  measure    a few seconds of one shape after the other: the largest that reads the novels often enough in six minutes
  train      an ordinary run: sluice train configs/demo.toml --out runs/demo, with the shape and the tokens chosen
  evaluate   bits per byte of the held-out novel, beside what xz -9e needs for it
  twins      40 steps undisturbed; 40 steps killed with -9 in the middle of a save and resumed; 40 steps in the least
             memory, all of the blocks' numbers at home on disk: same digest?
  plan       what a model of 70 billion parameters would need, here and on three machines
  roof       sluice doctor measures this machine's matrix products: how fast could a step be at most?
  speak      five samples: are the words English, and are they its own?

Interrupted (Ctrl-C, kill, power cut) it goes on at the next call. A finished demo is shown again; nothing is deleted
but what lies in build/demo. Exit code 0: every promise of the table was kept; 75: stopped by a signal.
"""

import json
import os
import signal
import sys
import tomllib
from pathlib import Path

import acts
import shapes
import writing
from program import CONFIG, ROOT, RUN, SLUICE, call, fail, on_signal, rows, say
from table import table

RESULT = RUN / "demo.json"


def seconds_of(variable):
    return int(os.environ.get(variable) or 0)


def training_facts(tokens_of_text):
    steps = rows(RUN, "loss")
    tokens, of_one_step = steps[-1]["tokens"], steps[0]["tokens"]
    seconds = sum(of_one_step / step["tokens_per_second"] for step in steps)
    return {"steps": steps[-1]["step"], "tokens": tokens, "passes": tokens / tokens_of_text,
            "training_seconds": seconds, "tokens_per_second": tokens / seconds, "first_loss": steps[0]["loss"],
            "last_loss": sum(step["loss"] for step in steps[-50:]) / len(steps[-50:])}


def chosen(tokens_of_text):
    """(shape, tokens to train on), as measured now or when the run began."""
    if not (RUN / "config.toml").exists():
        return shapes.choose(tokens_of_text)
    config = tomllib.loads((RUN / "config.toml").read_text())
    shape, tokens = (config["model"]["layers"], config["model"]["width"]), config["run"]["tokens"]
    say(f"{RUN} is there: going on with {shapes.name(shape)} and run.tokens = {tokens:,}, as measured then")
    return shape, tokens


def main():
    os.chdir(ROOT)
    if not Path(SLUICE).exists():
        fail(f"{SLUICE} is not there; try: ./run demo")
    if RESULT.exists():
        kept = table(json.loads(RESULT.read_text()))
        say(f"This demo was finished before; nothing was run. To train anew: rm -r {RUN}")
        return 0 if kept else 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    tokens_of_text = acts.prepare()
    shape, tokens = chosen(tokens_of_text)
    options = shapes.options(shape)
    acts.train([*options, f"--run.tokens={tokens}"])
    ours, xz = acts.evaluate()
    plan = json.loads(call("plan", CONFIG, "--json", *options))
    result = {"shape": shapes.name(shape), "parameters": plan["parameters"], "precision": plan["precision"],
              "bits_per_byte": ours["bits_per_byte"], "xz_bits_per_byte": xz, "twins": acts.twins(options),
              "large": acts.large(), "roof": acts.roof(plan), "writing": writing.speak(),
              "setup_seconds": seconds_of("SETUP_SECONDS"), "build_seconds": seconds_of("BUILD_SECONDS"),
              **training_facts(tokens_of_text)}
    kept = table(result)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
