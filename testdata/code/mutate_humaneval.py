"""Makes three wrong mutants of each HumanEval solution, as edits of its text.

    python testdata/code/mutate_humaneval.py HumanEval.jsonl > testdata/code/humaneval_mutants.json

An edit is [start, end, replacement], in characters of prompt + canonical solution; the data set itself
is not copied. A mutant counts only if the data set's own tests, run plainly (in one process, by the
interpreter, with no code of ours) end in an error within the time limit, twice. Where possible the
error is a failed assertion, that is, the mutant returns a wrong value without crashing.

Made with CPython 3.11.7 and openai/human-eval 6d43fb9.
"""

import ast
import json
import os
import random
import signal
import sys

SECONDS = 2
MUTANTS = 3

COMPARE = {
    ast.Lt: ("<", [">=", "<="]),
    ast.LtE: ("<=", [">", "<"]),
    ast.Gt: (">", ["<=", ">="]),
    ast.GtE: (">=", ["<", ">"]),
    ast.Eq: ("==", ["!="]),
    ast.NotEq: ("!=", ["=="]),
    ast.In: ("in", ["not in"]),
    ast.NotIn: ("not in", ["in"]),
}
BINARY = {
    ast.Add: ("+", ["-"]),
    ast.Sub: ("-", ["+"]),
    ast.Mult: ("*", ["+"]),
    ast.Div: ("/", ["*"]),
    ast.FloorDiv: ("//", ["*"]),
    ast.Mod: ("%", ["//"]),
}


def edits(source, first):
    """All single edits after character `first`."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    data = source.encode()

    def offset(line, column):
        return len(data[: starts[line - 1] + column].decode())

    def span(node):
        return offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)

    def operator(left, right, text, replacements):
        start, end = span(left)[1], span(right)[0]
        at = source.find(text, start, end)
        if at >= 0:
            for replacement in replacements:
                yield at, at + len(text), replacement

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARE:
            yield from operator(node.left, node.comparators[0], *COMPARE[type(node.ops[0])])
        elif isinstance(node, ast.BinOp) and type(node.op) in BINARY:
            yield from operator(node.left, node.right, *BINARY[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            text, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            yield from operator(node.values[0], node.values[1], text, [other])
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield (*span(node), str(not node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            yield (*span(node), str(node.value + 1))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.col_offset > 4:
            yield (*span(node), repr(node.value + "x"))
        elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
            start, end = span(node.test)
            yield start, end, "(not (%s))" % source[start:end]
        elif isinstance(node, ast.Return) and node.value is not None:
            start, end = span(node.value)
            text = source[start:end]
            for wrong in ("None", "[%s]" % text, "str(%s)" % text, "(%s) * 2" % text):
                yield start, end, wrong


def apply(source, edit):
    start, end, text = edit
    return source[:start] + text + source[end:]


def plain_verdict(program):
    """How the program ends: ok, assertion, error or time."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        signal.alarm(SECONDS)
        try:
            exec(compile(program, "program", "exec"), {"__name__": "__main__"})
            os.write(writer, b"ok")
        except AssertionError:
            os.write(writer, b"assertion")
        except BaseException:
            os.write(writer, b"error")
        os._exit(0)
    os.close(writer)
    verdict = os.read(reader, 16).decode()
    os.close(reader)
    os.waitpid(pid, 0)
    return verdict or "time"


def mutants(problem):
    source = problem["prompt"] + problem["canonical_solution"]
    tail = "\n" + problem["test"] + "\ncheck(" + problem["entry_point"] + ")\n"
    assert plain_verdict(source + tail) == "ok", problem["task_id"]
    first = len(problem["prompt"])
    found = [e for e in edits(source, first) if e[0] >= first]
    random.Random(problem["task_id"]).shuffle(found)
    wrong, crashing = [], []
    for edit in found:
        program = apply(source, edit) + tail
        try:
            compile(program, "program", "exec")
        except SyntaxError:
            continue
        verdicts = {plain_verdict(program), plain_verdict(program)}
        if verdicts == {"assertion"}:
            wrong.append(edit)
        elif verdicts == {"error"}:
            crashing.append(edit)
        if len(wrong) == MUTANTS:
            break
    chosen = (wrong + crashing)[:MUTANTS]
    assert len(chosen) == MUTANTS, (problem["task_id"], len(chosen))
    return chosen


def main():
    with open(sys.argv[1]) as file:
        problems = [json.loads(line) for line in file]
    rows = ['"%s": %s' % (p["task_id"], json.dumps(mutants(p))) for p in problems]
    print("{\n" + ",\n".join(rows) + "\n}")


if __name__ == "__main__":
    main()
