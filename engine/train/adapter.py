"""The finished adapter's folder: PEFT's files, tokenizer, chat template as trained with, and when to stop."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase, Trainer

from engine.data.template import ChatTemplate
from engine.train.checkpoints import Checkpoint, new_folder

PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")


def save_weights(model: Any, folder: Path) -> None:
    """PEFT's two files. No embedding is trained, so PEFT need not look for changed ones (it would ask the hub)."""
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def save_state(trainer: Trainer, folder: Path) -> None:
    """All that `Trainer.train` needs to go on exactly, weights included."""
    save_weights(trainer.model, folder)
    # torch.save files, which are pickles: Trainer reads them with weights_only=True, which runs no code, and the
    # manifest's hashes are checked before.
    trainer._save_optimizer_and_scheduler(str(folder))
    trainer._save_scaler(str(folder))
    trainer._save_rng_state(str(folder))
    trainer.state.save_to_json(str(folder / "trainer_state.json"))


def save_adapter(
    place: Path, model: Any, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, source: Checkpoint | None
) -> None:
    """Write the adapter folder, replacing one that is there only when the new one is complete.

    Args:
        source: where the weights are taken from; None for those that the model has now.

    Raises:
        UserError: the disk does not take it.
    """
    with new_folder(place) as folder:
        if source is None:
            save_weights(model, folder)
        else:
            for name in PEFT_FILES:
                shutil.copyfile(source.path / name, folder / name)
        tokenizer.save_pretrained(str(folder))
        generation(model, tokenizer, template).save_pretrained(str(folder))


def generation(model: Any, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> GenerationConfig:
    """The base model's generation settings, ending at its own end tokens and at the template's, in greedy order."""
    ends = [_one_token(tokenizer, text) for text in template.stop]
    own = model.generation_config.eos_token_id
    ends += own if isinstance(own, list) else [own]
    ends.append(tokenizer.eos_token_id)
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=sorted({end for end in ends if end is not None}),
        pad_token_id=tokenizer.pad_token_id,
    )


def _one_token(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """The id of a stop text that is one token; a longer one is looked for in the text while generating."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return int(ids[0]) if len(ids) == 1 else None
