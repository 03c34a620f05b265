"""From a prompt to a printed answer: what generate, chat and fill share."""
