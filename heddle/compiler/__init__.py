"""Pure: intent to the desired state of one host."""
