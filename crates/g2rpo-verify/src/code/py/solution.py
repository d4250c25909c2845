"""Runs untrusted code, in a process that exists for it alone.

Nothing here is protected from that code, and nothing needs to be: the process holds no expected value
and no verdict, and what it writes is taken as what the code returned.
"""

import atexit
import marshal
import os
import sys
import threading
import traceback
import types


class _LoadFailed(Exception):
    pass


def _describe(error):
    try:
        text = str(error)[:300]
    except BaseException:
        text = ""
    return encode((type(error).__name__, text.encode("utf-8", "replace").decode()), 1 << 16)


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


def load(code):
    """The module that a code object defines."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    exec(code, module.__dict__)
    return module


def _load(source, compiled, keep):
    try:
        return load(code_of(source, compiled, keep))
    except BaseException as error:
        raise _LoadFailed from error


def find(module, name):
    """A function of the module or, as on LeetCode, a method of its class Solution."""
    function = module.__dict__.get(name)
    if function is None:
        solution = module.__dict__.get("Solution")
        function = getattr(solution(), name, None) if isinstance(solution, type) else None
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
        return write_frame(b"E", _describe(error))
    write_frame(b"V", data)


def run_call(source, compiled, name, arguments, limit):
    try:
        module = _load(source, compiled, compiled is None)
    except _LoadFailed as error:
        write_frame(b"L", _describe(error.__cause__))
    else:
        call(module, name, arguments, limit)
    os._exit(0)


def serve_calls(source, compiled, limit):
    """Loads once and answers calls until the pipe ends."""
    try:
        module = _load(source, compiled, False)
    except _LoadFailed as error:
        write_frame(b"L", _describe(error.__cause__))
        os._exit(0)
    write_frame(b"R")
    while True:
        message = read_message(REQUESTS)
        if message is None:
            os._exit(0)
        name, arguments = marshal.loads(message)
        call(module, name, arguments, limit)


def run_program(source, compiled):
    """Runs `source` as a program, and ends as the interpreter would."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    status = 0
    try:
        exec(code_of(source, compiled, compiled is None), module.__dict__)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        status = status or 1
    os._exit(status & 0xFF)
