"""Settings in Python text, as mmdetection3d keeps them: read as data, nothing is run."""

from __future__ import annotations

import ast
import warnings
from typing import Any

from geodistill.checks import InputError

LONGEST = 1 << 20
"""Characters of a settings text; real ones have some ten thousand."""
_MOST_BITS = 64
_OPERATIONS = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def assigned(text: str, where: str) -> dict[str, Any]:
    """What the names at the top of a text are set to: numbers, texts, and lists, tuples and
    dictionaries of these, `dict(a=1)` included. Another name stands for itself, as a text; other
    expressions, and integers of more than 64 bits that come out of them, are None.

    Raises InputError for a text that is no Python.
    """
    if len(text) > LONGEST:
        raise InputError(f"{where} is longer than settings are ({LONGEST} characters)")
    found: dict[str, Any] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python about the text
            tree = ast.parse(text)
        for statement in tree.body:
            if isinstance(statement, ast.Assign):
                value = _value(statement.value, found)
                found |= {t.id: value for t in statement.targets if isinstance(t, ast.Name)}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = getattr(error, "msg", None) or type(error).__name__
        raise InputError(f"{where} cannot be read as Python: {problem}") from None
    return found


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return known.get(node.id, node.id)
        case ast.List():
            return [_value(item, known) for item in node.elts]
        case ast.Tuple():
            return tuple(_value(item, known) for item in node.elts)
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return {k.value: _value(v, known) for k, v in pairs if isinstance(k, ast.Constant)}
        case ast.Call(func=ast.Name(id="dict")):
            return {k.arg: _value(k.value, known) for k in node.keywords if k.arg}
        case ast.UnaryOp(op=ast.USub()):
            value = _value(node.operand, known)
            return -value if _numeric(value) else None
        case ast.BinOp() if type(node.op) in _OPERATIONS:
            return _operated(node, known)
    return None


def _operated(node: ast.BinOp, known: dict[str, Any]) -> Any:
    left, right = _value(node.left, known), _value(node.right, known)
    if not (_numeric(left) and _numeric(right)):
        return None
    try:
        found = _OPERATIONS[type(node.op)](left, right)
    except (ZeroDivisionError, OverflowError):
        return None
    # Multiplied over and over, integers would grow without end.
    return None if isinstance(found, int) and found.bit_length() > _MOST_BITS else found


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float)
