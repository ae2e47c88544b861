"""`ramos pkg recipes` and `explain`: what happens to kernels, firmware, GRUB and the like.

Owns: the group `ramos pkg`, and how recipes are shown. Refuses: doing any of the work.
"""

from pathlib import Path

import click

from ramos import layout
from ramos.cli import JSON, HelpfulGroup, print_json, show_line
from ramos.packages.explain import Explanation, explain_file, explain_name
from ramos.packages.recipe import BASES, PLACES, STEPS, Recipe
from ramos.packages.recipes import detect_base, load_recipes
from ramos.sizes import format_count, format_size

OWN = click.option(
    "--recipes-dir",
    type=click.Path(path_type=Path),
    default=layout.RECIPES_DIR,
    show_default=True,
    help="Where your own recipes lie.",
)
BASE = click.option(
    "--base", type=click.Choice(BASES), help="The packages of which base; else this system's."
)


@click.group(cls=HelpfulGroup)
def pkg() -> None:
    """Special packages: kernels, firmware, microcode, GRUB, initramfs tools.

    Ordinary packages are the package manager's business.
    """


@pkg.command()
@OWN
@JSON
def recipes(recipes_dir: Path, as_json: bool) -> None:
    """List the recipes, and check all of them.

    \b
    Example:
      ramos pkg recipes
    """
    loaded = load_recipes(recipes_dir)
    if as_json:
        print_json(
            {
                "recipes": [_describe_recipe(recipe) for recipe in loaded.usable],
                "problems": [str(problem) for problem in loaded.problems],
            }
        )
    else:
        for recipe in loaded.usable:
            show_line(f"{recipe.name}  ({recipe.base}) {recipe.summary}")
            show_line(f"    for {', '.join(recipe.match)}")
    loaded.require_sound()


@pkg.command()
@click.argument("package")
@BASE
@OWN
@JSON
def explain(package: str, base: str | None, recipes_dir: Path, as_json: bool) -> None:
    """Tell what happens to a package: by its name, or exactly by its file.

    \b
    Examples:
      ramos pkg explain linux-image-amd64
      ramos pkg explain ./linux-lts-6.12.40-r0.apk
    """
    usable = load_recipes(recipes_dir).require_sound()
    if "/" in package or package.endswith((".deb", ".apk")):
        found = explain_file(usable, Path(package))
    else:
        found = explain_name(usable, package, base or detect_base())
    if as_json:
        print_json(_describe_explanation(found))
    elif found.recipe is None:
        show_line(f"{found.package}: an ordinary package; it is installed as it comes")
    else:
        _show_explanation(found, found.recipe)


def _describe_recipe(recipe: Recipe) -> dict[str, object]:
    return {
        "name": recipe.name,
        "base": recipe.base,
        "summary": recipe.summary,
        "source": recipe.source,
        "match": recipe.match,
        "except": recipe.excludes,
    }


def _describe_explanation(found: Explanation) -> dict[str, object]:
    plan = found.plan
    return {
        "package": found.package,
        "version": found.version,
        "recipe": found.recipe.name if found.recipe else None,
        "parts": [vars(part) for part in plan.parts] if plan else None,
        "stays": {"files": plan.stays_files, "size_bytes": plan.stays_bytes} if plan else None,
        "dropped_scripts": plan.dropped_scripts if plan else None,
        "replaced_scripts": plan.replaced_scripts if plan else None,
        "kept_scripts": plan.kept_scripts if plan else None,
        "dropped_depends": plan.dropped_depends if plan else None,
        "after": found.recipe.after if found.recipe else None,
    }


def _show_explanation(found: Explanation, recipe: Recipe) -> None:
    title = f"{found.package} {found.version}".strip()
    show_line(f"{title}: {recipe.summary}")
    show_line(f"  recipe    {recipe.source}")
    plan = found.plan
    if plan is None:
        for move in recipe.moves:
            show_line(f"  leaves    {move.pattern} -> {PLACES[move.place]}")
        _show_words("scripts", "dropped", recipe.dropped_scripts)
        _show_words("scripts", "replaced", tuple(name for name, _ in recipe.replaced_scripts))
        _show_words("depends", "dropped", recipe.dropped_depends)
    else:
        for part in plan.parts:
            size = f"{format_count(part.files, 'file')}, {format_size(part.size_bytes)}"
            if part.files:
                show_line(f"  leaves    {part.pattern} -> {PLACES[part.place]} ({size})")
        show_line(
            f"  stays     {format_count(plan.stays_files, 'file')}, {format_size(plan.stays_bytes)}"
        )
        _show_words("scripts", "dropped", plan.dropped_scripts)
        _show_words("scripts", "replaced", plan.replaced_scripts)
        _show_words("scripts", "kept", plan.kept_scripts)
        _show_words("depends", "dropped", plan.dropped_depends)
    for step in recipe.after:
        show_line(f"  then      {STEPS[step]}")


def _show_words(title: str, what: str, words: tuple[str, ...]) -> None:
    if words:
        show_line(f"  {title:<9} {what}: {', '.join(words)}")
