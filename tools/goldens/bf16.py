"""How far PyTorch's own bf16 is from a golden: what tests/goldens/CASE/bf16.json holds.

The way measured is the usual one of training in bf16 with float32 masters: torch.autocast over
float32 weights. Products take bf16 casts of the weights and give bf16; embeddings, the residual
stream, optimizer state and the gradients at rest stay float32, and so does the loss of the logits.
Attention is what Transformers chooses: scaled_dot_product_attention for GPT-2, its own code for
GPT-J; kernels are those that PyTorch chooses for the CPU. Inputs, steps and optimizer are the
golden's.

A model that is bf16 throughout, with masters beside it, errs more (gradients of these cases: 1.3
times as much in the median, 0.4 to 3.8). Autocast is the stricter measure of the two.
"""

import common
import torch


def autocast_logits(model):
    def logits_of(ids):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(input_ids=ids, use_cache=False).logits.float()
    return logits_of


def with_changes(results, start):
    """The results, and change.NAME: what the steps added to each weight."""
    changes = {f"change.{name}": results[f"after.{name}"].double() - value.double()
               for name, value in start.items()}
    return results | changes


def with_bias_parts(results):
    """The results, and of a fused query-key-value bias's gradient and change each third. The whole
    change is left out: nearly all of its error is what noise moves in the key third."""
    out = {}
    for name, value in results.items():
        fused = name.endswith("attn.c_attn.bias")
        if not (fused and name.startswith("change.")):
            out[name] = value
        if fused and not name.startswith("after."):
            for part, third in zip(("query", "key", "value"), value.chunk(3)):
                out[f"{name}~{part}"] = third
    return out


def layer_of(name):
    """grad.transformer.h.3 of grad.transformer.h.3.mlp.c_fc.bias; grad outside blocks."""
    kind, *path = name.split(".")
    return ".".join([kind, *path[:3]]) if path[1:2] == ["h"] else kind


def errors(ours, golden):
    """name -> distance of each result. A key bias's gradient is exactly zero, so its part is
    measured against the largest norm in its layer."""
    size = {name: value.double().norm().item() for name, value in golden.items()}
    found = {}
    for name, value in golden.items():
        error = common.distance(ours[name], value)
        if name.endswith("~key"):
            difference = (ours[name].double() - value.double()).norm().item()
            error = difference / max(size[n] for n in size if layer_of(n) == layer_of(name))
        found[name] = float(f"{error:.2e}")
    return found


def own_errors(folder, golden, start, compute):
    """What bf16.json holds. `compute` turns a function from ids to logits and the parameters that
    it trains into the golden's results; `start` are the weights before the steps."""
    model = common.load_model(folder, attention=None)
    results = compute(autocast_logits(model), common.parameters(model))
    both = [with_bias_parts(with_changes(x, start)) for x in (results, golden)]
    return {"precision": "autocast to bfloat16 over float32 weights",
            "attention": model.config._attn_implementation,
            "errors": errors(*both)}


def unlike(ours, theirs):
    """The first result whose error two runs do not find alike, or None. Which roundings fall up
    differs between processors, and tensors of a few numbers feel each of them: alike is within a
    factor of 2, or both too small to matter to a test."""
    ours, theirs = ours["errors"], theirs["errors"]
    if ours.keys() != theirs.keys():
        return sorted(ours.keys() ^ theirs.keys())[0]
    for name, error in ours.items():
        low, high = sorted((error, theirs[name]))
        if high > 2 * low and high > 1e-2:
            return name
    return None
