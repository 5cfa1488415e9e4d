"""What the user can do with data sets of the hub: look one up, choose a part of it, see its first rows, import it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engine.protocol.errors import Failure
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.operations.data import add_files, import_files
from gui.operations.operation import Operation
from gui.state.data import Errand

Done = Callable[[dict[str, Any]], object]


def look(context: AppContext, text: str = "") -> None:
    """Open the view of the hub; ``text``, an id or an address, is looked up at once."""
    hub = context.data.hub
    hub.is_open = True
    operation = Operation(context).in_session(context.bridge.hub, "hub_data_here")
    operation.on_success(lambda value: _list(context, value))
    if text:
        ask(context, text)
    context.data.changed.emit()


def _list(context: AppContext, value: dict[str, Any]) -> None:
    context.data.hub.here = list(value.get("data", []))
    context.data.changed.emit()


def leave(context: AppContext) -> None:
    """Close the view; what was looked up is forgotten."""
    context.data.hub.forget()
    context.data.hub.is_open = False
    context.data.hub.text = ""
    context.data.changed.emit()


def ask(context: AppContext, text: str, config: str = "") -> None:
    """Ask the hub about an id or an address, and for the first rows of what it names."""
    from engine.data.hub_names import found_in

    hub = context.data.hub
    named = found_in(text, is_asked=True)
    hub.forget()
    hub.text = text
    if named is None:
        hub.asking.status.fail(no_id(text))
        context.data.changed.emit()
        return
    wished_split, config = named.split, config or named.config

    def done(value: dict[str, Any]) -> None:
        hub.about = value
        several = len(value["configs"]) > 1
        split = wished_split if wished_split in value["splits"] else next(iter(value["splits"]), wished_split)
        hub.wished = replace(named, config=str(value["config"]) if several else "", split=split)
        _peek(context)

    doing = say("Asking the hub about {name}…", "正在向 hub 查询 {name}…", name=named.source)
    _begin(context, hub.asking, doing, done, "hub_data_info", id=named.source, config=config)


def no_id(text: str) -> Failure:
    """What is wrong with words that name no data set."""
    message = say("“{text}” names no data set of the hub.", "“{text}”不是 hub 数据集。", text=text.strip()[:60])
    hint = say(
        "Write owner/name, or paste the address of its page: https://huggingface.co/datasets/owner/name",
        "请输入 所有者/名称，或粘贴其网页地址：https://huggingface.co/datasets/所有者/名称",
    )
    return Failure("data.hub", message, hint)


def choose_config(context: AppContext, config: str) -> None:
    """Another configuration: it has splits of its own."""
    ask(context, context.data.hub.text, config)


def choose_split(context: AppContext, split: str) -> None:
    """Another part of the same configuration."""
    hub = context.data.hub
    if hub.wished is not None:
        hub.wished = replace(hub.wished, split=split)
        _peek(context)


def _peek(context: AppContext) -> None:
    hub = context.data.hub
    assert hub.wished is not None
    hub.first = {}

    def done(value: dict[str, Any]) -> None:
        hub.first = value

    doing = say("The first rows are coming…", "正在读取前几行…")
    _begin(context, hub.peeking, doing, done, "hub_data_rows", named=hub.wished.name)


def _begin(context: AppContext, errand: Errand, doing: Text, done: Done, question: str, **arguments: Any) -> None:
    """Ask one of the two questions; the answer to another one is wanted no more."""
    errand.drop()
    errand.status.work(doing)

    def succeeded(value: dict[str, Any]) -> None:
        errand.operation = None
        errand.status.ready()
        done(value)
        context.data.changed.emit()

    def failed(failure: Failure) -> None:
        errand.operation = None
        errand.status.fail(failure)
        context.data.changed.emit()

    operation = Operation(context).in_session(context.bridge.hub, question, **arguments)
    errand.operation = operation.on_success(succeeded).on_failure(failed)
    context.data.changed.emit()


def stop(context: AppContext) -> None:
    """Ask no longer."""
    context.data.hub.forget()
    context.data.changed.emit()


def take(context: AppContext, *, add: bool) -> None:
    """Import what was chosen, instead of the data that are there or besides; it is fetched when it is read."""
    wished = context.data.hub.wished
    if wished is None:
        return
    leave(context)
    (add_files if add else import_files)(context, [wished.name])


def take_known(context: AppContext, name: str) -> None:
    """Look at a data set that was fetched before, as it was chosen then."""
    ask(context, name)
