"""Writes the sample datasets of resources/samples: shop orders in free words, and the record that each one becomes.

    python packaging/starter/make_samples.py [--out resources/samples]

The words are those of the starter's world; the record is a form that the starter has never seen.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from lexicon import COLOURS, NAMES_EN, NAMES_ZH, THINGS
from world import Item, listing, phrase

SEED = 7
ROWS = 2000

INSTRUCTIONS_EN = (
    "Turn the order into a record.",
    "Write the record of this order.",
    "Make a record for the shop.",
    "Read the order and write its record.",
    "Order to record:",
)
ORDERS_EN = (
    "Please send {items} to {name}.",
    "{name} would like {items}.",
    "{name} wants {items}, please.",
    "Can you pack {items} for {name}?",
    "Hello, this is {name}. I need {items}.",
    "Order for {name}: {items}.",
    "We need {items}. Deliver to {name}.",
    "Just {items} for {name}, thank you.",
    "Ship {items} to {name} today.",
    "Hi! {name} here. Could I get {items}?",
    "I am {name} and I want to buy {items}.",
    "Put {items} in a parcel for {name}.",
    "My friend {name} asked for {items}.",
    "The customer is {name}, the goods are {items}.",
    "Good morning! Please bring {items} to {name} by Friday.",
    "Pack a box with {items}. It is for {name}.",
    "{name} will pay for {items}.",
    "Could you post {items} to my sister {name}?",
)
INSTRUCTIONS_ZH = (
    "把订单写成记录。",
    "请写出这个订单的记录。",
    "给商店写一条记录。",
    "读订单，写记录。",
    "订单转记录：",
)
ORDERS_ZH = (
    "请把{items}寄给{name}。",
    "{name}想要{items}。",
    "{name}需要{items}，麻烦了。",
    "能给{name}包好{items}吗？",
    "你好，我是{name}，我要{items}。",
    "{name}的订单：{items}。",
    "我们需要{items}，请送到{name}那里。",
    "只要{items}，给{name}，谢谢。",
    "今天把{items}发货给{name}。",
    "您好！我叫{name}，可以买{items}吗？",
    "我是{name}，想购买{items}。",
    "把{items}装进包裹寄给{name}。",
    "我的朋友{name}要{items}。",
    "客户是{name}，商品是{items}。",
    "早上好！请在星期五之前把{items}送给{name}。",
    "请打包{items}，是给{name}的。",
    "{name}会付{items}的钱。",
    "能把{items}快递给我姐姐{name}吗？",
)


def order(rng: random.Random, lang: str) -> tuple[str, str, str]:
    """An instruction, an order and its record, such as ``to: Mia | cup red x3 | ball blue x1``."""
    english = lang == "en"
    name = rng.choice(NAMES_EN if english else NAMES_ZH)
    many = rng.choice((1, 1, 2, 2, 2, 3))
    items = [
        Item(rng.randint(1, 9), colour, thing)
        for colour, thing in zip(rng.sample(COLOURS, many), rng.sample(THINGS, many), strict=True)
    ]
    digits, single = rng.random() < 0.25, rng.random() < 0.5
    said = listing([phrase(item, lang, digits, single) for item in items], lang)
    text = rng.choice(ORDERS_EN if english else ORDERS_ZH).format(items=said, name=name)
    record = [f"to: {name}" if english else f"收件：{name}"]
    for item in items:
        thing, colour = (item.thing.one, item.colour.en) if english else (item.thing.zh, f"{item.colour.zh}色")
        record.append(f"{thing} {colour} x{item.count}")
    return rng.choice(INSTRUCTIONS_EN if english else INSTRUCTIONS_ZH), text, " | ".join(record)


def rows(lang: str, seed: int = SEED, count: int = ROWS) -> Iterator[dict[str, object]]:
    """``count`` rows with different orders: Alpaca columns in English, ``messages`` in Chinese."""
    rng = random.Random(f"{seed} {lang}")
    seen: set[str] = set()
    while len(seen) < count:
        instruction, text, record = order(rng, lang)
        if text in seen:
            continue
        seen.add(text)
        if lang == "en":
            yield {"instruction": instruction, "input": text, "output": record}
        else:
            yield {
                "messages": [
                    {"role": "user", "content": f"{instruction}\n{text}"},
                    {"role": "assistant", "content": record},
                ]
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "resources" / "samples")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for lang in ("en", "zh"):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows(lang)]
        (out / f"orders_{lang}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
