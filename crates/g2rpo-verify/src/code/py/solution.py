"""Runs untrusted code, in a process that exists for it alone.

Nothing here is protected from that code, and nothing needs to be: the process holds no expected value
and no verdict, and what it writes is taken as what the code returned.
"""

import atexit
import builtins
import io
import marshal
import os
import sys
import threading
import types


class LoadFailed(Exception):
    pass


def describe(error):
    """Name and text, and for tests that catch it: its classes, arguments and attributes, as far as they are plain."""
    try:
        text = str(error)[:300].encode("utf-8", "replace").decode()
    except BaseException:
        text = ""
    kind = type(error)
    lineage = [(str(base.__module__)[:100], base.__qualname__[:100]) for base in kind.__mro__[:-2]][:32]
    details = [lineage, [], []]
    try:
        attributes = [(k, v) for k, v in vars(error).items() if type(k) is str and _is_plain(v)]
        if kind is SystemExit or kind is StopIteration:
            attributes.append(("code" if kind is SystemExit else "value", error.args[0] if error.args else None))
        details[1:] = [v if _is_plain(v) else repr(v)[:300] for v in error.args][:16], attributes[:16]
    except BaseException:
        pass
    try:
        return encode((kind.__name__[:100], text, details), 1 << 16)
    except Unsupported:
        return encode((kind.__name__[:100], text, [lineage, [], []]), 1 << 16)


def _is_plain(value):
    try:
        encode(value, 1 << 12)
    except Unsupported:
        return False
    return True


def code_of(source, compiled, keep):
    """The code object of `source`, from `compiled` where an earlier test of the completion made that.

    With `keep` it is left for the later tests, before any of it runs. This test reads it back like them:
    the order of a set of constants may depend on the way.
    """
    if compiled is not None:
        return marshal.loads(compiled)
    code = compile(source, "<solution>", "exec")
    try:
        compiled = marshal.dumps(code)
        if keep:
            write_message(COMPILED, compiled)
    except (OSError, ValueError):
        # Too long, or nested too deeply: then each test compiles for itself.
        pass
    if keep:
        os.close(COMPILED)
    return code if compiled is None else marshal.loads(compiled)


# What stands in a module before its code runs, of a solution whose data set says so and of others.
_prelude = {}
_before = {}


def prepare(source):
    """Runs the imports that some data sets put before every solution, once for all."""
    exec(source, _prelude)
    if "numpy" in sys.modules:
        _prelude["np"] = sys.modules["numpy"]
    del _prelude["__builtins__"]
    # They set it for the solution alone.
    _prelude["__limit__"] = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)


def use_prelude(wanted):
    global _before
    _before = dict(_prelude) if wanted else {}
    sys.setrecursionlimit(_before.pop("__limit__", 1000))


def load(code):
    """The module that a code object defines."""
    module = types.ModuleType("solution")
    module.__dict__.update(_before)
    sys.modules["solution"] = module
    exec(code, module.__dict__)
    return module


def load_solution(source, compiled, keep):
    try:
        return load(code_of(source, compiled, keep))
    except BaseException as error:
        raise LoadFailed from error


def find(module, name):
    """A function of the module or, as on LeetCode, a method of its class Solution."""
    function = module.__dict__.get(name)
    solution = module.__dict__.get("Solution")
    # What the prelude imports is not the solution's.
    is_own = function is not None and function is not _before.get(name)
    if not is_own and isinstance(solution, type):
        function = getattr(solution(), name, None)
    return function


def call(module, name, arguments, limit):
    """Calls once and writes one frame about it."""
    try:
        function = find(module, name)
        if function is None:
            return write_frame(b"N")
        args, kwargs = marshal.loads(arguments)
        data = encode(function(*args, **kwargs), limit)
    except Unsupported as error:
        return write_frame(b"U", encode(str(error)[:300], 1 << 16))
    except BaseException as error:
        return write_frame(b"E", describe(error))
    write_frame(b"V", data)


def run_call(source, compiled, name, arguments, limit):
    try:
        module = load_solution(source, compiled, compiled is None)
    except LoadFailed as error:
        write_frame(b"L", describe(error.__cause__))
    else:
        call(module, name, arguments, limit)
    os._exit(0)


_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/proc/self/fd/0": 0, "/proc/self/fd/1": 1}


def _open(file, *args, _open=open, **kwargs):
    """`open`, for which the streams have their usual names where there is no /dev."""
    place = _STANDARD.get(file) if isinstance(file, str) else None
    if place is None:
        return _open(file, *args, **kwargs)
    return _open(os.dup(place), *args, **kwargs)


def run_program(source, compiled):
    """Runs `source` as a program, and ends as the interpreter would."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)
    builtins.open = io.open = _open
    module = types.ModuleType("__main__")
    module.__dict__.update(_before)
    # Among the imports that stand before a solution is the one of `open`.
    module.open = _open
    sys.modules["__main__"] = module
    status = 0
    try:
        exec(code_of(source, compiled, compiled is None), module.__dict__)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        # Its place is a file that the runner looks into when the status says so.
        write_frame(b"E", describe(error))
        status = 1
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        status = status or 1
    os._exit(status & 0xFF)
