"""Turns pairs.txt into pairs.jsonl: each pair with our label and the verdicts of other graders.

Math-Verify runs in a process of its own that is killed when it does not answer, because its
alarm cannot interrupt one long big-integer operation. Usage, with the versions of the fixture:

    python -m pip install math-verify==0.9.0 latex2sympy2-extended==1.11.0 sympy==1.14.0
    python label.py            # writes pairs.jsonl, prints a summary

The simple graders below restate, in a few lines each, rules that published graders use. A pair is
adversarial when at least one grader, Math-Verify among them, is wrong about it.
"""

import json
import multiprocessing as mp
import re
import sys
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 15.0


def read_pairs():
    form, reference = "", ""
    for line in (HERE / "pairs.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("%"):
            continue
        if line.startswith("@"):
            form = line[1:]
        elif line[:2] in ("= ", "! ", "? "):
            for answer in line[2:].split(" || "):
                taste = line[0] == "?" or answer.endswith("?")
                answer = answer.removesuffix("?")
                if form == "extraction":
                    answer = answer.replace("\\n\\n", "\n\n")
                yield {
                    "form": form,
                    "reference": reference,
                    "answer": answer,
                    "same": line[0] == "=",
                    "taste": taste,
                }
        else:
            reference = line


def math_verify(connection):
    import logging

    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    while True:
        reference, response = connection.recv()
        gold = parse(f"\\boxed{{{reference}}}")
        connection.send(bool(verify(gold, parse(response))))


class Killable:
    def __init__(self):
        self.process = None

    def ask(self, reference, response):
        if self.process is None:
            self.ours, theirs = mp.Pipe()
            self.process = mp.Process(target=math_verify, args=(theirs,), daemon=True)
            self.process.start()
        self.ours.send((reference, response))
        if self.ours.poll(LIMIT):
            return self.ours.recv()
        self.process.kill()
        self.process = None
        return None


def plain(text):
    for a, b in [("\\left", ""), ("\\right", ""), ("dfrac", "frac"), ("tfrac", "frac"), ("$", ""),
                 ("\\!", ""), ("\\,", ""), ("^\\circ", ""), ("\\%", ""), ("%", "")]:
        text = text.replace(a, b)
    text = re.sub(r"\\(text|mbox|mathrm|textbf)\{([^{}]*)\}", r"\2", text)
    return text.replace(" ", "").rstrip(".")


def number(text):
    text = re.sub(r"\\frac\{?(-?\d+)\}?\{?(\d+)\}?", r"\1/\2", plain(text)).replace(",", "")
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def near(reference, answer):
    """Relative tolerance 1e-4, a hundredth or a hundredfold allowed (prime_math, Qwen)."""
    a, b = number(reference), number(answer)
    if a is None or b is None:
        return None
    return any(abs(b - x) <= abs(x) * Fraction(1, 10000) for x in (a, a / 100, a * 100))


def unbraced(reference, answer):
    strip = lambda t: re.sub(r"[{}()\[\]\\ ]", "", plain(t)).lower()
    return strip(reference) == strip(answer)


def numbers(text):
    return [n.rstrip(".,").replace(",", "") for n in re.findall(r"-?[\d.,]*\d[\d.,]*", text)]


def first_number(reference, answer):
    a, b = numbers(reference), numbers(answer)
    return a[0] == b[0] if len(a) == 1 and b else None


def last_number(reference, answer):
    a, b = numbers(reference), numbers(answer)
    return a[0] == b[-1] if len(a) == 1 and b else None


SIMPLE = [lambda r, a: plain(r) == plain(a), near, unbraced, first_number, last_number]


def main():
    grader = Killable()
    rows = []
    for pair in read_pairs():
        extraction = pair["form"] == "extraction"
        response = pair["answer"] if extraction else f"\\boxed{{{pair['answer']}}}"
        pair["math_verify"] = grader.ask(pair["reference"], response)
        verdicts = [pair["math_verify"]]
        verdicts += [g(pair["reference"], pair["answer"]) for g in SIMPLE]
        pair["adversarial"] = any(v is not None and v != pair["same"] for v in verdicts)
        rows.append(pair)
        if len(rows) % 200 == 0:
            print(len(rows), file=sys.stderr, flush=True)
    with open(HERE / "pairs.jsonl", "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    clear = [r for r in rows if not r["taste"]]
    right = sum(r["math_verify"] == r["same"] for r in clear)
    print(f"{len(rows)} pairs, {len(clear)} clear, {sum(r['adversarial'] for r in clear)} adversarial")
    print(f"Math-Verify: {right} right, "
          f"{sum(r['math_verify'] is not False and not r['same'] for r in clear)} false positives, "
          f"{sum(r['math_verify'] is None for r in clear)} without an answer")


if __name__ == "__main__":
    main()
