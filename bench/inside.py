"""``python -m bench.inside FIGURE``: measure on a private host (see private.py).

Prints what was measured as one JSON object; when that is impossible, one line
that says why, with exit code 1.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from bench import private
from bench.figures import figure_named
from heddle.errors import HeddleError


def main(name: str) -> int:
    private.furnish()
    try:
        measured = figure_named(name).measure()
    except HeddleError as error:
        print(error)
        return 1
    print(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(private.as_init(lambda: main(sys.argv[1])))
