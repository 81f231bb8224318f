"""heddle agent"""

from __future__ import annotations

import argparse

from heddle.agent.client import agent_pid
from heddle.agent.daemon import run_agent, start_detached
from heddle.cli.options import describe, require_root
from heddle.errors import AgentError


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Run the daemon of this host: it makes the kernel match the stored intent and repairs\n"
        "what is altered behind its back. It stays in the foreground and logs to standard error.\n"
        "SIGTERM ends it; machines and traffic go on without it.",
        ("heddle agent", "run in the foreground, for a service manager"),
        ("heddle agent --detach", "start one in the background, wait until it answers"),
    )
    parser.add_argument("--detach", action="store_true", help="go to the background")
    # What `heddle up` gives to an agent that it starts by itself.
    parser.add_argument("--on-demand", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle agent")
    if arguments.detach:
        if pid := agent_pid():
            raise AgentError(f"an agent of this host runs already: pid {pid}")
        print(f"agent started: pid {start_detached(on_demand=arguments.on_demand)}")
    else:
        run_agent(on_demand=arguments.on_demand)
    return 0
