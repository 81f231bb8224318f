"""The data plane as it is defined, in plain Python.

Written from the RFCs, the documentation and the objects of intent, not from the
C code, and free of its tricks: no flow cache, no maps, no incremental anything.
Every packet is looked at from the start. One module per stage, named as the
stage's header in bpf/stages, so that both can be read side by side.

A stage returns when the next one shall decide, and raises an End (ends.py) when
the packet's way ends in it.
"""
