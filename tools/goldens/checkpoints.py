#!/usr/bin/env python3
"""Makes tests/goldens/checkpoints: tiny models with random weights in every form in which
Transformers and PyTorch have written them, and what Transformers computes from each folder.

  VENV/bin/python tools/goldens/checkpoints.py            # writes every folder
  VENV/bin/python tools/goldens/checkpoints.py --check    # Transformers against the stored results
  VENV/bin/python tools/goldens/checkpoints.py --ours SLUICE
                       # exports each folder with Sluice: the same logits in Transformers; and
                       # tunes each: its first loss, and what is exported then

Results are float64 arithmetic on the weights as the folder has them, rounded once. Everything comes out
the same again but the names of storages in files of the old form, which are addresses of memory.
"""

import argparse
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import common
import torch
import transformers
from make_goldens import to_float64
from safetensors.torch import save_file

FOLDER = common.GOLDENS / "checkpoints"
WIDTH, HEADS, LAYERS, CONTEXT, VOCAB = 8, 2, 2, 12, 32
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16

# name: family, type of the weights, how they are written, options
CASES = {
    "gpt2-safetensors": ("gpt2", F32, "safetensors", {}),
    "gpt2-bare": ("gpt2", F32, "safetensors", {"bare": True, "masks": torch.float32}),
    "gpt2-sharded-f16": ("gpt2", F16, "safetensors", {"shards": 3}),
    "gpt2-bf16": ("gpt2", BF16, "safetensors", {}),
    "gpt2-bin": ("gpt2", F32, "zip", {"masks": torch.uint8, "head": True}),
    "gpt2-bin-f16": ("gpt2", F16, "zip", {"bare": True, "shards": 2, "masks": torch.bool}),
    "gpt2-legacy": ("gpt2", F32, "legacy", {"bare": True, "masks": torch.uint8}),
    "gpt2-untied": ("gpt2", F32, "zip", {"untied": True}),
    "cerebras-bin": ("cerebras", F32, "zip", {"bare": True, "masks": torch.uint8}),
    "gptj-safetensors": ("gptj", F32, "safetensors", {}),
    "gptj-bin-f16": ("gptj", F16, "zip", {"masks": torch.bool, "shards": 2}),
    "gptj-legacy-bf16": ("gptj", BF16, "legacy", {"masks": torch.uint8, "transposed": True}),
}


def make_model(family, options, seed):
    shared = dict(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS,
                  n_head=HEADS, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1,
                  bos_token_id=VOCAB - 1, eos_token_id=VOCAB - 1)
    if family == "gptj":
        config = transformers.GPTJConfig(rotary_dim=2, tie_word_embeddings=False, **shared)
        model = transformers.GPTJForCausalLM._from_config(config, attn_implementation="eager")
    else:
        activation = "gelu" if family == "cerebras" else "gelu_new"
        config = transformers.GPT2Config(activation_function=activation, n_inner=4 * WIDTH,
                                         tie_word_embeddings=not options.get("untied", False),
                                         **shared)
        model = transformers.GPT2LMHeadModel._from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(common.parameters(model).items()):
        noise = torch.randn(value.shape, generator=generator)
        scale = 0.3 if value.ndim == 1 else 1.3 / math.sqrt(WIDTH)
        gain = 1.0 if value.ndim == 1 and name.endswith("weight") else 0.0
        value.data.copy_(gain + scale * noise)
    return model.eval()


def masks(family, kind):
    """The buffers that older files hold beside weights; the causal masks share one storage."""
    causal = torch.ones(CONTEXT, CONTEXT).tril().view(1, 1, CONTEXT, CONTEXT).to(kind)
    out = {}
    for layer in range(LAYERS):
        out[f"transformer.h.{layer}.attn.bias"] = causal
        out[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9 if family == "gptj" else -1e4)
    return out


def tensors_of(model, family, dtype, options):
    """What the folder stores: names and tensors."""
    out = {name: value.detach().to(dtype) for name, value in common.parameters(model).items()}
    if options.get("transposed"):  # the same numbers, columns first
        name = "transformer.h.0.attn.q_proj.weight"
        out[name] = out[name].t().contiguous().t()
    if options.get("head"):
        out["lm_head.weight"] = out["transformer.wte.weight"]
    if "masks" in options:
        out.update(masks(family, options["masks"]))
    if options.get("bare"):
        out = {name.removeprefix("transformer."): value for name, value in out.items()}
    return out


def parts_of(tensors, count):
    names = list(tensors)
    return [names[len(names) * i // count:len(names) * (i + 1) // count] for i in range(count)]


def write(folder, tensors, form, shards):
    stem, suffix = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")

    def save(names, path):
        part = {name: tensors[name] for name in names}
        if form == "safetensors":
            save_file({name: value.clone().contiguous() for name, value in part.items()}, path,
                      metadata={"format": "pt"})
        else:
            torch.save(part, path, _use_new_zipfile_serialization=form == "zip")

    if shards == 1:
        return save(list(tensors), folder / f"{stem}.{suffix}")
    index = {"metadata": {"total_size": 0}, "weight_map": {}}
    for number, names in enumerate(parts_of(tensors, shards), 1):
        file = f"{stem}-{number:05d}-of-{shards:05d}.{suffix}"
        save(names, folder / file)
        index["weight_map"].update(dict.fromkeys(names, file))
        index["metadata"]["total_size"] += sum(tensors[name].nbytes for name in names)
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=1) + "\n")


