"""The design's walls, layers and limits. Never loosen a check to pass it: redesign."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("serving", "finetune", "export", "loadtest", "reporting", "bundles", "demo")
GRAB_BAGS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
WEB = {"fastapi", "starlette", "uvicorn", "grpc", "onnxruntime", "prometheus_client"}
TRAINING = {"finetune", "export", "loadtest", "reporting", "demo", "torch", "transformers", "datasets"}
PURE = ("tasks", "modality", "scoring", "calibration", "generate", "tensors", "bundle", "manifest")
TORCH_BACKEND = "serving.backends.torchscript"

# Top to bottom: a module may import only what is in a row below its own, or in its own row where that is one thing.
LAYERS = [
    (
        "serving.__main__",
        "serving.worker",
        "serving.triton_backend",
        "serving.triton_install",
        "serving.client",
        "serving.predict",
    ),
    ("serving.server",),
    ("serving.gateway.app", "serving.gateway.grpc_v2", "serving.gateway.http_server", "serving.explain"),
    ("serving.gateway.http_management", "serving.gateway.grpc_management", "serving.gateway.grpc_health"),
    ("serving.gateway.http_v2", "serving.gateway.playground", "serving.gateway.openapi"),
    ("serving.gateway.generate", "serving.gateway.compression"),
    ("serving.gateway.http_errors", "serving.gateway.http_messages", "serving.gateway.grpc_messages"),
    ("serving.gateway.replicas",),
    ("serving.gateway.management",),
    ("serving.gateway.v2",),
    ("serving.gateway.classification", "serving.gateway.shared_memory", "serving.gateway.tracing"),
    ("serving.gateway.messages", "serving.gateway.log_settings"),
    ("serving.follower",),
    ("serving.repository",),
    ("serving.shelf",),
    ("serving.admission",),
    ("serving.model_policy", "serving.warm_up", "serving.overrides", "serving.index", "serving.staging"),
    ("serving.model_config",),
    ("serving.engine",),
    ("serving.known_cost",),
    ("serving.proof", "serving.statistics", "serving.job", "serving.graphs"),
    ("serving.model",),
    ("serving.backends",),
    ("serving.call", "serving.cache", "serving.flights", "serving.columns"),
    ("serving.workers", "serving.logs", "serving.metrics_sum"),
    ("serving.bundle", "serving.scheduler", "serving.metrics", "serving.settings", "serving.cost", "serving.cost_file"),
    ("serving.manifest", "serving.signature", "serving.processor"),
    ("serving.tasks",),
    ("serving.generate", "serving.scoring", "serving.modality", "serving.calibration"),
    ("serving.codec",),
    ("serving.tensors",),
    ("serving.errors",),
]


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {"downstream": ROOT / "downstream.py"}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text("utf-8"))


@cache
def imports(name: str) -> frozenset[str]:
    """What a module imports, also inside functions; ``from a import b`` is ``a.b`` where that is a module."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules() else node.module)
    return frozenset(found)


@cache
def reached(name: str) -> frozenset[str]:
    """Everything a module imports, directly or through other modules of the project."""
    seen: set[str] = set()
    pending = [name]
    while pending:
        for imported in imports(pending.pop()):
            if imported not in seen:
                seen.add(imported)
                if imported in modules():
                    pending.append(imported)
    return frozenset(seen)


