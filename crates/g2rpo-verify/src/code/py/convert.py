"""Turns asserts into data: the calls whose results are literals, and the program that is left."""

import ast
import builtins
import os


def convert(setup, tests, entry):
    """Writes one T frame: the calls, and the program for what is not a call with a known result."""
    try:
        table = _table(setup, tests, entry)
        calls, program, names, check = table
        if program and not dry_run(setup, program, names, check):
            if not calls:
                raise ValueError("no call")
            # It names the solution and asks nothing of it.
            table = (calls, "", names, check)
        write_frame(b"T", encode(table, 1 << 25))
    except BaseException as error:
        write_frame(b"B", describe(error))
    os._exit(0)


def _table(setup, tests, entry):
    module = ast.parse(tests)
    check = next(
        (n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "check"), None
    )
    if entry is not None and check is not None and len(check.args.args) == 1:
        names = {check.args.args[0].arg: entry, entry: entry}
        names.update((name, name) for name in _classes(setup))
        body = check.body
        # The tests may call `check` themselves; the judge does that once.
        left_out = [n for n in module.body if _calls_check(n)]
        uses_check = entry
    else:
        names = {name: name for name in _free_names(setup, module)}
        body, left_out, uses_check = module.body, [], None
    calls, converted = _split(body, names)
    if _has_state(calls, body, names):
        calls, converted = [], []
    # Statements that do not mention the solution, such as `assert True`, test nothing.
    rest = any(_mentions(s, names) for s in body if s not in converted)
    program = _without(tests, converted + left_out) if rest else ""
    return (calls, program, sorted(set(names.values())), uses_check)


def _without(source, statements):
    """The source with `pass` in the place of each of the statements."""
    lines = source.encode().splitlines(keepends=True)
    for node in sorted(statements, key=lambda n: (n.lineno, n.col_offset), reverse=True):
        first, last = node.lineno - 1, node.end_lineno - 1
        tail = lines[last][node.end_col_offset :]
        lines[first : last + 1] = [lines[first][: node.col_offset] + b"pass" + tail]
    return b"".join(lines).decode()


def _has_state(calls, body, names):
    """Whether one call may change what another returns: then all of them run in one process, in order."""
    expected = {}
    for name, arguments, relation, value in calls:
        if expected.setdefault((name, arguments), (relation, value)) != (relation, value):
            return True
    # A call whose result nobody looks at is there for what it changes.
    dropped = any(
        isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and _mentions(s.value.func, names) for s in body
    )
    return dropped or len({call[0] for call in calls}) > 1


def _classes(source):
    return {n.name for n in ast.parse(whole(source)).body if isinstance(n, ast.ClassDef)}


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
    """Names that the tests use and that neither Python nor they define: those of the solution. So are the classes
    of the set-up, which stands before the solution."""
    defined = set(dir(builtins)) | {"__name__", "__file__"}
    for tree in (ast.parse(whole(setup)), module):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                defined.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                defined.update((a.asname or a.name).split(".")[0] for a in node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                defined.add(node.name)
            elif isinstance(node, ast.arg):
                defined.add(node.arg)
    used = {n.id for n in ast.walk(module) if isinstance(n, ast.Name)}
    return sorted(used - defined | used & _classes(setup))


def _split(body, names):
    """Asserts that are data, and the statements that they are."""
    calls, converted = [], []
    for statement in body:
        row = _row(statement, names) if isinstance(statement, ast.Assert) else None
        if row is not None:
            calls.append(row)
            converted.append(statement)
    return calls, converted


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
