"""The command line, `matryoshka-router`: commands that spend tokens, and commands that measure what they are worth.

Reads arguments and prints; every decision is made elsewhere. Errors of ours end in one line and exit code 2.
"""

from router.commands import measure, spend
from router.commands.app import app

__all__ = ["app", "measure", "spend"]
