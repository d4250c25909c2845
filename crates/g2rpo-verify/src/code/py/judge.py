"""Tests of a data set that are programs: trusted code, which runs confined and apart from what it tests.

The functions and classes of the solution are stand-ins here. What is asked of one crosses two pipes, and what
comes back is a value, an exception, or a stand-in for an object that stays in the other process. Nothing that
comes back decides by itself: a stand-in equals no value, and an exception of the solution ends no iteration.
"""

import ast
import builtins
import collections
import marshal
import os
import sys


class _Asked:
    """What was asked so far. Past the first answer, whatever goes wrong may be the solution's doing."""

    requests = 0
    answers = 0


class _Dry(BaseException):
    """Ends a dry run: the tests have come to their first request."""


class _Stops(Exception):
    """An exception of the solution that would end an iteration of the tests."""


class _Ends(BaseException):
    """An exception of the solution that is no `Exception`."""


# By name; what the tests catch under one of these names is this class as well.
_INSTEAD = {
    "StopIteration": type("StopIteration", (_Stops,), {}),
    "StopAsyncIteration": type("StopAsyncIteration", (_Stops,), {}),
    "GeneratorExit": type("GeneratorExit", (_Ends,), {}),
    "SystemExit": type("SystemExit", (_Ends,), {"code": None}),
    "KeyboardInterrupt": type("KeyboardInterrupt", (_Ends,), {}),
}
# Exceptions that the solution defines and the tests name.
_own = {}
_callbacks = []
_callback_numbers = {}
_generators = {}


def _ask(operation, *operands):
    """Has the other process do something; returns or raises what came of it."""
    _Asked.requests += 1
    numbering = Numbering(_typed)
    try:
        request = encode((operation, operands), 1 << 24, numbering)
    except Unsupported as error:
        give_up("argument of type %s" % error)
    while True:
        write_frame(b"Q", request)
        reply = read_message(REQUESTS)
        if reply is None:
            os._exit(0)
        kind, content = marshal.loads(reply)
        _Asked.answers += 1
        if kind == "value":
            special = _Special(numbering.order)
            result, changes = content
            for number, items in changes:
                replace(numbering.order[number], resolve(items, special))
            if result == (..., "end"):
                # Of an iterator, and of nothing else.
                if operation in ("next", "send"):
                    raise StopIteration
                give_up("an end of no iterator")
            return resolve(result, special)
        if kind == "error":
            raise _exception(*content)
        request = _run_callback(*content)


class _Special:
    def __init__(self, containers):
        self.containers = containers

    def __call__(self, name, parts):
        if name == "argument":
            return self.containers[parts[0]]
        if name == "object":
            number, kind, is_generator = parts
            remote = _Object(number, kind)
            if is_generator:
                generator = _generator(remote)
                _generators[id(generator)] = (generator, number)
                return generator
            return remote
        if name == "member":
            number, kind, label, value = parts
            return _member(_Object(number, kind), label, value)
        raise TypeError(name)


class _Member:
    """A member of an enumeration that is a number or text: that value, and its name."""


def _member(remote, label, value):
    base = type(value)
    text = "%s.%s" % (remote._kind, label)
    contents = {"name": label, "value": value, "_remote": remote, "__repr__": lambda _: "<%s: %r>" % (text, value)}
    return type("Member", (base, _Member), contents)(value)


def _generator(remote):
    sent = None
    while True:
        try:
            value = _ask("next", remote) if sent is None else _ask("send", remote, sent)
        except StopIteration:
            return
        sent = yield value


def _run_callback(number, args):
    """The next request: what the tests' own function returned or raised."""
    special = _Special(())
    try:
        result = _callbacks[number](*resolve(args, special))
    except Exception as error:
        name = next(c.__name__ for c in type(error).__mro__ if c.__module__ == "builtins")
        return encode(("raise", (name, str(error)[:300])), 1 << 16)
    try:
        return encode(("return", result), 1 << 24, lambda value: to_parts(value, type(value)) or _typed(value, type(value)))
    except Unsupported as error:
        give_up("a function of the tests returned %s" % error)


def give_up(why):
    # Before the first answer it cannot be the solution's doing.
    write_frame(b"A" if _Asked.answers else b"B", b"" if _Asked.answers else encode(why, 1 << 16))
    os._exit(0)


