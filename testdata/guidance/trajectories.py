"""Writes trajectories.json: what each length controller must do, worked from its formula.

Python 3.11, standard library only: python trajectories.py
Every rule is stated here by itself, in the shape of its source, so that the Rust code is compared
with the formula and not with itself. The released rule is a state machine over the position in its
cycle of three steps, as its trainer has it; in Rust it is the general rule with an update period.
"""

import json
import math


def paper(rewards, l0, lmin, lmax, window, zero="skip", gain=1.0):
    """l[k+1] = l[k] * (mean of r[k-1], ..., r[k-m]) / r[k], m = min(window, k)."""
    lengths, l, past = [], l0, []
    for r in rewards:
        m = min(window, len(past))
        if m > 0:
            mean = sum(past[-m:]) / m
            if r > 0 and mean > 0:
                ratio = mean / r
                l = l * mean / r if gain == 1.0 else l * ratio**gain
                l = min(max(l, lmin), lmax)
            elif zero == "maximum":
                l = lmax
        if not (zero == "drop" and r == 0):
            past.append(r)
        lengths.append(l)
    return lengths


def released(rewards, l0, lmax):
    """Two steps collect, the third compares; the quotient first, then int() floors; nothing happens at zero."""
    lengths, l, collected = [], int(l0), []
    for step, r in enumerate(rewards, start=1):
        position = (step - 1) % 3
        if position < 2:
            if position == 0:
                collected = []
            collected.append(r)
        else:
            average = sum(collected) / len(collected)
            if r > 0 and average > 0:
                if r < average:
                    l = int(min(l * (average / r), lmax))
                elif r > average:
                    l = max(int(l * (average / r)), 1)
        lengths.append(l)
    return lengths


def reproduction(rewards, l0, lmax, window, eps=1e-8):
    """Every step, eps on both sides, round to nearest, clamp to [1, lmax]."""
    lengths, l, past = [], l0, []
    for r in rewards:
        if past:
            recent = past[-window:]
            mean = sum(recent) / len(recent)
            l = l * (mean + eps) / (r + eps)
            l = min(max(float(math.floor(l + 0.5)), 1.0), lmax)
        past.append(r)
        lengths.append(l)
    return lengths


def target(signals, l0, lmin, lmax, rate, sharpness, p):
    lengths, l = [], l0
    for s in signals:
        l = min(max(l + rate * lmax * math.tanh(sharpness * (p - s)), lmin), lmax)
        lengths.append(l)
    return lengths


def beta(counts, a, b):
    return [(s + a) / (n + a + b) for s, n in counts]


def ema(values, decay):
    out, state = [], None
    for v in values:
        state = v if state is None else decay * state + (1 - decay) * v
        out.append(state)
    return out


def cosine(step, steps, start, end):
    return end if step >= steps else end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2


def power(step, steps, start, end, exponent):
    return end if step >= steps else start + (end - start) * (step / steps) ** exponent


def bisection(steps, tau, decay):
    """AdaBack: r >= tau narrows from above and reopens below, r < tau raises the lower bound."""
    tasks, world, out = {}, (0.0, 1.0), []
    for task, rho, reward in steps:
        low, high = tasks.get(task, world)
        if reward >= tau:
            new = (0.0, rho)
        elif rho > 0:
            new = (rho, max(high, rho))
        else:
            out.append((low, high))
            continue
        tasks[task] = new
        world = tuple(decay * w + (1 - decay) * x for w, x in zip(world, new))
        out.append(new)
    return out


def difficulty(rewards, t0, low, high, rate, sharpness, goal):
    out, t = [], t0
    for r in rewards:
        t = min(max(t + rate * math.tanh(sharpness * (r - goal)), low), high)
        out.append(t)
    return out


def response(points, observations):
    """Mean over a grid of three-parameter item-response curves, weighted by their likelihood."""
    curves = []
    for slope in (4.0, 8.0, 16.0, 32.0):
        for i in range(31):
            for chance in (0.0, 0.05, 0.25):
                curves.append((slope, 0.05 * i - 0.25, chance))

    def p(curve, x):
        slope, place, chance = curve
        return chance + (1 - chance) / (1 + math.exp(-slope * (x - place)))

    logs = []
    for curve in curves:
        log = 0.0
        for x, n, s in observations:
            q = min(max(p(curve, x), 1e-6), 1 - 1e-6)
            log += s * math.log(q) + (n - s) * math.log(1 - q)
        logs.append(log)
    weights = [math.exp(log - max(logs)) for log in logs]
    mean = lambda x: sum(w * p(c, x) for w, c in zip(weights, curves)) / sum(weights)
    return [mean(x) for x in points], mean


