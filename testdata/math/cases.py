"""Writes cases.jsonl: answers that other graders, or this crate once, took for the reference, beside ones that are right.

Labels of expressions are SymPy's, for variables as assumed: real, or positive for `domain`. Two differ when evaluation with 600
digits at some point of a grid shows it where both are real. Otherwise their difference must simplify to 0, or the script stops;
but identities of floors, bounds and absolute values, which SymPy rarely simplifies, are taken from the grid. Labels of texts (`unreadable`, `thousands`) are by hand.

    python -m pip install sympy==1.14.0 mpmath==1.3.0      # Python 3.11
    python cases.py
"""

import itertools
import json
from pathlib import Path

import sympy as sp
from mpmath import mp
from sympy import Abs, Max, Min, Rational as R, ceiling, exp, floor, log, sqrt, root, sin, cos, factorial, binomial, atan

mp.dps = 600
x, y, z = sp.symbols("x y z", real=True)
a, b, c, p, q, t, n = sp.symbols("a b c p q t n", positive=True)
k = sp.symbols("k", integer=True, positive=True)

# kind, reference, its value, answer, its value. An answer's value is None where it has none at real numbers.
EXPRESSIONS = [
    # Only the reference may ask for natural numbers.
    ("naturals", r"\lfloor x \rfloor", floor(x), r"x", x),
    ("naturals", r"x", x, r"\lceil x \rceil", ceiling(x)),
    ("naturals", r"\lceil 2x \rceil", ceiling(2 * x), r"2x", 2 * x),
    ("naturals", r"|x|", Abs(x), r"x+0\cdot x!", None),
    ("naturals", r"\sin(\pi x)", sin(sp.pi * x), r"0\cdot x!", None),
    ("naturals", r"|x|", Abs(x), r"x(-1)^{2x}", None),
    ("naturals", r"k!", factorial(k), r"k!+\lfloor k/100\rfloor", factorial(k) + floor(k / 100)),
    ("naturals", r"k!", factorial(k), r"k!+\lfloor \frac{k}{77}\rfloor", factorial(k) + floor(k / 77)),
    ("naturals", r"k!", factorial(k), r"k!+\max(k-60,0)", factorial(k) + Max(k - 60, 0)),
    ("naturals", r"k!\,(k-50)", factorial(k) * (k - 50), r"k!\,|k-50|", factorial(k) * Abs(k - 50)),
    ("naturals", r"(k+1)!", factorial(k + 1), r"k!\,(k+1)", factorial(k) * (k + 1)),
    ("naturals", r"\binom{k}{2}", binomial(k, 2), r"\frac{k(k-1)}{2}", k * (k - 1) / 2),
    ("naturals", r"x^2+x", x**2 + x, r"\lfloor x \rfloor^2+x", floor(x) ** 2 + x),
    ("naturals", r"\lfloor x \rfloor+1", floor(x) + 1, r"\lfloor x+1 \rfloor", floor(x + 1)),
    ("naturals", r"\lfloor -x \rfloor", floor(-x), r"-\lceil x \rceil", -ceiling(x)),
    ("naturals", r"-\lfloor x \rfloor", -floor(x), r"\lfloor -x \rfloor", floor(-x)),
    ("naturals", r"\lfloor 2x \rfloor", floor(2 * x), r"2\lfloor x \rfloor", 2 * floor(x)),
    ("naturals", r"0", sp.Integer(0), r"x-\lfloor x \rfloor", x - floor(x)),
    ("naturals", r"x", x, r"\gcd(x,0)", None),
    ("naturals", r"\sqrt{x^2}", Abs(x), r"x+0\cdot\binom{x}{1}", None),
    ("naturals", r"\lfloor x+\frac13 \rfloor", floor(x + R(1, 3)), r"\lfloor x \rfloor", floor(x)),
    ("naturals", r"\lfloor \sqrt{x} \rfloor", floor(sqrt(x)), r"\sqrt{x}", sqrt(x)),
    # Every variable has a sign of its own.
    ("signs", r"|xy|", Abs(x * y), r"xy", x * y),
    ("signs", r"\sqrt{x^2y^2}", Abs(x * y), r"xy", x * y),
    ("signs", r"|x|\cdot|y|", Abs(x) * Abs(y), r"|xy|", Abs(x * y)),
    ("signs", r"|xyz|", Abs(x * y * z), r"|x|yz", Abs(x) * y * z),
    ("bars", r"|x||y|", Abs(x) * Abs(y), r"|xy|", Abs(x * y)),
    ("bars", r"|xy|", Abs(x * y), r"|x||y|", Abs(x) * Abs(y)),
    ("bars", r"|x||y|", Abs(x) * Abs(y), r"xy", x * y),
    ("bars", r"2|x||y|", 2 * Abs(x) * Abs(y), r"|2xy|", Abs(2 * x * y)),
    ("bars", r"2|x|", 2 * Abs(x), r"|2x|", Abs(2 * x)),
    ("bars", r"2|x|", 2 * Abs(x), r"2x", 2 * x),
    ("bars", r"x|y|", x * Abs(y), r"|y|x", x * Abs(y)),
    ("bars", r"x|y|", x * Abs(y), r"|x|y", Abs(x) * y),
    ("bars", r"|x-1||x+1|", Abs(x - 1) * Abs(x + 1), r"|x^2-1|", Abs(x**2 - 1)),
    ("bars", r"|x-1||x+1|", Abs(x - 1) * Abs(x + 1), r"x^2-1", x**2 - 1),
    ("bars", r"|x|^2", Abs(x) ** 2, r"|x||x|", Abs(x) ** 2),
    ("bars", r"\left|x\right|\left|y\right|", Abs(x) * Abs(y), r"|x|\cdot|y|", Abs(x) * Abs(y)),
    ("bars", r"\left|x\right|\left|y\right|", Abs(x) * Abs(y), r"|x|+|y|", Abs(x) + Abs(y)),
    ("bars", r"(1+|x|)|y|", (1 + Abs(x)) * Abs(y), r"|y|+|xy|", Abs(y) + Abs(x * y)),
    ("bars", r"|(1+|x|)y|", Abs((1 + Abs(x)) * y), r"(1+|x|)|y|", (1 + Abs(x)) * Abs(y)),
    ("bars", r"|(1-|x|)y|", Abs((1 - Abs(x)) * y), r"(1-|x|)|y|", (1 - Abs(x)) * Abs(y)),
    ("bars", r"|x||y||z|", Abs(x) * Abs(y) * Abs(z), r"|xyz|", Abs(x * y * z)),
    ("bars", r"|x||y||z|", Abs(x) * Abs(y) * Abs(z), r"|x||yz", None),
    ("bars", r"\frac{|x||y|}{2}", Abs(x) * Abs(y) / 2, r"\frac12|x||y|", Abs(x) * Abs(y) / 2),
    ("bars", r"\frac{|x||y|}{2}", Abs(x) * Abs(y) / 2, r"\frac12|x+y|", Abs(x + y) / 2),
    ("bars", r"\sqrt{|x|}\,|y|", sp.sqrt(Abs(x)) * Abs(y), r"|y|\sqrt{|x|}", sp.sqrt(Abs(x)) * Abs(y)),
    ("bars", r"3|x|-|y|", 3 * Abs(x) - Abs(y), r"3(|x|-|y|)", 3 * Abs(x) - 3 * Abs(y)),
    ("signs", r"|x|+|y|", Abs(x) + Abs(y), r"|x+y|", Abs(x + y)),
    ("signs", r"|x-y|", Abs(x - y), r"||x|-|y||", Abs(Abs(x) - Abs(y))),
    ("signs", r"\frac{|y|}{y}", Abs(y) / y, r"\frac{|x|}{x}", Abs(x) / x),
    ("signs", r"\frac{|xy|}{xy}", Abs(x * y) / (x * y), r"1", sp.Integer(1)),
    ("signs", r"\frac{x}{|y|}", x / Abs(y), r"\left|\frac{x}{y}\right|", Abs(x / y)),
    ("signs", r"\frac{|x|}{|y|}", Abs(x) / Abs(y), r"\left|\frac{x}{y}\right|", Abs(x / y)),
    ("signs", r"\max(x,y)", Max(x, y), r"\frac{x+y+|x-y|}{2}", (x + y + Abs(x - y)) / 2),
    ("signs", r"\min(x,y)", Min(x, y), r"\frac{x+y-|x+y|}{2}", (x + y - Abs(x + y)) / 2),
    ("signs", r"\max(x,y)\min(x,y)", Max(x, y) * Min(x, y), r"xy", x * y),
    ("signs", r"\max(|x|,|y|)", Max(Abs(x), Abs(y)), r"|\max(x,y)|", Abs(Max(x, y))),
    ("signs", r"x|y|", x * Abs(y), r"|x|y", Abs(x) * y),
    ("signs", r"\sqrt{(x-y)^2}", Abs(x - y), r"x-y", x - y),
    ("signs", r"\sqrt{(x-y)^2}", Abs(x - y), r"|y-x|", Abs(y - x)),
    ("signs", r"\sqrt{x^2+2xy+y^2}", Abs(x + y), r"|x|+|y|", Abs(x) + Abs(y)),
    ("signs", r"\sqrt[3]{x^3y^3}", x * y, r"xy", x * y),
    ("signs", r"|x|^3", Abs(x) ** 3, r"x^3", x**3),
    ("signs", r"|x|^2\cdot|y|", x**2 * Abs(y), r"|x^2y|", Abs(x**2 * y)),
    # Points reach beyond every constant.
    ("range", r"|x-3|", Abs(x - 3), r"3-x", 3 - x),
    ("range", r"|x-3|", Abs(x - 3), r"|3-x|", Abs(3 - x)),
    ("range", r"|x+40|", Abs(x + 40), r"x+40", x + 40),
    ("range", r"|2x-100|", Abs(2 * x - 100), r"100-2x", 100 - 2 * x),
    ("range", r"|x/7-30|", Abs(x / 7 - 30), r"30-x/7", 30 - x / 7),
    ("range", r"\max(x,3)", Max(x, 3), r"3", sp.Integer(3)),
    ("range", r"\min(x,90)", Min(x, 90), r"x", x),
    ("range", r"\min(x^2,5000)", Min(x**2, 5000), r"x^2", x**2),
    ("range", r"\max(x,-60)", Max(x, -60), r"x", x),
    ("range", r"\sqrt{x^2-6x+9}", Abs(x - 3), r"3-x", 3 - x),
    ("range", r"\sqrt{x^2-6x+9}", Abs(x - 3), r"|x-3|", Abs(x - 3)),
    ("range", r"\sqrt{x^2-100x+2500}", Abs(x - 50), r"50-x", 50 - x),
    ("range", r"|x-1|+|x-50|", Abs(x - 1) + Abs(x - 50), r"|2x-51|", Abs(2 * x - 51)),
    ("range", r"|x-1|+|x-2|", Abs(x - 1) + Abs(x - 2), r"3-2x", 3 - 2 * x),
    ("range", r"|x-20|-|x-21|", Abs(x - 20) - Abs(x - 21), r"-1", sp.Integer(-1)),
    ("range", r"\min(\max(x,10),20)", Min(Max(x, 10), 20), r"\max(\min(x,20),10)", Max(Min(x, 20), 10)),
    ("range", r"\min(\max(x,10),20)", Min(Max(x, 10), 20), r"10", sp.Integer(10)),
    ("range", r"\max(x,10)", Max(x, 10), r"\max(x,11)", Max(x, 11)),
    ("range", r"x+\lfloor x/1000 \rfloor", x + floor(x / 1000), r"x", x),
    ("range", r"\max(x-7,0)", Max(x - 7, 0), r"\frac{x-7+|x-7|}{2}", (x - 7 + Abs(x - 7)) / 2),
    ("range", r"|x^2-4|", Abs(x**2 - 4), r"4-x^2", 4 - x**2),
    ("range", r"\frac{|x-5|}{x-5}", Abs(x - 5) / (x - 5), r"-1", sp.Integer(-1)),
    ("range", r"3-(2x-48)^2", 3 - (2 * x - 48) ** 2, r"\min(3-(2x-48)^2, 1)", Min(3 - (2 * x - 48) ** 2, 1)),
    ("range", r"|(x-30)^2-\frac{1}{100}|", Abs((x - 30) ** 2 - R(1, 100)), r"(x-30)^2-\frac{1}{100}", (x - 30) ** 2 - R(1, 100)),
    ("range", r"\max((x-30)^2, \frac{1}{10})", Max((x - 30) ** 2, R(1, 10)), r"(x-30)^2", (x - 30) ** 2),
    # Equal where both are real. Here all letters are positive.
    ("domain", r"\frac{1}{\sqrt{n}}", 1 / sqrt(n), r"\sqrt{1/n}", sqrt(1 / n)),
    ("domain", r"\ln(ab)", log(a * b), r"\ln a+\ln b", log(a) + log(b)),
    ("domain", r"\ln\frac{a}{b}", log(a / b), r"\ln a-\ln b", log(a) - log(b)),
    ("domain", r"\ln a-\ln b+\ln c", log(a) - log(b) + log(c), r"\ln\frac{ac}{b}", log(a * c / b)),
    ("domain", r"\sqrt{ab}", sqrt(a * b), r"\sqrt{a}\sqrt{b}", sqrt(a) * sqrt(b)),
    ("domain", r"\sqrt{\frac{a}{b}}", sqrt(a / b), r"\frac{\sqrt a}{\sqrt b}", sqrt(a) / sqrt(b)),
    ("domain", r"\sqrt{\frac{a}{b}}", sqrt(a / b), r"\frac{\sqrt{ab}}{|b|}", sqrt(a * b) / b),
    ("domain", r"(ab)^{t}", (a * b) ** t, r"a^t b^t", a**t * b**t),
    ("domain", r"\left(\frac{a}{b}\right)^t", (a / b) ** t, r"\frac{a^t}{b^t}", a**t / b**t),
    ("domain", r"n^{3/2}", n ** R(3, 2), r"n\sqrt n", n * sqrt(n)),
    ("domain", r"\sqrt{n^3}", sqrt(n**3), r"n\sqrt n", n * sqrt(n)),
    ("domain", r"\sqrt[4]{n}", n ** R(1, 4), r"\sqrt{\sqrt n}", sqrt(sqrt(n))),
    ("domain", r"\frac{\sqrt2}{\sqrt{\pi n}}", sqrt(2) / sqrt(sp.pi * n), r"\sqrt{\frac{2}{\pi n}}", sqrt(2 / (sp.pi * n))),
    ("domain", r"\log_2 (ab)", log(a * b) / log(2), r"\log_2 a+\log_2 b", log(a) / log(2) + log(b) / log(2)),
    ("domain", r"\ln\sqrt{a}", log(sqrt(a)), r"\frac12\ln a", log(a) / 2),
    ("domain", r"e^{t\ln a}", exp(t * log(a)), r"a^t", a**t),
    ("domain", r"\ln(a^3)", log(a**3), r"3\ln a", 3 * log(a)),
    ("domain", r"\ln\frac1a", log(1 / a), r"-\ln a", -log(a)),
    ("domain", r"\frac{1}{(1-2p)^{1/6}}", (1 - 2 * p) ** R(-1, 6), r"\left(\frac{1}{1-2p}\right)^{1/6}", (1 / (1 - 2 * p)) ** R(1, 6)),
    ("domain", r"\sqrt{\frac{1-p}{1+p}}", sqrt((1 - p) / (1 + p)), r"\frac{\sqrt{1-p}}{\sqrt{1+p}}", sqrt(1 - p) / sqrt(1 + p)),
    ("domain", r"\ln(a^2b)", log(a**2 * b), r"2\ln a+\ln b", 2 * log(a) + log(b)),
    ("domain", r"a^{1/2}b^{-1/2}", a ** R(1, 2) * b ** R(-1, 2), r"\sqrt{a/b}", sqrt(a / b)),
    ("domain", r"\frac{a}{\sqrt{a}}", a / sqrt(a), r"\sqrt{a}", sqrt(a)),
    # And not equal there.
    ("domain", r"\ln(ab)", log(a * b), r"\ln a\ln b", log(a) * log(b)),
    ("domain", r"\ln(a+b)", log(a + b), r"\ln a+\ln b", log(a) + log(b)),
    ("domain", r"\sqrt{a+b}", sqrt(a + b), r"\sqrt a+\sqrt b", sqrt(a) + sqrt(b)),
    ("domain", r"\frac{1}{\sqrt n}", 1 / sqrt(n), r"\sqrt{\frac{1}{n+1}}", sqrt(1 / (n + 1))),
    ("domain", r"\sqrt{\frac{a}{b}}", sqrt(a / b), r"\frac{\sqrt b}{\sqrt a}", sqrt(b) / sqrt(a)),
    ("domain", r"(ab)^t", (a * b) ** t, r"a^tb", a**t * b),
    ("domain", r"\ln\frac{a}{b}", log(a / b), r"\ln b-\ln a", log(b) - log(a)),
    ("domain", r"n^{3/2}", n ** R(3, 2), r"\sqrt{n^2}", sqrt(n**2)),
]

