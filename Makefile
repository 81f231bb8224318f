# A thin wrapper: a fresh machine has no make, so everything is in scripts/.
.PHONY: setup build check test demo bench
setup build check test demo:
	scripts/$@
bench:
	scripts/bench local
