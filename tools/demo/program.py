"""The program as the demo calls it, and where things lie."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SLUICE = "build/release/sluice"
CONFIG, RUN, SCRATCH = "configs/demo.toml", Path("runs/demo"), Path("build/demo")
NOVELS = Path("build/assets/austen")
HELD_OUT = NOVELS / "sense_and_sensibility.txt"
TRAIN, VALIDATION = "data/austen/train", "data/austen/held-out"
WIDTH = 100  # of what is shown

stopped_by = None  # the signal that asked to stop, if any
child = None


def on_signal(number, _frame):
    """Handed on to the program, which finishes its step, saves and exits; this script then does so too."""
    global stopped_by
    stopped_by = number
    if child and child.poll() is None:
        child.send_signal(number)


def say(text=""):
    print(text, flush=True)


def act(name):
    say(f"\n== {name}")


def fail(what, output=""):
    sys.exit(f"{output.rstrip()}\ntools/demo: error: {what}".lstrip())


def asked_to_stop():
    return stopped_by is not None


def stop_if_asked():
    if asked_to_stop():
        say("\ntools/demo: stopped; ./run demo goes on from the last checkpoint")
        sys.exit(75)


def start(*arguments, **options):
    global child
    stop_if_asked()
    child = subprocess.Popen([SLUICE, *map(str, arguments)], text=True, **options)
    return child


def call(*arguments):
    """The program's stdout; ends the demo when it fails."""
    process = start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    stop_if_asked()
    if process.returncode:
        fail(f"sluice {arguments[0]} ended with exit code {process.returncode}", err)
    return out


def train_quietly(out, *options):
    """The exit code of a run whose lines nobody needs; they are in OUT.log."""
    with open(f"{out}.log", "a") as log:
        process = start("train", CONFIG, "--out", out, *options, stdout=log, stderr=log)
        code = process.wait()
    stop_if_asked()
    return code


def rows(run, key):
    """Rows of metrics.jsonl that have `key`; a row that is being written is left out."""
    path = Path(run) / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [row for row in map(json.loads, lines) if key in row]


def scratch(name):
    """An empty folder's name below build/demo."""
    path = SCRATCH / name
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.log").unlink(missing_ok=True)
    return path


def wrapped(text, width=WIDTH):
    """Lines of what a model wrote, which may be any bytes: what a terminal might obey is left out."""
    return textwrap.wrap("".join(c if c.isprintable() else " " for c in text), width)
