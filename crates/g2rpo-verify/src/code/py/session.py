"""The solution's side of a session: its objects stay here, and what is asked of them is done here.

As in `solution.py`, nothing here is protected from the code under test.
"""

import builtins
import enum
import marshal
import operator
import os
import sys


class _Answered(Exception):
    """A callback ended; the argument is what it returned."""


class _Callback:
    """A function of the tests. It can be called, and nothing else."""

    def __init__(self, session, number):
        self._session, self._number = session, number

    def __call__(self, *args):
        return self._session.call_back(self._number, args)


class _Iterator(_Callback):
    def __iter__(self):
        return self

    def __next__(self):
        return self._session.call_back(self._number, ())


_END = object()


def _next(iterator):
    try:
        return next(iterator)
    except StopIteration:
        return _END


def _send(generator, value):
    try:
        return generator.send(value)
    except StopIteration:
        return _END


def _equal(a, b):
    # An equality that holds with everything is none.
    return bool(a == b) and not (_holds(a) or _holds(b))


def _holds(value):
    try:
        return bool(value == object())
    except Exception:
        # It looks for what only its own kind has.
        return False


_OPERATIONS = {
    "call": lambda function, args, kwargs: function(*args, **kwargs),
    "getattr": getattr,
    "setattr": setattr,
    "delattr": delattr,
    "next": _next,
    "send": _send,
    "hash": hash,
    "issubclass": issubclass,
    "eq": _equal,
    "isinstance": isinstance,
    "enter": lambda value: type(value).__enter__(value),
    "exit": lambda value: type(value).__exit__(value, None, None, None),
    "len": len,
    "iter": iter,
    "bool": bool,
    "str": str,
    "repr": repr,
    "round": round,
    "reversed": reversed,
    "divmod": divmod,
}
_OPERATORS = (
    "getitem setitem delitem contains lt le gt ge add sub mul truediv floordiv mod pow and_ or_ xor "
    "lshift rshift matmul neg pos abs invert iadd isub imul itruediv ifloordiv imod ipow iand ior ixor ilshift "
    "irshift imatmul"
)
_SCALARS = (int, float, complex, str, bytes)
_OPERATIONS.update((name, getattr(operator, name)) for name in _OPERATORS.split())


class Session:
    def __init__(self, module, limit):
        self.module, self.limit = module, limit
        self.objects = []
        self.numbers = {}

    def run(self):
        """Answers requests until the pipe ends or, inside of a call back, until that has ended."""
        while True:
            message = read_message(REQUESTS)
            if message is None:
                os._exit(0)
            operation, operands = marshal.loads(message)
            if operation == "return":
                raise _Answered(resolve(operands, self._special))
            if operation == "raise":
                raise getattr(builtins, operands[0], RuntimeError)(operands[1])
            self._answer(operation, operands)

    def call_back(self, number, args):
        write_frame(b"C", encode((number, args), self.limit, self._typed))
        try:
            self.run()
        except _Answered as answer:
            return answer.args[0]

    def _answer(self, operation, operands):
        containers = []
        before = _snapshot(operands)
        try:
            operands = resolve(operands, self._special, containers)
            result = _OPERATIONS[operation](*operands)
            numbering = Numbering(self._object)
            numbering.grows = False
            numbering.known = {id(container): i for i, container in enumerate(containers)}
            changes = []
            if containers and _snapshot(operands) != before:
                changes = [(i, contents(container)) for i, container in enumerate(containers)]
            data = encode((result, changes), self.limit, numbering)
        except _NoFunction:
            return write_frame(b"N")
        except Unsupported as error:
            return write_frame(b"U", encode(str(error)[:300], 1 << 16))
        except _Answered:
            raise
        except BaseException as error:
            return write_frame(b"E", describe(error))
        write_frame(b"V", data)

    def _typed(self, value):
        return to_parts(value, type(value)) or self._object(value, type(value))

    def _object(self, value, kind):
        """Anything that does not cross stays here under a number."""
        if value is _END:
            return "end", ()
        if kind in _SEQUENCES or kind in _MAPPINGS or kind.__module__ == "numpy" and getattr(value, "shape", 0) == ():
            return None
        is_member = issubclass(kind, enum.Enum) and isinstance(value, (int, str))
        if not is_member and issubclass(kind, _SCALARS) and any(kind.__eq__ is base.__eq__ for base in _SCALARS):
            return None
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        if is_member:
            base = int if isinstance(value, int) else str
            plain = int(value) if base is int else str.__str__(value)
            return "member", (number, kind.__name__, value.name, plain)
        is_generator = kind.__name__ == "generator"
        return "object", (number, kind.__name__, is_generator)

    def _special(self, name, parts):
        if name == "object":
            return self.objects[parts[0]]
        if name == "name":
            function = find(self.module, parts[0])
            if function is None:
                raise _NoFunction
            return function
        if name == "builtin":
            return getattr(builtins, parts[0])
        return {"callback": _Callback, "iterator": _Iterator}[name](self, parts[0])


class _NoFunction(Exception):
    pass


def _snapshot(operands):
    """Bytes that differ when a container among the operands was changed; None where that cannot be told."""
    try:
        return marshal.dumps(operands, 2)
    except ValueError:
        return None


def serve_calls(source, compiled, limit):
    """Loads once and answers what the tests ask, until the pipe ends."""
    try:
        module = load_solution(source, compiled, False)
    except LoadFailed as error:
        write_frame(b"L", describe(error.__cause__))
        os._exit(0)
    write_frame(b"R")
    Session(module, limit).run()
