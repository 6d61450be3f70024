#!/usr/bin/env python3
"""What Sluice trains, trained by PyTorch: from its initial weights, on its batches in its order, by its schedule.

    bench/peers/same_run.py --data PREFIX --config CONFIG.json --runs '[{"seed": 1, "weights": DIR, "out": FILE}]'
        [--device cuda] [--precision bf16] [--attention default|efficient|math] [--compile] [--fault KIND]

CONFIG.json: model, batch, optimizer and steps (bench/real_run.py writes it). Each run starts from the weights of a
checkpoint and writes a JSON line for each step: loss, gradient norm, rate. Written as a strong user writes it: bf16
autocast on float32 master weights, scaled_dot_product_attention, fused AdamW, gradients clipped to 1, matrices and
embeddings decayed. --fault is for the comparison's controls: order, decay, schedule, clip, beta or target.
"""
import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import common
import train_step

PHILOX = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)  # multipliers, key increments
FAULTS = ("order", "decay", "schedule", "clip", "beta", "target")


def philox(counter, key):
    """Philox 4x32-10 (Salmon et al. 2011) of four columns of counters, first word of each block."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in np.broadcast_arrays(*counter))
    low = np.uint64(0xFFFFFFFF)
    k0, k1 = key
    for _ in range(10):
        p, q = a * np.uint64(PHILOX[0][0]), c * np.uint64(PHILOX[0][1])
        a, b, c, d = ((q >> np.uint64(32)) ^ b ^ np.uint64(k0), q & low,
                      (p >> np.uint64(32)) ^ d ^ np.uint64(k1), p & low)
        k0, k1 = (k0 + PHILOX[1][0]) & 0xFFFFFFFF, (k1 + PHILOX[1][1]) & 0xFFFFFFFF
    return a


def shuffled(index, n, seed, epoch):
    """The permutation of [0, n) that src/data/order.h defines, of an array of indexes."""
    bits = (n - 1).bit_length()
    half = np.uint64(1 if bits < 2 else (bits + 1) // 2)
    mask = (np.uint64(1) << half) - np.uint64(1)
    at = np.array(index, np.uint64)
    open_ = np.ones(len(at), bool)
    while open_.any():
        left, right = at[open_] >> half, at[open_] & mask
        for turn in range(8):
            mixed = philox((right, turn, epoch & 0xFFFFFFFF, epoch >> 32), (seed & 0xFFFFFFFF, seed >> 32))
            left, right = right, left ^ (mixed & mask)
        at[open_] = left << half | right
        open_ = at >= n
    return at.astype(np.int64)


def samples_of(n, count, seed):
    """The first `count` samples of a run over n of them, epochs one after another."""
    cursor = np.arange(count)
    out = np.empty(count, np.int64)
    for epoch in range(-(-count // n)):
        part = cursor // n == epoch
        out[part] = shuffled(cursor[part] % n, n, seed, epoch)
    return out


def rate(optim, tokens, total, step):
    """The learning rate of update `step`, 0 being the first, and the first one's rate 0 (src/optim/optim.h)."""
    done, warm = step * tokens, optim["warmup_tokens"]
    if done < warm:
        return optim["lr"] * done / warm
    x = (done - warm) / (total * tokens - warm)
    return optim["lr_end"] + (optim["lr"] - optim["lr_end"]) * 0.5 * (1 + math.cos(math.pi * x))


class Model(train_step.GPT2):
    """GPT-2 whose products have a padded vocabulary, and whose softmax has not."""

    def __init__(self, shape):
        super().__init__(shape, shape.padded_vocab)
        self.vocab = shape.vocab

    def load(self, weights):
        """A checkpoint's tensors; Hugging Face stores a linear's weight as [in, out]."""
        with torch.no_grad():
            for name, value in weights.items():
                ours = (name.replace("transformer.", "").replace("h.", "blocks.", 1) if name.startswith("transformer.h.")
                        else name.replace("transformer.", ""))
                for theirs, mine in (("ln_f", "norm"), ("ln_1", "norm1"), ("ln_2", "norm2"), ("attn.c_attn", "qkv"),
                                     ("attn.c_proj", "proj"), ("mlp.c_fc", "fc"), ("mlp.c_proj", "proj2")):
                    ours = ours.replace(theirs, mine)
                parameter = self.get_parameter(ours)
                if ours == "wte.weight":
                    parameter.zero_()
                    parameter[:self.vocab].copy_(value)
                elif value.dim() == 2 and ours != "wpe.weight":
                    parameter.copy_(value.T)
                else:
                    parameter.copy_(value)
        missing = len(list(self.parameters())) - len(weights)
        if missing:
            raise SystemExit(f"same_run: error: {missing} tensors are not in the checkpoint")

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe.weight
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))[..., :self.vocab]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def choose_attention(name):
    """Leaves PyTorch one form of attention, or its own choice."""
    if name == "default":
        return
    cuda = torch.backends.cuda
    cuda.enable_flash_sdp(False)
    cuda.enable_cudnn_sdp(False)
    cuda.enable_mem_efficient_sdp(name == "efficient")
    cuda.enable_math_sdp(name == "math")


