"""What the user can do about the hub itself: keep or forget a token, use a mirror, open its pages."""

from __future__ import annotations

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from engine.protocol.errors import Failure, UserError
from engine.protocol.text import NOTHING, Text, say
from gui.context import AppContext
from gui.operations.operation import Operation


def open_access(context: AppContext) -> None:
    """Show how the hub is reached, and find out whether there is a token."""
    access = context.models.access
    access.open = True
    access.status.clear()
    context.models.changed.emit()
    look_for_token(context)


def close_access(context: AppContext) -> None:
    """Go back to the models."""
    context.models.access.open = False
    context.models.changed.emit()


def look_for_token(context: AppContext) -> None:
    """Find out whether there is a token; the keyring may ask its owner first, so nobody waits for it."""

    def find() -> str:
        from engine.project import hub_access

        if hub_access.has_token_variable():
            return "variable"
        return "kept" if hub_access.token() else "none"

    def done(found: str) -> None:
        context.models.access.token = found
        context.models.changed.emit()

    Operation(context).in_background(find).on_success(done)


def keep_token(context: AppContext, token: str) -> None:
    """Keep a token in the system's keyring, then ask the hub whose it is; one that it does not know is forgotten."""
    from engine.project import hub_access

    _work(context, say("Keeping the token…", "正在保存令牌…"))

    def kept(_nothing: object) -> None:
        context.models.access.token = "kept"
        _work(context, say("Asking the hub whose token it is…", "正在向 hub 查询令牌所属账号…"))
        asked = Operation(context).in_session(context.bridge.hub, "hub_user")
        asked.on_success(lambda value: _ended(context, user=str(value.get("user", "")))).on_failure(refused)

    def refused(failure: Failure) -> None:
        if failure.code == "hub.token_refused":
            forget_token(context, failure)
        else:
            _ended(context, failure)

    operation = Operation(context).in_background(lambda: hub_access.keep_token(token))
    operation.on_success(kept).on_failure(lambda failure: _ended(context, failure))


def forget_token(context: AppContext, because: Failure | None = None) -> None:
    """Take the token out of the keyring."""
    from engine.project import hub_access

    _work(context, say("Forgetting the token…", "正在删除令牌…"))

    def done(_was: bool) -> None:
        context.models.access.token = "none"
        _ended(context, because)

    operation = Operation(context).in_background(hub_access.forget_token)
    operation.on_success(done).on_failure(lambda failure: _ended(context, failure))


def use_mirror(context: AppContext, address: str) -> None:
    """Reach the hub by another address from now on, empty for the usual one."""
    try:
        context.settings.set_mirror(address)
    except UserError as error:
        _ended(context, Failure.of(error))
        return
    _ended(context)


def open_page(path: str) -> None:
    """Open one of the hub's pages in the browser."""
    from engine.project.hub_access import page

    QDesktopServices.openUrl(QUrl(page(path)))


def _work(context: AppContext, doing: Text) -> None:
    context.models.access.doing, context.models.access.user = doing, ""
    context.models.access.status.clear()
    context.models.changed.emit()


def _ended(context: AppContext, failure: Failure | None = None, *, user: str = "") -> None:
    access = context.models.access
    access.doing, access.user = NOTHING, user
    if failure is None:
        access.status.ready()
    else:
        access.status.fail(failure)
    context.models.changed.emit()
