"""How a function's files differ from what they were, as far as reading them tells. Pure: nothing is executed.

Of values that may be secret only names are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fnsync import units
from fnsync.git.remote import redacted
from fnsync.model import Access, Frontmatter, Handler, Inspection, Part, Rate, Settings, Unit, ValvesField

#: What of a function differs, in the order in which it is told.
What = Literal[
    "path",
    "kind",
    "source",
    "helpers",
    "shared",
    "requirements",
    "valves",
    "user_valves",
    "handlers",
    "frontmatter",
    "settings",
]
Change = Literal["added", "removed", "changed"]
#: The longest value that is shown, in characters.
SHOWN_CHARS = 80
#: The frontmatter's entries whose values are told; of others only that they differ.
_TOLD_ENTRIES = ("title", "version", "required_open_webui_version")
#: Told as requirements.
_REQUIRING = ("requirements", "requires_python", "dependencies")
_UNTOLD = "a secret"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs."""

    what: What
    #: Which of them: a file, a field, a handler, a key of the settings (`limits.timeout`), a package.
    name: str
    change: Change
    #: What it was and what it is, for people; None: it was or is not there, or its value is not told.
    before: str | None = None
    after: str | None = None

    def __str__(self) -> str:
        if self.change == "changed":
            return f"{self.name}: {self.before} → {self.after}" if self.before or self.after else self.name
        value = self.after if self.change == "added" else self.before
        return f"{'+' if self.change == 'added' else '−'} {self.name}{f': {value}' if value else ''}"


def differences(before: Unit, after: Unit) -> tuple[Difference, ...]:
    """What differs between two readings of one function, the gravest first."""
    found = [
        *_path(before, after),
        *_parts(before.parts, after.parts),
        *_requirements(before.frontmatter, after.frontmatter),
        *_entries(before.frontmatter.entries, after.frontmatter.entries),
    ]
    old, new = before.inspection, after.inspection
    if old.kind is not None and new.kind is not None:  # else one of them could not be read, and nothing is known of it
        found += _inspections(old, new)
    if before.settings_known and after.settings_known:
        found += _settings(before.settings, after.settings)
    elif before.settings_known != after.settings_known:
        found.append(Difference("settings", "file", "changed"))
    if before.settings_path != after.settings_path and before.path == after.path:
        found.append(Difference("settings", "file", _change(before.settings_path, after.settings_path)))
    return tuple(sorted(found, key=lambda one: _ORDER[one.what]))


def traits(unit: Unit) -> tuple[Difference, ...]:
    """What a reviewer wants to know of a function that comes: what it needs, may, and offers."""
    found = [*_requirements(Frontmatter(), unit.frontmatter)]
    if unit.inspection.kind is not None:
        found += _inspections(Inspection(kind=unit.inspection.kind), unit.inspection)
    if unit.settings_known:
        found += _settings(Settings(), unit.settings)
    return tuple(sorted(found, key=lambda one: _ORDER[one.what]))


_ORDER = {what: at for at, what in enumerate(What.__args__)}  # type: ignore[attr-defined]


def shown(value: object) -> str:
    """A value on one line, cut to a readable length."""
    text = value if isinstance(value, str) else repr(value)
    text = redacted(" ".join(text.split()))
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def _path(before: Unit, after: Unit) -> Iterator[Difference]:
    if before.path != after.path:
        yield Difference("path", "path", "changed", before.path, after.path)


# ---- files -------------------------------------------------------------------------------------------------


def _parts(before: Iterable[Part], after: Iterable[Part]) -> Iterator[Difference]:
    old, new = ({part.place: part for part in parts} for parts in (before, after))
    if not old or not new:  # one of them could not be read whole
        return
    for place in sorted(old.keys() | new.keys()):
        was, now = old.get(place), new.get(place)
        if was is None or now is None or was.digest != now.digest:
            yield Difference(_kind_of(place), place.partition("/")[2], _change(was, now))


def _kind_of(place: str) -> What:
    if place == "function/main.py":
        return "source"
    return "shared" if place.startswith("shared/") else "helpers"


def _change(before: object, after: object) -> Change:
    return "added" if before is None else "removed" if after is None else "changed"


# ---- what the frontmatter says -----------------------------------------------------------------------------


def _requirements(before: Frontmatter, after: Frontmatter) -> Iterator[Difference]:
    old, new = (dict(_packages(one)) for one in (before, after))
    for one in _mappings("requirements", old, new):
        yield one if one.change == "changed" or one.name not in (one.before, one.after) else _bare(one)
    yield from _mappings("requirements", _python(before), _python(after))


def _bare(one: Difference) -> Difference:
    """Without a value that only says the name again."""
    return replace(one, before=None, after=None)


def _packages(frontmatter: Frontmatter) -> Iterator[tuple[str, str]]:
    """Name and text of each requirement; those that imports ask for are told as such."""
    for text in frontmatter.requirements:
        try:
            yield canonicalize_name(Requirement(text).name), shown(text)
        except InvalidRequirement:  # an address
            yield shown(text), shown(text)
    for name in frontmatter.inferred:
        yield shown(name), "since it is imported"