def irt(steps, target, decay, population):
    """Own rollouts and some of all tasks' rollouts, aged, noted to a twentieth; then the curve."""
    world, tasks, out = {}, {}, []
    for step in steps:
        world = {x: (n * decay, s * decay) for x, (n, s) in world.items()}
        for task, x, n, s in step:
            own = {at: (m * decay, t * decay) for at, (m, t) in tasks.get(task, {}).items()}
            at = math.floor(x * 20 + 0.5) / 20
            for seen in (own, world):
                m, t = seen.get(at, (0.0, 0.0))
                seen[at] = (m + n, t + s)
            tasks[task] = own
        known = sum(n for n, _ in world.values())
        part = min(population / known, 1.0)
        row = []
        for task in (0, 1, 2):
            data = [(x, n * part, s * part) for x, (n, s) in world.items()]
            data += [(x, n, s) for x, (n, s) in tasks.get(task, {}).items()]
            _, mean = response([], data)
            low, high = 0.0, 1.0
            if mean(0.0) >= target:
                high = 0.0
            elif mean(1.0) < target:
                high = 1.0
            else:
                while high - low > 1e-9:
                    middle = (low + high) / 2
                    low, high = (middle, high) if mean(middle) < target else (low, middle)
            row.append(high)
        out.append(row)
    return out


RISING = [0.05, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.28, 0.35, 0.42, 0.5, 0.57]
FALLING = RISING[::-1]
CONSTANT = [0.3] * 9
ALTERNATING = [0.8, 0.1] * 6
WITH_ZEROS = [0.0, 0.0, 0.1, 0.0, 0.2, 0.3, 0.0, 0.0, 0.0, 0.25, 0.5, 0.0]
SPARSE = [1 / 64, 0.0, 2 / 64, 1 / 64, 0.0, 0.0, 3 / 64, 1 / 64, 1 / 64, 2 / 64, 0.0, 1 / 64]
ORDER = [0.1, 0.6, 0.6]
SEQUENCES = {
    "rising": RISING,
    "falling": FALLING,
    "constant": CONSTANT,
    "alternating": ALTERNATING,
    "with zeros": WITH_ZEROS,
    "sparse": SPARSE,
    "all zero": [0.0] * 7,
    "order of operations": ORDER,
}

cases = []


def case(name, controller, steps, lengths):
    cases.append({"name": name, "controller": controller, "steps": steps, "lengths": lengths})


def plain(rewards):
    return [{"reward": r} for r in rewards]


ratio = {"kind": "ratio", "unit": "tokens", "min": 1.0}
for label, rewards in SEQUENCES.items():
    base = dict(ratio, initial=1000.0, max=3072.0, window=2)
    case(f"paper, {label}", base, plain(rewards), paper(rewards, 1000.0, 1, 3072, 2))
    for window in (1, 4, 8):
        case(
            f"paper T={window}, {label}",
            dict(base, window=window),
            plain(rewards),
            paper(rewards, 1000.0, 1, 3072, window),
        )
    for zero in ("drop", "maximum"):
        case(
            f"paper, zero reward: {zero}, {label}",
            dict(base, zero_reward=zero),
            plain(rewards),
            paper(rewards, 1000.0, 1, 3072, 2, zero=zero),
        )
    case(
        f"damped, {label}",
        dict(base, gain=0.25),
        plain(rewards),
        paper(rewards, 1000.0, 1, 3072, 2, gain=0.25),
    )
    for l0 in (3072, 1000):
        case(
            f"released from {l0}, {label}",
            dict(ratio, initial=float(l0), max=3072.0, window=2, every=3, rounding="floor"),
            plain(rewards),
            released(rewards, l0, 3072),
        )
    for l0, lmax in ((384.0, 768.0), (1000.0, 3072.0)):
        case(
            f"reproduction from {l0:.0f}, {label}",
            dict(
                ratio,
                initial=l0,
                max=lmax,
                window=2,
                zero_reward={"epsilon": 1e-8},
                rounding="nearest",
            ),
            plain(rewards),
            reproduction(rewards, l0, lmax, 2),
        )

COUNTS = [(0, 8), (1, 8), (4, 8), (7, 8), (8, 8), (8, 8), (2, 4), (0, 0), (3, 16), (16, 16)]
steps = [{"guided": [s, n], "unguided": [0, 8]} for s, n in COUNTS]
seen = [(s, n) for s, n in COUNTS if n > 0]


def hold_unseen(values):
    """A step without any guided rollout repeats the length before it."""
    out, it, last = [], iter(values), None
    for _, n in COUNTS:
        if n > 0:
            last = next(it)
        out.append(last)
    return out


config = {"kind": "target", "unit": "fraction", "initial": 0.5, "min": 0.0, "max": 1.0,
          "target": 0.5, "rate": 0.1, "sharpness": 2.0}
case("target, Beta(1, 1), guided success", config, steps,
     hold_unseen(target(beta(seen, 1, 1), 0.5, 0, 1, 0.1, 2, 0.5)))
case("target, Beta(2, 6), goal 1/4", dict(config, target=0.25, smoothing={"beta": {"a": 2.0, "b": 6.0}}), steps,
     hold_unseen(target(beta(seen, 2, 6), 0.5, 0, 1, 0.1, 2, 0.25)))
