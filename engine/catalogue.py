"""All that this Lorimer can do, gathered from the rooms' registries; light."""

from engine.methods.registry import METHODS
from engine.objectives.registry import OBJECTIVES
from engine.recipe.file import Catalogue

CATALOGUE = Catalogue(
    methods={name: method.settings for name, method in METHODS.items()},
    objectives={name: objective.settings for name, objective in OBJECTIVES.items()},
)
