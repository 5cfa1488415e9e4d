"""Asks a starter model questions that it has not seen and prints, as one JSON document, how many it answers exactly.

    python packaging/starter/check_starter.py [--model resources/starter] [--each 40] [--seed 1]

A story counts when it ends by itself within the limit, has at least four sentences, names the hero, the colour and the
thing of the prompt, says no sentence twice and uses no word that the world's stories do not use.
"""

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from world import LANGUAGES, Message, Task, cast, exam, names, task, tell_story

BATCH = 64
LONGEST = 128


def answers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[list[Message]],
    longest: int = LONGEST,
) -> list[tuple[str, bool]]:
    """Greedy answers to chats that end with a user turn, each with whether the model ended it by itself."""
    texts = [str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)) for chat in asked]
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found: dict[int, tuple[str, bool]] = {}
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        inputs = tokenizer(
            [texts[p] for p in places], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        )
        with torch.no_grad():
            whole: Any = model  # the annotations of generate() do not fit the class that has it
            output = whole.generate(**inputs, max_new_tokens=longest, do_sample=False)
        for place, row in zip(places, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            ended = tokenizer.eos_token_id in row
            kept = row[: row.index(tokenizer.eos_token_id)] if ended else row
            found[place] = str(tokenizer.decode(kept, clean_up_tokenization_spaces=False)), ended
    return [found[place] for place in range(len(asked))]


def _words(text: str, lang: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]+", text)) if lang == "en" else set(re.findall(r"\w", text))


def known_words(lang: str) -> set[str]:
    """All words (in Chinese: characters) of five thousand stories of the world."""
    rng = random.Random(0)
    return set().union(*(_words(tell_story(rng, lang, cast(rng, lang)), lang) for _ in range(5000)))


def story_is_good(made: Task, text: str, ended: bool, known: set[str]) -> bool:
    """Whether a story meets the conditions in this script's docstring."""
    sentences = [part.strip() for part in re.split(r"(?<=[.!?。！？])", text) if len(part.strip()) > 1]
    return (
        ended
        and len(sentences) >= 4
        and len(set(sentences)) == len(sentences)
        and all(word in text for word in made.must)
        and _words(text, made.lang) <= known
    )


def _is_right(made: Task, answer: tuple[str, bool], known: dict[str, set[str]]) -> bool:
    if made.skill == "story":
        return story_is_good(made, *answer, known[made.lang])
    return answer == (made.answer, True)


def _turns_exam(seed: int, each: int) -> list[tuple[str, list[Message], str]]:
    """Chats that ask for a name told two turns before, and chats whose question follows another and a system prompt."""
    rng = random.Random(seed)
    made: list[tuple[str, list[Message], str]] = []
    for lang in LANGUAGES:
        for _ in range(each):
            person = names(rng, lang, 1)[0]
            hello, back, question, answer = (
                (
                    f"Hello! My name is {person}.",
                    f"Hello, {person}! Nice to meet you.",
                    "What is my name?",
                    f"Your name is {person}.",
                )
                if lang == "en"
                else (f"你好！我叫{person}。", f"你好，{person}！很高兴认识你。", "我叫什么名字？", f"你叫{person}。")
            )
            made.append(
                (
                    f"name told before/{lang}",
                    [
                        {"role": "user", "content": hello},
                        {"role": "assistant", "content": back},
                        {"role": "user", "content": question},
                    ],
                    answer,
                )
            )
            first, second = task(rng, "opposite", lang, unseen=True), task(rng, "colour", lang, unseen=True)
            helper = "You are a friendly helper." if lang == "en" else "你是一个友好的助手。"
            made.append(
                (
                    f"system prompt and second turn/{lang}",
                    [
                        {"role": "system", "content": helper},
                        {"role": "user", "content": first.prompt},
                        {"role": "assistant", "content": first.answer},
                        {"role": "user", "content": second.prompt},
                    ],
                    second.answer,
                )
            )
    return made


def check(folder: Path, each: int, seed: int) -> dict[str, object]:
    """The skill figures of the model in ``folder``: right answers as a fraction, by skill and language."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tasks = list(exam(seed, each))
    got = answers(model, tokenizer, [[{"role": "user", "content": made.prompt}] for made in tasks])
    known = {lang: known_words(lang) for lang in LANGUAGES}
    marks: dict[str, list[bool]] = defaultdict(list)
    wrong: list[dict[str, str]] = []
    for made, answer in zip(tasks, got, strict=True):
        right = _is_right(made, answer, known)
        marks[f"{made.skill}/{made.lang}"].append(right)
        if not right:
            wrong.append({"skill": made.skill, "prompt": made.prompt, "expected": made.answer, "answer": answer[0]})
    turns = _turns_exam(seed, each)
    for (kind, _, expected), (said, ended) in zip(
        turns, answers(model, tokenizer, [c for _, c, _ in turns]), strict=True
    ):
        marks[kind].append(ended and said == expected)
    every = [mark for row in marks.values() for mark in row]
    return {
        "questions": len(every),
        "right": sum(every) / len(every),
        "skills": {
            kind: {"questions": len(row), "right": round(sum(row) / len(row), 4)} for kind, row in marks.items()
        },
        "wrong": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[2] / "resources" / "starter")
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(check(options.model, options.each, options.seed), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
