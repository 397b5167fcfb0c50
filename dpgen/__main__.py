"""Runs the command line as ``python -m dpgen``, which launchers of several processes start."""

from dpgen.commands.cli import main

if __name__ == "__main__":
    main()
