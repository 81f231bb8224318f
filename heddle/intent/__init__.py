"""The model of what an operator wants, and the topology file."""
