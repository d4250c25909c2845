"""Responses with tests, labelled by CPython: kinds of faults that code verifiers have.

    python testdata/code/fresh_cases.py > testdata/code/fresh_cases.json

Each label comes from a plain run, in a process of its own and with no code of ours, by the rules of the data
set's own harness: asserts and `check` run behind the solution in one process (openai/human-eval 6d43fb9, MBPP),
programs get their standard input and are compared line by line, functions are called on `Solution()` behind the
imports that LiveCodeBench 28fef95 prepends. One rule is stricter than theirs: where the tests do not name an
exception that ends an iteration, a solution that raises one is wrong, as it is inside a generator (PEP 479).

A case is (kind, solution, tests, response); the response is what is graded, the solution what it means. Without
a response, it is the solution in a fenced block. Made with CPython 3.11.7.
"""

import json
import os
import re
import subprocess
import sys

PRELUDE = """
from string import *
from re import *
from datetime import *
from collections import *
from heapq import *
from bisect import *
from copy import *
from math import *
from random import *
from statistics import *
from itertools import *
from functools import *
from operator import *
from io import *
from sys import *
from json import *
from builtins import *
from typing import *
import string
import re
import datetime
import collections
import heapq
import bisect
import copy
import math
import random
import statistics
import itertools
import functools
import operator
import io
import sys
import json
sys.setrecursionlimit(50000)
"""

CASES = []


def case(kind, code, tests, response=None):
    CASES.append((kind, code.strip("\n") + "\n", tests, response))


def check(body):
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    return {"entry_point": "f", "prompt": "", "test": "def check(candidate):\n" + lines + "\n"}


# 6. An exception of the solution is no end of an iteration of the tests.
STOP = "def f(*a, **k):\n    raise StopIteration"
SUB = "class Done(StopIteration):\n    pass\ndef f(*a):\n    raise Done"
NEXT = "def f(*a):\n    return next(iter(()))"
LATE = "def f(x):\n    if x > 1:\n        raise StopIteration\n    return x * x"
GOOD = "def f(x):\n    return x * x"
LOOPS = [
    "for got, want in zip(map(candidate, [1, 2, 3]), [1, 4, 9]):\n    assert got == want",
    "assert all(map(lambda p: candidate(p[0]) == p[1], [(1, 1), (2, 4)]))",
    "assert all(candidate(x) == x * x for x in range(4)) or False",
    "assert not any(map(lambda x: candidate(x) != x * x, range(4)))",
    "assert sum(map(candidate, [])) == 0\nfor y in map(candidate, [1, 2]):\n    assert y in (1, 4)",
    "assert not list(filter(lambda x: candidate(x) != x * x, range(5)))",
    "for y, x in zip(map(candidate, range(5)), range(5)):\n    assert y == x * x",
    "assert set(map(candidate, [1, 2])) <= {1, 4}",
    "it = map(candidate, [1, 2])\nassert next(it, 1) == 1 and next(it, 4) == 4",
]
for loop in LOOPS:
    case("6", STOP, check(loop))
    case("6", GOOD, check(loop))
for code in (SUB, NEXT, LATE):
    case("6", code, check(LOOPS[0]))
    case("6", code, check(LOOPS[5]))
for name in ("GeneratorExit", "StopAsyncIteration", "SystemExit", "KeyboardInterrupt", "AssertionError", "RecursionError", "MemoryError"):
    case("6", "def f(*a):\n    raise %s" % name, check(LOOPS[0]))
case("6", "class Own(BaseException):\n    pass\ndef f(*a):\n    raise Own", check(LOOPS[6]))
case("6", "def f(it):\n    return next(it)", check("try:\n    candidate(iter([]))\n    assert False\nexcept StopIteration:\n    pass\nassert candidate(iter([7])) == 7"))
case("6", "def f(it):\n    return 7", check("try:\n    candidate(iter([]))\n    assert False\nexcept StopIteration:\n    pass\nassert candidate(iter([7])) == 7"))
case("6", "import sys\ndef f(x):\n    sys.exit(x)", check("try:\n    candidate(3)\n    assert False, 'no exit'\nexcept SystemExit as e:\n    assert e.code == 3"))
case("6", "import sys\ndef f(x):\n    sys.exit(4)", check("try:\n    candidate(3)\n    assert False, 'no exit'\nexcept SystemExit as e:\n    assert e.code == 3"))

