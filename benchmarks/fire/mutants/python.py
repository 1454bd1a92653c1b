"""Mutations of Python: of the tree that is parsed, as changes of the text.

The tools of the registry test a whole package by one command, in place or through wrappers around
each function, which neither torch.compile nor Triton can see through.
"""

from __future__ import annotations

import ast

from benchmarks.fire.mutants.edits import Edit, next_number

COMPARISONS = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.MatMult: ("@", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
DROPPED = (ast.Raise, ast.AugAssign, ast.Continue, ast.Break)


class _Edits(ast.NodeVisitor):
    def __init__(self, text: str) -> None:
        self.text, self.found = text, []
        self.starts = [0]
        for line in text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line.encode()))
        self.bytes = text.encode()

    def place(self, line: int, column: int) -> int:
        return len(self.bytes[: self.starts[line - 1] + column].decode())

    def begin(self, node: ast.AST) -> int:
        return self.place(node.lineno, node.col_offset)

    def end(self, node: ast.AST) -> int:
        return self.place(node.end_lineno, node.end_col_offset)

    def source(self, node: ast.AST) -> str:
        return self.text[self.begin(node) : self.end(node)]

    def put(self, begin: int, end: int, new: str, change: str) -> None:
        self.found.append(Edit(begin, end, new, change))

    def operator(self, left: ast.AST, right: ast.AST, old: str, new: str, change: str) -> None:
        """Between two operands there are brackets, white space and the operator alone."""
        at = self.text.find(old, self.end(left), self.begin(right))
        if at >= 0:
            self.put(at, at + len(old), new, change)

    def condition(self, node: ast.AST) -> None:
        self.put(self.begin(node), self.end(node), f"(not ({self.source(node)}))", "negation")

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, right, op in zip(operands, operands[1:], node.ops, strict=False):
            begin, end = self.end(left), self.begin(right)
            between = self.text[begin:end]
            old = between.strip(" ()\n\\")
            if between.count(old) == 1:
                at = begin + between.index(old)
                self.put(at, at + len(old), COMPARISONS[type(op)], "comparison")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in ARITHMETIC and not _is_text(node.left):
            self.operator(node.left, node.right, *ARITHMETIC[type(node.op)], "arithmetic")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        names = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.operator(left, right, *names, "logic")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub):
            negated = isinstance(node.op, ast.Not)
            end = self.begin(node) + (3 if negated else 1)
            self.put(self.begin(node), end, "", "negation" if negated else "sign")
        self.generic_visit(node)

    def visit_If(self, node: ast.If | ast.While | ast.IfExp) -> None:
        if not isinstance(node.test, ast.UnaryOp):
            self.condition(node.test)
        self.generic_visit(node)

    visit_While = visit_IfExp = visit_If

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.condition(test)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.put(self.begin(node), self.end(node), str(not node.value), "constant")
        elif isinstance(node.value, int | float):
            new = next_number(self.source(node).replace("_", ""))
            self.put(self.begin(node), self.end(node), new, "constant")

    def visit_Call(self, node: ast.Call) -> None:
        plain = not any(isinstance(a, ast.Starred) for a in node.args)
        for first, second in zip(node.args, node.args[1:], strict=False):
            texts = _is_text(first) or _is_text(second)
            if plain and not texts and self.source(first) != self.source(second):
                between = self.text[self.end(first) : self.begin(second)]
                swapped = self.source(second) + between + self.source(first)
                self.put(self.begin(first), self.end(second), swapped, "order")
        self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)

    def visit(self, node: ast.AST) -> None:
        called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        kept = isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name)
        kept = kept and not isinstance(node.targets[0], ast.Tuple)
        if called or kept or isinstance(node, DROPPED):
            self.put(self.begin(node), self.end(node), "pass", "removal")
        super().visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Texts are for people."""


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def edits(text: str) -> list[Edit]:
    """All that can be mutated in a module, in the order of its text."""
    found = _Edits(text)
    found.visit(ast.parse(text))
    return sorted(found.found)
