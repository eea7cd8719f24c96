"""The signed tokens of a chat server: who logged in there, and for whom it says it calls.

HS256 and nothing else, whatever a token says of itself. PyJWT is imported where a server is configured for them only.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from fnsync.api.forwarded import ROLE_CHARACTERS, user_named
from fnsync.config import JwtConfig
from fnsync.configvalues import Secret
from fnsync.errors import ConfigError, Invalid, Unauthorized
from fnsync.model import Ceiling, User, lesser
from fnsync.store.users import EMAIL_CHARACTERS, ID_CHARACTERS, NAME_CHARACTERS, one_line

ALGORITHM = "HS256"
#: How far the clocks of the two servers may be apart.
LEEWAY_S = 30
#: Whoever guesses the secret is any user: what a person could think of is not enough.
MIN_SECRET_BYTES = 16
#: Who signs the tokens in X-OpenWebUI-User-Jwt.
ISSUER = "open-webui"
#: What a login token may call itself: a person's session, and what acts for the person without them.
LOGIN_TYPES = ("session", "automation", "subagent")
#: Longer ones are refused unread.
MAX_BYTES = 8 * 1024


class ChatTokens:
    """Checks the signed tokens of one chat server."""

    def __init__(self, config: JwtConfig, environ: Mapping[str, str]) -> None:
        """Raises ConfigError when a secret is missing or too short."""
        self.ceiling: Ceiling = config.ceiling
        self._logins = _Key(config.secret, environ)
        self._forwarded = _Key(config.forwarded_secret or config.secret, environ)

    def login(self, token: bytes) -> str:
        """The id of the user whose login token it is. Raises Unauthorized."""
        claims = self._logins.claims(token, required=["id"])
        if claims.get("typ", "session") not in LOGIN_TYPES:
            raise _refused("it is not for logging in")
        id = _claim(claims, "id", ID_CHARACTERS)
        if not id:
            raise _refused("its claim id is empty")
        return id

    def forwarded(self, token: bytes, ceiling: Ceiling) -> User:
        """The user for whom the chat server calls, with the least of their role and the two ceilings.

        Raises Unauthorized.
        """
        claims = self._forwarded.claims(token, required=["sub", "iss", "iat", "exp"], issuer=ISSUER)
        role = lesser(_claim(claims, "role", ROLE_CHARACTERS), ceiling)
        try:
            return user_named(
                _claim(claims, "sub", ID_CHARACTERS),
                _claim(claims, "name", NAME_CHARACTERS),
                _claim(claims, "email", EMAIL_CHARACTERS),
                lesser(role, self.ceiling),
                id_is="sub",
            )
        except Invalid as exc:
            raise _refused(exc.message) from exc


class _Key:
    """A secret, and what it has signed."""

    def __init__(self, secret: Secret, environ: Mapping[str, str]) -> None:
        import jwt  # for servers that are configured for it

        self._jwt = jwt
        self._secret = secret.value(environ).encode()
        if len(self._secret) < MIN_SECRET_BYTES:
            raise ConfigError(
                f"auth.jwt: the secret in {secret.env} is shorter than {MIN_SECRET_BYTES} bytes",
                hint="whoever guesses it is any user; give the chat server a long random one",
            )
        try:
            jwt.get_algorithm_by_name(ALGORITHM).prepare_key(self._secret)
        except jwt.InvalidKeyError as exc:
            raise ConfigError(f"auth.jwt: the value of {secret.env} is a public key or certificate, no secret") from exc
        # What is too short was refused above; Open WebUI makes its own somewhat shorter than PyJWT would like.
        warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)

    def claims(self, token: bytes, *, required: list[str], issuer: str | None = None) -> Mapping[str, Any]:
        """What the token says, once it is known to be signed and to be of this time. Raises Unauthorized."""
        if len(token) > MAX_BYTES:
            raise _refused(f"it is longer than {MAX_BYTES} bytes")
        try:
            claims: Mapping[str, Any] = self._jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                options={"require": required},
                issuer=issuer,
                leeway=LEEWAY_S,
            )
        except self._jwt.ExpiredSignatureError as exc:
            raise _refused("it has expired") from exc
        except self._jwt.PyJWTError as exc:
            raise _refused("it is not signed as expected, or not for this") from exc
        except (ValueError, TypeError, RecursionError) as exc:
            raise _refused("it cannot be read") from exc
        return claims


def _claim(claims: Mapping[str, Any], name: str, limit: int) -> str:
    """A claim's text; one that is missing is empty. Raises Unauthorized."""
    value = claims.get(name, "")
    if not isinstance(value, str):
        raise _refused(f"its claim {name} is no text")
    try:
        return one_line(value.strip(), name, limit)
    except Invalid as exc:
        raise _refused(exc.message) from exc


def _refused(why: str) -> Unauthorized:
    return Unauthorized(f"the chat server's token is refused: {why}")
