#!/usr/bin/env python3
"""At which rate does PyTorch compute the products of one update's weights, and nothing else?

    bench/peers/products.py 111m [--precision bf16] [--tokens 4096] [--vocab 50304] [--beside "PROGRAM --serve"]

Forward, dx and dW of qkv, proj, fc, proj2 and head over --tokens rows of random data (the tokens of one micro-batch),
into memory that exists already, in the layout of nn.Linear; dW is written, not added, which is less work. GFLOP/s,
medians, each after a pause and a product that is not timed; "sum" weighs each product as often as the model has it,
"model" is all of them. --beside: a program that answers lines "PRODUCT PASS REPEATS" on stdin with seconds, over as
many tokens, takes turns with PyTorch.
"""
import argparse
import shlex
import subprocess
import time

import common

common.keep_freed_memory()

import torch  # noqa: E402

PASSES = ("forward", "dx", "dw")
PAUSE = 0.25  # seconds before a turn: the other side's threads may still spin


def product(name, which, tokens, wide_in, wide_out, dtype):
    """A function that computes the product once."""
    x, dy = (torch.rand(tokens, wide).sub_(0.5).to(dtype) for wide in (wide_in, wide_out))
    w, bias = torch.rand(wide_out, wide_in).sub_(0.5).to(dtype), torch.rand(wide_out).to(dtype)
    if which == "dx":
        out = torch.empty(tokens, wide_in, dtype=dtype)
        return lambda: torch.mm(dy, w, out=out)
    if which == "dw":
        out = torch.empty(wide_out, wide_in, dtype=dtype)
        return lambda: torch.mm(dy.t(), x, out=out)
    out = torch.empty(tokens, wide_out, dtype=dtype)
    if name == "head":
        return lambda: torch.mm(x, w.t(), out=out)
    return lambda: torch.addmm(bias, x, w.t(), out=out)


class Beside:
    def __init__(self, command):
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, name, which):
        self.process.stdin.write(f"{name} {which} 2\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline().split()[-1])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(shape, tokens, vocab, dtype, rounds, beside):
    """(name, pass, times per token, FLOPs, PyTorch's seconds, the other's seconds or None) of each product."""
    for name, wide_in, wide_out, count in shape.products(vocab):
        for which in PASSES:
            run, theirs, ours = product(name, which, tokens, wide_in, wide_out, dtype), [], []
            for _ in range(rounds):
                time.sleep(PAUSE)
                run()
                begin = time.perf_counter()
                run()
                theirs.append(time.perf_counter() - begin)
                if beside:
                    time.sleep(PAUSE)
                    ours.append(beside.seconds(name, which))
            yield (name, which, count, 2.0 * tokens * wide_in * wide_out, common.median(theirs),
                   common.median(ours) if beside else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=common.MODELS)
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--tokens", type=int, default=0, help="of one micro-batch; default: the update's")
    parser.add_argument("--vocab", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--beside", default="")
    options = parser.parse_args()
    torch.set_num_threads(common.cores())
    torch.set_grad_enabled(False)
    shape = common.MODELS[options.model]
    tokens = options.tokens or shape.tokens
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    beside = Beside(options.beside) if options.beside else None
    sums = {key: [0.0, 0.0, 0.0] for key in (*PASSES, "model")}

    def row(name, flops, theirs, ours):
        versus = {"sluice": round(flops / ours / 1e9, 1), "ratio": round(theirs / ours, 2)} if beside else {}
        common.emit(product=name, precision=options.precision, tokens=tokens,
                    pytorch=round(flops / theirs / 1e9, 1), **versus)

    for name, which, count, flops, theirs, ours in measure(shape, tokens, options.vocab, dtype, options.rounds, beside):
        row(f"{name} {which}", flops, theirs, ours)
        for key in (which, "model"):
            for i, value in enumerate((flops, theirs, ours or 0.0)):
                sums[key][i] += count * value
    for key, values in sums.items():
        row(f"sum {key}", *values)
    if beside:
        beside.close()


if __name__ == "__main__":
    main()
