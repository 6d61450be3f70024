"""What the model writes, and whether it is English and its own."""

import json
import re
import textwrap

from program import NOVELS, RUN, act, call, say, wrapped

SAMPLES, WORDS, TEMPERATURE = 5, 200, 0.8
MOST_TOKENS = 600  # which 200 words do not need
KNOWN, COPIED = 0.95, 12  # of the words at least; words in a row at most, this one excluded
PROMPT = "It was a fine morning, and"


def words(text):
    """Lower-cased runs of letters."""
    return re.findall(r"[^\W\d_]+", text.lower())


def runs(sequence, length):
    return {tuple(sequence[i:i + length]) for i in range(len(sequence) - length + 1)}


def cut(text, count):
    """The text up to and with its word number `count`."""
    ends = [match.end() for match in re.finditer(r"[^\W\d_]+", text)]
    return text[:ends[count - 1]] if len(ends) >= count else text


def longest_copy(text, novels):
    """Words of the longest run that stands so in a novel."""
    mine, length = words(text), 0
    while any(runs(mine, length + 1) & runs(novel, length + 1) for novel in novels):
        length += 1
    return length


def speak():
    """Five samples, which share of their words the six novels have, and the longest run copied."""
    act(f"speak: {SAMPLES} samples of {WORDS} words at temperature {TEMPERATURE}")
    texts = []
    for seed in range(1, SAMPLES + 1):
        made = json.loads(call("generate", "--checkpoint", RUN, "--prompt", PROMPT, "--max-tokens", MOST_TOKENS,
                               "--temperature", TEMPERATURE, "--seed", seed, "--json"))["text"]
        texts.append(cut(made, WORDS))
        say(textwrap.indent("\n".join(wrapped(PROMPT + texts[-1], 96)), "    ") + "\n")
    novels = [words(path.read_text()) for path in sorted(NOVELS.glob("*.txt"))]
    vocabulary = set().union(*novels)
    all_words = [word for text in texts for word in words(text)]
    known = sum(word in vocabulary for word in all_words) / max(1, len(all_words))
    copied = max(longest_copy(text, novels) for text in texts)
    unknown = sorted({word for word in all_words if word not in vocabulary})[:20]
    say(f"{len(all_words):,} words, {known:.1%} of them words of the six novels; not: {', '.join(unknown) or 'none'}")
    say(f"the longest run of words that stands so in a novel: {copied}")
    return {"text": PROMPT + texts[0], "words": len(all_words), "known": known, "copied": copied,
            "fine": len(all_words) >= SAMPLES * WORDS and known >= KNOWN and copied < COPIED}
