"""
title: Calculator
description: Works out arithmetic such as 3 * (4 + 5) ** 2 or sqrt(2) / 7. One expression per line.
version: 1.0.0
"""

import ast
import math
import operator

from _text import last_user_text
from pydantic import BaseModel, Field

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
FUNCTIONS = {
    name: getattr(math, name) for name in ("sqrt", "sin", "cos", "tan", "log", "log2", "log10", "exp", "floor", "ceil")
} | {"abs": abs, "round": round, "min": min, "max": max}
CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}

#: A result may have this many bits; more would keep the processor busy for nothing that anyone reads.
MAX_BITS = 4096


class NotArithmetic(ValueError):
    pass


def evaluate(text: str) -> int | float:
    """Return the value of an arithmetic expression. Nothing but the operators and names above is understood."""
    try:
        tree = ast.parse(text.strip().replace("^", "**").replace("×", "*").replace("÷", "/"), mode="eval")
    except (SyntaxError, ValueError):
        raise NotArithmetic("this is not an arithmetic expression") from None
    return value(tree.body)


def value(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return power(value(left), value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return small(OPERATORS[type(op)](value(left), value(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*map(value, arguments))
    raise NotArithmetic(f"I do not understand {ast.unparse(node)!r}")


def power(base: int | float, exponent: int | float) -> int | float:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MAX_BITS:
        raise NotArithmetic("the result is too large")
    result = base**exponent
    if isinstance(result, complex):
        raise NotArithmetic("the result is not a real number")
    return result


def small(number: int | float) -> int | float:
    if isinstance(number, int) and number.bit_length() > MAX_BITS:
        raise NotArithmetic("the result is too large")
    return number


class Pipe:
    class Valves(BaseModel):
        digits: int = Field(default=10, ge=1, le=17, description="Significant digits of results that are not whole.")

    def __init__(self) -> None:
        self.valves = self.Valves()

    def pipe(self, body: dict) -> str:
        lines = [line for line in last_user_text(body.get("messages", [])).splitlines() if line.strip()]
        if not lines:
            return "Send me an expression, for example `3 * (4 + 5) ** 2`."
        return "\n".join(self.answer(line) for line in lines)

    def answer(self, line: str) -> str:
        try:
            result = evaluate(line.strip().rstrip("=").removeprefix("="))
        except (ArithmeticError, ValueError, TypeError, RecursionError) as exc:
            return f"{line.strip()}: {exc}"
        return f"{result}" if isinstance(result, int) else f"{result:.{self.valves.digits}g}"
