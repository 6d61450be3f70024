#!/usr/bin/env python3
"""Every comparison of `make bench`, in one run, beside its peers.

Fetches PyTorch from PyPI into build/venv when it is not there, builds the timing programs into build/bench
and writes each result with its command to bench/results/. Nothing here runs in CI: machines are noisy, and a
figure counts only from a quiet one.
"""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
VENV = ROOT / "build" / "venv"


def run(*command):
    print("$", *command, file=sys.stderr, flush=True)
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def python_with_torch():
    """The interpreter of build/venv, with PyTorch in it."""
    python = VENV / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", VENV)
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0:
        run(python, "-m", "pip", "install", "--quiet", "-r", "tools/goldens/requirements.txt")
    return python


def main():
    python = python_with_torch()
    run("cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DSLUICE_TESTS=OFF",
        "-DSLUICE_BENCH=ON")
    run("ninja", "-C", BUILD, "bench_gemm")
    program = next(path for path in BUILD.rglob("bench_gemm") if os.access(path, os.X_OK) and path.is_file())
    run(python, "bench/gemm_peer.py", program, "--rounds", "9", "--out", "bench/results/gemm-f32.txt")


if __name__ == "__main__":
    main()
