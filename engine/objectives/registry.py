"""The objectives there are. A new one is a declaration file, a work file, and its line here."""

from engine.objectives.declare import Objective
from engine.objectives.dpo import DPO
from engine.objectives.sft import SFT

OBJECTIVES: dict[str, Objective] = {objective.name: objective for objective in (SFT, DPO)}
