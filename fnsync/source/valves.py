"""The fields of a Valves class as its source text declares them."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from typing import Any, cast

from fnsync.model import ValvesField
from fnsync.source.secrets import is_secret_name
from fnsync.source.syntax import Scopes, Text, statements

_SECRET_TYPE = re.compile(r"\bSecret(Str\b|Bytes\b|\[)")
#: Types that hold no secret, whatever the name: `use_api_key: bool`, `max_token: int`.
_HARMLESS_TYPE = re.compile(r"(Optional\[)?(bool|int|float)\]?(\s*\|\s*(int|float|bool|None))*")
_FACTORIES: dict[str, Any] = {"list": [], "dict": {}, "set": [], "tuple": [], "str": "", "int": 0, "bool": False}
_JSON_INTS = range(-(2**63), 2**64)
_MISSING = object()


def fields(owner: ast.ClassDef, around: ast.ClassDef | None, scopes: Scopes, text: Text) -> tuple[ValvesField, ...]:
    """The fields of a class and of its bases in the file, base first, as pydantic orders them."""
    found: dict[str, ValvesField] = {}
    for current in reversed(scopes.lineage(owner, around)):
        found.update((item.name, item) for item in _own(current, text))
    return tuple(found.values())


def _own(owner: ast.ClassDef, text: Text) -> Iterator[ValvesField]:
    for statement in statements(owner.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            annotation = text.segment(statement.annotation)
            name = statement.target.id
            if not name.startswith("_") and name != "model_config" and "ClassVar" not in annotation:
                yield _field(name, annotation, statement)


def _field(name: str, annotation: str, statement: ast.AnnAssign) -> ValvesField:
    declared = [call for call in (_field_call(statement.value), *_annotated(statement.annotation)) if call]
    default, required = _default(statement.value, declared)
    extra = [argument for call in declared if (argument := _argument(call, "json_schema_extra"))]
    return ValvesField(
        name=name,
        annotation=annotation,
        line=statement.lineno,
        literal=default is not _MISSING,
        default=None if default is _MISSING else default,
        required=required,
        description=next((text for call in declared if (text := _text(_argument(call, "description")))), None),
        secret=_is_secret(name, annotation) or any(map(_is_password, extra)),
    )


def _is_secret(name: str, annotation: str) -> bool:
    if _SECRET_TYPE.search(annotation):
        return True
    return is_secret_name(name) and not _HARMLESS_TYPE.fullmatch(annotation.strip("\"'"))


def _is_password(extra: ast.expr) -> bool:
    """Whether `json_schema_extra` says `{"input": {"type": "password"}}`, other keys being anything."""
    return _text(_item(_item(extra, "input"), "type")) == "password" or _text(_item(extra, "format")) == "password"


def _item(node: ast.expr | None, key: str) -> ast.expr | None:
    if not isinstance(node, ast.Dict):
        return None
    return next((value for name, value in zip(node.keys, node.values, strict=True) if _text(name) == key), None)


def _annotated(annotation: ast.expr) -> Iterator[ast.Call | None]:
    """The Field(...) calls of `Annotated[type, Field(...)]`."""
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) == "Annotated":
        parts = annotation.slice.elts[1:] if isinstance(annotation.slice, ast.Tuple) else []
        yield from map(_field_call, parts)


def _field_call(node: ast.expr | None) -> ast.Call | None:
    return node if isinstance(node, ast.Call) and _name(node.func) in ("Field", "FieldInfo") else None


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _argument(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _default(value: ast.expr | None, declared: list[ast.Call]) -> tuple[Any, bool]:
    """Return the literal default, or _MISSING, and whether the field is required."""
    if value is not None and _field_call(value) is None:
        return (_MISSING, True) if _is_ellipsis(value) else (_literal(value), False)
    for call in declared:
        given = _argument(call, "default") or (call.args[0] if call.args else None)
        factory = _argument(call, "default_factory")
        if factory is not None:
            return _made(factory), False
        if given is not None:
            return (_MISSING, True) if _is_ellipsis(given) else (_literal(given), False)
        if any(keyword.arg is None for keyword in call.keywords):
            return _MISSING, False  # Field(**options): only running it tells
    return _MISSING, True


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _made(factory: ast.expr) -> Any:
    if isinstance(factory, ast.Lambda):
        return _literal(factory.body)
    made = _FACTORIES.get(factory.id, _MISSING) if isinstance(factory, ast.Name) else _MISSING
    return made.copy() if isinstance(made, list | dict) else made


def _text(node: ast.expr | None) -> str | None:
    value = _literal(node) if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) else None
    return value if isinstance(value, str) else None


def _literal(node: ast.expr) -> Any:
    """The value of a literal that JSON can hold, else _MISSING."""
    try:
        return _json(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _MISSING


def _json(value: object) -> Any:
    """The value as JSON would give it back. Raises ValueError for what JSON cannot hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        value.encode()  # half a surrogate pair raises, as a ValueError
        return value
    if isinstance(value, int) and value in _JSON_INTS:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, set):
        return sorted((_json(item) for item in value), key=repr)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {_json(key): _json(item) for key, item in cast(dict[str, Any], value).items()}
    raise ValueError("no JSON value")