def _typed(value, kind):
    """Objects of the other process by their numbers; functions and iterators of the tests as callbacks."""
    if kind is _Object:
        return "object", (value._number,)
    if isinstance(value, _Member):
        return "object", (value._remote._number,)
    if kind is _Name:
        return "name", (value.__name__,)
    if id(value) in _generators:
        return "object", (_generators[id(value)][1],)
    if kind in _SEQUENCES or kind in _MAPPINGS:
        return None
    if (isinstance(value, type) or kind is type(len)) and getattr(builtins, value.__name__, None) is value:
        return "builtin", (value.__name__,)
    if hasattr(kind, "__next__"):
        return "iterator", (_register(value, value.__next__),)
    if callable(value):
        return "callback", (_register(value, value),)
    return None


def _register(value, function):
    number = _callback_numbers.get(id(value))
    if number is None:
        number = _callback_numbers[id(value)] = len(_callbacks)
        _callbacks.append(function)
        # Kept, so that its address stays its own.
        _callbacks.append(value)
    return number


def _exception(name, text, details):
    """An exception as the solution raised it, of classes that exist here."""
    lineage, args, attributes = details
    bases = []
    for module, kind in lineage:
        if module == "solution":
            if kind in _own and _own[kind] not in bases:
                bases.append(_own[kind])
        elif module != "__main__":
            known = getattr(sys.modules.get(module), kind, None)
            if isinstance(known, type) and issubclass(known, BaseException):
                bases.append(_harmless(known))
                break
    else:
        bases.append(Exception if bases else _Ends)
    kind = type(name, tuple(bases), {"__str__": lambda self: text, "__module__": "solution"})
    try:
        error = kind.__new__(kind, *args)
    except TypeError:
        error = kind.__new__(kind)
    error.args = tuple(args)
    for key, value in attributes:
        if not key.startswith("__"):
            setattr(error, key, value)
    return error


def _harmless(kind):
    """The class, or one in its place that ends no iteration and no process."""
    for base in kind.__mro__:
        if base.__module__ == "builtins" and base.__name__ in _INSTEAD:
            return _INSTEAD[base.__name__]
    return kind if issubclass(kind, Exception) else _Ends


def _forward(operation):
    def method(self, *operands):
        return _ask(operation, self, *operands)

    return method


# How far an object carries a value that the tests computed with: an object that tests made themselves may be asked
# for its contents, another one not, and a difference not for its size.
_APART, _MIXED, _DIFFERENCE = range(3)


def _binary(operation, reflected=False):
    """An operator. With a plain value, which may be the one that the solution owes, it has to give an object of a
    class that the tests name; what such an object says later is limited as well."""
    own = "__%s%s__" % ("r" if reflected else "", operation.rstrip("_"))

    def method(self, *operands):
        if not _has(self, own):
            return NotImplemented
        result = _ask(operation, *((operands[0], self) if reflected else (self, *operands)))
        objects = [self, *(x for x in operands if _is_named(x))]
        mixed = max(x._mixed for x in objects)
        made = all(x._made for x in objects)
        if len(objects) <= len(operands):
            subtracts = operation in ("sub", "isub", "xor", "ixor")
            mixed = max(mixed, _DIFFERENCE if subtracts or not made else _MIXED)
        if mixed and not _is_named(result):
            give_up("an operator gave no object")
        if type(result) is _Object:
            _mark(result, mixed, made)
        return result

    return method


def _in_place(name, operation):
    """`+=`: the other operator where the set-up's class has none in place."""
    in_place, plain = _binary("i" + name), _binary(operation)

    def method(self, *operands):
        return (in_place if _has(self, "__i%s__" % name) else plain)(self, *operands)

    return method


def _ordering(operation):
    own = "__%s__" % operation

    def method(self, other):
        if not _is_named(other) or not _has(self, own):
            return NotImplemented
        return _ask(operation, self, other)

    return method


def _unary(operation):
    def method(self, *operands):
        if not _has(self, "__%s__" % operation):
            return NotImplemented if operation == "round" else _no_operator(self, operation)
        result = _ask(operation, self, *operands)
        if type(result) is _Object:
            _mark(result, self._mixed, self._made)
        elif self._mixed == _DIFFERENCE:
            give_up("an operator gave no object")
        return result

    return method


