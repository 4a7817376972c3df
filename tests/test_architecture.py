"""The rules of imports and sizes in ARCHITECTURE.md hold."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATION = {"deferred", "errors", "extensions", "home", "intervals", "process_settings", "progress"}
"""Modules at the root of `lab/` that every package may import."""
ASSEMBLY = {"api", "notebook", "opening", "starting", "sweep_processes", "sweeping", "twins"}
"""Modules at the root of `lab/` that put packages together."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for top in ("lab", "app") for path in sorted((ROOT / top).rglob("*.py"))}


def imported(name: str) -> set[str]:
    """Modules of this project that a module imports, anywhere in it."""
    path = FILES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name in FILES}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                modules |= {full} if (full := f"{base}.{alias.name}") in FILES else {base} & FILES.keys()
    return modules


IMPORTS = {name: imported(name) for name in FILES}


def allowed() -> dict[str, set[str]]:
    """Package -> packages that it may import, as ARCHITECTURE.md has them."""
    rules = {}
    for line in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| `((?:lab|app)\.\w+)` \|.*\| ([\w. *]*) ?\|$", line):
            names = match.group(2).split()
            rules[match.group(1)] = {name if "." in name or name in ("lab", "*") else f"lab.{name}" for name in names}
    return rules


RULES = allowed()


def package_of(name: str) -> str:
    return ".".join(name.split(".")[:2])


def test_every_package_has_a_rule():
    packages = {module_name(path.parent) for top in ("lab", "app") for path in (ROOT / top).glob("*/__init__.py")}
    assert packages == RULES.keys()


@pytest.mark.parametrize("package", RULES)
def test_a_package_imports_only_what_it_may(package):
    may = RULES[package] | {package, "lab.glossary"} | {f"lab.{name}" for name in FOUNDATION}
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        if package_of(name) == package and "*" not in may
        for other in others
        if package_of(other) not in may and not ("lab" in may and other.split(".")[0] == "lab")
    ]
    assert wrong == []


def test_root_modules_are_below_or_above_all_packages():
    """Those below import only each other; those above are imported only by each other, the command line and the dashboard."""
    roots = {name.removeprefix("lab.") for name, path in FILES.items() if path.parent == ROOT / "lab" and name.count(".") == 1}
    assert {name for name in roots if (ROOT / "lab" / f"{name}.py").exists()} - {"__main__"} == FOUNDATION | ASSEMBLY
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    listed = re.search(r"Modules at the root of `lab/`: (.*?) import nothing.*?; (.*?) put packages together", text, re.S)
    assert listed is not None
    assert [set(re.findall(r"`(\w+)`", names)) for names in listed.groups()] == [FOUNDATION, ASSEMBLY]
    below, above = ({f"lab.{name}" for name in names} for names in (FOUNDATION, ASSEMBLY))
    wrong = [f"{name} imports {other}" for name in below for other in IMPORTS[name] - below]
    wrong += [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        if name.startswith("lab.") and not name.startswith("lab.cli.") and name not in above
        for other in others & above
    ]
    assert wrong == []


def test_folders_of_the_training_import_in_one_direction():
    folders = {path.name for path in (ROOT / "lab/training").iterdir() if (path / "__init__.py").exists()}
    edges = {
        (name.split(".")[2], other.split(".")[2])
        for name, others in IMPORTS.items()
        for other in others
        if name.startswith("lab.training.") and other.startswith("lab.training.")
    }
    assert [(a, b) for a, b in edges if a < b and {a, b} <= folders and (b, a) in edges] == []


def test_every_catch_of_all_errors_says_why():
    wrong = [
        f"{name}: {line.strip()}"
        for name, path in FILES.items()
        for line in path.read_text().splitlines()
        if re.search(r"except \(?Exception\b", line) and "#" not in line
    ]
    assert wrong == []


def test_the_library_knows_nothing_of_the_dashboard():
    streamlit = [
        name
        for name, path in FILES.items()
        if name.startswith("lab") and re.search(r"^\s*(import|from) (streamlit|app)\b", path.read_text(), re.M)
    ]
    assert streamlit == []


def test_views_do_not_import_each_other():
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if name.startswith("app.views.") and other.startswith("app.views.") and name.split(".")[2] != other.split(".")[2]
    ]
    assert wrong == []


def test_there_is_no_circle_of_imports():
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done:
            return
        for other in IMPORTS[name]:
            walk(other, (*path, name))
        done.add(name)

    for name in FILES:
        walk(name, ())


def test_modules_and_folders_stay_small():
    long = {name: lines for name, path in FILES.items() if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}
    folders = Counter(path.parent for path in FILES.values() if path.name != "__init__.py")
    assert {str(folder): count for folder, count in folders.items() if count > 15} == {}


def test_docstrings_do_not_point_elsewhere():
    """The first line has to stand alone in `help()`."""
    pattern = re.compile(r'"""(The same|What|How|As|Whether people) ')
    assert [name for name, path in FILES.items() if pattern.search(path.read_text())] == []


def test_locals_are_named_by_their_noun():
    pattern = re.compile(r"^\s+(?:for )?(?:found|asked)(?:: [^=]+)? (?:=|:=|in) |\((?:found|asked) :=", re.M)
    assert [name for name, path in FILES.items() if pattern.search(path.read_text())] == []
