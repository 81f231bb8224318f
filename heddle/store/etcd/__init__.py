"""etcd as the store of many hosts: client, layout of keys, commits, following."""
