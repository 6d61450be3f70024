#!/usr/bin/env python3
"""Is Sluice faster than its peers on this machine? Every comparison of `make bench`, in one run.

    bench/run.py [gemm-f32] [gemm-bf16] [train-bf16] [train-f32] [step-bf16] [stream] [predict] [tokens] [prepare]    (without names: all)

Fetches PyTorch and Transformers from PyPI into build/venv when they are not there, builds the timing programs into
build/bench and writes each result with its command to bench/results/. It takes about an hour on two cores. Nothing
here runs in CI: machines are noisy, and a figure counts only from a quiet one.
"""
import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
VENV = ROOT / "build" / "venv"
SLUICE = "build/release/sluice"
CORES = len(os.sched_getaffinity(0))


ALONE = ("stream", "predict")  # without a peer


def run(*command):
    print("$", *command, file=sys.stderr, flush=True)
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def python_with_peers():
    """The interpreter of build/venv, with PyTorch and Transformers in it."""
    python = VENV / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", VENV)
    if subprocess.run([python, "-c", "import torch, transformers, tiktoken"], capture_output=True).returncode != 0:
        run(python, "-m", "pip", "install", "--quiet", "-r", "tools/goldens/requirements.txt")
    return python


def timing_program(name):
    """Of bench/: bench_gemm times Sluice's products alone, bench_step each kind of op of an update."""
    run("cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DSLUICE_TESTS=OFF",
        "-DSLUICE_BENCH=ON")
    run("ninja", "-C", BUILD, name)
    program = next(path for path in BUILD.rglob(name) if os.access(path, os.X_OK) and path.is_file())
    return program.relative_to(ROOT)


def compare_gemm(name, python, program, bf16):
    kind = ["--bf16", "--isa", "auto"] if bf16 else []
    run(python, "bench/gemm_peer.py", program, "--rounds", "9", *kind, "--out", f"bench/results/{name}.txt")


def compare_training(name, python, program, bf16):
    ours = f"{program} --threads={CORES} --serve" + (" --bf16" if bf16 else "")
    run(python, "bench/train.py", "--precision", "bf16" if bf16 else "float32", "--sluice", SLUICE, "--products", ours,
        "--out", f"bench/results/{name}.txt")


def tabulate_step(name, python, _program, bf16):
    run(python, "bench/step.py", "--sluice", SLUICE, "--program", timing_program("bench_step"), "--precision",
        "bf16" if bf16 else "float32", "--out", f"bench/results/{name}.txt")


def compare_streaming(name, python, _program, _bf16):
    run(python, "bench/stream.py", "--sluice", SLUICE, "--out", f"bench/results/{name}.txt")


def compare_prediction(name, python, _program, _bf16):
    run(python, "bench/predict.py", "--sluice", SLUICE, "--out", f"bench/results/{name}.txt")


def compare_tokens(name, python, _program, _bf16):
    run(python, "bench/tokens.py", "--sluice", SLUICE, "--out", f"bench/results/{name}.txt")


def compare_prepare(name, python, _program, _bf16):
    run(python, "bench/prepare.py", "--sluice", SLUICE, "--out", f"bench/results/{name}.txt")


COMPARISONS = {"gemm-f32": compare_gemm, "gemm-bf16": compare_gemm, "train-bf16": compare_training,
               "train-f32": compare_training, "step-bf16": tabulate_step, "stream": compare_streaming,
               "predict": compare_prediction, "tokens": compare_tokens, "prepare": compare_prepare}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMPARISONS)}")
    names = parser.parse_args().names or list(COMPARISONS)
    if unknown := [name for name in names if name not in COMPARISONS]:
        parser.error(f"no comparison is called {unknown[0]}; there are {', '.join(COMPARISONS)}")
    peers = any(name not in ALONE for name in names)
    python, program = (python_with_peers(), timing_program("bench_gemm")) if peers else (sys.executable, None)
    for name in names:
        COMPARISONS[name](name, python, program, name.endswith("bf16"))


if __name__ == "__main__":
    main()
