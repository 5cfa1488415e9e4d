"""The data shapes there are, the most specific first. A new one is a file in ``shapes`` and its line here."""

from engine.data.declare import Shape
from engine.data.shapes.alpaca import ALPACA
from engine.data.shapes.messages import MESSAGES, SHAREGPT
from engine.data.shapes.preference import PREFERENCE
from engine.data.shapes.prompt_completion import PROMPT_COMPLETION

SHAPES: dict[str, Shape] = {shape.name: shape for shape in (PREFERENCE, MESSAGES, SHAREGPT, ALPACA, PROMPT_COMPLETION)}
