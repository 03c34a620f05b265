"""Several Macs that give one answer: started together, agreed, and ended together."""
