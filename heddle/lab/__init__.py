"""Labs: the hosts of a cluster as namespaces of one machine."""
