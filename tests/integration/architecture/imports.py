"""The graph of our modules, from what they import and from the modules that they name in texts."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
TOP = {
    "experiments": ROOT / "experiments",
    "sweeps": ROOT / "sweeps",
    "surfdiff": ROOT / "surfdiff",
}

Graph = Mapping[str, set[str]]
"""The modules that each module needs."""


def modules() -> dict[str, Path]:
    """Our modules by name; of the four packages none, as they import nothing of ours."""
    found = {}
    for name, folder in TOP.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([name, *(part for part in parts if part != "__init__")])] = path
    return found


def graph() -> Graph:
    """Imports wherever they stand, and texts that are the name of a module (`import_module`)."""
    known = modules()
    return {name: set(_needed(path, known)) - {name} for name, path in known.items()}


def _needed(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in inside if name in known)
            if node.module in known and not all(name in known for name in inside):
                yield node.module
        elif isinstance(node, ast.JoinedStr | ast.Constant):
            text = _text(node, path)
            if text in known:
                yield text


def _text(node: ast.JoinedStr | ast.Constant, path: Path) -> str | None:
    """A text, with {HARNESS} in it replaced by what modules call so."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) and "." in node.value else None
    harness = (
        "experiments.harness.commands"
        if path.parent.name == "commands"
        else ("experiments.harness")
    )
    parts = []
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(str(value.value))
        elif isinstance(value.value, ast.Name) and value.value.id == "HARNESS":  # type: ignore[attr-defined]
            parts.append(harness)
        else:
            return None
    return "".join(parts)


def circles(graph: Graph) -> list[list[str]]:
    """Sets of modules that need each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def layer_of(module: str, layers: Iterable[str]) -> int:
    """The place of the layer that a module is of: that of the longest name that it begins with."""
    matching = [
        (len(layer), place)
        for place, layer in enumerate(layers)
        if module == layer or module.startswith(f"{layer}.")
    ]
    return max(matching)[1]


def report() -> str:
    """Lines of each folder, modules of over 250 lines, and the number of arrows."""
    sizes = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()
    }
    folders: dict[str, int] = {}
    for name, size in sizes.items():
        folder = ".".join(name.split(".")[: 3 if name.startswith("experiments") else 2])
        folders[folder] = folders.get(folder, 0) + size
    lines = [f"{size:6} {folder}" for folder, size in sorted(folders.items())]
    lines += [f"{size:6} lines: {name}" for name, size in sizes.items() if size > 250]
    return "\n".join([*lines, f"{len(sizes)} modules, {sum(map(len, graph().values()))} arrows"])


if __name__ == "__main__":
    print(report())