# 18. Where the code is.
ADD = "def add(a, b):\n    return a + b\n"
ADDS = ["assert add(2, 3) == 5", "assert add('a', 'b') == 'ab'"]
HE = {"prompt": "def add(a, b):\n", "entry_point": "add", "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n"}
BODY = "    return a + b\n"
FENCE = "```python\n" + ADD + "```\n"
indented = "1. The function:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n\n2. Done."
for response, tests in [
    (ADD + "```", ADDS),
    (BODY + "```\n", HE),
    (BODY + "```\n\nThis adds the two numbers.", HE),
    (ADD + "```\nIt adds them.\n\n```\nadd(1, 2)\n```\n", ADDS),
    (FENCE + "\nExample:\n```python\nprint(add(1, 2))\n```", ADDS),
    (FENCE + "\nOutput:\n```\n5\n```", ADDS),
    (FENCE + "\nOutput:\n```text\n5\n```", ADDS),
    (FENCE + "\nUsage:\n\n```python\n>>> add(1, 2)\n3\n```\n", ADDS),
    (FENCE + "\nTests:\n```python\nassert add(1, 2) == 3\nassert add(0, 0) == 0\n```", ADDS),
    (FENCE + "\nRun it:\n```bash\npython add.py\n```", ADDS),
    (indented, ADDS),
    ("- Code:\n\n    ```python\n    def add(a, b):\n        return a + b\n    ```\n", ADDS),
    ("* step\n\t```python\n\tdef add(a, b):\n\t    return a + b\n\t```\n", ADDS),
    ("> ```python\n> def add(a, b):\n>     return a + b\n> ```\n", ADDS),
    ("~~~python\n" + ADD + "~~~\n", ADDS),
    ("``` python\n" + ADD + "```", ADDS),
    ("```{python}\n" + ADD + "```", ADDS),
    ("```python3 title=\"add.py\"\n" + ADD + "```", ADDS),
    ("First try:\n```python\ndef add(a, b):\n    return 0\n```\nBetter:\n" + FENCE, ADDS),
    (FENCE + "\nOr shorter:\n```python\nadd = lambda a, b: a + b\n```\n", ADDS),
    ("```python\nfrom add import add\nprint(add(1, 2))\n```\nwhere add.py is\n" + FENCE, ADDS),
    ("```Python\r\ndef add(a, b):\r\n    return a + b\r\n```\r\n", ADDS),
    (FENCE + "\n```\nadd(2, 3)  # 5\n```\n", HE),
    ("```python\n" + BODY + "```", HE),
    ("    return a + b\n```\n```python\nprint(add(1, 2))\n```\n", HE),
]:
    case("18", ADD, tests, response)
case("18", "def add(a, b):\n    return 0\n", ADDS, FENCE + "No, rather\n```python\ndef add(a, b):\n    return 0\n```")
case("18", "", ADDS, "```python\nprint(add(1, 2))\n```\n")
case("18", "print(int(input()) * 2)\n", {"inputs": ["4\n"], "outputs": ["8\n"]}, "```python\nprint(int(input()) * 2)\n```\nOutput:\n```\n8\n```")
case("18", "print(int(input()) * 2)\n", {"inputs": ["4\n"], "outputs": ["8\n"]}, "print(int(input()) * 2)\n```\n")

# 19. Names that the data set's harness imports.
LC = {"fn_name": "twoSum", "inputs": [[[2, 7, 11], 9]], "outputs": [[[0, 1]]]}


def live(name, *rows):
    return {"test_cases": [{"input": "\n".join(json.dumps(a) for a in args), "output": json.dumps(out), "testtype": "functional"} for args, out in rows], "fn_name": name}


def solution(signature, *body):
    return "class Solution:\n    def %s:\n" % signature + "".join("        %s\n" % line for line in body)


