"""The command line, `matryoshka-router`: commands that spend tokens, measure their worth, and learn to.

Reads arguments and prints; every decision is made elsewhere. Errors of ours end in one line and exit code 2.
"""

from router.commands import learn, measure, spend
from router.commands.app import app

__all__ = ["app", "learn", "measure", "spend"]
