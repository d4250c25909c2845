"""Writes kinds.jsonl: whole responses, by kind of difficulty, with the verdict that a careful reader gives.

Every case is one that some earlier version judged wrong, or one of the same kind; "=" in a group marks responses that
state the reference, "!" those that do not. Labels of "extraction" kinds are given by hand: who reads the response says
which answer it states. Labels of "form" kinds come from SymPy: both sides are written again as SymPy expressions, and
the label is whether they are equal; `None` for an answer stands for one that states no single value (a hedge, a
contradiction). Math-Verify's verdict is recorded for comparison, not used. Usage, with the versions of the fixture:

    python -m pip install math-verify==0.9.0 latex2sympy2-extended==1.11.0 sympy==1.14.0
    python kinds.py            # writes kinds.jsonl, prints a summary
"""

import json
from pathlib import Path

import sympy as sp

from kinds_cases import EXTRACTION, FORMS, HANDED

HERE = Path(__file__).parent


def value(text):
    """A SymPy object from the text of a case."""
    names = {name: sp.Symbol(name) for name in "abckmnrtuvwxyz"}
    names |= {"n": sp.Symbol("n", positive=True, integer=True), "k": sp.Symbol("k", positive=True, integer=True)}
    names |= {"S": sp.FiniteSet, "M": sp.Matrix, "Q": sp.Rational, "E": sp.E, "I": sp.I, "pi": sp.pi}
    return sp.sympify(text, locals=names)


def same(a, b):
    a, b = value(a), value(b)
    if type(a) is not type(b) and not (isinstance(a, sp.Expr) and isinstance(b, sp.Expr)):
        return False
    if isinstance(a, (sp.Set, sp.Tuple)):
        return a == b
    if isinstance(a, sp.MatrixBase):
        return a.shape == b.shape and sp.simplify(a - b) == sp.zeros(*a.shape)
    return sp.simplify(a - b) == 0


def math_verify_says(response, reference):
    from math_verify import parse, verify

    try:
        return bool(verify(parse(f"\\boxed{{{reference}}}"), parse(response)))
    except Exception:  # a grader that raises gives no verdict
        return None


def rows():
    for kind, verifier, response, reference, want in HANDED:
        yield {"kind": kind, "verifier": verifier, "response": response, "reference": reference, "right": want, "handed": True}
    for kind, groups in EXTRACTION.items():
        for verifier, reference, right, wrong in groups:
            for responses, label in ((right, True), (wrong, False)):
                for response in responses:
                    yield {"kind": kind, "verifier": verifier, "response": response, "reference": reference, "right": label, "handed": False}
    for kind, groups in FORMS.items():
        for reference, gold, answers in groups:
            for answer, meaning in answers:
                response = answer if answer.startswith("!!") else f"\\boxed{{{answer}}}"
                label = meaning is not None and same(gold, meaning)
                yield {"kind": kind, "verifier": "math", "response": response.removeprefix("!!"), "reference": reference, "right": label, "handed": False}


def main():
    import logging

    logging.disable(logging.CRITICAL)
    out, counts = [], {}
    for row in rows():
        row["math_verify"] = math_verify_says(row["response"], row["reference"]) if row["verifier"] == "math" else None
        out.append(json.dumps(row, ensure_ascii=False))
        count = counts.setdefault(row["kind"], [0, 0, 0, 0])
        count[0 if row["right"] else 1] += 1
        if row["verifier"] == "math":
            count[2] += 1
            count[3] += row["math_verify"] == row["right"]
    (HERE / "kinds.jsonl").write_text("\n".join(out) + "\n", encoding="utf-8")
    for kind, (right, wrong, asked, agreed) in counts.items():
        print(f"{kind:<34} right {right:>3}  wrong {wrong:>3}   Math-Verify agrees on {agreed} of {asked}")


if __name__ == "__main__":
    main()