case("target, EMA 0.75", dict(config, smoothing={"ema": {"decay": 0.75}}), steps,
     hold_unseen(target(ema([s / n for s, n in seen], 0.75), 0.5, 0, 1, 0.1, 2, 0.5)))
case("target, raw, tokens", dict(config, unit="tokens", initial=1500.0, max=3072.0, smoothing="none"), steps,
     hold_unseen(target([s / n for s, n in seen], 1500.0, 0, 3072.0, 0.1, 2, 0.5)))
pooled = [(s, n + 8) for s, n in COUNTS]
case("target on all rollouts", dict(config, signal={"which": "all", "statistic": "success"}), steps,
     target(beta(pooled, 1, 1), 0.5, 0, 1, 0.1, 2, 0.5))
case("target on unguided rollouts winds up", dict(config, signal={"which": "unguided", "statistic": "success"}), steps,
     target(beta([(0, 8)] * len(COUNTS), 1, 1), 0.5, 0, 1, 0.1, 2, 0.5))
case("ratio on guided success, Beta(1, 1)",
     dict(ratio, initial=1000.0, max=3072.0, window=2, signal={"which": "guided", "statistic": "success"},
          smoothing={"beta": {"a": 1.0, "b": 1.0}}), steps,
     hold_unseen(paper(beta(seen, 1, 1), 1000.0, 1, 3072, 2)))

# Schedules: the length *during* step k; the rewards do not matter.
idle = plain([0.5] * 12)
schedule = {"kind": "schedule", "start": 0.95, "end": 0.05, "steps": 8, "unit": "fraction"}
during = {
    "linear": (dict(schedule, shape="linear"), [power(k, 8, 0.95, 0.05, 1) for k in range(1, 13)]),
    "cosine": (dict(schedule, shape="cosine"), [cosine(k, 8, 0.95, 0.05) for k in range(1, 13)]),
    "concave": (dict(schedule, shape={"power": {"exponent": 2.0}}), [power(k, 8, 0.95, 0.05, 2) for k in range(1, 13)]),
    "convex": (dict(schedule, shape={"power": {"exponent": 0.5}}), [power(k, 8, 0.95, 0.05, 0.5) for k in range(1, 13)]),
    "cosine, then nothing": (
        dict(schedule, shape="cosine", after=0.0),
        [cosine(k, 8, 0.95, 0.05) if k <= 8 else 0.0 for k in range(1, 13)],
    ),
    "staged": (
        {"kind": "staged", "stages": [[0, 0.5], [5, 0.25]], "unit": "fraction"},
        [0.5 if k < 5 else 0.25 for k in range(1, 13)],
    ),
    "fixed": ({"kind": "fixed", "amount": {"tokens": 64.0}}, [64.0] * 12),
}
for label, (controller, lengths) in during.items():
    case(label, controller, idle, lengths)

searches = [(3, 0.6, 0.0), (3, 0.8, 1.0), (3, 0.4, 0.5), (5, 0.7, 0.2), (5, 0.0, 0.0), (5, 0.75, 0.9),
            (3, 0.1, 0.1), (3, 0.0, 1.0), (9, 0.3, 0.4), (9, 0.9, 0.4)]
OBSERVED = [[], [[0.0, 8, 0], [0.5, 8, 8]], [[0.25, 4, 1], [0.5, 4, 2], [0.75, 4.5, 4.25]], [[1.0, 64, 0]], [[0.0, 16, 12]]]
POINTS = [0.0, 0.2, 0.5, 0.8, 1.0]
# Per step: task, fraction, rollouts, successes.
IRT_STEPS = [[[0, 0.5, 8, 0]], [[0, 0.8, 8, 6], [1, 0.62, 4, 1]], [[1, 0.7, 8, 8]], [[0, 0.7, 8, 2], [1, 0.33, 8, 5]],
             [[0, 0.0, 4, 0], [1, 0.0, 4, 1]], [[1, 0.0, 16, 15]], [[1, 0.0, 16, 16]]]

extra = {
    "response_curve": {
        "observations": OBSERVED,
        "points": POINTS,
        "successes": [response(POINTS, observations)[0] for observations in OBSERVED],
    },
    "irt": {"steps": IRT_STEPS, "fractions": irt(IRT_STEPS, 0.5, 0.7, 8.0)},
    "bisection": {
        "config": {"threshold": 0.5, "decay": 0.9},
        "steps": searches,
        "intervals": bisection(searches, 0.5, 0.9),
    },
    "difficulty": {
        "rewards": RISING + ALTERNATING,
        "targets": difficulty(RISING + ALTERNATING, 0.0, 0, 100, 50, 2, 0.5),
    },
    "binomial_cosine": [0.05 + 0.9 * (1 + math.cos(math.pi * k / 300)) / 2 if k < 300 else 0.0 for k in range(0, 360, 20)],
}

with open("trajectories.json", "w", encoding="utf-8") as file:
    json.dump({"trajectories": cases, **extra}, file, indent=None, separators=(",", ":"))
    file.write("\n")
