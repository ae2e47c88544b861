"""Faults for Python, found in the syntax tree and planted in the text.

cosmic-ray edits the working tree in place, knows one test command for all faults, and drops no
calls; what mutmut swaps inside its own process, the programs that tests start never see.

Owns: the operators of Python. Invariant: the rest of the text stays as it is.
"""

import ast
import contextlib
from collections.abc import Callable, Iterator

from tests.faults.fault import Fault, name_line

Edit = tuple[str, ast.AST, str]
OPPOSITE: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
NOTHING = '__import__("contextlib").nullcontext()'


def negate_conditions(node: ast.AST, read: Callable[[ast.AST], str]) -> Iterator[Edit]:
    """A condition says the opposite."""
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "negate", node.test, f"(not ({read(node.test)}))"
    if isinstance(node, ast.comprehension):
        for test in node.ifs:
            yield "negate", test, f"(not ({read(test)}))"


def drop_statements(node: ast.AST, _read: Callable[[ast.AST], str]) -> Iterator[Edit]:
    """A call for its effect, an error, a sum or a break is not there."""
    call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if call or isinstance(node, ast.Raise | ast.AugAssign | ast.Continue | ast.Break | ast.Delete):
        yield "drop", node, "pass"
    if isinstance(node, ast.Return) and node.value is None:
        yield "drop", node, "pass"


def drop_contexts(node: ast.AST, _read: Callable[[ast.AST], str]) -> Iterator[Edit]:
    """A lock, or whatever else holds while a block runs, does not hold."""
    if isinstance(node, ast.With):
        for item in node.items:
            if item.optional_vars is None:
                yield "unhold", item.context_expr, NOTHING


def change_comparisons(node: ast.AST, read: Callable[[ast.AST], str]) -> Iterator[Edit]:
    """== is !=, < is <=, in is not in."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        word, other = OPPOSITE[type(node.ops[0])]
        left, right = read(node.left), read(node.comparators[0])
        text = read(node)
        middle = text[len(left) : len(text) - len(right)]
        if text.startswith(left) and middle.strip() == word:
            yield "compare", node, f"{left} {other} {right}"


def change_constants(node: ast.AST, read: Callable[[ast.AST], str]) -> Iterator[Edit]:
    """A number is another one, a mode is open to all, true is false."""
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield "constant", node, str(not node.value)
    elif isinstance(node.value, int):
        octal = read(node).startswith("0o")
        yield "constant", node, "0o777" if octal and node.value != 0o777 else str(node.value + 1)


def change_returns(node: ast.AST, read: Callable[[ast.AST], str]) -> Iterator[Edit]:
    """A function that answers yes or no, something or nothing, some or none, answers the other."""
    if not isinstance(node, ast.FunctionDef) or node.returns is None:
        return
    kind = read(node.returns)
    for found in ast.walk(node):
        if not isinstance(found, ast.Return) or found.value is None:
            continue
        if kind == "bool" and not isinstance(found.value, ast.Constant):
            yield "return", found.value, f"not ({read(found.value)})"
        elif kind.endswith("| None") and read(found.value) != "None":
            yield "return", found.value, "None"
        elif kind.startswith("list[") and read(found.value) != "[]":
            yield "return", found.value, "[]"


def drop_arms(node: ast.AST, read: Callable[[ast.AST], str]) -> Iterator[Edit]:
    """One part of an and, an or, or a | of flags is not asked for."""
    if isinstance(node, ast.BoolOp):
        word = " and " if isinstance(node.op, ast.And) else " or "
        for n in range(len(node.values)):
            rest = [f"({read(value)})" for m, value in enumerate(node.values) if m != n]
            yield "arm", node, f"({word.join(rest)})"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield "arm", node.right, "0"


def swallow_errors(node: ast.AST, _read: Callable[[ast.AST], str]) -> Iterator[Edit]:
    """An error that was handled is passed over."""
    if isinstance(node, ast.ExceptHandler) and not isinstance(node.body[0], ast.Pass):
        last = node.body[-1]
        span = ast.Pass()
        span.lineno, span.col_offset = node.body[0].lineno, node.body[0].col_offset
        span.end_lineno, span.end_col_offset = last.end_lineno, last.end_col_offset
        yield "swallow", span, "pass"


OPERATORS = (
    negate_conditions,
    drop_statements,
    drop_contexts,
    change_comparisons,
    change_constants,
    change_returns,
    drop_arms,
    swallow_errors,
)


def list_annotations(tree: ast.AST) -> set[int]:
    """The nodes that only say things to readers and mypy: types, and that a class is frozen."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            roots.append(node.returns)
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            roots.append(node.annotation)
        if isinstance(node, ast.ClassDef):
            roots += node.decorator_list
    return {id(inner) for root in roots for inner in ast.walk(root)}


def name_functions(tree: ast.AST) -> dict[int, str]:
    """The innermost function that each line is in: those further in come later in a walk."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                names[line] = node.name
    return names


def parses(source: bytes) -> bool:
    """Whether it is Python at all."""
    with contextlib.suppress(SyntaxError, ValueError):
        compile(source, "fault", "exec", dont_inherit=True)
        return True
    return False


def list_faults(file: str, source: bytes) -> list[Fault]:
    """All faults that can be planted in a module."""
    tree = ast.parse(source)
    lines = [0]
    for line in source.split(b"\n"):
        lines.append(lines[-1] + len(line) + 1)

    def span(node: ast.AST) -> tuple[int, int]:
        start = lines[getattr(node, "lineno") - 1] + getattr(node, "col_offset")  # noqa: B009
        end = lines[getattr(node, "end_lineno") - 1] + getattr(node, "end_col_offset")  # noqa: B009
        return start, end

    def read(node: ast.AST) -> str:
        start, end = span(node)
        return source[start:end].decode()

    skipped, names = list_annotations(tree), name_functions(tree)
    faults = []
    nodes = [node for node in ast.walk(tree) if id(node) not in skipped]
    for operator, node, text in (e for n in nodes for o in OPERATORS for e in o(n, read)):
        start, end = span(node)
        number, line_text = name_line(source, start)
        name = names.get(number, "")
        faults.append(Fault(file, number, line_text, operator, start, end, text.encode(), name))
    return faults