case("19", solution("twoSum(self, nums: List[int], target: int) -> List[int]", "seen = {}", "for i, n in enumerate(nums):", "    if target - n in seen: return [seen[target - n], i]", "    seen[n] = i"), LC)
for name, body, rows in [
    ("count(self, s: str) -> Dict[str, int]", ["return dict(Counter(s))"], [(["aab"], {"a": 2, "b": 1})]),
    ("least(self, xs: List[int], k: int) -> List[int]", ["heapify(xs)", "return [heappop(xs) for _ in range(k)]"], [([[3, 1, 2], 2], [1, 2])]),
    ("least2(self, xs: List[int], k: int) -> List[int]", ["return heapq.nsmallest(k, xs)"], [([[3, 1, 2], 2], [1, 2])]),
    ("place(self, xs: List[int], x: int) -> int", ["return bisect_left(xs, x)"], [([[1, 3, 5], 3], 1)]),
    ("root(self, n: int) -> int", ["return isqrt(n)"], [([17], 4)]),
    ("root2(self, n: int) -> int", ["return math.isqrt(n)"], [([17], 4)]),
    ("groups(self, xs: List[str]) -> List[List[str]]", ["d = defaultdict(list)", "for x in xs: d[len(x)].append(x)", "return list(d.values())"], [([["a", "b", "cc"]], [["a", "b"], ["cc"]])]),
    ("walk(self, n: int) -> List[int]", ["q = deque([n])", "out = []", "while q:", "    x = q.popleft()", "    out.append(x)", "    if x > 1: q.append(x // 2)", "return out"], [([5], [5, 2, 1])]),
    ("fib(self, n: int) -> int", ["@lru_cache(None)", "def g(n): return n if n < 2 else g(n - 1) + g(n - 2)", "return g(n)"], [([30], 832040)]),
    ("fib2(self, n: int) -> int", ["@cache", "def g(n): return n if n < 2 else g(n - 1) + g(n - 2)", "return g(n)"], [([30], 832040)]),
    ("sums(self, xs: List[int]) -> List[int]", ["return list(accumulate(xs))"], [([[1, 2, 3]], [1, 3, 6])]),
    ("perms(self, xs: List[int]) -> int", ["return len(set(permutations(xs)))"], [([[1, 1, 2]], 3)]),
    ("best(self, xs: List[int]) -> float", ["b = -inf", "for x in xs: b = max(b, x)", "return b"], [([[1, 5, 2]], 5)]),
    ("prod(self, xs: List[int]) -> int", ["return reduce(lambda a, b: a * b, xs, 1)"], [([[2, 3, 4]], 24)]),
    ("deep(self, n: int) -> int", ["def g(n): return 0 if n == 0 else 1 + g(n - 1)", "return g(n)"], [([20000], 20000)]),
    ("opt(self, x: Optional[int]) -> int", ["return x or 0"], [([None], 0)]),
    ("big(self, xs: List[int]) -> int", ["return sys.maxsize if not xs else xs[0]"], [([[3]], 3)]),
    ("words(self, s: str) -> List[str]", ["return re.findall('[a-z]+', s)"], [(["ab, cd"], ["ab", "cd"])]),
    ("letters(self, s: str) -> bool", ["return all(c in ascii_lowercase for c in s)"], [(["abc"], True)]),
    ("wrong(self, xs: List[int]) -> int", ["return nosuch(xs)"], [([[3]], 3)]),
    ("hcf(self, a: int, b: int) -> int", ["return gcd(a, b)"], [([12, 18], 6)]),
    ("copied(self, xs: List[List[int]]) -> List[List[int]]", ["ys = deepcopy(xs)", "ys[0][0] = 9", "return ys"], [([[[1]]], [[9]])]),
]:
    case("19", solution(name, *body), live(name.split("(")[0], *rows))
case("19", "def lengths(xs: List[str]) -> List[int]:\n    return [len(x) for x in xs]\n", live("lengths", ([["a", "bb"]], [1, 2])))
case("19", "n = int(input())\nprint(sum(accumulate(range(n))))\n", [{"input": "4\n", "output": "10\n", "testtype": "stdin"}])

