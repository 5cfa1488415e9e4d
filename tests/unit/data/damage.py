"""Damaged data files by the thousand: whole ones of every format, hurt in every way, the same for the same seed."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

ROWS: list[dict[str, Any]] = [
    {
        "instruction": f"How many apples lie in basket {i}? 篮子 {i} 里有几个苹果？",
        "input": "",
        "output": f'There are {i} "red" apples,\nand 🙂 some pears. {"And more. " * (i % 9)}',
    }
    for i in range(24)
]
TURNS = [
    {"messages": [{"role": "user", "content": r["instruction"]}, {"role": "assistant", "content": r["output"]}]}
    for r in ROWS
]
PAIRS = [{"prompt": r["instruction"], "chosen": r["output"], "rejected": f"no {i}"} for i, r in enumerate(ROWS)]


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _csv() -> bytes:
    cells = (",".join('"' + str(row[name]).replace('"', '""') + '"' for name in row) for row in ROWS)
    return ("instruction,input,output\r\n" + "\r\n".join(cells) + "\r\n").encode()


def _parquet() -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file, row_group_size=6)
    return file.getvalue()


def _arrow() -> bytes:
    file, table = io.BytesIO(), pyarrow.Table.from_pylist(ROWS)
    with pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=6)
    return file.getvalue()


WHOLE: dict[str, bytes] = {
    "rows.jsonl": _lines(ROWS),
    "rows.json": json.dumps(ROWS, ensure_ascii=False, indent=1).encode(),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "turns.jsonl": _lines(TURNS),
    "turns.json": json.dumps(TURNS).encode(),
    "pairs.jsonl": _lines(PAIRS),
    "rows.csv": _csv(),
    "rows.tsv": _csv().replace(b'","', b'"\t"').replace(b"instruction,input,", b"instruction\tinput\t"),
    "rows.parquet": _parquet(),
    "rows.arrow": _arrow(),
    "text.txt": "\n\n".join(row["output"] for row in ROWS).encode(),
    "wide.jsonl": _lines(ROWS).decode().encode("utf-16"),
    "chinese.json": json.dumps(ROWS[:12], ensure_ascii=False).replace("🙂", "").encode("gb18030"),
    "rows.jsonl.gz": gzip.compress(_lines(ROWS)),
    "rows.csv.zst": pyarrow.compress(_csv(), "zstd", asbytes=True),
}

Hurt = Callable[[bytes, random.Random], bytes]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _without_start(content: bytes, rng: random.Random) -> bytes:
    return content[rng.randrange(len(content)) :]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    hurt = bytearray(content)
    for _ in range(rng.randint(1, 40)):
        hurt[rng.randrange(len(hurt))] = rng.randrange(256)
    return bytes(hurt)


def _shuffled(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice((7, 64, 512))
    blocks = [content[i : i + size] for i in range(0, len(content), size)]
    rng.shuffle(blocks)
    return b"".join(blocks)


def _hole(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice((1, 30, 400)))
    return content[:start] + bytes(end - start) + content[end:]


def _lost(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.choice((1, 2, 50)) :]


def _doubled(content: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content)), rng.randrange(300)
    return content[: start + length] + content[start:]


_ODD_VALUES = (
    "null", "true", "[]", "{}", "1e999", "-1e-400", "9" * 400, '"\\ud83d"', '"\\u0000"', "NaN", '[[["x"]]]',
    '{"a": {"b": [1, null]}}', '"' + "x" * 3000 + '"', "[" * 3000 + "]" * 3000, '""', '" "',
    '{"url": "cat.png", "type": "image"}',
)  # fmt: skip


def _odd_values(content: bytes, rng: random.Random) -> bytes:
    """Values of the wrong type, nested, null or enormous in place of texts."""
    pieces = content.split(b'": "')
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(1, len(pieces)) if len(pieces) > 1 else 0
        if place:
            rest = pieces[place].split(b'"', 1)[-1]
            pieces[place - 1 : place + 1] = [pieces[place - 1] + b'": ' + rng.choice(_ODD_VALUES).encode() + rest]
    return b'": "'.join(pieces)


def _other_names(content: bytes, rng: random.Random) -> bytes:
    name = rng.choice((b"output", b"instruction", b"content", b"role", b"chosen", b"messages"))
    return content.replace(name, rng.choice((b"", b"x", b"a b", "列".encode(), b"__proto__", b"0")))


def _shifted(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(lines))
        lines[place] = rng.choice((b",", b'"', b",,,,,,", b"\t", b"\0", b"\xff\xfe")) + lines[place]
    return b"\n".join(lines)


def _mixed_ends(content: bytes, rng: random.Random) -> bytes:
    return b"".join(line + rng.choice((b"\n", b"\r\n", b"\r", b"\n\n")) for line in content.split(b"\n"))


def _bad_bytes(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return (
        content[:start]
        + rng.choice((b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88", b"\xef\xbb\xbf"))
        + content[start:]
    )


HURTS: tuple[Hurt, ...] = (
    _cut, _without_start, _flipped, _shuffled, _hole, _lost, _doubled, _odd_values, _other_names, _shifted, _mixed_ends,
    _bad_bytes,
)  # fmt: skip


def damaged(count: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """(name, content) of so many damaged files: every format, hurt once to three times."""
    rng = random.Random(seed)
    names = list(WHOLE)
    for number in range(count):
        name = names[number % len(names)]
        content = WHOLE[name]
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            content = rng.choice(HURTS)(content, rng) or b"\n"
        if rng.random() < 0.05:
            name = rng.choice(names)  # a wrong ending besides
        yield f"{number:04d}-{name}", content
