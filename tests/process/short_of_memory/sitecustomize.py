"""Put on PYTHONPATH by a test: a trainer that is given more than two rows at once runs out of memory."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

TRAINER = "engine.objectives.trainer"


class Injector:
    """Changes the trainers' module when it is loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != TRAINER:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def changed(module: ModuleType) -> None:
            load(module)
            _inject(module)

        spec.loader.exec_module = changed  # type: ignore[method-assign]
        return spec


def _inject(module: Any) -> None:
    import torch

    plain = module.Hooks.training_step

    def step(self: Any, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return plain(self, model, inputs, *more, **named)

    module.Hooks.training_step = step


sys.meta_path.insert(0, Injector())  # type: ignore[arg-type]
