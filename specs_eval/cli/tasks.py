"""``specs-eval tasks``."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--path", "show_path", is_flag=True, help="Print the folder for lmms-eval's --include_path.")
@click.option("--json", "as_json", is_flag=True, help="Names and descriptions as JSON.")
def tasks(show_path: bool, as_json: bool) -> None:
    """List the tasks that ship with specs-eval; any lmms-eval generate task can be named too."""
    from pathlib import Path

    import specs_eval.tasks
    from specs_eval.task_names import ALIASES, ID_SUFFIX, OOD_SUFFIX
    from specs_eval.tasks.registry import task_names

    if show_path:
        click.echo(Path(specs_eval.tasks.__path__[0]).resolve())
        return
    names = task_names()
    if as_json:
        click.echo(json.dumps(names, indent=2))
        return
    shown = {
        name: text for name, text in names.items() if name in ALIASES or not name.endswith((ID_SUFFIX, OOD_SUFFIX))
    }
    width = max(map(len, shown))
    for name, description in shown.items():
        click.echo(f"{name:<{width}}  {description}")
    click.echo(
        "\nAppend _formats_id or _formats_ood to any task for its format-following pair. Any lmms-eval generate task "
        "can be named too.\nInside lmms-eval our tasks carry the prefix specs_ "
        '(--include_path "$(specs-eval tasks --path)").'
    )