# An answer may not narrow its own domain to where it is right.
NARROWED = [
    (r"|x|", r"(\sqrt{x})^2"), (r"|x|", r"e^{\ln x}"), (r"\sqrt{x^2}", r"x\frac{\sqrt x}{\sqrt x}"), (r"|x-3|", r"(\sqrt{x-3})^2"),
    (r"\frac{|x|}{x}", r"\frac{\sqrt x}{\sqrt x}"), (r"\max(x,3)", r"3\frac{\sqrt{3-x}}{\sqrt{3-x}}"), (r"|xy|", r"\sqrt{x}^2\sqrt{y}^2"),
    (r"\lfloor x \rfloor", r"0\cdot\arcsin(2x-1)"),
]

RELATIONS = [
    ("xy=1", "2xy=2", True), ("xy=1", "xy-1=0", True), ("xy=1", "2xy=1", False), ("xy=1", "x+y=1", False),
    ("2xy=2", "xy=1", True), ("xy=4", "yx=4", True), ("ab=6", "3ab=18", True), ("ab=6", "3ab=6", False), ("xy<1", "2xy<2", True),
    ("xy<1", "-xy>-1", True), ("xy<1", "xy>1", False), ("xy=z", "2xy=2z", True), ("xy=z", "xz=y", False), ("ab+bc=1", "b(a+c)=1", True),
    ("|x||y|=1", "|xy|=1", True), ("|x||y|=1", "xy=1", False), ("2|x|=6", "|x|=3", True), ("2|x|=6", "x=3", False),
    (r"|x|+|y|=1", r"|x+y|=1", False), (r"|x|+|y| \le 1", r"|x+y| \le 1", False), (r"|xy|=1", r"xy=1", False), (r"x^2y=1", r"2x^2y=2", True),
    (r"|xy|=1", r"|x|\cdot|y|=1", True), (r"f(x)=|x-3|", r"f(x)=3-x", False), (r"f(x)=|x-3|", r"f(x)=|3-x|", True), (r"|x-3|>1", r"x<2", False),
    (r"y=\max(x,5)", r"y=x", False), (r"y=\lfloor x\rfloor", r"y=x", False), (r"|x|+|y|+|z|=1", r"|x+y+z|=1", False),
    (r"\max(|x|,|y|)=1", r"|x|=1", False), (r"|x-y|=2", r"x-y=2", False), (r"|x-y|=2", r"|y-x|=2", True), (r"\ln(xy)=1", r"\ln x+\ln y=1", True),
    (r"x^2+y^2=1", r"x^2+y^2=|1|", True), (r"|x|y=1", r"xy=1", False), (r"\sqrt{x^2}=y", r"x=y", False), (r"\sqrt{x^2}+y=7", r"|x|+y=7", True),
    (r"|x-50|+y=1", r"50-x+y=1", False), (r"\min(x,y)=0", r"xy=0", False),
]