# 20. Standard error is a place of its own.
ECHO = {"inputs": ["3 4\n", "5 6\n"], "outputs": ["7\n", "11\n"]}
for code in [
    "import sys\nprint('dbg', file=sys.stderr)\na, b = map(int, input().split())\nprint(a + b)",
    "import sys\nsys.stderr.write('x' * 100)\na, b = map(int, sys.stdin.readline().split())\nprint(a + b)",
    "import sys\nprint('one', file=sys.stderr, flush=True)\ndata = sys.stdin.read().split()\nprint(int(data[0]) + int(data[1]))",
    "import os, sys\nos.write(2, b'raw')\na, b = map(int, input().split())\nprint(a + b)",
    "import sys\na, b = map(int, input().split())\nprint(a, b, file=sys.stderr)\nprint(a + b)",
    "import warnings\nwarnings.warn('careful')\na, b = map(int, input().split())\nprint(a + b)",
    "import sys\nsys.stderr.buffer.write(b'bytes')\nsys.stderr.flush()\na, b = map(int, sys.stdin.buffer.read().split())\nprint(a + b)",
    "import logging\nlogging.warning('logged')\na, b = map(int, input().split())\nprint(a + b)",
    "import logging\nlogging.basicConfig(level=logging.DEBUG)\nlogging.debug('logged')\na, b = map(int, input().split())\nprint(a + b)",
    "import re\na, b = re.findall('\\d+', input())\nprint(int(a) + int(b))",
    "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()\na, b = map(int, input().split())\nprint(a + b)",
    "import sys\nfor i in range(1000):\n    print('line', i, file=sys.stderr)\na, b = map(int, input().split())\nprint(a + b)",
    "import os\na, b = map(int, os.read(0, 100).split())\nos.write(2, b'late')\nprint(a + b)",
    "import sys\nclass T:\n    def __del__(self): print('gone', file=sys.stderr)\nT()\na, b = map(int, input().split())\nprint(a + b)",
    "import sys\nsys.stdout, old = sys.stderr, sys.stdout\nprint('hidden')\nsys.stdout = old\na, b = map(int, input().split())\nprint(a + b)",
    "import contextlib, sys\nwith contextlib.redirect_stdout(sys.stderr):\n    print('hidden')\na, b = map(int, input().split())\nprint(a + b)",
    "import faulthandler, sys\nfaulthandler.enable()\na, b = map(int, input().split())\nprint(a + b)",
    "import threading, sys\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()\na, b = map(int, input().split())\nprint(a + b)",
    "import fileinput, sys\nprint('q', file=sys.stderr)\nfor line in fileinput.input():\n    a, b = map(int, line.split())\n    print(a + b)",
    "import sys\nprint('7', file=sys.stderr)\nprint('11', file=sys.stderr)",
    "import sys\na, b = map(int, input().split())\nprint(a + b, file=sys.stderr)",
    "import sys\na, b = map(int, input('? ').split())\nprint(a + b)",
]:
    case("20", code, ECHO)

# 21. Tests of more than calls with plain values.
STACK = """
class Stack:
    def __init__(self, items=()):
        self.items = list(items)
    def push(self, x):
        self.items.append(x)
        return self
    def pop(self):
        if not self.items:
            raise IndexError("empty")
        return self.items.pop()
    def __len__(self):
        return len(self.items)
    def __contains__(self, x):
        return x in self.items
    def __iter__(self):
        return iter(self.items)
    def __getitem__(self, i):
        return self.items[i]
    @property
    def top(self):
        return self.items[-1]
"""
BROKEN = STACK.replace("self.items.pop()", "self.items.pop(0)")
for code in (STACK, BROKEN):
    case("21", code, ["s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2\nassert s.pop() == 1"])
    case("21", code, ["s = Stack([1, 2, 3])\nassert len(s) == 3\nassert 2 in s and 9 not in s\nassert s[0] == 1\nassert s.pop() == 3\nassert list(s) == [1, 2]"])
    case("21", code, ["assert Stack().push(1).push(2).pop() == 2", "s = Stack([5, 6])\nassert s.top == 6\nassert s.items == [5, 6]\nassert s.pop() == 6\ntry:\n    s.pop()\n    s.pop()\n    assert False\nexcept IndexError:\n    pass"])
    case("21", code, ["s = Stack([1, 2])\nassert isinstance(s, Stack)\nassert [x * 2 for x in s] == [2, 4]\nassert s.pop() == 2"])
