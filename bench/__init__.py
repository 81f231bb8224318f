"""Benchmarks: heddle and its peers, measured in the same run.

run.py       the command line and the registry of figures
private.py   the private host (namespaces) in which everything happens
peers.py     what heddle is compared with; product.py: heddle itself
meters/      C programs that measure; figures/: one module per figure
policy_*.py  the same for security groups: peers that track connections, heddle
             with rules, what measures both
report.py    goals, table, JSON; chart.py: the PNG
"""