# References that the reader does not read are compared as texts, which must not lose meaning.
# Found from outside: each is a kind. Labelled by hand, by values at the points in the comment.
OUTSIDE = [
    # Equal almost everywhere, but not at whole numbers.
    (r"\lceil x \rceil", r"\lfloor x \rfloor+1", False), (r"\lceil n/2\rceil", r"\lfloor n/2\rfloor+1", False), (r"\lfloor n/2\rfloor", r"\lceil n/2\rceil-1", False),
    (r"\lfloor x\rfloor+\lceil x\rceil", r"2\lfloor x\rfloor+1", False), (r"\lfloor x\rfloor", r"-\lceil -x\rceil", True), (r"\lfloor x+1\rfloor", r"\lfloor x\rfloor+1", True),
    # Floors of a bound, which floats do not tell: x = 10.
    (r"\lfloor 3x\rfloor", r"\lfloor\min(3x,10)\rfloor", False), (r"\lfloor xy\rfloor", r"\lfloor\min(xy,10)\rfloor", False), (r"\lceil 2x\rceil", r"\lceil\max(2x,-7)\rceil", False),
    (r"\min(\lfloor 3x\rfloor,10)", r"\lfloor\min(3x,10)\rfloor", True), (r"\lfloor\max(x,3)\rfloor", r"\max(\lfloor x\rfloor,3)", True),
    # Beyond the constants, in values that are not written out, and where borders of two variables meet.
    (r"\min(\min(\ln(x),5e^{x}),7)", r"\min(\ln(x),5e^{x})", False), (r"\min(x,10^{12})", "x", False), (r"\max(x,-2^{40})", "x", False),
    (r"x+y", r"x+y+\max(0,1-|x-77|-|y+31|)", False), (r"xy", r"xy+\max(0,1-|x-5|-|y-9|)", False), (r"\min(\max(z,y),x)", r"\min(\max(z+\max(0,y-3),y),x)", False),
    (r"\max(\lceil |z|-\max(z,4)\rceil,x)", r"\max(\lceil |z|-\min(\max(z,4),64)\rceil,x)", False), (r"\max(x,\max(y,z))", r"\max(\max(x,y),z)", True),
    (r"n!", r"n!+\lfloor\frac{n}{5000}\rfloor", False), (r"\gcd(n,10007)", "1", False), (r"\gcd(n,7)", "1", False), (r"\gcd(n,12)", r"\gcd(n,12)", True),
    # A comma among arguments separates.
    (r"\max(7,10)", r"\max(7,1000,10)", False), ("12.2", r"\min(12,2)", False), ("2", r"\min(12,2)", True), ("3.21", r"\{3,21\}", False), (r"\lfloor 64\rfloor", r"\lfloor \min(64,12)\rfloor", False),
    ("12", r"\lfloor \min(64,12)\rfloor", True), ("3.5", "(3,5)", False), ("3.5", "3,5", True),
    # `and` is not `or`.
    (r"x<2 \text{ or } x>5", r"x<2\text{ and }x>5", False), (r"x<2 \text{ or } x>5", r"x<2\land x>5", False), (r"x<2 \text{ or } x>5", r"x>5\text{ or }x<2", True),
    ("0<x<3", r"x>0 \text{ or } x<3", False), ("0<x<3", r"x>0 \text{ and } x<3", True), (r"x<2 \text{ or } x>5", r"(-\infty,2)\cup(5,\infty)", True), (r"x<2 \text{ or } x>5", "x<2, x>5", True),
    # Products that do not commute, quotients that are none, values without names.
    (r"\vec{a}\times\vec{b}", r"\vec b\times\vec a", False), (r"\vec{a}\times\vec{b}", r"\vec{a}\times\vec{b}", True), (r"\frac{dy}{dx}", r"\frac yx", False), (r"\frac{ax}{bx}", r"\frac ab", True),
    ("x=2,y=3,z=5", "5,3,2", False), ("x=2,y=3,z=5", "2,3,5", True), ("y=3, x=2", "3, 2", True), ("x=2,y=3", "(2,3)", True),
]

