#!/usr/bin/env python3
"""Prints the coefficients of src/backend/cpu/ops/gelu_bf16.h and src/backend/cpu/exp2_avx512.h: fit_gelu.py

Each is the polynomial whose largest weighted error on an interval is the least (Remez's exchange on
a grid, its equations solved in fractions). Beside it stands that error before any rounding.
"""
import math
from fractions import Fraction

ROOT_2PI = math.sqrt(2 * math.pi)


def upper_tail(t):
    """The chance that a normal number exceeds t."""
    return math.erfc(t / math.sqrt(2)) / 2


def density(t):
    return math.exp(-t * t / 2) / ROOT_2PI


def slope(t):
    """The slope of GELU at -t."""
    return upper_tail(t) - t * density(t)


def zero_of_slope():
    low, high = 0.7, 0.8
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low


ZERO = zero_of_slope()


def slope_without_zero(t):
    if abs(t - ZERO) < 1e-5:
        return density(ZERO) * (2 - ZERO * ZERO)
    return slope(t) / (ZERO - t)


def solve(rows):
    """x of [A | b] by elimination."""
    n = len(rows)
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for k in range(n):
            if k != i and rows[k][i]:
                rows[k] = [v - rows[k][i] * p for v, p in zip(rows[k], rows[i])]
    return [row[n] for row in rows]


def fit(f, end, degree, weight, points=600):
    """Coefficients, the lowest first, of f on [0, end]; and the largest |error| * weight."""
    grid = [end * (1 - math.cos(math.pi * i / points)) / 2 for i in range(points + 1)]
    values, weights = [f(t) for t in grid], [weight(t) for t in grid]
    peaks = [round(i * points / (degree + 1)) for i in range(degree + 2)]
    for _ in range(30):
        rows = [[Fraction(grid[k]) ** j for j in range(degree + 1)]
                + [Fraction((-1) ** i / weights[k]), Fraction(values[k])]
                for i, k in enumerate(peaks)]
        p = [float(v) for v in solve(rows)[:-1]]
        error = [(v - sum(c * t**j for j, c in enumerate(p))) * w
                 for t, v, w in zip(grid, values, weights)]
        before, peaks = peaks, []
        for k, e in enumerate(error):  # the largest of each run of one sign
            if not peaks or (error[peaks[-1]] > 0) != (e > 0):
                peaks.append(k)
            elif abs(e) > abs(error[peaks[-1]]):
                peaks[-1] = k
        while len(peaks) > degree + 2:
            peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
        if len(peaks) < degree + 2 or peaks == before:
            break
    return p, max(abs(e) for e in error)


def show(name, f, end, degree, weight):
    p, error = fit(f, end, degree, weight)
    print(f"{name}: weighted error {error:.1e}")
    print("  " + ", ".join(f"{c:.9g}f" for c in reversed(p)))


def mild(t):
    """Ten times the error is allowed where the result is below 1e-35."""
    return 1 / (1 + (t / 4) ** 2)


print(f"zero of the slope: -{ZERO:.10g}")
show("2^r", lambda r: 2**r, 1, 4, lambda r: 2**-r)
show("2^r of softmaxes", lambda r: 2**r, 1, 5, lambda r: 2**-r)
show("log2 of the gate", lambda t: math.log2(upper_tail(t)), 13.3, 9, mild)
show("log2 of slope / (zero - t)", lambda t: math.log2(slope_without_zero(t)), 13.3, 11, mild)
