"""The source as the way back: its model stays in memory, so that a rollback finds a warm engine."""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.errors import CrossfadeError
from crossfade.ollama.client import OllamaSource
from crossfade.ports import NotReady, Ready
from crossfade.rollout.routes import canonical


@dataclass(frozen=True)
class Warm:
    """`ports.Standby` for one model of an Ollama server."""

    source: OllamaSource
    model: str

    def stands_ready(self) -> Ready | NotReady:
        """Ready when the model is in memory and stays there. A client's own `keep_alive` may have unloaded it: then it is loaded again."""
        try:
            self.source.keep_warm(self.model)
            loaded = [model.name for model in self.source.loaded()]
        except CrossfadeError as error:
            return NotReady(str(error))
        if canonical(self.model) not in map(canonical, loaded):
            held = ", ".join(loaded) or "nothing"
            return NotReady(f"{self.source.url} did not keep {self.model} in memory (it holds {held}). Is there room for it?")
        return Ready()
