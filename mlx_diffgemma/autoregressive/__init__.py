"""The same weights token by token, and the choice between both modes."""
