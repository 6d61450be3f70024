"""The last screen: at most 24 lines."""

from program import CONFIG, RUN, SLUICE, WIDTH, say, wrapped
from acts import TWIN_STEPS

LINES = 24


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def passed(ok):
    return "PASS" if ok else "FAIL"


def cells(result):
    bits, xz, twin, wrote = result["bits_per_byte"], result["xz_bits_per_byte"], result["twins"], result["writing"]
    memory = twin["memory"]
    return [
        ("set-up", f"packages {clock(result['setup_seconds'])}, novels and build {clock(result['build_seconds'])}"),
        ("model", f"GPT-J, {result['shape']}, {result['parameters']:,} parameters ({CONFIG})"),
        ("trained on", f"{result['tokens']:,} tokens in {result['steps']:,} steps: five novels, "
                       f"{result['passes']:.1f} times"),
        ("training", f"{clock(result['training_seconds'])} min, {result['tokens_per_second']:,.0f} tokens/s in "
                     f"{result['precision']}; roof {result['roof']:,.0f} "
                     f"({result['tokens_per_second'] / result['roof']:.0%} reached)"),
        ("loss", f"{result['first_loss']:.3f} at step 1, {result['last_loss']:.3f} at the end (nats a token)"),
        ("held-out novel", f"{bits:.3f} bits per byte; xz -9e {xz:.3f}   {passed(bits <= xz)}"),
        ("writing", f"{wrote['words']:,} words, {wrote['known']:.1%} known, at most {wrote['copied']} in a row as in a "
                    f"novel   {passed(wrote['fine'])}"),
        ("undisturbed twin", f"digest {twin['digests'][0]} after {TWIN_STEPS} steps"),
        ("killed and resumed", f"digest {twin['digests'][1]} (killed in {twin['killed_in']})   {passed(twin['same'][1])}"),
        ("streamed from disk", f"digest {twin['digests'][2]} in {memory['device'] / 1e6:.0f} of "
                               f"{memory['resident'] / 1e6:.0f} MB   {passed(twin['same'][2])}"),
        ("70B", result["large"]),
        ("files", f"{RUN}: metrics.jsonl, samples.jsonl, checkpoints/ (Transformers loads them)"),
        ("write more", f'{SLUICE} generate --checkpoint {RUN} --prompt "Mr. Darcy"'),
        ("learn longer", f"{SLUICE} train {RUN}/config.toml --out {RUN} --run.tokens=N --change run.tokens"),
        ("train anew", f"rm -r {RUN}, then ./run demo"),
    ]


def table(result):
    """Shows it; whether every promise was kept."""
    lines = ["", "Sluice, the demo", "-" * WIDTH]
    lines += [f"{name:<19} {text}" for name, text in cells(result)] + ["-" * WIDTH]
    lines += wrapped(result["writing"]["text"])[:LINES - len(lines)]
    say("\n".join(line.rstrip() for line in lines))
    return result["bits_per_byte"] <= result["xz_bits_per_byte"] and all(result["twins"]["same"]) and \
        result["writing"]["fine"]
