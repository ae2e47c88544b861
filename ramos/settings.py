"""The settings of this machine: the configuration files, read and merged.

Owns: which files are read and in what order. Refuses: judging values (`config` does). Invariant:
a file that cannot be read is a problem to report, never an error.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ramos import config, layout


def load_settings(
    file: Path = layout.CONFIG_FILE, directory: Path = layout.CONFIG_DIR
) -> config.Loaded:
    """The effective configuration, where each value comes from, and what was wrong."""
    problems: list[str] = []
    loaded = config.merge(_read_texts(file, directory, problems))
    return replace(loaded, problems=(*problems, *loaded.problems))


def _read_texts(file: Path, directory: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    try:
        drop_ins = sorted(p for p in directory.iterdir() if p.suffix == ".toml")
    except FileNotFoundError:
        drop_ins = []
    except OSError as error:
        drop_ins = []
        problems.append(f"{directory}: {error.strerror}; it is ignored")
    for path in (file, *drop_ins):
        try:
            yield str(path), path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{path}: {error.strerror}; the whole file is ignored")
        except UnicodeDecodeError:
            problems.append(f"{path}: it is not UTF-8; the whole file is ignored")
