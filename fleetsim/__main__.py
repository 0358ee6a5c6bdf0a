"""The entry point: reads the clock before anything else, since ``--now`` means this moment."""

import time

_WALL_NS, _MONOTONIC_NS = time.time_ns(), time.monotonic_ns()


def main() -> None:
    """Run the command line."""
    from fleetsim import cli  # after the clock, and only where a command runs

    cli.main(_WALL_NS, _MONOTONIC_NS)


if __name__ == "__main__":
    main()
