"""The interpreter that waits, with everything imported, and forks.

Three generations. The zygote never reads a job: when one arrives it forks a runner, so nothing of one
completion is ever in the memory of another. The runner reads one job, forks a test process for each
test and reports what became of it; it runs no untrusted code either. The test process confines itself
for good and runs the code.
"""

import builtins
import collections.abc
import functools
import gc
import marshal
import math
import os
import random
import resource
import select
import sys
import threading


def runner(next_request, answer, filter):
    """Serves one completion."""
    parent = os.getpid()
    session = None
    session_input = None
    # What the first test to load the source left.
    compiled = None

    def start(main, *arguments, places=None, output=RESULTS, last=None):
        reader, inner = os.pipe()
        places = {0: 0, 1: 1, RESULTS: 1, REQUESTS: last, **(places or {}), output: inner}
        pid = os.fork()
        if pid == 0:
            try:
                confine(places, parent, cpu_limit, filter)
                main(*arguments)
            finally:
                os._exit(98)
        os.close(inner)
        limit = output_bytes if output == 1 else result_bytes + 64
        return Watched(pid, reader, cpu_seconds, wall_seconds, stretch, limit)

    def run(main, *arguments, **options):
        """A process that loads the source and runs one test."""
        nonlocal compiled
        if compiled is not None:
            return start(main, source, compiled, *arguments, **options).everything()
        keep = os.memfd_create("compiled")
        report = start(main, source, None, *arguments, last=keep, **options).everything()
        os.lseek(keep, 0, os.SEEK_SET)
        compiled = read_message(keep)
        os.close(keep)
        return report

    def begin_session(main, *arguments):
        nonlocal session, session_input
        end_session()
        inner, session_input = os.pipe()
        session = start(main, *arguments, last=inner)
        os.close(inner)
        return next_frame()

    def end_session():
        nonlocal session, session_input
        if session is not None:
            session.kill()
            session = None
        if session_input is not None:
            os.close(session_input)
            session_input = None

    def next_frame():
        nonlocal session
        report = session.frame()
        if report[0] != b"frame":
            session = None
            end_session()
        return report

    while True:
        request = next_request()
        name = request[0]
        report = (b"done", 0, 0, b"")
        if name == "open":
            _, source, with_prelude, *limits = request
            use_prelude(with_prelude)
            cpu_seconds, wall_seconds, stretch, output_bytes, result_bytes = limits
            ticks = math.ceil(cpu_seconds)
            cpu_limit = (ticks + 1, ticks + 2)
        elif name == "call":
            report = run(run_call, request[1], request[2], result_bytes)
        elif name == "program":
            stdin, raised = os.memfd_create("stdin"), os.memfd_create("raised")
            write_all(stdin, request[1])
            os.lseek(stdin, 0, os.SEEK_SET)
            report = run(run_program, places={0: stdin, RESULTS: raised}, output=1)
            if report[0] == b"exit" and report[1] != 0:
                report = (*report[:3], os.pread(raised, 1 << 16, 0))
            os.close(stdin)
            os.close(raised)
        elif name == "serve":
            report = begin_session(serve_calls, source, compiled, result_bytes)
        elif name == "judge":
            report = begin_session(judge, *request[1:])
        elif name == "convert":
            report = begin_session(convert, *request[1:])
        elif name == "say":
            if session is None:
                report = (b"exit", 0, 0, b"")
            elif not session.is_silent():
                end_session()
                report = (b"extra", 0, 0, b"")
            else:
                try:
                    write_message(session_input, request[1])
                except BrokenPipeError:
                    pass
                report = next_frame()
        elif name == "close":
            end_session()
        answer(report)
        if name == "close":
            return


def _next_request():
    message = read_message(REQUESTS)
    if message is None:
        os._exit(1)
    return marshal.loads(message)


def _answer(report):
    """How a test ended, a number that belongs to it, milliseconds charged, and what the test wrote."""
    how, number, charge, data = report
    write_message(RESULTS, b"%s %d %d\n%s" % (how, number, charge, data))


