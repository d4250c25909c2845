"""The interpreter that waits, with everything imported, and forks.

Three generations. The zygote never reads a job: when one arrives it forks a runner, so nothing of one
completion is ever in the memory of another. The runner reads one job, forks a test process for each
test and reports what became of it; it runs no untrusted code either. The test process confines itself
for good and runs the code.
"""

import builtins
import gc
import os
import select
import sys


def runner(zygote, filters):
    """Serves one completion."""
    die_with(zygote)
    parent = os.getpid()
    session = None
    session_input = None

    def start(main, *arguments, stdin=None, stdout=False, talk=False):
        nonlocal session_input
        output, inner_output = os.pipe()
        pipes = {inner_output: 1 if stdout else RESULTS}
        inner = [inner_output]
        if stdin is not None:
            file = os.memfd_create("stdin")
            write_all(file, stdin)
            os.lseek(file, 0, os.SEEK_SET)
            pipes[file] = 0
            inner.append(file)
        if talk:
            inner_input, session_input = os.pipe()
            pipes[inner_input] = REQUESTS
            inner.append(inner_input)
        pid = os.fork()
        if pid == 0:
            try:
                confine(pipes, parent, cpu_seconds, filters)
                main(*arguments)
            finally:
                os._exit(98)
        for fd in inner:
            os.close(fd)
        limit = output_bytes if stdout else result_bytes + 64
        return Watched(pid, output, cpu_seconds, wall_seconds, stretch, limit)

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
        if report[0] != "frame":
            session = None
            end_session()
        return report

    while True:
        message = read_message(REQUESTS)
        if message is None:
            os._exit(1)
        request = decode(message)
        name = request[0]
        report = ("done", 0, 0, b"")
        if name == "open":
            _, source, *limits = request
            cpu_seconds, wall_seconds, stretch, output_bytes, result_bytes = limits
        elif name == "call":
            report = start(run_call, source, request[1], request[2], result_bytes).everything()
        elif name == "program":
            report = start(run_program, source, stdin=request[1], stdout=True).everything()
        elif name == "serve":
            end_session()
            session = start(serve_calls, source, result_bytes, talk=True)
            report = next_frame()
        elif name in ("judge", "convert"):
            end_session()
            main = judge if name == "judge" else convert
            session = start(main, *request[1:], talk=True)
            report = next_frame()
        elif name == "say":
            if session is None:
                report = ("exit", 0, 0, b"")
            elif not session.is_silent():
                end_session()
                report = ("extra", 0, 0, b"")
            else:
                try:
                    write_message(session_input, request[1])
                except BrokenPipeError:
                    pass
                report = next_frame()
        elif name == "close":
            end_session()
        write_message(RESULTS, encode(report, 1 << 28))
        if name == "close":
            os._exit(0)


_SAMPLE = """
import collections
import math

def f(items, count):
    numbers = collections.Counter(str(item) for item in items)
    best = sorted(numbers.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = {name: [n, n / 2, math.sqrt(n)] for name, n in best[:count]}
    text = ", ".join(f"{name}: {n}" for name, n in best)
    return shown, set(text.split()), sum(range(count)) % 7, text.upper()[::-1] or None
"""


def _warm_up():
    """Does what each test will do, until the interpreter has adapted its code and filled its caches.

    A page that a test changes is copied for it. What is done here need not be done, and copied, in each.
    """
    for _ in range(20):
        module = load(_SAMPLE)
        args, kwargs = decode(encode((([3, 1, 3], 2), {}), 1 << 10))
        encode(find(module, "f")(*args, **kwargs), 1 << 10)
    del sys.modules[module.__name__]
    die_with(os.getppid())


def zygote():
    os.environ.clear()
    if hasattr(sys, "set_int_max_str_digits"):
        # Honest solutions print big numbers; time is bounded anyway.
        sys.set_int_max_str_digits(0)
    # Site, which is switched off, would define these.
    builtins.exit = builtins.quit = sys.exit
    filters, preload, path = decode(read_message(REQUESTS))
    sys.path.extend(path)
    for name in preload:
        __import__(name)
    # The default is the limit of the main thread's stack, of which few fit the memory limit.
    threading.stack_size(8 << 20)
    write_message(RESULTS, b"ready")
    poll = select.poll()
    poll.register(REQUESTS, select.POLLIN)
    _warm_up()
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
                runner(parent, filters)
            finally:
                os._exit(97)
        _, status = os.waitpid(pid, 0)
        if status != 0:
            # A message may be half read: only a fresh start is safe.
            os._exit(96)


zygote()
