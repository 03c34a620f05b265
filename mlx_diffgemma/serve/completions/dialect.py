"""The route of completions."""

from ..dialect import Dialect
from ..refusal import OPENAI, openai_body
from .encoder import encoder
from .request import read

COMPLETIONS = Dialect("/v1/completions", read, encoder, OPENAI, openai_body)
