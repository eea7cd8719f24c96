"""What a value of the configuration may be: durations, sizes, addresses, paths, and secrets by reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core.core_schema import ValidationInfo

from fnsync.errors import ConfigError
from fnsync.model import Rate
from fnsync.units import parse_duration, parse_rate, parse_size


def checked(parse: Callable[[object], Any]) -> BeforeValidator:
    """Use `parse`, whose ValueError says what is allowed, in place of pydantic's own reading."""
    return BeforeValidator(parse)


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than 0")
    return seconds


def _project_path(value: object, info: ValidationInfo) -> Path:
    """Resolve against the folder of the configuration file."""
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("must be a path")
    root: Path = (info.context or {}).get("root") or Path.cwd()
    return root / Path(value).expanduser()


def _rate_or_unlimited(value: object) -> Rate | None:
    if value is None or value == "unlimited":
        return None
    try:
        return parse_rate(value)
    except ValueError as exc:
        raise ValueError(f"{exc}, or unlimited") from None


def _email(value: object) -> str:
    if not isinstance(value, str) or "@" not in value:
        raise ValueError("must be an e-mail address")
    return value.strip().lower()


def _optional_interval(value: object) -> float | None:
    return None if value is None else _positive(parse_duration(value))


def _http_url(value: object) -> str:
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise ValueError("must be a URL that begins with http:// or https://")
    return _without_password(value)


def _git_url(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or value.startswith("-"):
        raise ValueError("must be a git URL or the path of a repository")
    if value.startswith(("http://", "https://")):
        # They would stand on command lines, and may be tokens.
        if urlsplit(value).username:
            raise ValueError(
                "must not hold a user or password; auth has a reference to an environment variable instead"
            )
        if urlsplit(value).query:
            raise ValueError("must not hold a query; auth has a reference to an environment variable for a token")
    return _without_password(value)


def _without_password(url: str) -> str:
    if "://" in url and urlsplit(url).password:
        raise ValueError("must not hold a password; give it as a reference to an environment variable")
    return url


def _secret_reference(value: object) -> object:
    """Refuse a secret in clear without repeating it."""
    if isinstance(value, Secret):
        return value
    named = isinstance(value, Mapping) and len(value) == 1 and set(value) <= {"env", "file"}
    if not named or not isinstance(value, Mapping) or not all(isinstance(one, str) and one for one in value.values()):
        raise ValueError(
            "must name an environment variable or a file, as in {env: NAME} or {file: PATH}; "
            "secrets do not belong into the configuration"
        )
    return value


#: The largest secret in a file.
MAX_SECRET_CHARS = 64 * 1024

Seconds = Annotated[float, checked(parse_duration)]
Interval = Annotated[float, checked(parse_duration), AfterValidator(_positive)]
OptionalInterval = Annotated[float | None, BeforeValidator(_optional_interval)]
Bytes = Annotated[int, checked(parse_size), Field(gt=0)]
Email = Annotated[str, BeforeValidator(_email)]
RateLimit = Annotated[Rate | None, BeforeValidator(_rate_or_unlimited)]
ProjectPath = Annotated[Path, BeforeValidator(_project_path)]
HttpUrl = Annotated[str, BeforeValidator(_http_url)]
GitUrl = Annotated[str, BeforeValidator(_git_url)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
Prefix = Annotated[str, Field(pattern=r"^([a-z_][a-z0-9_]*)?$")]
ModelPrefix = Annotated[str, Field(pattern=r"^[\w.:/@-]*$")]
Text = Annotated[str, Field(min_length=1)]

T = TypeVar("T")
#: YAML has lists only; a frozen value wants tuples.
Many = Annotated[tuple[T, ...], Field(strict=False)]


def distinct_names(items: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [item.name for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two entries have the name {twice[0]}")
    return items


class Section(BaseModel):
    """A mapping of the file: all keys known, none changed later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)


class Secret(Section):
    """A secret by reference: the environment variable or the file that holds it."""

    env: Text | None = None
    file: ProjectPath | None = None

    def value(self, environ: Mapping[str, str]) -> str:
        """Return the secret. A file is read each time: it may be renewed. Raises ConfigError where it is not there."""
        if self.file is not None:
            return _read_secret(self.file)
        assert self.env is not None
        if not environ.get(self.env):
            raise ConfigError(
                f"the environment variable {self.env} is not set", hint="set it, or take the reference out"
            )
        return environ[self.env]


def _read_secret(file: Path) -> str:
    """What a file holds, without the end of its last line."""
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(MAX_SECRET_CHARS + 1)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "is not UTF-8"
        raise ConfigError(f"the file {file} with a secret cannot be read: {reason}") from exc
    if not text.strip() or len(text) > MAX_SECRET_CHARS:
        raise ConfigError(f"the file {file} holds no secret: it is empty or too large")
    return text.rstrip("\r\n") if text.count("\n") <= 1 else text


SecretReference = Annotated[Secret, BeforeValidator(_secret_reference)]