class Run:
    def __init__(self, options, config, model, loss):
        self.options, self.model, self.loss = options, model, loss
        self.optim, self.batch, self.steps = config["optim"], config["batch"], config["steps"]
        if options.fault == "beta":
            self.optim["beta2"] = 0.99
        shards = np.fromfile(options.data + ".bin", np.uint16 if config["model"]["vocab"] <= 65536 else np.int32)
        self.tokens = torch.from_numpy(shards.astype(np.int32)).to(options.device)

    def optimizer(self):
        weights = [p for p in self.model.parameters() if p.dim() == 2]
        others = [p for p in self.model.parameters() if p.dim() != 2]
        decay = self.optim["weight_decay"]
        groups = [{"params": weights, "weight_decay": 0.0 if self.options.fault == "decay" else decay},
                  {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.0, betas=(self.optim["beta1"], self.optim["beta2"]), eps=self.optim["eps"],
                                 fused=True)

    def rows(self, seed):
        """For each step the samples of its sequences."""
        length = self.batch["sequence"]
        sequences = self.batch["tokens"] // length
        n = (len(self.tokens) - 1) // length
        order = samples_of(n, self.steps * sequences, seed + (self.options.fault == "order"))
        return torch.from_numpy(order.reshape(self.steps, sequences)).to(self.options.device)

    def train(self, seed, weights):
        self.model.load(weights)
        optimizer, rows = self.optimizer(), self.rows(seed)
        length = self.batch["sequence"]
        columns = torch.arange(length + 1, device=self.options.device)
        table = torch.zeros(self.steps, 2, device=self.options.device)
        rates = [rate(self.optim, self.batch["tokens"], self.steps, step + (self.options.fault == "schedule"))
                 for step in range(self.steps)]
        for step in range(self.steps):
            ids = self.tokens[rows[step, :, None] * length + columns].long()
            for part in ids.split(self.options.micro_batch):
                targets = part[:, :-1] if self.options.fault == "target" and step % 50 == 49 else part[:, 1:]
                with torch.autocast(self.options.device, torch.bfloat16, enabled=self.options.precision == "bf16"):
                    loss = self.loss(part[:, :-1].contiguous(), targets.contiguous())
                loss = loss * (len(part) / len(ids))
                loss.backward()
                table[step, 0] += loss.detach()
            most = math.inf if self.options.fault == "clip" else self.optim["clip"]
            table[step, 1] = nn.utils.clip_grad_norm_(self.model.parameters(), most)
            for group in optimizer.param_groups:
                group["lr"] = rates[step]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return [{"step": step + 1, "loss": loss, "grad_norm": norm, "lr": rates[step]}
                for step, (loss, norm) in enumerate(table.tolist())]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="prefix of token shards")
    parser.add_argument("--config", required=True)
    parser.add_argument("--runs", required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--attention", choices=("default", "efficient", "math"), default="default")
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--fault", choices=FAULTS)
    options = parser.parse_args()
    config = json.loads(pathlib.Path(options.config).read_text())
    shape = common.Shape(**config["model"], sequence=config["batch"]["sequence"], tokens=config["batch"]["tokens"])
    choose_attention(options.attention)
    with torch.device(options.device):
        model = Model(shape)
    run = Run(options, config, model, torch.compile(model, dynamic=False) if options.compile else model)
    for one in json.loads(options.runs):
        begin = time.perf_counter()
        rows = run.train(one["seed"], load_file(pathlib.Path(one["weights"]) / "model.safetensors"))
        pathlib.Path(one["out"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        common.emit(seed=one["seed"], attention=options.attention, torch=torch.__version__, last_loss=rows[-1]["loss"],
                    seconds=round(time.perf_counter() - begin, 1))


if __name__ == "__main__":
    main()