_SAMPLE = """
import collections
import heapq
import itertools
import math
import re
from typing import Dict, List, Optional

LIMIT = 10 ** 9 + 7


class Stack:
    def __init__(self, items=()):
        self.items = list(items)

    def push(self, item):
        self.items.append(item)

    def pop(self):
        return self.items.pop() if self.items else None


def words(text: str) -> List[str]:
    found = [word.strip(".,").lower() for word in text.replace("-", " ").split()]
    return [word for word in found if word.isalpha() and not word.startswith("x")]


def search(items, wanted):
    low, high = 0, len(items) - 1
    while low <= high:
        middle = (low + high) // 2
        if items[middle] == wanted:
            return middle
        if items[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1


def f(items, count: int, text: Optional[str] = "") -> Dict:
    numbers = collections.Counter(items)
    groups = collections.defaultdict(list)
    for i, item in enumerate(items):
        groups[str(item)].append(i)
    best = sorted(numbers.items(), key=lambda pair: (-pair[1], pair[0]))
    heap = []
    for n in items:
        heapq.heappush(heap, (n, "%d" % n))
    queue = collections.deque(items)
    stack = Stack()
    while queue:
        stack.push(queue.popleft() * 2 % LIMIT)
    table = [[0] * count for _ in range(count)]
    for i in range(1, count):
        for j in range(1, count):
            table[i][j] = max(table[i - 1][j], table[i][j - 1]) + (i == j)
    try:
        place = items.index(max(items) + 1)
    except ValueError:
        place = search(sorted(set(items)), items[0])
    shown = {name: [n, n / 2, round(math.sqrt(n), 3)] for name, n in best[:count]}
    joined = ", ".join(f"{name}: {n}" for name, n in best)
    pairs = list(zip(items, itertools.accumulate(items)))
    digits = "".join(re.findall("[0-9]", joined))[::-1].upper()
    return {
        "shown": shown,
        "words": set(words(text)),
        "rest": (place, stack.pop(), heapq.heappop(heap)[0], all(items), any(items)),
        "last": [min(items), sum(table[-1]), ord("a"), chr(98), abs(-1), pairs, digits, None],
    }
"""


def _warm_up(filter):
    """Does what each completion and each test will do, until the interpreter has adapted its code and
    filled its caches.

    A page that a process changes is copied for it. What is done here need not be done, and copied, in
    each.
    """
    abstract = [kind for kind in vars(collections.abc).values() if isinstance(kind, type)]
    for kind in (int, float, complex, bool, str, bytes, list, tuple, set, frozenset, dict, range, collections.Counter, collections.defaultdict, collections.deque):
        for base in abstract:
            issubclass(kind, base)
    arguments = marshal.dumps((([3, 1, 3], 2, "a b-c"), {}))
    compiled = marshal.dumps(compile(_SAMPLE, "<solution>", "exec"))
    # Python adapts the code of a function when it is called for the eighth time.
    for _ in range(12):
        module = load(code_of(_SAMPLE, compiled, False))
        args, kwargs = marshal.loads(arguments)
        encode(find(module, "f")(*args, **kwargs), 1 << 16)
    del sys.modules[module.__name__]
    requests = [("open", _SAMPLE, False, 1.0, 1.0, 16, 1 << 16, 1 << 16)]
    requests += 9 * [("call", "f", arguments)]
    requests.append(("close",))
    runner(iter(requests).__next__, lambda report: None, filter)
    die_with(os.getppid())
    random.seed(0)


def _set_limit(set_limit, kind, limits):
    """`resource.setrlimit`, except that more stack than there may be means as much as there may be.

    Solutions ask for it so that they can recurse deeply, and would end with an error.
    """
    if kind == resource.RLIMIT_STACK:
        hard = resource.getrlimit(kind)[1]
        limits = [hard if not 0 <= limit <= hard else limit for limit in limits]
    return set_limit(kind, limits)


def zygote():
    os.environ.clear()
    if hasattr(sys, "set_int_max_str_digits"):
        # Honest solutions print big numbers; time is bounded anyway.
        sys.set_int_max_str_digits(0)
    # Site, which is switched off, would define these.
    builtins.exit = builtins.quit = sys.exit
    resource.setrlimit = functools.partial(_set_limit, resource.setrlimit)
    program, preload, prelude, path = marshal.loads(read_message(REQUESTS))
    filter = Filter(program) if program is not None else None
    sys.path.extend(path)
    for name in preload:
        __import__(name)
    prepare(prelude)
    # The default is the limit of the main thread's stack, of which few fit the memory limit.
    threading.stack_size(8 << 20)
    write_message(RESULTS, b"ready")
    poll = select.poll()
    poll.register(REQUESTS, select.POLLIN)
    _warm_up(filter)
    gc.collect()
    gc.freeze()
    while True:
        ((_, events),) = poll.poll()
        if not events & select.POLLIN:
            os._exit(0)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                die_with(parent)
                runner(_next_request, _answer, filter)
                os._exit(0)
            finally:
                os._exit(97)
        _, status = os.waitpid(pid, 0)
        if status != 0:
            # A message may be half read: only a fresh start is safe.
            os._exit(96)


zygote()
