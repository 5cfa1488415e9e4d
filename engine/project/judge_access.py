"""How a judge is reached: which addresses may be asked, and with whose key.

The key is kept in the system's keyring, one for each address, and nowhere else: in no recipe, settings file, command
line, log or record of a run. It is sent to the address that it was given for and to no other, whatever a recipe says.
``LORIMER_JUDGE_API_KEY`` goes before the kept one, for the address in ``LORIMER_JUDGE_ADDRESS`` alone.
"""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import SplitResult, urlsplit

from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

SERVICE = "lorimer"
KEY_VARIABLE, ADDRESS_VARIABLE = "LORIMER_JUDGE_API_KEY", "LORIMER_JUDGE_ADDRESS"
_KEY = re.compile(r"[\x21-\x7e]{6,1000}")


def checked_address(address: str) -> str:
    """A judge's address as it is asked: encrypted, or on this machine.

    Raises:
        UserError: it is no address, or one on whose way everybody could read rows and key.
    """
    text = address.strip()
    parts = _split(text)
    if parts is None or parts.query or parts.fragment or parts.username or parts.password:
        raise UserError(
            "judge.address",
            say("“{text}” is no address of a judge.", "“{text}”不是评审模型的地址。", text=text[:80]),
            say(
                "It has the form https://api.example.com/v1, or http://127.0.0.1:8080/v1 on this machine.",
                "格式如 https://api.example.com/v1，或本机的 http://127.0.0.1:8080/v1。",
            ),
            where="evaluate.judge.address",
        )
    if parts.scheme == "http" and not is_here(parts.hostname or ""):
        raise UserError(
            "judge.address_open",
            say(
                "{host} is not encrypted, and your rows and key would go there.",
                "{host} 未加密，而你的数据和密钥会发送到那里。",
                host=parts.hostname,
            ),
            say("Use its https address.", "请使用其 https 地址。"),
            where="evaluate.judge.address",
        )
    return text.rstrip("/")


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if known and re.fullmatch(r"[\x21-\x7e]+", text) else None


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin(address: str) -> str:
    """Scheme, host and port of a checked address: what a key belongs to."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


# -------------------------------------------------------------------------------------------------------------- key
def judge_key(address: str) -> str | None:
    """The key for a checked address; None without one (many servers of one's own ask for none)."""
    given = os.environ.get(KEY_VARIABLE)
    named = os.environ.get(ADDRESS_VARIABLE, "")
    if given and (parts := _split(named)) is not None and origin(parts.geturl()) == origin(address):
        return given
    return kept_judge_key(address)


def kept_judge_key(address: str) -> str | None:
    """The key in the keyring; None without one, and where it cannot be opened."""
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(SERVICE, _account(address)) or None
    except (KeyringError, OSError):
        return None


def keep_judge_key(address: str, given: str) -> None:
    """Keep the key for an address in the system's keyring.

    Raises:
        UserError: the address is none, the key does not look like one, or this system has no keyring that takes it.
    """
    import keyring
    from keyring.errors import KeyringError

    text, where = given.strip(), checked_address(address)
    if not _KEY.fullmatch(text):
        raise UserError(
            "judge.key",
            say("This does not look like a key.", "这不像是密钥。"),
            say("A key has no spaces and at least six characters.", "密钥不含空格，至少六个字符。"),
        )
    try:
        keyring.set_password(SERVICE, _account(where), text)
    except (KeyringError, OSError) as error:
        raise no_judge_keyring(error) from error


def forget_judge_key(address: str) -> bool:
    """Take the key of an address out of the keyring; gives whether there was one.

    Raises:
        UserError: the address is none, or the keyring cannot be opened.
    """
    import keyring
    from keyring.errors import KeyringError, PasswordDeleteError

    account = _account(checked_address(address))
    try:
        if keyring.get_password(SERVICE, account) is None:
            return False
        keyring.delete_password(SERVICE, account)
    except PasswordDeleteError:
        return False
    except (KeyringError, OSError) as error:
        raise no_judge_keyring(error) from error
    return True


def no_judge_keyring(error: Exception) -> UserError:
    """What to do where the system keeps no secrets."""
    return UserError(
        "judge.no_keyring",
        say("This system has no keyring that is open.", "此系统没有可用的密钥环。"),
        say(
            "For this session set {key}, and {address} to the judge's address.",
            "可为本次会话设置环境变量 {key}，并将 {address} 设为评审模型的地址。",
            key=KEY_VARIABLE,
            address=ADDRESS_VARIABLE,
        ),
        exit_code=EXIT_MACHINE,
        details=f"{type(error).__name__}: {error}",
    )


def _account(address: str) -> str:
    return f"judge {origin(address)}"
