"""Signatures: those of the senders' own examples, and none that was made otherwise."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnsync.signatures import WINDOW_S, Headers, Kind, scheme, sign

NOW = 1_700_000_000.0
BODY = b'{"ref":"refs/heads/main"}'
SECRET = "correct horse battery staple"
KEY = bytes(range(32))
STANDARD_SECRET = "whsec_" + base64.b64encode(KEY).decode()


def hexed(secret: str = SECRET, body: bytes = BODY) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()


def standard(key: bytes = KEY, id: bytes = b"msg-1", at: int = int(NOW), body: bytes = BODY) -> dict[bytes, bytes]:
    digest = hmac.new(key, b"%b.%d." % (id, at) + body, hashlib.sha256).digest()
    return {
        b"webhook-id": id,
        b"webhook-timestamp": b"%d" % at,
        b"webhook-signature": b"v1,AAAA v1," + base64.b64encode(digest),
    }


def timed(secret: str = SECRET, at: float = NOW, body: bytes = BODY) -> dict[bytes, bytes]:
    return {b"x-fnsync-signature": sign(secret, body, int(at)).encode()}


def test_the_hosts_own_examples() -> None:
    """From GitHub's documentation and from the specification of Standard Webhooks."""
    github = {b"x-hub-signature-256": b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    assert scheme("github", "It's a Secret to Everybody").check(github, b"Hello, World!", NOW)
    given = {
        b"webhook-id": b"msg_p5jXN8AQM9LWM0D4loKWxJek",
        b"webhook-timestamp": b"1614265330",
        b"webhook-signature": b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert scheme("gitlab", secret).check(given, b'{"test": 2432232314}', 1614265330.0)


GOOD: list[tuple[Kind, str, Headers]] = [
    ("github", SECRET, {b"x-hub-signature-256": b"sha256=" + hexed()}),
    ("github", SECRET, {b"x-hub-signature-256": b"SHA256=" + hexed().upper()}),
    ("gitea", SECRET, {b"x-gitea-signature": hexed()}),
    ("gitea", SECRET, {b"x-forgejo-signature": hexed(), b"x-hub-signature-256": b"sha256=" + hexed()}),
    ("gitea", SECRET, {b"x-hub-signature-256": b"sha256=" + hexed()}),
    ("gitlab", SECRET, {b"x-gitlab-token": SECRET.encode()}),
    ("gitlab", STANDARD_SECRET, standard()),
    ("generic", SECRET, timed()),
    ("generic", SECRET, timed(at=NOW - WINDOW_S)),
    ("generic", SECRET, timed(at=NOW + WINDOW_S)),
    ("generic", SECRET, standard(SECRET.encode())),
    ("generic", STANDARD_SECRET, standard()),
]
BAD: list[tuple[Kind, str, Headers]] = [
    ("github", SECRET, {b"x-hub-signature-256": hexed()}),
    ("github", SECRET, {b"x-hub-signature-256": b"sha256="}),
    ("github", SECRET, {b"x-hub-signature-256": b"sha256=" + hexed("another")}),
    ("github", SECRET, {b"x-hub-signature-256": b"sha256=" + hexed(body=BODY + b" ")}),
    ("github", SECRET, {b"x-hub-signature": b"sha1=" + hexed()}),
    ("github", SECRET, {b"x-gitlab-token": SECRET.encode()}),
    ("gitea", SECRET, {b"x-forgejo-signature": b"00", b"x-gitea-signature": hexed()}),
    ("gitlab", SECRET, {b"x-gitlab-token": SECRET.encode()[:-1]}),
    ("gitlab", SECRET, {b"x-gitlab-token": b""}),
    ("gitlab", STANDARD_SECRET, {b"x-gitlab-token": STANDARD_SECRET.encode()}),
    ("gitlab", STANDARD_SECRET, standard(KEY[:-1])),
    ("gitlab", STANDARD_SECRET, standard(at=int(NOW) - WINDOW_S - 1)),
    ("gitlab", STANDARD_SECRET, standard() | {b"webhook-id": b"msg-2"}),
    ("gitlab", STANDARD_SECRET, {b"webhook-signature": standard()[b"webhook-signature"]}),
    ("generic", SECRET, timed(at=NOW - WINDOW_S - 1)),
    ("generic", SECRET, timed(at=NOW + WINDOW_S + 1)),
    ("generic", SECRET, {b"x-fnsync-signature": b"v1=" + hexed()}),
    ("generic", SECRET, {b"x-fnsync-signature": timed()[b"x-fnsync-signature"].replace(b"t=", b"t=0,t=")}),
    ("generic", SECRET, {b"x-hub-signature-256": b"sha256=" + hexed()}),
]


@pytest.mark.parametrize(("kind", "secret", "headers"), GOOD)
def test_what_the_sender_signed_is_taken(kind: Kind, secret: str, headers: Headers) -> None:
    assert scheme(kind, secret).check(headers, BODY, NOW)


@pytest.mark.parametrize(("kind", "secret", "headers"), BAD)
def test_what_was_made_otherwise_is_not(kind: Kind, secret: str, headers: Headers) -> None:
    one = scheme(kind, secret)
    assert not any(name in headers for name in one.names) or one.check(headers, BODY, NOW) is None


@given(st.sampled_from([item[:2] for item in GOOD]), st.binary(max_size=200), st.binary(max_size=50))
def test_no_other_bytes_are_a_signature(who: tuple[Kind, str], given: bytes, body: bytes) -> None:
    one = scheme(*who)
    headers = dict.fromkeys((*one.names, b"webhook-id", b"webhook-timestamp"), given)
    assert one.check(headers, body, NOW) is None


def test_a_replay_has_the_same_delivery_whatever_is_not_signed() -> None:
    """The ids of GitHub's deliveries are not signed: whoever repeats one can change them."""
    one = scheme("github", SECRET)
    signature = {b"x-hub-signature-256": b"sha256=" + hexed()}
    first = one.check({**signature, b"x-github-delivery": b"1"}, BODY, NOW)
    assert first is not None and first == one.check({**signature, b"x-github-delivery": b"2"}, BODY, NOW)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_%%%", "whsec_a"])
def test_a_secret_of_the_wrong_form_is_told(secret: str) -> None:
    with pytest.raises(ValueError, match="no base64"):
        scheme("gitlab", secret)