VECTOR = """
class Vector:
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)
    def __eq__(self, other):
        return isinstance(other, Vector) and (self.x, self.y) == (other.x, other.y)
    def __repr__(self):
        return "Vector(%r, %r)" % (self.x, self.y)
    def __mul__(self, k):
        return Vector(self.x * k, self.y * k)
"""
for code in (VECTOR, VECTOR.replace("self.y + other.y", "self.y - other.y")):
    case("21", code, ["v = Vector(1, 2) + Vector(3, 4)\nassert (v.x, v.y) == (4, 6)\nassert repr(v) == 'Vector(4, 6)'"])
    case("21", code, ["assert Vector(1, 2) + Vector(3, 4) == Vector(4, 6)\nassert Vector(1, 2) != Vector(1, 3)"])
    case("21", code, ["v = Vector(1, 2)\nv.x = 5\nassert str(v * 2) == 'Vector(10, 4)'\nassert (v + v).y == 4"])
SORT = "def f(xs):\n    xs.sort()\n"
for code in (SORT, "def f(xs):\n    sorted(xs)\n", "def f(xs):\n    xs[:] = sorted(xs)\n"):
    case("21", code, ["a = [3, 1, 2]\nf(a)\nassert a == [1, 2, 3]"])
    case("21", code, check("a = [3, 1, 2]\nassert candidate(a) is None\nassert a == [1, 2, 3]"))
