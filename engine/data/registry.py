"""The data shapes there are, the most specific first. A new one is a file in ``shapes`` and its line here."""

from engine.data.declare import Shape
from engine.data.shapes.alpaca import ALPACA
from engine.data.shapes.classification import CLASSIFICATION
from engine.data.shapes.kto import KTO
from engine.data.shapes.messages import MESSAGES, SHAREGPT
from engine.data.shapes.preference import PREFERENCE
from engine.data.shapes.prompt_completion import PROMPT_COMPLETION
from engine.data.shapes.text import TEXT

SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (PREFERENCE, KTO, MESSAGES, SHAREGPT, ALPACA, PROMPT_COMPLETION, CLASSIFICATION, TEXT)
}
