"""`ramos completion`: what a shell needs to complete this command.

Owns: the script for each shell, as click makes it. Refuses: files; the image builder puts the
scripts where the shells look.
"""

import click
from click.shell_completion import get_completion_class

from ramos.cli import COMPLETION_VARIABLE, root, show_line

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the completion of this command for a shell. An image has it for all three.

    \b
    Examples:
      source <(ramos completion bash)
      ramos completion zsh >~/.zfunc/_ramos
      ramos completion fish >~/.config/fish/completions/ramos.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(root, {}, "ramos", COMPLETION_VARIABLE)
    for line in (made.source_template % made.source_vars()).strip().splitlines():
        show_line(line.expandtabs(), whole=True)
