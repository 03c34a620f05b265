"""An engine that decides by a model of fakes."""

from dataclasses import dataclass, field

from fakes import fake_model
from scripted import ScriptedEngine

from mlx_diffgemma.decide.decide import decide
from mlx_diffgemma.decide.decision import Decision
from mlx_diffgemma.decide.reader import LoadedModel
from mlx_diffgemma.decide.request import Request
from mlx_diffgemma.serve.engine.engine import Cancelled


@dataclass
class DecidingEngine(ScriptedEngine):
    """Decides by `model`, in `layout` where a request names none. seconds: to think before."""

    model: LoadedModel = field(default_factory=fake_model)
    layout: str = "own"
    seconds: float = 0.0

    def decide(self, request: Request, cancelled: Cancelled) -> Decision:
        self._sleep(self.seconds, cancelled)
        layout = request.given.get("layout", self.layout)
        return decide(request, self.model, request.options(layout=layout))


def multipart(**parts: bytes) -> tuple[bytes, dict[str, str]]:
    """A form in parts, and its header."""
    named = {name.replace("_", "-"): content for name, content in parts.items()}
    head = b'--xx\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = b"".join(head % (name.encode(), content) for name, content in named.items())
    return body + b"--xx--\r\n", {"content-type": "multipart/form-data; boundary=xx"}
