"""Tests of a data set: trusted code, which still runs confined, and apart from what it tests.

`convert` turns asserts into data. `judge` runs the rest, with a stand-in for the tested function
whose arguments and results cross two pipes as plain values.
"""

import ast
import builtins
import marshal
import os


class _Stand:
    """Calls the function of the same name in the other process."""

    calls = 0

    def __init__(self, name):
        self.__name__ = name

    def __call__(self, *args, **kwargs):
        _Stand.calls += 1
        try:
            arguments = encode((args, kwargs), 1 << 24)
        except Unsupported as error:
            write_frame(b"B", encode("argument of type %s" % error, 1 << 16))
            os._exit(0)
        write_frame(b"Q", encode((self.__name__, arguments), 1 << 25))
        reply = read_message(REQUESTS)
        if reply is None:
            os._exit(0)
        kind, content = marshal.loads(reply)
        if kind == "value":
            return content
        name, text = content
        error = getattr(builtins, name, None)
        if not (isinstance(error, type) and issubclass(error, Exception)):
            error = RuntimeError
        raise error(text)


def judge(setup, tests, names, check):
    """Runs the tests and writes one frame: P passed, A assertion failed, J raised, B bad tests."""
    namespace = {"__name__": "tests"}
    stands = {name: _Stand(name) for name in names}
    try:
        exec(compile(setup, "<setup>", "exec"), namespace)
        namespace.update(stands)
        exec(compile(tests, "<tests>", "exec"), namespace)
        if check is not None:
            namespace["check"](stands[check])
    except AssertionError:
        write_frame(b"A")
    except BaseException as error:
        # Before the first call it cannot be the solution's doing.
        write_frame(b"J" if _Stand.calls else b"B", _describe(error))
    else:
        if _Stand.calls:
            write_frame(b"P")
        else:
            write_frame(b"B", encode("no call", 1 << 16))
    os._exit(0)


def convert(setup, tests, entry):
    """Writes one T frame: the calls, and the program for what is not a call with a known result."""
    try:
        table = _table(setup, tests, entry)
        write_frame(b"T", encode(table, 1 << 25))
    except BaseException as error:
        write_frame(b"B", _describe(error))
    os._exit(0)


def _table(setup, tests, entry):
    module = ast.parse(tests)
    check = next(
        (n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "check"), None
    )
    if entry is not None and check is not None and len(check.args.args) == 1:
        names = {check.args.args[0].arg: entry, entry: entry}
        calls, check.body = _split(check.body, names)
        remaining = check.body
        check.body = check.body or [ast.Pass()]
        # The trusted file may call `check` itself; the judge does that once.
        module.body = [n for n in module.body if not _calls_check(n)]
        uses_check = entry
    else:
        names = {name: name for name in _free_names(setup, module)}
        calls, module.body = _split(module.body, names)
        remaining = module.body
        uses_check = None
    # Statements that do not mention the solution, such as `assert True`, test nothing.
    rest = any(_mentions(s, names) for s in remaining)
    program = ast.unparse(module) if rest else ""
    return (calls, program, sorted(set(names.values())), uses_check)


def _calls_check(node):
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "check"
    )


def _mentions(statement, names):
    return any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(statement))


def _free_names(setup, module):
    """Names that asserts call and that neither Python, the set-up nor the tests define."""
    defined = set(dir(builtins))
    for tree in (ast.parse(setup), module):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                defined.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                defined.update((a.asname or a.name).split(".")[0] for a in node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            elif isinstance(node, ast.arg):
                defined.add(node.arg)
    return sorted(
        {
            n.func.id
            for n in ast.walk(module)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        - defined
    )


def _split(body, names):
    """Asserts that are data, and the statements that are left."""
    calls, left = [], []
    for statement in body:
        row = _row(statement, names) if isinstance(statement, ast.Assert) else None
        if row is None:
            left.append(statement)
        else:
            calls.append(row)
    return calls, left


def _row(statement, names):
    """(name, encoded arguments, relation, expected) of an assert, or None."""
    test = statement.test
    relation, expected = "true", None
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        relation, test = "false", test.operand
    elif isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right = test.left, test.comparators[0]
        if not _is_call(left, names):
            left, right = right, left
        if isinstance(test.ops[0], ast.Eq):
            relation = "eq"
        elif isinstance(test.ops[0], ast.Is) and isinstance(right, ast.Constant):
            # Identity with a number or string is an accident of the interpreter.
            if right.value is None or isinstance(right.value, bool):
                relation = "is"
        if relation == "true":
            return None
        test, expected = left, right
    if not _is_call(test, names) or any(k.arg is None for k in test.keywords):
        return None
    try:
        args = tuple(_literal(a) for a in test.args)
        kwargs = {k.arg: _literal(k.value) for k in test.keywords}
        value = None if expected is None else _literal(expected)
        arguments = encode((args, kwargs), 1 << 24)
        return (names[test.func.id], arguments, relation, encode(value, 1 << 24))
    except (_NotLiteral, Unsupported):
        return None


def _is_call(node, names):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


class _NotLiteral(Exception):
    pass


_PURE = {
    name: getattr(builtins, name)
    for name in "abs bool bytes complex dict float frozenset int len list max min range round set "
    "sorted str sum tuple".split()
}
_LITERAL_NODES = (
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.UnaryOp,
    ast.BinOp,
    ast.unaryop,
    ast.operator,
    ast.expr_context,
)


def _literal(node):
    """The value of an expression of constants and pure builtins."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            if not (isinstance(part.func, ast.Name) and part.func.id in _PURE and not part.keywords):
                raise _NotLiteral
        elif isinstance(part, ast.Name):
            if part.id not in _PURE:
                raise _NotLiteral
        elif not isinstance(part, _LITERAL_NODES):
            raise _NotLiteral
    code = compile(ast.Expression(node), "<literal>", "eval")
    try:
        return eval(code, {"__builtins__": _PURE})
    except Exception:
        raise _NotLiteral from None