case("21", "def f(d, k):\n    d[k] = d.get(k, 0) + 1\n    return d\n", ["d = {'a': 1}\nr = f(d, 'a')\nassert d == {'a': 2}\nassert r is d"])
case("21", "def f(d, k):\n    d = dict(d)\n    d[k] = d.get(k, 0) + 1\n    return d\n", ["d = {'a': 1}\nr = f(d, 'a')\nassert d == {'a': 1}\nassert r == {'a': 2} and r is not d"])
case("21", "def f(m):\n    m[:] = [list(r) for r in zip(*m[::-1])]\n", ["m = [[1, 2], [3, 4]]\nf(m)\nassert m == [[3, 1], [4, 2]]"])
case("21", "def f(m):\n    m[0].append(9)\n", ["row = [1]\nm = [row, [2]]\nf(m)\nassert row == [1, 9] and m == [[1, 9], [2]]"])
case("21", "def f(s):\n    s.discard(1)\n    s.add(7)\n", ["s = {1, 2}\nf(s)\nassert s == {2, 7}"])
COUNT = "n = 0\ndef nxt():\n    global n\n    n += 1\n    return n\ndef reset():\n    global n\n    n = 0\n"
case("21", COUNT, ["assert nxt() == 1", "assert nxt() == 2", "reset()", "assert nxt() == 1"])
case("21", "def nxt():\n    return 1\ndef reset():\n    pass\n", ["assert nxt() == 1", "assert nxt() == 2", "reset()", "assert nxt() == 1"])
case("21", COUNT, ["assert nxt() == 1", "assert nxt() == 2", "assert nxt() == 3"])
case("21", "store = {}\ndef put(k, v):\n    store[k] = v\ndef get(k):\n    return store.get(k)\n", ["assert put('a', 1) is None", "assert get('a') == 1", "assert get('b') is None"])
case("21", "def f(x):\n    n = 0\n    def g():\n        nonlocal n\n        n += x\n        return n\n    return g\n", ["c = f(2)\nassert c() == 2\nassert c() == 4\nd = f(5)\nassert d() == 5 and c() == 6"])
case("21", "def f(n):\n    for i in range(n):\n        yield i * i\n", ["assert list(f(4)) == [0, 1, 4, 9]", "g = f(2)\nassert next(g) == 0\nassert next(g) == 1"])
case("21", "def f(n):\n    for i in range(n):\n        yield i\n", ["assert list(f(4)) == [0, 1, 4, 9]"])
case("21", "def f():\n    a, b = 0, 1\n    while True:\n        yield a\n        a, b = b, a + b\n", ["from itertools import islice\nassert list(islice(f(), 6)) == [0, 1, 1, 2, 3, 5]"])
case("21", "def f(n):\n    return range(n)\n", ["assert f(3) == range(3)", "assert list(f(3)) == [0, 1, 2]"])
case("21", "def f(n):\n    return range(n)\n", ["assert f(3) == [0, 1, 2]"])
case("21", "def f(d):\n    return d.keys()\n", ["assert f({'a': 1}) == {'a'}", "assert list(f({'a': 1, 'b': 2})) == ['a', 'b']"])
case("21", "def f(d):\n    return d.values()\n", ["assert sorted(f({'a': 1, 'b': 0})) == [0, 1]"])
case("21", "def f(d):\n    return d.items()\n", ["assert dict(f({'a': 1})) == {'a': 1}", "assert sorted(f({'b': 1, 'a': 2})) == [('a', 2), ('b', 1)]"])
case("21", "from decimal import Decimal\ndef f(x):\n    return Decimal(x) / 4\n", ["from decimal import Decimal\nassert f(1) == Decimal('0.25')", "assert f(2) == 0.5"])
case("21", "from fractions import Fraction\ndef f(a, b):\n    return Fraction(a, b)\n", ["from fractions import Fraction\nassert f(2, 4) == Fraction(1, 2)\nassert f(1, 3) + Fraction(2, 3) == 1", "assert f(2, 4) == 0.5"])
case("21", "from fractions import Fraction\ndef f(a, b):\n    return Fraction(a, b + 1)\n", ["from fractions import Fraction\nassert f(2, 4) == Fraction(1, 2)"])
case("21", "import json\ndef f(s):\n    return json.loads(s)\n", check("try:\n    candidate('{')\n    assert False\nexcept ValueError:\n    pass\nassert candidate('[1]') == [1]"))
case("21", "import json\ndef f(s):\n    return json.loads(s)\n", check("import json\ntry:\n    candidate('{')\n    assert False\nexcept json.JSONDecodeError:\n    pass\nassert candidate('[1]') == [1]"))
case("21", "class Bad(ValueError):\n    pass\ndef f(x):\n    if x < 0:\n        raise Bad('negative')\n    return x\n", check("try:\n    candidate(-1)\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'negative'\nassert candidate(1) == 1"))
case("21", "class Bad(Exception):\n    pass\ndef f(x):\n    if x < 0:\n        raise Bad('negative')\n    return x\n", ["try:\n    f(-1)\n    assert False\nexcept Bad as e:\n    assert 'neg' in str(e)\nassert f(1) == 1"])
case("21", "class Bad(Exception):\n    pass\ndef f(x):\n    return x\n", ["try:\n    f(-1)\n    assert False\nexcept Bad as e:\n    assert 'neg' in str(e)\nassert f(1) == 1"])
case("21", "from collections import deque\ndef f(xs):\n    return deque(xs)\n", ["from collections import deque\nassert f([1, 2]) == deque([1, 2])", "assert list(f([3])) == [3]"])
case("21", "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(x, y):\n    return P(x, y)\n", ["assert f(1, 2) == (1, 2)", "p = f(3, 4)\nassert p.x == 3 and p.y == 4"])
case("21", "def f(g, xs):\n    return [g(x) for x in xs]\n", ["assert f(lambda x: x + 1, [1, 2]) == [2, 3]", "assert f(str, [1, 2]) == ['1', '2']"])
case("21", "def f(g, xs):\n    return [g(g(x)) for x in xs]\n", ["assert f(lambda x: x + 1, [1, 2]) == [2, 3]"])
case("21", "import datetime\ndef f(y, m, d):\n    return datetime.date(y, m, d) + datetime.timedelta(days=1)\n", ["import datetime\nassert f(2024, 2, 28) == datetime.date(2024, 2, 29)", "assert f(2023, 12, 31).year == 2024"])
case("21", "from enum import IntEnum\nclass C(IntEnum):\n    A = 1\ndef f():\n    return C.A\n", ["assert f() == 1"])
case("21", "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n    y: int = 0\n", ["p = Point(1)\nassert p.x == 1 and p.y == 0\nassert p == Point(1, 0)\nassert repr(p) == 'Point(x=1, y=0)'"])
case("21", "class Timer:\n    def __enter__(self):\n        self.on = True\n        return self\n    def __exit__(self, *a):\n        self.on = False\n", ["with Timer() as t:\n    assert t.on\nassert not t.on"])
case("21", "class A:\n    count = 0\n    def __init__(self):\n        A.count += 1\n    @staticmethod\n    def twice(x):\n        return 2 * x\n    @classmethod\n    def make(cls):\n        return cls()\n", ["A()\nA.make()\nassert A.count == 2\nassert A.twice(4) == 8"])
LIMIT = "import resource, sys\nresource.setrlimit(resource.RLIMIT_STACK, (1 << 29, -1))\nsys.setrecursionlimit(10 ** 6)\nprint(int(input()) + 1)\n"
case("21", LIMIT, {"inputs": ["1\n"], "outputs": ["2\n"]})
case("21", "import resource, sys\nresource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\ndef f(x):\n    return x\n", ["assert f(3) == 3"])

