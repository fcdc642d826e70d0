"""The rules of the house, checked on the source: who may import whom, and what a file may look like.

The source is read with `ast`, so a rule holds for every line and not only for those that a test runs.
"""

import ast
import importlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(importlib.util.find_spec("scalargrad").origin).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = """
    version core graph xp dtypes kernels pending fusion operation rules value reference compiler ops printing
    generator grad_mode nodes methods storage tensor autograd random creation serialization nn optim utils datasets
    __init__ demos __main__ testing
""".split()
"""A module imports only what stands before it. The house in one line: numbers, table, tensors, networks, demos."""

OPTIONAL = {"matplotlib", "tqdm"}
"""What the extra `demos` installs: the only imports that may stand inside a function."""

OF_ITS_OWN = {("scalargrad.testing", "hypothesis")}
"""What a module that nothing imports is about: it stands at its top, and says what to install."""

LONG = {}
"""Files that may pass 450 lines, with the reason."""

BANNED_NAMES = {"util", "utils", "helper", "helpers", "manager", "base", "common", "misc", "v2", "new", "stuff"}


def module_name(path: Path) -> str:
    """The dotted name of a file, with __init__ kept for the package itself: it is a layer of its own."""
    parts = ["scalargrad", *path.relative_to(PACKAGE).with_suffix("").parts]
    if parts[-1] == "__init__" and len(parts) > 2:
        parts.pop()
    return ".".join(parts)


MODULES = {module_name(path): path for path in FILES}


def layer(module: str) -> str:
    """The layer of a module: the first component below scalargrad."""
    return module.split(".")[1]