def load(folder):
    """common.load_model(), but for the masks of older files, which Transformers passes over."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    info["unexpected_keys"] = [name for name in info["unexpected_keys"]
                               if not name.endswith((".attn.bias", ".attn.masked_bias"))]
    wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    if wrong:
        raise SystemExit(f"{folder} does not load whole: {wrong}")
    return model.eval()


def results(folder):
    """ids, and what Transformers makes of them: the loss, and the logits of the last position."""
    ids = torch.randint(VOCAB, (1, CONTEXT + 1), generator=torch.Generator().manual_seed(7))
    model = to_float64(load(folder))
    with torch.no_grad():
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0].double()
    loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    return {"ids": ids[0].tolist(), "loss": loss.item(), "logits": logits[-1].tolist()}


def make(name, number):
    family, dtype, form, options = CASES[name]
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = make_model(family, options, 100 + number)
    config = model.config.to_dict()
    config["architectures"] = [type(model).__name__]
    config.pop("transformers_version", None)
    if family != "gptj" and form == "legacy":  # what OpenAI's has and newer ones have not
        config |= {"n_ctx": CONTEXT, "n_inner": None, "task_specific_params": {"text-generation": {}}}
        config.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    write(folder, tensors_of(model, family, dtype, options), form, options.get("shards", 1))
    expected = results(folder)
    expected["forms"] = [family, str(dtype).removeprefix("torch."), form, *sorted(options)]
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{name}: {sum(f.stat().st_size for f in folder.iterdir())} bytes, loss {expected['loss']:.6f}")


def distance(a, b):
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    return ((a - b).norm() / b.norm()).item()


def hold(name, folder, limit):
    expected = json.loads((FOLDER / name / "expected.json").read_text())
    found = results(folder)
    error = max(distance(found["logits"], expected["logits"]),
                abs(found["loss"] / expected["loss"] - 1))
    if found["ids"] != expected["ids"] or not error <= limit:
        sys.exit(f"{name}: {error:.1e} from what is stored, allowed {limit}")
    return error


def swap_rows(folder):
    """The negative control: two rows of the token embedding exchanged."""
    from safetensors.torch import load_file
    file = next(folder.glob("model*.safetensors"))
    tensors = load_file(file)
    for name, value in tensors.items():
        if name.endswith("ln_f.weight") or name.endswith("wte.weight"):
            tensors[name] = value.flip(0).contiguous()
    save_file(tensors, file, metadata={"format": "pt"})


def hold_ours(sluice, name):
    """What Sluice exports of a folder: the weights of the folder, the logits of the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / name
        subprocess.run([sluice, "export", FOLDER / name, out, "--shard-size", "4000"], check=True,
                       capture_output=True)
        theirs = common.parameters(load(FOLDER / name))
        ours = common.parameters(load(out))
        wrong = [key for key in theirs if not torch.equal(ours[key], theirs[key])]
        if wrong or ours.keys() != theirs.keys():
            sys.exit(f"{name}: weights differ: {', '.join(wrong)}")
        error = hold(name, out, 1e-12)
        whole = pathlib.Path(scratch) / "whole"
        subprocess.run([sluice, "export", FOLDER / name, whole], check=True, capture_output=True)
        swap_rows(whole)
        expected = json.loads((FOLDER / name / "expected.json").read_text())
        control = distance(results(whole)["logits"], expected["logits"])
        if control <= 1e-6:
            sys.exit(f"{name}: exchanged rows went unnoticed")
    print(f"{name}: exported, {len(theirs)} weights the same bits, logits within {error:.1e}; "
          f"with rows exchanged {control:.1e}")


def hold_tuned(sluice, name):
    """Two steps of tuning: the first loss is Transformers' on the folder, and what is exported then has
    the loss in Transformers that Sluice evaluates."""
    expected = json.loads((FOLDER / name / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "ids.bin").write_bytes(struct.pack(f"<{len(expected['ids'])}H", *expected["ids"]))
        (scratch / "tune.toml").write_text(
            'data = { train = "ids.bin" }\nbatch = { tokens = 12 }\nplan = { precision = "float32" }\n'
            'optim = { lr = 0.01 }\nrun = { tokens = 24, threads = 1 }\n')

        def call(*words):
            return subprocess.run([sluice, *words], cwd=scratch, check=True, capture_output=True,
                                  text=True).stdout

        call("train", "tune.toml", "--from", FOLDER / name, "--out", "run")
        rows = map(json.loads, (scratch / "run/metrics.jsonl").read_text().splitlines())
        first = next(row["loss"] for row in rows if row.get("step") == 1 and "loss" in row)
        call("export", "run", "tuned")
        ours = json.loads(call("eval", "--checkpoint", "run", "--data", "ids.bin", "--json"))["loss"]
        theirs = results(scratch / "tuned")["loss"]
    gap, tuned = abs(first / expected["loss"] - 1), abs(ours / theirs - 1)
    moved = abs(theirs / expected["loss"] - 1)
    if gap > 2e-6 or tuned > 2e-6 or moved < 1e-3:
        sys.exit(f"{name}: first loss {gap:.1e} off, tuned {tuned:.1e}, which moved by {moved:.1e}")
    print(f"{name}: first loss of tuning {first:.6f}, within {gap:.1e}; after two steps "
          f"{theirs:.6f} in Transformers, ours within {tuned:.1e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--ours", metavar="SLUICE")
    arguments = parser.parse_args()
    if arguments.ours:
        arguments.ours = pathlib.Path(arguments.ours).resolve()
    for number, name in enumerate(CASES):
        if arguments.ours:
            hold_ours(arguments.ours, name)
            hold_tuned(arguments.ours, name)
        elif arguments.check:
            print(f"{name}: within {hold(name, FOLDER / name, 1e-12):.1e}")
        else:
            make(name, number)


if __name__ == "__main__":
    main()
