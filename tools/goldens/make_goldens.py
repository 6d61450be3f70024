#!/usr/bin/env python3
"""Makes tests/goldens: what Transformers and PyTorch compute for small GPT-2 and GPT-J models.

  python3 -m venv VENV && VENV/bin/pip install -r tools/goldens/requirements.txt
  VENV/bin/python tools/goldens/make_goldens.py            # writes every case
  VENV/bin/python tools/goldens/make_goldens.py gpt2-a     # writes one
  VENV/bin/python tools/goldens/make_goldens.py --check    # compares, writes nothing

Each case is a folder tests/goldens/CASE with five files:

  config.json, model.safetensors   as save_pretrained writes them; random weights, biases and gains
  golden.safetensors               inputs and results (README.md in tests/goldens lists the tensors)
  meta.json                        every hyperparameter, the tensors' shapes, versions, and how far
                                   PyTorch's own float32 is from the golden
  bf16.json                        how far PyTorch's own bf16 is, for every result (bf16.py)

Results are computed in float64 and rounded once to float32: a golden has no rounding error of its
own worth naming, so a test's tolerance belongs wholly to the code under test. Transformers' GPT-J
casts queries and keys to float32 and keeps its rotary table in float32; the float64 model here
has neither, and `float32_error` in meta.json, measured with Transformers' unchanged float32 model,
shows that nothing else differs.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import sys
import tempfile

import bf16
import common
import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file

STEPS = 20
WARMUP_STEPS = 4
PEAK_LR = 1e-3
BETAS = (0.9, 0.95)
ADAM_EPS = 1e-5
WEIGHT_DECAY = 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    seed: int
    layers: int
    heads: int
    width: int
    vocab: int
    context: int
    batch: int
    sequence: int
    clip: float  # active in some of the steps and not in others; make() insists
    inner: int | None = None  # None: 4 * width
    activation: str = "gelu_new"
    norm_eps: float = 1e-5
    tied: bool = True  # GPT-2 only: GPT-J's head is its own, with a bias
    rotary: int | None = None  # None: GPT-2
    logits_every: int = 1  # logits are stored at the positions t with t % logits_every == last


CASES = [
    Case("gpt2-a", 1, layers=2, heads=5, width=80, inner=100, vocab=1003, context=96, batch=2,
         sequence=77, clip=1.25, logits_every=7),
    Case("gpt2-b", 2, layers=2, heads=3, width=33, inner=101, vocab=257, context=51, batch=3,
         sequence=50, clip=1.15, activation="gelu", norm_eps=1e-6, logits_every=3),
    Case("gpt2-c", 3, layers=1, heads=3, width=24, vocab=131, context=5, batch=7, sequence=3,
         clip=2.65),
    Case("gpt2-d", 4, layers=3, heads=3, width=30, vocab=151, context=33, batch=2, sequence=33,
         clip=1.6, tied=False),
    Case("gptj-a", 5, layers=2, heads=5, width=30, rotary=4, vocab=201, context=40, batch=2,
         sequence=37, clip=1.75),
    Case("gptj-b", 6, layers=1, heads=3, width=24, rotary=8, vocab=517, context=61, batch=1,
         sequence=61, clip=1.65, logits_every=2),
    Case("gptj-c", 7, layers=3, heads=7, width=28, inner=50, rotary=2, vocab=129, context=31,
         batch=3, sequence=29, clip=1.65, activation="gelu", norm_eps=1e-6),
    Case("gptj-d", 8, layers=2, heads=3, width=30, rotary=6, vocab=77, context=7, batch=1,
         sequence=2, clip=9.6),
]


def hf_config(case):
    shared = dict(
        vocab_size=case.vocab, n_positions=case.context, n_embd=case.width, n_layer=case.layers,
        n_head=case.heads, n_inner=case.inner, activation_function=case.activation,
        layer_norm_epsilon=case.norm_eps, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=case.vocab - 1, eos_token_id=case.vocab - 1)
    if case.rotary is None:
        return transformers.GPT2Config(tie_word_embeddings=case.tied, **shared)
    return transformers.GPTJConfig(rotary_dim=case.rotary, tie_word_embeddings=False, **shared)


def fill_randomly(model, generator):
    """Weights of the size that keeps every activation near one, biases and gains far enough from
    0 and 1 that forgetting one is seen. By sorted name: Transformers' order does not matter."""
    for name, value in sorted(common.parameters(model).items()):
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("bias"):
            filled = 0.3 * noise
        elif value.ndim == 1:
            filled = 1.0 + 0.2 * noise
        elif "wpe" in name:
            filled = 0.3 * noise
        else:
            conv1d = name.startswith("transformer.h.") and hasattr(model.config, "summary_type")
            fan_in = value.shape[0] if conv1d else value.shape[1]
            filled = noise / math.sqrt(fan_in)
        value.data.copy_(filled)


