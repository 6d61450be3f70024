"""What the comparisons share: the models' shapes, how much work a token is, and how one script asks another.

A served script prints JSON lines; the first with "ready" ends its preparation. From then on it answers each JSON
line on stdin with one on stdout, so that two sides can take turns while each stays warm.
"""
import dataclasses
import json
import os
import shlex
import statistics
import subprocess
import sys

MICRO_BATCHES = (1, 2, 4, 8, 16)  # sequences at once that each side may choose from
BYTES = {"float32": 4, "bf16": 2}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A GPT-2 with a tied head, and the tokens of one update."""

    layers: int
    width: int
    heads: int
    vocab: int
    sequence: int
    tokens: int
    padded_vocab: int  # a multiple of 64: what a peer may use instead, if that is faster
    gelu: str = "none"  # exact, or "tanh"

    def products(self, vocab=None):
        """(name, in, out, times per token) of the weights' products."""
        w, n = self.width, self.layers
        return [("qkv", w, 3 * w, n), ("proj", w, w, n), ("fc", w, 4 * w, n), ("proj2", 4 * w, w, n),
                ("head", w, vocab or self.vocab, 1)]

    @property
    def multiplied_weights(self):
        """N: the embeddings are looked up, but the head multiplies with the tied one."""
        return sum(wide_in * wide_out * count for _, wide_in, wide_out, count in self.products())

    @property
    def product_flops(self):
        """6N: forward, dx and dW of each weight, per token."""
        return 6 * self.multiplied_weights

    @property
    def flops(self):
        """6N and attention, of which a causal model needs half (6 T W a layer), per token."""
        return self.product_flops + 6 * self.layers * self.sequence * self.width

    def bytes_per_new_token(self, precision, position):
        """What generation must read: every weight that multiplies, keys and values of `position` tokens."""
        small = self.layers * 13 * self.width + 2 * self.width  # biases and norms
        cache = 2 * self.layers * self.width * position
        return BYTES[precision] * (self.multiplied_weights + small + cache)

    def micro_batches(self):
        sequences = self.tokens // self.sequence
        return [size for size in MICRO_BATCHES if sequences % size == 0]


MODELS = {
    "111m": Shape(10, 768, 12, 50257, 512, 4096, 50304),
    "12m": Shape(6, 384, 6, 4096, 256, 4096, 4096),
    "gpt2-124m": Shape(12, 768, 12, 50257, 1024, 524288, 50304, "tanh"),
    "gigagpt-1.3b": Shape(24, 2048, 16, 50257, 2048, 65536, 50304),
    "gpt2-1558m": Shape(48, 1600, 25, 50257, 1024, 65536, 50304, "tanh"),
    "cerebras-gpt-6.7b": Shape(32, 4096, 32, 50257, 2048, 65536, 50304),
    "tiny": Shape(2, 128, 2, 500, 256, 1024, 512),  # to try the scripts with; says nothing about speed
}


def cores():
    return len(os.sched_getaffinity(0))


def machine():
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if "model name" in line), "unknown CPU")
    return f"{model}, {cores()} cores; load before: {os.getloadavg()[0]:.1f} (another process on the cores spoils it)"


def keep_freed_memory():
    """Starts this script anew with a malloc that gives no memory back: without it a tenth of PyTorch's time on a CPU
    goes into page faults, and its tuning guide advises another allocator. Call before importing torch.
    """
    most, name = 1 << 34, "GLIBC_TUNABLES"
    if name not in os.environ:
        os.environ[name] = f"glibc.malloc.mmap_threshold={most}:glibc.malloc.trim_threshold={most}"
        os.environ["KINETO_LOG_LEVEL"] = "5"  # the profiler's notes
        os.execv(sys.executable, [sys.executable, *sys.argv])


def median(values):
    return statistics.median(values)


def output_of(*command):
    """The command's stdout; ends this script with what it said when it fails."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"$ {shlex.join(map(str, command))}\n{done.stderr}exit code {done.returncode}")
    return done.stdout


def rows_of(text):
    """The objects of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def emit(**row):
    print(json.dumps(row), flush=True)


def serve(answer):
    for line in sys.stdin:
        emit(**answer(**json.loads(line)))


class Peer:
    """A served script as a process of its own."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.prepared = [self._line()]  # its lines up to the one that says "ready"
        while "ready" not in self.prepared[-1]:
            self.prepared.append(self._line())

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[1]} ended with exit code {self.process.wait()}")
        return json.loads(line)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._line()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
