"""``python -m img2brain``, which is the ``img2brain`` command."""

from img2brain.cli import main

main(prog_name="img2brain")
