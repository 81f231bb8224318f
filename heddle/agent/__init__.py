"""The daemon of a host: store -> compiler -> applier, and facts back."""
