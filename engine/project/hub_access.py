"""How the hub is reached: by which address, and with whose token.

The token is kept in the system's keyring (Keychain, Windows Credential Manager, Secret Service) and nowhere else: in no
recipe, no settings file and no log. It is handed to huggingface_hub call by call, never by the environment, which other
programs could read. ``HF_TOKEN`` and ``HF_ENDPOINT`` go before what is kept here.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from urllib.parse import urlsplit

from engine.project.settings import load_settings, save_settings
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

SERVICE = "lorimer"
ACCOUNT = "huggingface"
HUB = "https://huggingface.co"
TOKENS = "/settings/tokens"
"""Where on the hub a token is made."""
# Names that the hub's library looks at, the newest first.
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
# Tells an ``HF_ENDPOINT`` that `apply_mirror` set from one of the user's.
_FROM_SETTINGS = "LORIMER_HF_ENDPOINT"
_TOKEN = re.compile(r"[A-Za-z0-9_.\-]{8,512}")


# ---------------------------------------------------------------------------------------------------------- address
def endpoint() -> str | None:
    """The hub's address: the user's ``HF_ENDPOINT``, else the mirror of the settings; None for the usual one."""
    given = os.environ.get("HF_ENDPOINT")
    if given and given != os.environ.get(_FROM_SETTINGS):
        return given
    return load_settings().mirror or None


def apply_mirror() -> None:
    """Let libraries that know of ``HF_ENDPOINT`` alone use the mirror, too; called before they are imported."""
    mirror = load_settings().mirror
    if mirror and not os.environ.get("HF_ENDPOINT"):
        os.environ["HF_ENDPOINT"] = os.environ[_FROM_SETTINGS] = mirror


def page(path: str = "") -> str:
    """The address of one of the hub's pages, as people open it; gated models are asked for at the hub, not a mirror."""
    return f"{HUB}/{path.lstrip('/')}"


def set_mirror(address: str) -> str:
    """Reach the hub by another address from now on, empty for the usual one; gives it as it is kept.

    Raises:
        UserError: it is no address, or one that everybody on the way could read.
    """
    kept = checked_mirror(address)
    save_settings(replace(load_settings(), mirror=kept))
    return kept


def checked_mirror(address: str) -> str:
    """An address as it is kept. Raises `UserError` as `set_mirror` does."""
    text = address.strip()
    if not text:
        return ""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise UserError(
            "hub.mirror",
            say("“{text}” is no address of a hub.", "“{text}”不是 hub 的地址。", text=text[:80]),
            say("It has the form https://hf-mirror.com", "格式如 https://hf-mirror.com"),
        )
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise UserError(
            "hub.mirror_open",
            say(
                "{text} is not encrypted, and your token would go there.",
                "{text} 未加密，而你的令牌会发送到那里。",
                text=text,
            ),
            say("Use its https address.", "请使用其 https 地址。"),
        )
    return parts.geturl().rstrip("/")


# ------------------------------------------------------------------------------------------------------------ token
def token() -> str | None:
    """The token to ask with; None for that of ``HF_TOKEN`` or ``hf auth login``, which the hub's library finds itself.

    A keyring that cannot be opened counts as empty: models that nobody guards are fetched without.
    """
    return None if has_token_variable() else kept_token()


def kept_token() -> str | None:
    """The token in the keyring, whatever the environment holds; None without one, and where it cannot be opened."""
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(SERVICE, ACCOUNT) or None
    except (KeyringError, OSError):
        return None


def has_token_variable() -> bool:
    """Whether the environment holds a token; it goes before the kept one."""
    return any(os.environ.get(name) for name in TOKEN_VARIABLES)


def keep_token(given: str) -> None:
    """Keep a token in the system's keyring.

    Raises:
        UserError: it does not look like a token, or this system has no keyring that takes it.
    """
    import keyring
    from keyring.errors import KeyringError

    text = given.strip()
    if not _TOKEN.fullmatch(text):
        raise UserError(
            "hub.token",
            say("This does not look like a token.", "这不像是令牌。"),
            say(
                "A token begins with hf_ and has no spaces: {page}",
                "令牌以 hf_ 开头、不含空格：{page}",
                page=page(TOKENS),
            ),
        )
    try:
        keyring.set_password(SERVICE, ACCOUNT, text)
    except (KeyringError, OSError) as error:
        raise no_keyring(error) from error


def forget_token() -> bool:
    """Take the token out of the keyring; gives whether there was one.

    Raises:
        UserError: the keyring cannot be opened.
    """
    import keyring
    from keyring.errors import KeyringError, PasswordDeleteError

    try:
        if keyring.get_password(SERVICE, ACCOUNT) is None:
            return False
        keyring.delete_password(SERVICE, ACCOUNT)
    except PasswordDeleteError:
        return False
    except (KeyringError, OSError) as error:
        raise no_keyring(error) from error
    return True


def no_keyring(error: Exception) -> UserError:
    """What to do where the system keeps no secrets (a server without a desktop, a container)."""
    return UserError(
        "hub.no_keyring",
        say("This system has no keyring that is open.", "此系统没有可用的密钥环。"),
        say(
            "Set HF_TOKEN in the environment for this session, or run: hf auth login (keeps the token in a file).",
            "请在环境变量中设置 HF_TOKEN，或运行 hf auth login（令牌会存入文件）。",
        ),
        exit_code=EXIT_MACHINE,
        details=f"{type(error).__name__}: {error}",
    )