UNREADABLE = [
    ("5!!", "5!", False), ("5!!", "5!!", True), (r"\sum k!", r"\sum k", False), (r"\sum k!", r"\sum k!", True), (r'f"(x)', "f(x)", False),
    (r"\sum_{k=1}^n k^2", r"\sum_{k=1}^n  k^2", True), (r"\sum_{k=1}^n k^2", r"\sum_{k=1}^n k^3", False), (r"\sum K", r"\sum k", False),
    (r"\sum_{k} 1 2", r"\sum_{k} 12", False), (r"\prod a", r"\prod A", False), (r"\sum a*b*", r"\sum ab", False), (r"\text{}", "!", False),
    (r"\text{}", r"\text{}", False), ('"', "!?", False), ("!!", "!!", False), (r"\int_0^1 f(t)\,dt", r"$\int_0^1 f(t)\,dt$", True),
    (r"\int_0^1 f(t)\,dt", r"\int_0^1 F(t)\,dt", False), (r"\sum `k`", r"\sum k", False), (r"7!!!", r"7!!", False), (r"\sum k?", r"\sum k", False),
    (r"\nabla f", r"\nabla f", True), (r"\nabla f", r"\nabla F", False), (r"\text{}", "", False), (r"{}", "?", False),
]

THOUSANDS = [
    ("1,000", "1,0", False), ("1,000", "1, 0", False), ("1,000", "1000", True), ("1,000", "1{,}000", True), ("2,005", "2,5", False),
    ("2,005", "2005", True), ("850,000", "850, 0", False), ("850,000", "850000.0", True), ("70,000", r"\$70,000", True), ("70,000", "70, 0", False),
    ("1,234", "1, 234", False), ("1,234", "1 and 234", False), ("1,234", r"\{1, 234\}", False), ("1,234", "1234", True),
    ("12,345,678", "12, 345, 678", False), ("12,345,678", "12345678", True), ("1,001", "1,1", False), ("10,010", "10,10", False), ("3,200", "3,2", False),
    ("3,200", "3.2", False), ("1,050.50", "1, 50.5", False), (r"\$1,000", r"\$1, 0", False), ("1,000,000", "1, 0, 0", False), ("1, 0", "1,000", False),
    ("1, 0", "1,0", True), (r"\{100,200\}", r"\{100, 200\}", True), ("100, 200", "100,200", True),
]

