"""The route of completions."""

from ...refusal import OPENAI, openai_body
from ..dialect import Dialect
from .encoder import encoder
from .request import read

COMPLETIONS = Dialect("/v1/completions", read, encoder, OPENAI, openai_body)