def is_type_checking(node: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`: what stands there is not imported at run time."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(tree: ast.AST, *, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that runs, and whether it stands inside a function."""
    for child in ast.iter_child_nodes(tree):
        if is_type_checking(child):
            for other in child.orelse:
                yield other, inside
                yield from statements(other, inside=inside)
            continue
        yield child, inside
        yield from statements(
            child, inside=inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        )


def targets(node: ast.AST, module: str) -> list[str]:
    """The modules that an import statement names: our own as dotted names, others by their first component."""
    found = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        found = [name if name != "scalargrad" else "scalargrad.__init__" for name in names]
    elif isinstance(node, ast.ImportFrom):
        source = node.module or ""
        if node.level:
            package = module.split(".")
            if module != "scalargrad.__init__" and MODULES[module].name == "__init__.py":
                package = [*package, "__init__"]
            source = ".".join([*package[: -node.level], *([node.module] if node.module else [])])
        if source.split(".")[0] == "scalargrad":
            for alias in node.names:
                name = f"{source}.{alias.name}"
                found.append(name if name in MODULES else source if source != "scalargrad" else "scalargrad.__init__")
        else:
            found = [source]
    return [name if name.startswith("scalargrad.") else name.split(".")[0] for name in found]


def imports(module: str) -> Iterator[tuple[str, int, bool]]:
    """What a module imports at run time: (target, line, inside a function)."""
    for node, inside in statements(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        for target in targets(node, module):
            yield target, node.lineno, inside


def owner(target: str) -> str | None:
    """The module of ours that an import reaches: itself, or the compiled module's package."""
    while target.startswith("scalargrad.") and target not in MODULES:
        target = target.rpartition(".")[0]
    return target if target in MODULES else None


def test_every_module_has_a_place_in_the_list_of_layers():
    assert {layer(module) for module in MODULES} <= set(LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_above_it(module):
    place = LAYERS.index(layer(module))
    wrong = [
        f"line {line} imports {target}"
        for target, line, _ in imports(module)
        if target.startswith("scalargrad.") and layer(target) != layer(module) and LAYERS.index(layer(target)) > place
    ]
    assert not wrong, f"{module}: {wrong}"


def test_no_modules_import_each_other_in_a_circle():
    edges = {module: {owner(target) for target, _, _ in imports(module)} - {None, module} for module in MODULES}
    while edges:
        free = [module for module, wanted in edges.items() if not wanted & edges.keys()]
        assert free, f"these modules import each other in a circle, or need one that does: {sorted(edges)}"
        for module in free:
            del edges[module]


@pytest.mark.parametrize("module", MODULES)
def test_only_optional_packages_are_imported_inside_a_function(module):
    wrong = [f"line {line}: {target}" for target, line, inside in imports(module) if inside and target not in OPTIONAL]
    assert not wrong, f"{module}: {wrong}"


@pytest.mark.parametrize("module", MODULES)
def test_the_package_needs_nothing_but_numpy_and_the_standard_library(module):
    known = sys.stdlib_module_names | {"numpy"}
    wrong = [
        f"line {line}: {target}"
        for target, line, inside in imports(module)
        if not target.startswith("scalargrad.")
        and target not in known
        and not (inside and target in OPTIONAL)
        and (module, target) not in OF_ITS_OWN
    ]
    assert not wrong, f"{module}: {wrong}"


def test_graph_and_value_do_without_arrays():
    """graph.py is standard library only; value.py is the specification and computes on Python's numbers."""
    for module in ("scalargrad.graph", "scalargrad.value", "scalargrad.reference"):
        assert "numpy" not in {target for target, _, _ in imports(module)}, module


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.p[yx][xdi]")), ids=lambda path: path.name)
def test_cython_sources_need_nothing_but_numpy_and_the_standard_libraries(path):
    allowed = sys.stdlib_module_names | {"libc", "posix", "cpython", "cython", "numpy", "scalargrad"}
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\s*(?:from|import|cimport)\s+([.\w]+).*", line):
            source = found[1].split(".")[0]
            assert source in allowed or found[1].startswith("."), line


@pytest.mark.parametrize("module", MODULES)
def test_user_input_is_not_checked_with_assert(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert not lines, f"{module}: assert is gone under python -O (lines {lines})"


@pytest.mark.parametrize("module", MODULES)
def test_no_method_is_attached_to_a_class_from_afar(module):
    """Neither setattr nor `Class.name = ...` at the top of a module: no editor and no reader would find it."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    classes = {
        name for node in tree.body if isinstance(node, ast.ClassDef | ast.ImportFrom) for name in _names_bound(node)
    }
    wrong = []
    for node in tree.body:
        for inner in ast.walk(node) if isinstance(node, ast.For | ast.Expr | ast.While | ast.Assign) else ():
            if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "setattr":
                wrong.append(inner.lineno)
            if isinstance(inner, ast.Assign):
                wrong += [
                    inner.lineno
                    for target in inner.targets
                    if isinstance(target, ast.Attribute)
                    and isinstance(target.value, ast.Name)
                    and target.value.id in classes
                    and target.value.id[:1].isupper()
                ]
    assert not wrong, f"{module}: lines {wrong}"


def _names_bound(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return [node.name]
    return [alias.asname or alias.name for alias in node.names]


SOURCES = [
    path
    for folder in (PACKAGE, Path(__file__).parent, Path(__file__).parent.parent / "benchmarks")
    for pattern in ("*.py", "*.pyx", "*.pxi", "*.pxd")
    for path in sorted(folder.rglob(pattern))
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_file_has_one_subject_and_a_name_that_says_it(path):
    text = path.read_text(encoding="utf-8")
    # `base` is an instruction set in the names of the compiled kernels, _f32_base and _f64_base.
    words = set(re.sub(r"^_f(32|64)_base$", "", path.stem).split("_"))
    assert words.isdisjoint(BANNED_NAMES), f"{path.name} names no subject"
    n_lines = text.count("\n")
    assert n_lines <= 450 or path.name in LONG, f"{path.name} has {n_lines} lines: has it found a second subject?"
    banners = re.findall(r"^\s*#\s*[-=*#~─]{4,}.*$", text, re.MULTILINE)
    assert not banners, f"{path.name}: a banner means that the file wants to be two: {banners}"


def run(code: str) -> str:
    """What a fresh interpreter prints for `code`, with the package under test on its path and nothing else added."""
    path = f"import sys; sys.path.append({str(PACKAGE.parent)!r})\n"
    done = subprocess.run([sys.executable, "-I", "-c", path + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = """
import json, sys, sysconfig
before = set(sys.modules)
{statement}
third = set()
for name in set(sys.modules) - before:
    top = name.partition(".")[0]
    if top not in sys.stdlib_module_names and top not in ("scalargrad", "numpy"):
        third.add(top)
print(json.dumps(sorted(third)))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import scalargrad",
        "import scalargrad.nn.functional, scalargrad.nn.scalar, scalargrad.optim, scalargrad.utils.data",
        "import scalargrad.datasets, scalargrad.autograd",
    ],
)
def test_importing_loads_no_third_party_package_but_numpy(statement):
    loaded = json.loads(run(LOADED.format(statement=statement)))
    # Every Cython module registers its runtime under these names.
    foreign = [name for name in loaded if not name.startswith(("_cython_", "cython_runtime"))]
    assert not foreign


def test_the_list_of_third_party_packages_would_show_one():
    assert "pytest" in json.loads(run(LOADED.format(statement="import pytest")))


def test_importing_the_library_leaves_the_demos_alone():
    assert run("import sys, scalargrad; print('scalargrad.demos' in sys.modules)") == "False\n"


PUBLIC = [name for name, path in MODULES.items() if re.search(r"^__all__\b", path.read_text(encoding="utf-8"), re.M)]


@pytest.mark.parametrize("name", PUBLIC)
def test_what_a_module_offers_exists_and_is_documented(name):
    module = importlib.import_module(name.removesuffix(".__init__"))
    offered = list(module.__all__)
    assert len(set(offered)) == len(offered), "named twice"
    missing = [entry for entry in offered if not hasattr(module, entry)]
    assert not missing
    silent = [
        entry
        for entry in offered
        if (callable(getattr(module, entry)) or hasattr(getattr(module, entry), "__path__"))
        and not (getattr(getattr(module, entry), "__doc__", None) or "").strip()
    ]
    assert not silent, f"{name}: no docstring on {silent}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_opens_with_a_docstring(module):
    assert ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))), module


def test_the_package_offers_its_public_parts():
    for name in ("Value", "Tensor", "nn", "optim", "autograd", "utils", "no_grad", "show_config", "manual_seed"):
        assert name in importlib.import_module("scalargrad").__all__, name


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()
