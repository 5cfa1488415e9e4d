"""The methods there are. A new one is a declaration file, a work file, and its line here."""

from engine.methods.declare import Method
from engine.methods.ia3 import IA3
from engine.methods.lora import LORA, QLORA

METHODS: dict[str, Method] = {method.name: method for method in (QLORA, LORA, IA3)}