def _no_operator(value, operation):
    raise TypeError("bad operand type for %s: %r" % (operation, value._kind))


def _contents(operation):
    """What gives the contents of an object, which may be made of a value of the tests."""

    def method(self, *operands):
        if self._mixed == _DIFFERENCE:
            give_up("contents of a computed object")
        return _ask(operation, self, *operands)

    return method


def _is_named(value):
    return type(value) is _Object and value._kind in _Name.capital


def _has(value, operator):
    """Whether the operator counts: of a class that the tests name and, where the set-up defines it, by the set-up."""
    if not _is_named(value):
        return False
    known = _Name.of_setup.get(value._kind)
    reference = getattr(known, operator, None) if known is not None else None
    return known is None or reference is not None and reference is not getattr(object, operator, None)


def _mark(value, mixed, made):
    object.__setattr__(value, "_mixed", mixed)
    object.__setattr__(value, "_made", made)


# They take what a plain value is compared with; an object has them where the tests made it.
_QUESTIONS = {"startswith", "endswith", "issubset", "issuperset", "isdisjoint"}


class _Remote:
    """What objects and names of the solution have in common."""

    __slots__ = ()

    def __getattr__(self, name):
        if name.startswith("__") and name != "__name__":
            raise AttributeError(name)
        if type(self) is _Object and name in _QUESTIONS and not self._made:
            give_up("a method of plain values")
        return _ask("getattr", self, name)

    def __call__(self, *args, **kwargs):
        return _ask("call", self, args, kwargs)

    def __setattr__(self, name, value):
        _ask("setattr", self, name, value)

    def __delattr__(self, name):
        _ask("delattr", self, name)


class _Name(_Remote):
    """A function or class of the solution."""

    __slots__ = ("__name__",)
    capital = set()
    of_setup = {}

    def __init__(self, name):
        object.__setattr__(self, "__name__", name)

    def __instancecheck__(self, value):
        is_remote = type(value) is _Object or isinstance(value, _Member)
        return is_remote and _ask("isinstance", value, self) is True

    def __call__(self, *args, **kwargs):
        result = _ask("call", self, args, kwargs)
        if _is_named(result) and result._kind == self.__name__:
            _mark(result, _APART, True)
        return result

    # Of an enumeration.
    def __iter__(self):
        return _ask("iter", self)

    def __len__(self):
        return _ask("len", self)

    def __bool__(self):
        return True

    def __getitem__(self, key):
        return _ask("getitem", self, key)


class _Object(_Remote):
    """An object of the solution."""

    __slots__ = ("_number", "_kind", "_mixed", "_made")

    def __init__(self, number, kind):
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_kind", kind)
        _mark(self, _APART, False)

    def __eq__(self, other):
        if type(other) is not _Object:
            return False
        if other._number == self._number:
            return True
        return _has(self, "__eq__") and _is_named(other) and _ask("eq", self, other) is True

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return _ask("hash", self) if _has(self, "__hash__") else hash(self._number)

    def __contains__(self, item):
        if self._made and self._mixed != _DIFFERENCE and _has(self, "__contains__"):
            return bool(_ask("contains", self, item))
        return any(known is item or known == item for known in self)

    def __enter__(self):
        return _ask("enter", self)

    def __exit__(self, *error):
        _ask("exit", self)

    def __repr__(self):
        return _text(_ask("repr", self))

    def __str__(self):
        return _text(_ask("str", self))

    def __bool__(self):
        if self._mixed:
            give_up("truth of a computed object")
        return _ask("bool", self) is True


def _text(value):
    return value if type(value) is str else ""


for _name in "setitem delitem".split():
    setattr(_Object, "__%s__" % _name, _forward(_name))
for _name in "len iter next getitem reversed".split():
    setattr(_Object, "__%s__" % _name, _contents(_name))
for _name in "neg pos abs invert round".split():
    setattr(_Object, "__%s__" % _name, _unary(_name))
for _name in "lt le gt ge".split():
    setattr(_Object, "__%s__" % _name, _ordering(_name))