def roots(names: frozenset[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def within(package: str) -> list[str]:
    return sorted(name for name in modules() if name == package or name.startswith(package + "."))


def test_serving_reaches_no_training_stack_statically() -> None:
    for name in within("serving"):
        # One backend runs graphs of torch; nothing of serving may import it by name.
        allowed = {"torch"} if name == TORCH_BACKEND else set()
        assert not roots(reached(name)) & ({*TRAINING, "bundles"} - allowed), name


def test_the_backend_of_torch_imports_it_inside_a_function_only() -> None:
    def imports_torch(node: ast.AST) -> bool:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        return any(name.split(".")[0] == "torch" for name in names)

    functions = [node for node in ast.walk(tree(TORCH_BACKEND)) if isinstance(node, ast.FunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    found = [node for node in ast.walk(tree(TORCH_BACKEND)) if imports_torch(node)]
    assert found
    assert all(id(node) in inside for node in found)


def test_bundles_run_in_a_serving_image_and_need_no_server() -> None:
    for name in within("bundles"):
        assert not roots(reached(name)) & TRAINING, name
        assert not {module for module in reached(name) if module.startswith("serving.gateway")}, name


@pytest.mark.parametrize("package", ["serving", "bundles"])
def test_no_training_stack_is_reached_when_imported(package: str) -> None:
    script = (
        f"import sys\nfor name in {within(package)!r}: __import__(name)\n"
        f"print(sorted({{m.split('.')[0] for m in sys.modules}} & {TRAINING!r}))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_scheduler_reaches_only_the_standard_library_and_errors() -> None:
    own = within("serving.scheduler")
    found = frozenset().union(*(reached(name) for name in own)) - set(own)
    assert {name for name in found if name.split(".")[0] not in sys.stdlib_module_names} == {"serving.errors"}


def test_tasks_and_data_know_nothing_of_servers() -> None:
    for part in PURE:
        for name in within(f"serving.{part}"):
            assert not roots(reached(name)) & WEB, name


def test_finetune_does_not_reach_export_and_neither_reaches_the_gateway() -> None:
    for name in within("finetune"):
        assert "export" not in roots(reached(name)), name
    for name in [*within("finetune"), *within("export")]:
        gateway = {module for module in reached(name) if module.startswith("serving.gateway")}
        assert not gateway, f"{name} reaches {gateway}"


def test_programs_of_the_benchs_peers_run_without_this_project() -> None:
    # Their interpreters are of other environments: of ours they may use the one module that they share.
    own = within("loadtest.bench.peers")
    for name in own:
        assert reached(name) & set(modules()) <= set(own), name
    for name in set(modules()) - set(own):
        assert not imports(name) & set(own), f"{name} imports what runs elsewhere"


def test_layers_of_serving() -> None:
    rows = {prefix: depth for depth, row in enumerate(LAYERS) for prefix in row}

    def depth(name: str) -> tuple[int, str] | None:
        matches = [prefix for prefix in rows if name == prefix or name.startswith(prefix + ".")]
        return (rows[max(matches, key=len)], max(matches, key=len)) if matches else None

    for name in within("serving"):
        own = depth(name)
        if own is None:
            assert name in ("serving", "serving.gateway"), f"{name} has no layer"
            continue
        for imported in imports(name) & set(within("serving")):
            below = depth(imported)
            assert below is not None, f"{name} imports {imported}, which has no layer"
            # The rows of `serving.bundle` and `serving.metrics` hold several things that may use one another.
            allowed = below[0] > own[0] or (below[0] == own[0] and not cyclic(name, imported))
            assert allowed, f"{name} imports {imported}, which is above it"


def cyclic(name: str, imported: str) -> bool:
    return name in reached(imported)


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_import_cycle(name: str) -> None:
    assert name not in reached(name)


def test_package_roots_import_none_of_their_members() -> None:
    for name, path in modules().items():
        if path.name == "__init__.py":
            assert not {i for i in imports(name) if i.startswith(name + ".")}, name


@pytest.mark.parametrize("name", sorted(modules()))
def test_names_and_sizes(name: str) -> None:
    assert not set(name.split(".")) & GRAB_BAGS
    lines = modules()[name].read_text("utf-8").count("\n")
    assert lines <= 300, f"{lines} lines: split the module"
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines: split the function"


def top_level_calls(name: str) -> Iterator[str]:
    """Calls that run on import and are not declarations."""
    declared = {"getLogger", "compile", "frozenset", "namedtuple", "TypeVar", "Struct", "NewType", "Field", "tuple"}
    for node in tree(name).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            if called.rpartition(".")[2] not in {*declared, "add_implicit_resolver"}:
                yield called


@pytest.mark.parametrize("name", sorted(modules()))
def test_importing_does_nothing(name: str) -> None:
    assert list(top_level_calls(name)) == []


def test_importing_the_stages_starts_no_thread_and_reads_no_command_line() -> None:
    script = (
        "import sys, threading; sys.argv = ['x', '--nonsense']\n"
        f"for name in {within('serving')!r}: __import__(name)\n"
        "print(threading.active_count())"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"


@pytest.mark.parametrize("name", sorted(modules()))
def test_public_things_are_documented(name: str) -> None:
    assert ast.get_docstring(tree(name)), "the module has no docstring"
    for node in tree(name).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
