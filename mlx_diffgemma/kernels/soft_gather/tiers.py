"""Tiers of the gathered soft embedding: how many tokens a row keeps, and what suffices for it.

A row that the first tier's tokens do not suffice for tries the second's, and only then takes the
product with the whole embedding.
"""

KEPT = (64, 1024)
"""Tokens that a row keeps at most, by tier.

By arithmetic, at the sizes of the 26B model: a row of a product with the whole embedding takes
about as long as 20,000 gathered tokens. 1,024 are a twentieth of it, so that a row that fails loses
little; their ids, shares and blocks take 12 of the 32 KB of threadgroup memory, twice of them 24.
"""

FIRST, SECOND, PRODUCT = 0, 1, 2
"""Values of `tier`: the tokens of that tier suffice, or the product is needed."""
