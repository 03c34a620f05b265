"""The soft embedding gathered from the tokens that carry weight."""
