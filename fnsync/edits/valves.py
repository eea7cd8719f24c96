"""The stored form of valves: what of a client's values is kept as a reference, what is encrypted, what stands in clear.

Values are JSON's. In a settings file a value is plain, `{env: NAME}` (taken from the server's environment) or
`{secret: TEXT}` (encrypted). These are the whole of a valve's value: a value that has a secret somewhere inside is
encrypted as a whole, and whatever looks like a reference further in is a value like any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fnsync.errors import Invalid, Unauthorized
from fnsync.model import FunctionRow, Inspection, reference_of
from fnsync.runtime.wire import Checked
from fnsync.source.secrets import MAY_HOLD, holds_secret
from fnsync.vault import Undecipherable, Vault

#: How much the values of one function may come to, as JSON.
MOST_BYTES = 256 * 1024
#: Tells by a valve's name and value whether it is to be encrypted.
SecretTest = Callable[[str, Any], bool]


def shown(stored: Mapping[str, Any], vault: Vault) -> dict[str, Any]:
    """The values as an admin sees them: secrets in clear, references as they are. Raises Undecipherable."""
    return {name: _shown(name, value, vault) for name, value in stored.items()}


def check_size(values: Mapping[str, Any]) -> None:
    """Raise Invalid for values that are more than is stored."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode(errors="surrogatepass"))
    if size > MOST_BYTES:
        raise Invalid(f"the values are {size:,} bytes of JSON, more than the {MOST_BYTES:,} that are stored")


def asked(posted: Mapping[str, Any], stored: Mapping[str, Any], *, may_refer: bool) -> dict[str, Any]:
    """What a client asks to have stored: keys with null are dropped; references that it does not speak of stay.

    Raises Unauthorized for a reference by somebody who may not see what it stands for.
    """
    if not may_refer and any(reference_of(value) is not None for value in posted.values()):
        raise Unauthorized("only an admin may have a valve refer to a variable or a secret of the server")
    kept = {name: value for name, value in stored.items() if _is_variable(value) and name not in posted}
    return kept | {name: value for name, value in posted.items() if value is not None}


def to_store(
    checked: Mapping[str, Any],
    wanted: Mapping[str, Any],
    stored: Mapping[str, Any],
    is_secret: SecretTest,
    vault: Vault,
) -> dict[str, Any]:
    """The stored form of values that the function's own class has checked, in its order.

    `wanted` are the values as they were asked for, with references; `stored` the present forms, which stay where
    their values do, so that nothing changes that was not changed.
    """
    made = {}
    for name, value in checked.items():
        before = stored.get(name)
        if _is_variable(wanted.get(name)):
            made[name] = wanted[name]
        elif before is not None and _is_same(before, value, vault):
            made[name] = before
        elif is_secret(name, value) or _is_encrypted(wanted.get(name)):
            made[name] = {"secret": vault.encrypt(value)}
        else:
            made[name] = value
    return made


def secret_test(schema: Mapping[str, Any] | None, inspection: Inspection, checked: Checked | None) -> SecretTest:
    """Tells of a field of a Valves class, and its value, whether there is a secret in it: by the schema, by the source
    text, and by what its worker told of the class.

    None: no class has taken the values, so nobody knows their fields, and whatever may be a secret counts as one.
    """
    declared = {field.name for field in (*(inspection.valves or ()), *(inspection.user_valves or ())) if field.secret}
    if checked is None:
        return lambda name, value: name in declared or isinstance(value, MAY_HOLD)
    known = declared.union(checked.secret)

    def is_secret(name: str, value: Any) -> bool:
        names = (name, *checked.names.get(name, ()))
        return not known.isdisjoint(names) or holds_secret(names, value, schema)

    return is_secret


def _is_variable(value: Any) -> bool:
    """Whether a value is taken from the server's environment."""
    reference = reference_of(value)
    return reference is not None and reference[0] == "env"


def valves_of(row: FunctionRow, vault: Vault) -> dict[str, Any]:
    """A row's stored valves in clear. Raises Undecipherable, which names function and field."""
    try:
        return shown(row.valves, vault)
    except Undecipherable as exc:
        raise Undecipherable(f"{row.id}: {exc.message}", hint=exc.hint) from exc


def _is_encrypted(value: Any) -> bool:
    reference = reference_of(value)
    return reference is not None and reference[0] == "secret"


def _is_same(before: Any, value: Any, vault: Vault) -> bool:
    """Whether an encrypted value is this one. What stands in clear is stored anew: it may have to be encrypted."""
    match reference_of(before):
        case ("secret", text):
            try:
                return bool(vault.decrypt(text) == value)
            except Undecipherable:
                return False  # it is replaced by what can be read
    return False


def _shown(name: str, value: Any, vault: Vault) -> Any:
    match reference_of(value):
        case ("secret", text):
            try:
                return vault.decrypt(text)
            except Undecipherable as exc:
                raise Undecipherable(f"valves.{name} cannot be decrypted: {exc.message}", hint=exc.hint) from exc
    return value