# 22. What ends in time and what does not: little sleep and little work against too much of either, or of both.
SPIN = "import time\ndef spin(s):\n    end = time.process_time() + s\n    while time.process_time() < end: pass\n"
for body in [
    "time.sleep(0.3)",
    "spin(0.2)",
    "spin(0.1)\n    time.sleep(0.3)",
    "for _ in range(20): time.sleep(0.02)",
    "for _ in range(20): spin(0.007); time.sleep(0.02)",
    "import threading\n    t = threading.Thread(target=spin, args=(0.1,))\n    t.start()\n    t.join()",
    "import threading\n    e = threading.Event()\n    e.wait(0.3)",
    "import queue\n    try:\n        queue.Queue().get(timeout=0.2)\n    except queue.Empty:\n        pass",
    "import asyncio\n    asyncio.run(asyncio.sleep(0.2))",
    "sorted(range(10 ** 6), key=lambda n: -n)",
]:
    case("22", SPIN + "def f(x):\n    " + body + "\n    return x + 1\n", ["assert f(1) == 2"])
for body in [
    "while True: pass",
    "time.sleep(1000)",
    "while True: time.sleep(0.01)",
    "while True: spin(0.007); time.sleep(0.093)",
    "while True: spin(0.004); time.sleep(0.05)",
    "while True: spin(0.02); time.sleep(0.18)",
    "while True: spin(0.001); time.sleep(0.014)",
    "while True: spin(0.1); time.sleep(1.4)",
    "import threading\n    threading.Event().wait()",
    "import threading\n    l = threading.Lock()\n    l.acquire()\n    l.acquire()",
    "import queue\n    queue.Queue().get()",
    "import select\n    select.select([], [], [])",
]:
    case("22", SPIN + "def f(x):\n    " + body + "\n    return x + 1\n", ["assert f(1) == 2"])

# 23. What was raised.
for code in [
    "def f(x):\n    return x / 0",
    "def f(x):\n    return {}[x]",
    "def f(x):\n    return [][x]",
    "def f(x):\n    return x + 'a'",
    "def f(x):\n    return x.nosuch",
    "def f(x):\n    return nosuch",
    "def f(x):\n    raise ValueError('bad value: %d' % x)",
    "class Own(Exception):\n    pass\ndef f(x):\n    raise Own('mine', x)",
    "def f(x):\n    raise KeyError",
    "def f(x):\n    assert x > 10, 'too small'",
    "def f(x):\n    return int('abc')",
    "def f():\n    return 1",
    "def f(x):\n    import nosuchmodule",
    "def f(x):\n    return f(x)",
    "def f(x):\n    raise Exception('line one\\nline two')",
    "def f(x):\n    return 'a'.encode('nosuch')",
    "import nosuchmodule\ndef f(x):\n    return x",
    "def f(x) return x",
    "def f(x):\nreturn x",
    "x = 1 / 0\ndef f(x):\n    return x",
    "def f(x):\n    raise OSError(2, 'No such file')",
    "def f(x):\n    raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'why')",
    "def f(x):\n    return bytes([300])",
]:
    case("23", code, ["assert f(3) == 4"])
