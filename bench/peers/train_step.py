#!/usr/bin/env python3
"""How many tokens per second does PyTorch train a GPT-2 on these cores or this GPU, written as a strong user writes it?

    bench/peers/train_step.py 111m [--precision bf16] [--modes eager,compiled] [--updates 5]
    bench/peers/train_step.py gpt2-124m --device cuda --modes compiled --micro-batches 32,64

Threads = cores, scaled_dot_product_attention, fused AdamW, bf16 autocast (or float32), gradients clipped to 1, the
model's GELU, tied head, random tokens. Each mode first looks for its best micro-batch (accumulated to the update's
tokens) and on a CPU for the better of the vocabulary and the padded one; a GPU gets the padded one. Prints JSON lines:
the search, then each mode at its best (median over the updates), and for eager on a CPU where the time goes by
torch.profiler (the share of the products and of attention). --serve: after the search, times updates on request
(common.py).
"""
import argparse
import gc
import time

import common

common.keep_freed_memory()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

PRODUCTS = ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_linear", "mkldnn::")
WARM_UP, SEARCHED = 2, 3  # updates of each candidate that are dropped, and timed


class Block(nn.Module):
    def __init__(self, width, heads, gelu):
        super().__init__()
        self.heads, self.gelu = heads, gelu
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.proj2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        rows, tokens, width = x.shape
        q, k, v = (part.view(rows, tokens, self.heads, -1).transpose(1, 2)
                   for part in self.qkv(self.norm1(x)).split(width, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(rows, tokens, width))
        return x + self.proj2(F.gelu(self.fc(self.norm2(x)), approximate=self.gelu))


class GPT2(nn.Module):
    def __init__(self, shape, vocab, recompute=False):
        super().__init__()
        self.recompute = recompute
        self.wte, self.wpe = nn.Embedding(vocab, shape.width), nn.Embedding(shape.sequence, shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads, shape.gelu) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, vocab, bias=False)
        self.head.weight = self.wte.weight
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe.weight
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


class Trainer:
    def __init__(self, shape, mode, precision, micro_batch, vocab, device="cpu", recompute=False):
        torch.manual_seed(0)
        self.shape, self.micro_batch, self.device = shape, micro_batch, device
        self.about = {"mode": mode, "precision": precision, "micro_batch": micro_batch, "vocab": vocab,
                      "recompute": recompute}
        self.bf16 = precision == "bf16"
        with torch.device(device):
            self.model = GPT2(shape, vocab, recompute)
        self.loss = self.model
        if mode != "eager":
            kind = "default" if mode == "compiled" else mode
            self.loss = torch.compile(self.model, mode=kind, dynamic=False)
        weights = [p for p in self.model.parameters() if p.dim() == 2]
        others = [p for p in self.model.parameters() if p.dim() != 2]
        groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)

    def update(self):
        sequences = self.shape.tokens // self.shape.sequence
        ids = torch.randint(self.shape.vocab, (sequences, self.shape.sequence + 1), device=self.device)
        total = torch.zeros((), device=self.device)
        for rows in ids.split(self.micro_batch):
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                loss = self.loss(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
            loss = loss * (self.micro_batch / sequences)
            loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total.item()

    def speeds(self, updates):
        """Tokens per second of each of so many updates."""
        found = []
        for _ in range(updates):
            begin = time.perf_counter()
            self.update()
            found.append(self.shape.tokens / (time.perf_counter() - begin))
        return found

    def profile(self):
        """Shares of one update's time, by the operators' own CPU time."""
        begin = time.perf_counter()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            self.update()
        whole = 1e6 * (time.perf_counter() - begin)
        times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
        largest = sorted(times, key=times.get, reverse=True)[:10]

        def share(chosen):
            return round(sum(t for key, t in times.items() if chosen(key)) / whole, 3)

        return {"gemm_share": share(lambda key: key.startswith(PRODUCTS)),
                "attention_share": share(lambda key: "scaled_dot_product" in key),
                "by_operator": {key: round(times[key] / whole, 3) for key in largest}}


def best_trainer(shape, mode, precision, micro_batches, device, recompute):
    """A warm trainer of the mode at its fastest; prints a line for each candidate."""
    def made(micro_batch, vocab):
        torch._dynamo.reset()
        return Trainer(shape, mode, precision, micro_batch, vocab, device, recompute)

    def speed(micro_batch, vocab):
        trainer = made(micro_batch, vocab)
        trainer.speeds(WARM_UP)
        value = max(trainer.speeds(SEARCHED))  # the best: torch.compile may still pause once
        common.emit(searched=trainer.about, tokens_per_second=round(value, 1))
        del trainer
        gc.collect()
        return value

    best = micro_batches[0], shape.padded_vocab
    if len(micro_batches) > 1 or device == "cpu":
        found = {(size, shape.padded_vocab): speed(size, shape.padded_vocab) for size in micro_batches}
        size, _ = max(found, key=found.get)
        if shape.vocab != shape.padded_vocab and device == "cpu":
            found[size, shape.vocab] = speed(size, shape.vocab)
        best = max(found, key=found.get)
    trainer = made(*best)
    trainer.speeds(WARM_UP)
    return trainer


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=common.MODELS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--recompute", action="store_true", help="keep each block's input alone (torch's checkpoint)")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--modes", default="eager,compiled", help="also: max-autotune, …")
    parser.add_argument("--micro-batches", default="", help="of sequences; default: all of 1,2,4,8,16 that divide an update")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(common.cores())
    shape = common.MODELS[options.model]
    sizes = [int(word) for word in options.micro_batches.split(",") if word] or shape.micro_batches()
    trainers = {mode: best_trainer(shape, mode, options.precision, sizes, options.device, options.recompute)
                for mode in options.modes.split(",")}
    if options.serve:
        common.emit(ready={mode: trainer.about for mode, trainer in trainers.items()})

        def answer(mode, updates=0):
            return {"speeds": trainers[mode].speeds(updates)} if updates else trainers[mode].profile()

        return common.serve(answer)
    for mode, trainer in trainers.items():
        speed = common.median(trainer.speeds(options.updates))
        common.emit(model=options.model, **trainer.about, updates=options.updates,
                    tokens_per_second=round(speed, 1), **(trainer.profile() if mode == "eager" and options.device == "cpu" else {}))
    return None


if __name__ == "__main__":
    main()