# Reported from outside, with the label that was given.
REPORTED = [
    ('signs', '|xy|', 'xy', False),
    ('signs', '\\sqrt{x^2y^2}', 'xy', False),
    ('signs', '|x|+|y|=1', '|x+y|=1', False),
    ('signs', '|x|+|y| \\le 1', '|x+y| \\le 1', False),
    ('signs', '|xy|=1', 'xy=1', False),
    ('signs', '\\frac{|y|}{y}', '\\frac{|x|}{x}', False),
    ('signs', '2\\frac{|x|}{x}', '\\frac{|x|}{x}+\\frac{|y|}{y}', False),
    ('range', '|x-3|', '3-x', False),
    ('range', '|x+3|', 'x+3', False),
    ('range', '\\sqrt{x^2-6x+9}', '3-x', False),
    ('range', '\\min(x,3)', 'x', False),
    ('range', 'f(x)=|x-3|', 'f(x)=3-x', False),
    ('naturals', '\\lfloor x \\rfloor', 'x', False),
    ('naturals', '0', 'x-\\lfloor x\\rfloor', False),
    ('naturals', '\\lfloor x+\\frac12\\rfloor', 'x', False),
    ('naturals', '\\lfloor x^2\\rfloor', 'x^2', False),
    ('naturals', '-\\lfloor x \\rfloor', '\\lfloor -x \\rfloor', False),
    ('domain', '\\frac{1}{\\sqrt{n}}', '\\sqrt{1/n}', True),
    ('domain', 'atan(x)/(3*(1-2*x)^(7/6))+1/((1-2*x)^(1/6)*(x^2+1))', '((((1)/(1+x^(2)))*(-2*x+1)^(((1)/(6)))-((1)/(6))*(-2*x+1)^(-((5)/(6)))*(-2)*atan(x))/((-2*x+1)^(((1)/(3)))))', True),
    ('domain', '\\left( a b \\right)^{x \\left( c + d \\right)}', 'a^{x(c+d)} b^{x(c+d)}', True),
    ('domain', '\\ln(xy)', '\\ln x + \\ln y', True),
    ('domain', '\\frac{\\sqrt 2}{\\sqrt{\\pi n}}', '\\sqrt{\\frac{2}{\\pi n}}', True),
]

