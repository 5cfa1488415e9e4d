"""What names a data set of the hub: ids, addresses of its pages, and the recipe's own way."""

from __future__ import annotations

import pytest

from engine.data.hub_names import HubName, found_in, shown_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("https://huggingface.co/datasets/tatsu-lab/alpaca", "hub:tatsu-lab/alpaca"),
        ("  <https://huggingface.co/datasets/tatsu-lab/alpaca/>  ", "hub:tatsu-lab/alpaca"),
        ("https://hf-mirror.com/datasets/a/b/viewer/main/test?row=1", "hub:a/b?config=main&split=test"),
        ("https://huggingface.co/datasets/a/b/tree/v2", "hub:a/b?revision=v2"),
        ("https://huggingface.co/datasets/a/b/tree/main/data", "hub:a/b"),
        ("https://huggingface.co/datasets/squad", "hub:squad"),
        ("https://huggingface.co/datasets/squad/viewer", "hub:squad"),
        ("hf://datasets/a/b", "hub:a/b"),
        ("huggingface.co/datasets/a/b", "hub:a/b"),
        ("hub:a/b?split=test", "hub:a/b?split=test"),
    ],
)
def test_addresses_name_data_sets(text: str, name: str) -> None:
    found = found_in(text)
    assert found is not None
    assert found.name == name
    assert HubName.parse(found.name) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b",
        "https://huggingface.co/Qwen/Qwen3-0.6B",
        "file:///datasets/a/b",
        "https://huggingface.co/datasets",
        "https://huggingface.co/datasets/a b",
        "hub:a/b?rows=3",
        "What is a/b?",
    ],
)
def test_other_texts_name_none(text: str) -> None:
    assert found_in(text) is None


def test_an_id_counts_where_it_is_asked_for() -> None:
    assert found_in("a/b", is_asked=True) == HubName("a/b")
    assert found_in("datasets/a/b", is_asked=True) == HubName("a/b")
    assert found_in("What is a/b?", is_asked=True) is None


def test_what_people_read() -> None:
    assert shown_name("hub:a/b?config=main&split=test") == "a/b · main · test"
    assert shown_name("/d/rows.jsonl") == "rows.jsonl"
    assert shown_name("C:\\d\\rows.jsonl") == "rows.jsonl"
    assert shown_name("hub:?") == "hub:?"
