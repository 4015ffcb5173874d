"""The house rules that a tree of files can break: sizes, contents pages, and a README a folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = ["server", "router", "kernels", "clients", "training", "models", "deploy", "benchmarks"]
MAX_FILE, MAX_FUNCTION, MAX_KERNEL = 300, 40, 100

# Path, or path and function, to the reason why it may be longer.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

FILES = sorted(p for top in [*TOP, "tests"] for p in (ROOT / top).rglob("*.py"))
PACKAGES = [p for p in FILES if p.name == "__init__.py"]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> list[Function]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def num_lines(function: Function) -> int:
    """From the signature to the last statement, decorators left out."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def max_lines(function: Function) -> int:
    """What Triton or numba compiles is one launch, and may be longer."""
    is_kernel = any("jit" in ast.unparse(decorator) for decorator in function.decorator_list)
    return MAX_KERNEL if is_kernel else MAX_FUNCTION


def long_functions(path: Path) -> dict[str, int]:
    return {
        f"{name_of(path)}:{function.name}": num_lines(function)
        for function in functions(path)
        if num_lines(function) > max_lines(function)
    }


def test_files_are_short() -> None:
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in sizes.items() if n > MAX_FILE and name not in LONG_FILES} == {}


def test_functions_are_short() -> None:
    found = {name: n for path in FILES for name, n in long_functions(path).items()}
    assert {name: n for name, n in found.items() if name not in LONG_FUNCTIONS} == {}


def test_exceptions_are_needed_and_explained() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    functions_found = {name for path in FILES for name in long_functions(path)}
    assert [name for name in LONG_FILES if lengths.get(name, 0) <= MAX_FILE] == []
    assert LONG_FUNCTIONS.keys() <= functions_found
    assert all([*LONG_FILES.values(), *LONG_FUNCTIONS.values()])


@pytest.mark.parametrize("path", PACKAGES, ids=name_of)
def test_an_init_is_a_contents_page(path: Path) -> None:
    """A docstring, imports, and `__all__` with the imported names, in order."""
    imported: list[str] = []
    listed: list[str] = []
    docstring, *body = ast.parse(path.read_text()).body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(ast.literal_eval(docstring.value), str)
    for node in body:
        if isinstance(node, ast.Assign):
            assert [ast.unparse(target) for target in node.targets] == ["__all__"]
            listed = ast.literal_eval(node.value)
        else:
            assert isinstance(node, ast.ImportFrom), ast.unparse(node)
            imported += [alias.asname or alias.name for alias in node.names]
    assert sorted(imported) == sorted(listed)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("top", TOP)
def test_a_top_folder_is_no_package(top: str) -> None:
    """A root package named `kernels` shadows Hugging Face's, which transformers imports."""
    assert not (ROOT / top / "__init__.py").exists()


@pytest.mark.parametrize("top", [top for top in TOP if (ROOT / top).is_dir()])
def test_a_top_folder_has_a_readme(top: str) -> None:
    assert (ROOT / top / "README.md").is_file()


def test_every_module_says_what_it_is() -> None:
    """It opens with a docstring."""
    silent = [p for p in FILES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert [name_of(p) for p in silent] == []
