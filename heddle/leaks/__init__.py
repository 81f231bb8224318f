"""Ways in which a guest could learn of the physical network, or the wire could
carry a guest's frame in the clear: what they are, and how each is found."""