def make_inputs(case, generator):
    """The tensors that a test feeds in. Token weights: about a fifth 0, the rest fractional."""
    shape = (case.batch, case.sequence)
    ids = torch.randint(case.vocab, (case.batch, case.sequence + 1), generator=generator)
    weights = torch.rand(shape, generator=generator) + 0.25
    weights[torch.rand(shape, generator=generator) < 0.2] = 0.0
    weights[0, 0], weights[-1, -1] = 0.0, 0.625  # so that the smallest case has both kinds too
    last = (case.sequence - 1) % case.logits_every
    positions = torch.arange(last, case.sequence, case.logits_every)
    step_ids = torch.randint(case.vocab, (STEPS, case.batch, case.sequence + 1),
                             generator=generator)
    lr = [PEAK_LR * min(1.0, (step + 1) / WARMUP_STEPS) for step in range(STEPS)]
    return {
        "ids": ids[:, :-1].int().contiguous(),
        "targets": ids[:, 1:].int().contiguous(),
        "token_weights": weights,
        "logits_positions": positions.int(),
        "steps.ids": step_ids.int(),
        "steps.lr": torch.tensor(lr, dtype=torch.float32),
    }


def exact_attention(self, query, key, value, attention_mask=None):
    """GPTJAttention._attn without its casts to float32."""
    scores = torch.matmul(query, key.transpose(-1, -2)) / self.scale_attn
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.nn.functional.softmax(scores, dim=-1)
    return torch.matmul(weights, value), weights


def to_float64(model):
    model = model.double()
    for module in model.modules():
        if type(module).__name__ == "GPTJAttention":
            dim, positions = module.rotary_dim, module.max_positions
            frequency = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
            angle = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
            module.embed_positions = torch.cat((angle.sin(), angle.cos()), dim=1)
            module._attn = exact_attention.__get__(module)
    return model


def mean_loss(logits_of, ids, targets, weights):
    """(sum of weight * cross entropy / sum of weights, logits)."""
    logits = logits_of(ids.long())
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.long().flatten(), reduction="none")
    weights = weights.to(each.dtype).flatten()
    return (each * weights).sum() / weights.sum(), logits


def compute(model, case, inputs):
    """Every result of a case in the model's own precision; the model is trained by this."""
    return compute_with(lambda ids: model(input_ids=ids, use_cache=False).logits,
                        common.parameters(model), case, inputs)


def compute_with(logits_of, named, case, inputs):
    """Every result of a case whose logits are a function of the ids and of the parameters `named`,
    which are trained by this."""
    loss, logits = mean_loss(logits_of, inputs["ids"], inputs["targets"], inputs["token_weights"])
    loss.backward()
    kept = inputs["logits_positions"].long()
    results = {"loss": loss.detach().reshape(1),
               "logits": logits.detach()[:, kept].contiguous()}
    results |= {f"grad.{name}": value.grad.clone() for name, value in named.items()}

    decayed = [value for value in named.values() if value.ndim >= 2]
    others = [value for value in named.values() if value.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY},
         {"params": others, "weight_decay": 0.0}],
        betas=BETAS, eps=ADAM_EPS, foreach=False)
    losses, norms = [], []
    for ids, lr in zip(inputs["steps.ids"], inputs["steps.lr"].tolist()):
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        loss, _ = mean_loss(logits_of, ids[:, :-1], ids[:, 1:], torch.ones(ids[:, 1:].shape))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(named.values(), case.clip, foreach=False))
        losses.append(loss.detach())
        optimizer.step()
    results |= {"steps.loss": torch.stack(losses), "steps.grad_norm": torch.stack(norms)}
    results |= {f"after.{name}": value.detach().clone() for name, value in named.items()}
    return results


def float32_error(single, golden):
    """kind -> worst tensor and its distance, for PyTorch's float32 against the golden."""
    errors = {}
    for kind in ("loss", "logits", "grad", "steps.loss", "steps.grad_norm", "after"):
        names = [n for n in golden if n == kind or n.startswith(kind + ".")]
        name, error = common.worst({n: single[n] for n in names}, {n: golden[n] for n in names})
        errors[kind] = {"tensor": name, "error": float(f"{error:.1e}")}
    return errors


def describe(case, config, inputs, results, errors, changed):
    names = [name.removeprefix("after.") for name in results if name.startswith("after.")]
    clipped = [step for step, norm in enumerate(results["steps.grad_norm"].tolist())
               if norm > case.clip]
    if not 3 <= len(clipped) <= STEPS - 3:
        norms = [round(x, 4) for x in results["steps.grad_norm"].tolist()]
        sys.exit(f"{case.name}: clip {case.clip} acts in {len(clipped)} of {STEPS} steps: {norms}")
    model = {"family": config.model_type, "layers": case.layers, "heads": case.heads,
             "width": case.width, "inner": case.inner or 4 * case.width, "vocab": case.vocab,
             "context": case.context,
             "gelu": {"gelu_new": "tanh", "gelu": "erf"}[case.activation],
             "norm_eps": case.norm_eps, "tied": config.tie_word_embeddings}
    if case.rotary is not None:
        model["rotary"] = case.rotary
    return {
        "case": case.name,
        "command": f"python tools/goldens/make_goldens.py {case.name}",
        "versions": {"torch": torch.__version__.split("+")[0],
                     "transformers": transformers.__version__,
                     "safetensors": safetensors.__version__},
        "precision": "float64, rounded once to float32",
        "seed": case.seed,
        "model": model,
        "batch": {"rows": case.batch, "sequence": case.sequence},
        "optimizer": {"steps": STEPS, "beta1": BETAS[0], "beta2": BETAS[1], "eps": ADAM_EPS,
                      "weight_decay": WEIGHT_DECAY, "clip": case.clip,
                      "clip_rule": "gradient *= min(1, clip / (norm + 1e-6))",
                      "lr": {"peak": PEAK_LR, "warmup_steps": WARMUP_STEPS},
                      "clipped_steps": clipped,
                      "decayed": [n for n in names if results[f"after.{n}"].ndim >= 2]},
        "parameters": {n: list(results[f"after.{n}"].shape) for n in names},
        "tensors": {n: [str(t.dtype).removeprefix("torch."), list(t.shape)]
                    for n, t in sorted((inputs | results).items())},
        "float32_error": errors,
        "change_in_20_steps": changed,
    }


