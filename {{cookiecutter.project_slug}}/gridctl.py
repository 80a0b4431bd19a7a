#!/usr/bin/env python3
"""Look after jobs from the shell: python gridctl.py status, python gridctl.py stop 123."""

import argparse
import sys

from grid import GridError, qdel, qstat


def main():
    parser = argparse.ArgumentParser(description="Look after your jobs on the grid.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("status", help="show the jobs that wait and run")
    stop = commands.add_parser("stop", help="stop a job")
    stop.add_argument("job", metavar="JOB", help='the id that status shows, or "all"')
    options = parser.parse_args()
    try:
        if options.command == "status":
            qstat()
        else:
            stopped = qdel(None if options.job == "all" else options.job)
            print(f"told the scheduler to stop: {', '.join(stopped) or 'nothing, there was no job'}")
    except GridError as error:
        sys.exit(f"gridctl.py: {error}")


if __name__ == "__main__":
    main()
