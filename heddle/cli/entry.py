"""What the ``heddle`` script calls. Ctrl-C before ``main`` has begun ends the process as it
ends any program, and not with a traceback."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored: so be it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run() -> int:
    """``main``, which says in words that it was interrupted."""
    from heddle.cli.main import main

    return main()