def make(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    config = hf_config(case)
    generator = torch.Generator().manual_seed(case.seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    fill_randomly(model, generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    inputs = make_inputs(case, generator)

    # Both models are read back from the files, so the files are what the golden belongs to.
    exact = compute(to_float64(common.load_model(folder)), case, inputs)
    golden = {name: value.float() for name, value in exact.items()}
    errors = float32_error(compute(common.load_model(folder), case, inputs), golden)

    start = load_file(folder / "model.safetensors")
    name, change = min(((n, common.distance(golden[f"after.{n}"], start[n])) for n in start),
                       key=lambda x: x[1])
    changed = {"least": name, "relative": float(f"{change:.1e}")}
    for name, value in golden.items():
        if not value.isfinite().all() or value.norm() == 0:
            sys.exit(f"{case.name}: {name} is zero or not finite")
    save_file(inputs | golden, folder / "golden.safetensors")
    meta = describe(case, config, inputs, golden, errors, changed)
    (folder / "meta.json").write_text(dump(meta))
    own = bf16.own_errors(folder, golden, start,
                          lambda logits_of, named: compute_with(logits_of, named, case, inputs))
    (folder / "bf16.json").write_text(dump(own))
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone
    return meta


def dump(meta):
    """JSON, one line for each entry two levels deep: readable, and short in a diff."""
    lines = []
    for key, value in meta.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f"  {json.dumps(key)}: {{\n{rows}\n  }}")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def check(case, folder):
    """Makes the case anew and compares: inputs and weights the same bits, results within 1e-6
    (another processor's float64 sums differ in their last bits), PyTorch's bf16 errors alike."""
    with tempfile.TemporaryDirectory() as fresh:
        make(case, pathlib.Path(fresh))
        same = sum((folder / f).read_bytes() == (pathlib.Path(fresh) / f).read_bytes()
                   for f in ("config.json", "model.safetensors", "golden.safetensors", "meta.json",
                             "bf16.json"))
        for file in ("model.safetensors", "golden.safetensors"):
            ours, theirs = load_file(pathlib.Path(fresh) / file), load_file(folder / file)
            name, error = common.worst(ours, theirs)
            if error > 1e-6:
                sys.exit(f"{case.name}: {file}: {name} differs by {error:.1e}")
            exact = [n for n in theirs if n.split(".")[0] not in ("grad", "after", "loss", "logits")
                     and n not in ("steps.loss", "steps.grad_norm")]
            for name in exact:
                if not torch.equal(ours[name], theirs[name]):
                    sys.exit(f"{case.name}: {file}: {name} is not the same")
        unlike = bf16.unlike(*(json.loads((place / "bf16.json").read_text())
                               for place in (pathlib.Path(fresh), folder)))
        if unlike:
            sys.exit(f"{case.name}: bf16.json: {unlike} is not alike")
    print(f"{case.name}: as committed ({same} of 5 files the same bytes)")


def main():
    parser = argparse.ArgumentParser(description="Make or check the goldens of Transformers.")
    parser.add_argument("cases", nargs="*", help="names such as gpt2-a (default: all)")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--out", type=pathlib.Path, default=common.GOLDENS)
    arguments = parser.parse_args()
    known = {case.name: case for case in CASES}
    unknown = [name for name in arguments.cases if name not in known]
    if unknown:
        parser.error(f"no case {unknown[0]}; there are {', '.join(known)}")
    # One thread: PyTorch's sums then have one order.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in arguments.cases or known:
        folder = arguments.out / name
        if arguments.check:
            check(known[name], folder)
            continue
        meta = make(known[name], folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        errors = ", ".join(f"{kind} {e['error']:.0e}" for kind, e in meta["float32_error"].items())
        clipped = len(meta["optimizer"]["clipped_steps"])
        print(f"{name}: {size / 1e3:.0f} kB, clipped {clipped} of {STEPS} steps; float32: {errors}"
              f"; moved >= {meta['change_in_20_steps']['relative']}")


if __name__ == "__main__":
    main()