for _name in "add sub mul truediv floordiv mod pow and or xor lshift rshift matmul".split():
    _operator = _name + "_" if _name in ("and", "or") else _name
    setattr(_Object, "__%s__" % _name, _binary(_operator))
    setattr(_Object, "__r%s__" % _name, _binary(_operator, reflected=True))
    setattr(_Object, "__i%s__" % _name, _in_place(_name, _operator))


def _is(a, b):
    """Identity, which two stand-ins for one object have as well."""
    a, b = (x._remote if isinstance(x, _Member) else x for x in (a, b))
    return a is b or type(a) is type(b) is _Object and a._number == b._number


def _issubclass(kind, of):
    return _ask("issubclass", kind, of) is True if _Name in map(type, (kind, of)) else issubclass(kind, of)


class _Identity(ast.NodeTransformer):
    def visit_Compare(self, node):
        self.generic_visit(node)
        if len(node.ops) != 1 or not isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            return node
        call = ast.Call(ast.Name("__is__", ast.Load()), [node.left, node.comparators[0]], [])
        result = call if isinstance(node.ops[0], ast.Is) else ast.UnaryOp(ast.Not(), call)
        return ast.copy_location(result, node)


def _program(source, names):
    """The tests, in which what is caught under a name of the solution's exceptions is caught."""
    tree = _Identity().visit(ast.parse(source))

    def also(node):
        for part in ast.walk(node):
            if isinstance(part, ast.Tuple):
                part.elts = [_alternatives(e, names) for e in part.elts]
        return _alternatives(node, names)

    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            node.type = also(node.type)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("raises", "assertRaises", "assertRaisesRegex", "suppress"):
                node.args = [also(arg) for arg in node.args]
    return compile(ast.fix_missing_locations(tree), "<tests>", "exec")


def _alternatives(node, names):
    if not isinstance(node, ast.Name):
        return node
    if node.id in names and node.id not in _own:
        _own[node.id] = type(node.id, (Exception,), {})
    if node.id in names or node.id in _INSTEAD:
        place = ast.Subscript(
            ast.Name("__exceptions__", ast.Load()), _index(ast.Constant(node.id)), ast.Load()
        )
        known = [] if node.id in names else [node]
        node = ast.copy_location(ast.Tuple(known + [place], ast.Load()), node)
    return node


def _index(node):
    return node if sys.version_info >= (3, 9) else ast.Index(node)


def judge(setup, tests, names, check):
    """Runs the tests and writes one frame: P passed, A assertion failed, J raised, B bad tests."""
    try:
        _run(setup, tests, names, check)
    except BaseException as error:
        if isinstance(error, AssertionError) and type(error).__module__ != "solution":
            write_frame(b"A")
            os._exit(0)
        # Before the first answer it cannot be the solution's doing.
        write_frame(b"J" if _Asked.answers else b"B", describe(error))
    else:
        if _Asked.answers:
            write_frame(b"P")
        else:
            write_frame(b"B", encode("no call", 1 << 16))
    os._exit(0)


def whole(setup):
    """The set-up, with a body where it ends in the head of the function that the solution completes."""
    try:
        ast.parse(setup)
        return setup
    except SyntaxError:
        return setup.rstrip() + "\n    pass\n"


def _run(setup, tests, names, check):
    namespace = {"__name__": "tests"}
    stands = {name: _Name(name) for name in names}
    _Name.capital = {name for name in names if name[:1].isupper()}
    exec(compile(whole(setup), "<setup>", "exec"), namespace)
    _Name.of_setup = {n: namespace[n] for n in names if isinstance(namespace.get(n), type)}
    namespace.update(stands, __is__=_is, issubclass=_issubclass)
    program = _program(tests, stands)
    namespace["__exceptions__"] = {**_INSTEAD, **_own}
    exec(program, namespace)
    if check is not None:
        namespace["check"](stands[check])


def dry_run(setup, tests, names, check):
    """Runs the tests to their first request; returns whether there is one.

    An error says why no solution can be judged by them.
    """
    global _ask

    def _ask(operation, *operands):
        encode((operation, operands), 1 << 24, Numbering(_typed))
        _Asked.requests += 1
        raise _Dry

    try:
        _run(setup, tests, names, check)
    except BaseException:
        if not _Asked.requests:
            raise
    return _Asked.requests > 0