NATURALS = [mp.mpf(v) for v in range(1, 200)]
GRID = [s * mp.mpf(v) / 16 for v in (1, 1.7, 2.3, 2.9, 3.7, 4.3, 5, 5.9, 6.7, 7.3, 13, 23, 41, 87, 333, 384.7, 480.3, 1041, 2087, 20011, 70003, 1600007) for s in (1, -1)]


def label(first, second):
    """Whether two SymPy expressions are the same where both are real."""
    if second is None:
        return False
    names = sorted(first.free_symbols | second.free_symbols, key=str)
    f, g = (sp.lambdify(names, e, "mpmath") for e in (first, second))
    tried = 0
    for values in itertools.islice(itertools.product(*(NATURALS if s.is_integer else GRID for s in names)), 6000):
        at = [abs(v) if s.is_positive else v for s, v in zip(names, values)]
        try:
            u, w = mp.mpmathify(f(*at)), mp.mpmathify(g(*at))
        except (ZeroDivisionError, ValueError):
            continue
        if abs(mp.im(u)) > 1e-30 or abs(mp.im(w)) > 1e-30:
            continue
        tried += 1
        if abs(u - w) > mp.mpf("1e-500") * (1 + abs(u)):
            return False
    assert tried >= 8, (first, second)
    # Identities of floors, bounds and absolute values are taken from the grid alone.
    if not first.has(floor, ceiling, Max, Min, Abs, factorial, binomial):
        difference = sp.expand_log(sp.powsimp(sp.expand_power_base(first - second, force=True), force=True), force=True)
        # Roots of what has no known sign: a power of the quotient, which is positive on the grid.
        assert sp.simplify(difference) == 0 or sp.simplify((first / second) ** 12) == 1, (first, second)
    return True


def main():
    rows = []
    for kind, reference, first, answer, second in EXPRESSIONS:
        rows.append((kind, reference, answer, label(first, second)))
    rows += REPORTED
    rows += [("narrowed", reference, answer, False) for reference, answer in NARROWED]
    rows += [("relation", *case) for case in RELATIONS]
    rows += [("outside", *case) for case in OUTSIDE]
    rows += [("unreadable", *case) for case in UNREADABLE]
    rows += [("thousands", *case) for case in THOUSANDS]
    with (Path(__file__).parent / "cases.jsonl").open("w", encoding="utf-8") as out:
        for kind, reference, answer, same in rows:
            out.write(json.dumps({"kind": kind, "reference": reference, "answer": answer, "same": same}, ensure_ascii=False) + "\n")
    for kind in dict.fromkeys(row[0] for row in rows):
        these = [row for row in rows if row[0] == kind]
        print(kind, len(these), "same:", sum(row[3] for row in these))


if __name__ == "__main__":
    main()
