"""`python -m router.commands` is `matryoshka-router`."""

from router.commands import app

app()
