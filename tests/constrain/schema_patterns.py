"""Patterns of schemas, without the form around them."""

from mlx_diffgemma.constrain.patterns import Pattern
from mlx_diffgemma.constrain.schema.reader import SchemaReader


def schema_pattern(schema: object) -> Pattern:
    """The pattern of every JSON text that a schema allows; errors as SchemaReader's."""
    return SchemaReader(schema).pattern()