case("23", "n = int(input())\nprint(1 / n)", {"inputs": ["0\n"], "outputs": ["1\n"]})
case("23", "print(input())\nprint(input())", {"inputs": ["0\n"], "outputs": ["1\n"]})


def run(program, stdin="", seconds=10):
    try:
        done = subprocess.run([sys.executable, "-I", "-c", program], input=stdin, capture_output=True, text=True, timeout=seconds, cwd="/")
    except subprocess.TimeoutExpired:
        return False, "", "timeout"
    return done.returncode == 0, done.stdout, done.stderr


STRICT = """
def _strict(g):
    def call(*a, **k):
        try:
            return g(*a, **k)
        except (StopIteration, StopAsyncIteration, GeneratorExit) as error:
            raise RuntimeError("ended an iteration") from error
    return call
"""


def lines(text):
    return [line.rstrip() for line in text.rstrip().split("\n")]


def label(code, tests):
    """(right, standard error)"""
    marker = "print('\\nwhole ' + 'run')"
    if isinstance(tests, list) and all(isinstance(t, str) for t in tests):
        ok, out, err = run("\n".join([code] + tests + [marker]))
        return ok and "whole run" in out, err
    if isinstance(tests, dict) and "test" in tests:
        def whole(call):
            return "\n".join([tests["prompt"] if not re.search(r"(?m)^(def|class|import|from)\b|^\w+ =", code) else "", code, tests["test"], STRICT, "check(%s)" % call, marker])
        ok, out, err = run(whole(tests["entry_point"]))
        if ok and not re.search("StopIteration|GeneratorExit", tests["test"]):
            ok, out, err = run(whole("_strict(%s)" % tests["entry_point"]))
        return ok and "whole run" in out, err
    rows = tests["test_cases"] if isinstance(tests, dict) and "test_cases" in tests else tests
    if isinstance(rows, dict):
        rows = [{"input": i, "output": o} for i, o in zip(rows["inputs"], rows["outputs"])]
    name = tests.get("fn_name") if isinstance(tests, dict) else None
    for row in rows:
        if name is None:
            ok, out, err = run(PRELUDE + code, row["input"])
            right = ok and lines(out) == lines(row["output"])
        else:
            args = row["input"] if isinstance(row["input"], list) else [json.loads(line) for line in row["input"].split("\n")]
            want = row["output"] if not isinstance(row["output"], str) else json.loads(row["output"])
            wants = [want, want[0]] if isinstance(want, list) and len(want) == 1 else [want]
            call = "\nimport json as _json\n_f = getattr(Solution(), %r) if 'Solution' in globals() else %s\n" % (name, name)
            ok, out, err = run(PRELUDE + code + call + "print('\\n' + _json.dumps(_f(*%r)))" % (args,))
            right = ok and json.loads(out.strip().split("\n")[-1]) in wants
        if not right:
            return False, err
    return True, ""


def main():
    rows = []
    for kind, code, tests, response in CASES:
        right, err = label(code, tests)
        row = {"kind": kind, "response": response if response is not None else "```python\n%s```\n" % code, "reference": json.dumps(tests), "right": right}
        if kind == "23":
            # The last line that names an exception, as the interpreter prints it.
            lines = [re.sub(r"^__main__\.", "", line) for line in err.split("\n")]
            row["error"] = [line for line in lines if re.match(r"(\w*Error|Exception|Own)\b", line)][-1]
            # Whose text differs between versions.
            row["error"] = re.sub("^(SyntaxError|IndentationError): .*", r"\1", row["error"])
        rows.append(row)
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")


if __name__ == "__main__":
    main()