def _python(frontmatter: Frontmatter) -> dict[str, str]:
    return {"python": shown(frontmatter.requires_python)} if frontmatter.requires_python else {}


def _entries(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was != now and name not in _REQUIRING:
            told = (None if was is None else shown(was), None if now is None else shown(now))
            yield Difference("frontmatter", name, _change(was, now), *(told if name in _TOLD_ENTRIES else ()))


# ---- what the syntax tree says -----------------------------------------------------------------------------


def _inspections(before: Inspection, after: Inspection) -> Iterator[Difference]:
    if before.kind != after.kind:
        yield Difference("kind", "kind", "changed", str(before.kind), str(after.kind))
    yield from _fields("valves", before.valves, after.valves)
    yield from _fields("user_valves", before.user_valves, after.user_valves)
    old, new = ({one.name: _signature(one) for one in found.handlers} for found in (before, after))
    yield from _mappings("handlers", old, new)


def _fields(
    what: What, before: tuple[ValvesField, ...] | None, after: tuple[ValvesField, ...] | None
) -> Iterator[Difference]:
    old, new = ({one.name: one for one in found or ()} for found in (before, after))
    for name in [*new, *(name for name in old if name not in new)]:
        was, now = old.get(name), new.get(name)
        if was is not None and now is not None and _declared(was) == _declared(now):
            continue
        texts = [None if one is None else _field(one) for one in (was, now)]
        if texts[0] == texts[1]:
            texts[1] = f"{texts[1]}, another default"
        yield Difference(what, name, _change(was, now), *texts)


def _declared(field: ValvesField) -> tuple[object, ...]:
    return field.annotation, field.literal, repr(field.default), field.required, field.secret


def _field(field: ValvesField) -> str:
    annotation = shown(field.annotation or "Any")
    if field.required:
        return f"{annotation}, required"
    if field.secret:
        return f"{annotation}, {_UNTOLD}"
    return f"{annotation} = {shown(repr(field.default))}" if field.literal else annotation


def _signature(handler: Handler) -> str:
    parameters = ", ".join([*handler.parameters, *(["**"] if handler.var_keyword else [])])
    kind = ("async " if handler.is_async else "") + ("generator" if handler.is_generator else "")
    return shown(f"({parameters}){f' {kind.strip()}' if kind else ''}")


# ---- settings ----------------------------------------------------------------------------------------------


def _settings(before: Settings, after: Settings) -> Iterator[Difference]:
    old, new = _told(before), _told(after)
    for name in [*new, *(name for name in old if name not in new)]:
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if isinstance(was, _Hidden) or isinstance(now, _Hidden):
            yield Difference("settings", name, _change(was, now))
        else:
            yield Difference("settings", name, _change(was, now), was, now)


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A value that is only compared."""

    value: str


def _told(settings: Settings) -> dict[str, str | _Hidden]:
    """Key -> value of all that a settings file says and no default does."""
    flags: dict[str, bool] = {
        "global": settings.is_global,
        "required": settings.required,
        "permissions.network": settings.permissions.network,
    }
    told: dict[str, str | _Hidden] = {}
    if settings.active is not None:
        told["active"] = _yes(settings.active)
    told |= {name: _yes(value) for name, value in flags.items() if value != (name == "permissions.network")}
    lists = {"permissions.write": settings.permissions.write, "permissions.env": settings.permissions.env}
    told |= {name: _listed(values) for name, values in {"models": settings.models, **lists}.items() if values}
    if settings.access is not None:
        told |= _access(settings.access)
    for one in fields(settings.limits):
        value = getattr(settings.limits, one.name)
        if value is not None:
            told[f"limits.{_LIMITS[one.name][0]}"] = _LIMITS[one.name][1](value)
    told |= {f"valves.{name}": _Hidden(repr(value)) for name, value in settings.valves.items()}
    told |= {name: shown(value) for name, value in (("name", settings.name), ("owner", settings.owner)) if value}
    return told | {f"meta.{key}": _Hidden(repr(value)) for key, value in settings.meta.items()}


def _access(access: Access) -> dict[str, str]:
    lists = {"access.users": access.users, "access.roles": access.roles}
    return {name: _listed(values) for name, values in lists.items() if values} or {"access": "admins only"}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _listed(values: tuple[str, ...]) -> str:
    return shown(", ".join(values))


def _rate(rate: Rate) -> str:
    return f"{rate.count}/{units.format_duration(rate.period_s)}"


#: Field of the limits -> key in the settings file, and how it is written there.
_LIMITS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "timeout_s": ("timeout", units.format_duration),
    "memory_bytes": ("memory", units.format_size),
    "concurrency": ("concurrency", str),
    "workers": ("workers", str),
    "idle_s": ("idle", units.format_duration),
    "rate": ("rate", _rate),
    "user_rate": ("user_rate", _rate),
}


def _mappings(what: What, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in [*after, *(name for name in before if name not in after)]:
        was, now = before.get(name), after.get(name)
        if was != now:
            yield Difference(what, name, _change(was, now), was, now)
