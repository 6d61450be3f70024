"""The picture of bench/real_run.py: losses of Sluice and PyTorch over the steps, and how far they are apart."""

WIDTH, LEFT, RIGHT = 960, 70, 20
UPPER, GAP, LOWER, TOP = 380, 60, 180, 50
COLOURS = ("#1b6ca8", "#c2571a", "#3a7d44")
WINDOW = 50


class Panel:
    """A rectangle with axes; x are steps, y from `low` to `high`."""

    def __init__(self, top, height, steps, low, high):
        self.top, self.height, self.steps, self.low, self.high = top, height, steps, low, high
        self.parts = [f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{height}" fill="none" stroke="#888"/>']

    def x(self, step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.steps

    def y(self, value):
        value = min(max(value, self.low), self.high)
        return self.top + self.height * (self.high - value) / (self.high - self.low)

    def line(self, points, colour, width, more=""):
        path = " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{more}/>')

    def text(self, x, y, words, anchor="start", colour="#222"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>')

    def ticks(self, values, show):
        for value in values:
            y = self.y(value)
            self.parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            self.text(LEFT - 8, y + 4, show(value), "end")


def means(losses):
    """(step in the middle, mean) of each 50 steps."""
    return [(at + WINDOW / 2, sum(losses[at:at + WINDOW]) / WINDOW) for at in range(0, len(losses) - WINDOW + 1, WINDOW)]


def apart(ours, theirs):
    return [(step, 100 * (a / b - 1)) for (step, a), (_, b) in zip(means(ours), means(theirs))]


def drawn(runs):
    """SVG of (name, seed) → losses: `ours`, `default` and `other`."""
    seeds = sorted({seed for name, seed in runs if name == "ours"})
    steps = max(len(losses) for losses in runs.values())
    last = min(min(losses) for losses in runs.values())
    loss = Panel(TOP, UPPER, steps, int(last), 11)
    loss.ticks(range(int(last), 12), str)
    gap = Panel(TOP + UPPER + GAP, LOWER, steps, -0.6, 0.6)
    gap.ticks((-0.6, -0.3, 0, 0.3, 0.6), lambda value: f"{value:+.1f}%")
    for sign in (-1, 1):
        gap.line([(0, 0.3 * sign), (steps, 0.3 * sign)], "#a00", 1, ' stroke-dasharray="6 4"')
    for colour, seed in zip(COLOURS, seeds):
        ours, theirs = runs["ours", seed], runs["default", seed]
        loss.line(list(enumerate(ours, 1)), colour, 0.4, ' opacity="0.5"')
        loss.line(means(ours), colour, 1.6)
        loss.line(means(theirs), "#000", 1.2, ' stroke-dasharray="3 4"')
        gap.line(apart(ours, theirs), colour, 1.6)
        at = TOP + 24 + 20 * seeds.index(seed)
        loss.text(WIDTH - RIGHT - 20, at, f"seed {seed}: {means(ours)[-1][1]:.3f} in the last {WINDOW} steps, PyTorch "
                  f"{means(theirs)[-1][1]:.3f}", "end", colour)
        if ("other", seed) in runs:
            gap.line(apart(runs["other", seed], theirs), "#777", 1.2, ' stroke-dasharray="3 4"')
    for panel in (loss, gap):
        for step in range(0, steps + 1, max(1, steps // 10)):
            panel.text(panel.x(step), panel.top + panel.height + 18, str(step), "middle")
    loss.text(LEFT, TOP - 14, f"Loss: Sluice (thin: each step; thick: means of {WINDOW}) and PyTorch (dashed, means)")
    gap.text(LEFT, gap.top - 14, f"Sluice over PyTorch, means of {WINDOW}; dashed grey: PyTorch with another attention over PyTorch")
    height = gap.top + LOWER + 30
    body = "\n".join(loss.parts + gap.parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="sans-serif" font-size="13">\n<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n')
