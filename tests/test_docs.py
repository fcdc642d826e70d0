"""README.md and docs/ tell the truth: every block runs, what it shows is what comes out, every link leads somewhere.

Python blocks of one file run in order in one namespace. A block with `>>>` is a doctest; a block followed by one
marked `text` must print that text. In both, `...` stands for anything. Of the commands in `bash` blocks it is checked
that what they name exists: the long ones run in continuous integration.
"""

import contextlib
import doctest
import importlib.util
import io
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import scalargrad

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block of a page, and the line that it starts at."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(found[1], found[2], text[: found.start()].count("\n") + 1) for found in FENCE.finditer(text)]


def run_page(page: Path, text_blocks: list[Block]) -> None:
    """Run the Python blocks of a page in order, and compare what they print with what the page shows."""
    names: dict[str, object] = {"__name__": "__main__"}
    checker = doctest.OutputChecker()
    for block, following in zip(text_blocks, [*text_blocks[1:], Block("", "", 0)], strict=True):
        if block.language != "python":
            continue
        where = f"{page.name}:{block.line}"
        if ">>>" in block.text:
            example = doctest.DocTestParser().get_doctest(block.text, names, where, str(page), block.line)
            runner = doctest.DocTestRunner(optionflags=SHOWN)
            report = io.StringIO()
            runner.run(example, out=report.write, clear_globs=False)
            names.update(example.globs)
            assert not runner.summarize(verbose=False).failed, report.getvalue()
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block.text, where, "exec"), names)
        if following.language == "text":
            example = doctest.Example(block.text, following.text)
            assert checker.check_output(following.text, out.getvalue(), SHOWN), checker.output_difference(
                example, out.getvalue(), SHOWN
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_and_print_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page, blocks(page))


@pytest.mark.parametrize(
    "text",
    [
        "```python\nx = 1 / 0\n```\n",
        "```python\nprint(1)\n```\n```text\n2\n```\n",
        "```python\n>>> 1 + 1\n3\n\n```\n",
    ],
)
def test_a_page_that_lies_is_caught(text, tmp_path):
    page = tmp_path / "lie.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises((AssertionError, ZeroDivisionError)):
        run_page(page, blocks(page))


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
TOOLS = {re.split(r"[\[<>=~!]", requirement)[0] for extra in EXTRAS.values() for requirement in extra}
COMMANDS = [
    pytest.param(command, id=f"{page.name}: {command}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "bash"
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines()
    if line.strip() and not line.startswith("#")
    for command in re.split(r" && |; ", line.split("  #")[0].strip())
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_docs_names_what_exists(command):
    words = command.split()
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # environment variables set for the command
        name = words.pop(0).partition("=")[0]
        if name.startswith("SCALARGRAD_"):
            source = Path(scalargrad.__file__).parent
            texts = (path.read_text(encoding="utf-8") for path in [*source.rglob("*.py"), *source.rglob("*.p[yx][xi]")])
            assert any(name in text for text in texts), f"{name} means nothing to the package"
    program, arguments = words[0], words[1:]
    if program == "pip":
        extras = re.findall(r"\.\[([\w,]+)\]", command)
        assert all(extra in EXTRAS for group in extras for extra in group.split(","))
        files = re.findall(r"-r (\S+)", command)
        assert all((ROOT / file).is_file() for file in files)
    elif program == "python" and arguments[:1] == ["-m"]:
        module, options = arguments[1], [word for word in arguments[2:] if word.startswith("--")]
        assert importlib.util.find_spec(module) is not None
        if options and module.startswith("scalargrad."):
            shown = subprocess.run(
                [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, env=_plain()
            ).stdout
            assert all(option.partition("=")[0] in shown for option in options)
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
    elif program.startswith("."):
        assert os.access(ROOT / program, os.X_OK)
    else:
        assert program in TOOLS | {"git", "cd"}, f"{program} is not installed by any extra"


def _plain() -> dict[str, str]:
    """The environment without COLUMNS, which would break an option's name over two lines of help."""
    return {**os.environ, "COLUMNS": "200"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    named = re.findall(r"`((?:scalargrad|tests|docs|demos|benchmarks|\.ci|\.github)/[\w./]*)`", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_the_rows_of_the_table_that_the_docs_show_stand_in_the_table():
    shown = [
        " ".join(row.split()) for page in PAGES for row in re.findall(r"^\w+ += Op\(.*$", page.read_text("utf-8"), re.M)
    ]
    table = " ".join((Path(scalargrad.__file__).parent / "rules.py").read_text(encoding="utf-8").split())
    assert shown
    assert not [row for row in shown if row not in table]


def test_readme_gives_the_two_commands_first():
    commands = [block.text.strip() for block in blocks(ROOT / "README.md") if block.language == "bash"]
    assert "python -m scalargrad.demos.lenet" in commands[0]
    assert "[test]" in commands[1]
    assert commands[1].endswith("pytest")


def test_the_version_is_the_same_everywhere():
    assert metadata.version("scalargrad") == scalargrad.__version__
    assert f"## {scalargrad.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
