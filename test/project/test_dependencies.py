"""Owns: which folder may import which, and which libraries each may use. Leaves to others: what the modules do."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

ROS = {
    "ament_index_python", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "rcl_interfaces", "rclpy",
    "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "vision_msgs",
}  # fmt: skip

# A folder, or a file that lies in none, and the libraries it may use beside the standard library. A tier may import
# those above it, never one beside it or below; a file of a folder may import the others of its folder.
RUNTIME: list[dict[str, set[str]]] = [
    {
        "faces": set(),
        "errors": set(),
        "import_path": set(),
        "intervals": {"numpy"},
        "memory": set(),
        "mistaken_files": set(),
    },
    {
        "metrics": {"numpy"},
        "time_blocks": {"numpy"},
        "label_text": set(),
        "label_table": set(),
        "files": set(),
        "commands": {"tqdm"},
        "topic_names": set(),
        "jobs": {"ray"},
    },
    {"image": {"numpy", "cv2", "cv_bridge", "PIL", "simplejpeg"}},
    {"model": {"numpy", "onnxruntime"}},
    {"tasks": {"numpy"}, "fastest": {"numpy", "onnxruntime"}},
    {"pipeline": {"numpy", "cv2", "PIL"}},
    {"stream": {"numpy"}},
    {
        "bag": {"apsw", "rosbags", "backports", "compression", "lz4", "numpy", "yaml"},
        "ros": ROS | {"numpy", "yaml"},
        "pages": {"numpy", "jinja2"},
        "local_page": {"starlette", "uvicorn"},
    },
    {
        "geometry": {"numpy", "cv2"},
        "lifecycle": {"bond", "rclpy"},
        "masks": {"numpy", "PIL"},
        "regions": {"numpy", "cv2"},
    },
    {"comparison": {"numpy", "cv2"}, "results_bag": set()},
    {"background": {"numpy", "cv2"}, "evaluation": {"av", "numpy", "cv2", "tqdm"}},
    {"answers": {"numpy", "tqdm"}, "black_box": set()},
    {
        "live_replay": ROS | {"tqdm"},
        "perception_node": ROS | {"numpy", "cv2"},
        "camera_node": ROS | {"numpy", "cv2", "yaml"},
        "follow_node": ROS,
        "dashboard_node": ROS | {"starlette", "uvicorn"},
        "doctor": ROS | {"numpy"},
    },
    {"entry_points": {"tqdm"}},
]
READS_THE_ROBOT = {"ros", "evaluation", "background"}
"""What `training.collect` uses of the robot's side: its cameras, its way of reading, and what its recorder leaves."""
NODES = {"perception_node", "camera_node", "follow_node", "dashboard_node", "doctor"}
NEEDS_ROS = NODES | {"ros", "lifecycle", "live_replay", "entry_points"}
TORCH = {"torch", "torchvision", "safetensors"}
TRAINING: list[dict[str, set[str]]] = [
    {"distributed": {"torch"}, "tasks": {"numpy", "torch"}},
    {
        "idx_files": {"numpy", "cv2", "tqdm"},
        "run_files": set(),
        "text_table": set(),
        "torch_files": {"torch", "safetensors"},
    },
    {"class_names": {"yaml"}, "recipes": set(), "data_set": set()},
    {"data": {"numpy", "cv2", "PIL", "tqdm"}},
    {"config": set(), "checkpoint": {"torch"}},
    {
        "learned": {"numpy"},
        "moved_data": set(),
        "scored_tests": set(),
        "networks": TORCH | {"numpy"},
        "batches": {"numpy", "torch", "torchvision", "cv2", "PIL", "tqdm"},
    },
    {"scoring": {"numpy", "torch", "tqdm"}},
    {"distillation": {"numpy", "torch"}},
    {"graphs": TORCH | {"numpy", "onnx", "onnxruntime", "tqdm"}},
    {"frozen": {"torch", "onnxruntime"}},
    {"loop": {"numpy", "torch", "tqdm", "tensorboard"}},
    {"calibration": {"numpy", "torch", "PIL", "tqdm"}},
    {"baselines": {"numpy", "torch", "sklearn", "threadpoolctl", "tqdm"}},
    {"report": {"numpy", "torch", "torchvision", "matplotlib", "cv2", "onnx", "onnxruntime"}},
    {"label_errors": {"numpy", "torch", "cv2", "PIL", "sklearn", "tqdm", "threadpoolctl"}},
    {
        "adopt": {"numpy", "onnx", "onnxruntime", "google", "tqdm"},
        "check": set(),
        "label": {"numpy", "cv2", "starlette"},
        "collect": ROS | {"numpy", "torch", "tqdm", "sklearn"},
        "look": {"numpy", "torch", "PIL", "cv2", "sklearn", "tqdm"},
        "inspect": {"numpy", "torch", "onnx", "google"},
        "evaluate": {"numpy", "torch"},
        "export": {"numpy", "torch", "onnx"},
        "gradients": {"torch", "tqdm"},
    },
    {"train": {"numpy"}},
    {"auto": {"numpy", "torch", "torchvision", "tqdm"}},
    {"entry_points": set()},
]


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room_of(path: Path) -> str:
    """The folder of the package that a file lies in, or the file itself; a `__main__` and a `cli` are entry points."""
    return "entry_points" if path.stem in {"__main__", "cli"} else path.relative_to(ROOT).parts[1].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, anywhere in it, type-checking blocks included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_used(path: Path, package: str) -> set[str]:
    rooms = {room_of(other) for other in files_of(package)}
    used = {name.split(".")[1] for name in imported(path) if name.startswith(f"{package}.")}
    return (used & rooms) - {room_of(path)}


def libraries_of(path: Path) -> set[str]:
    return (
        {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names) - {"cnn_perception", "training"}
    )


PACKAGES = {"cnn_perception": RUNTIME, "training": TRAINING}
ALL_FILES = [(package, path) for package in PACKAGES for path in files_of(package)]
FILES = [
    pytest.param(package, path, id=str(path.relative_to(ROOT)))
    for package, path in ALL_FILES
    if room_of(path) != "__init__"
]


@pytest.mark.parametrize(("package", "path"), FILES)
def test_file_imports_only_tiers_above_its_own_and_the_libraries_of_its_folder(package, path):
    tiers, room = PACKAGES[package], room_of(path)
    place = next((number for number, tier in enumerate(tiers) if room in tier), None)
    assert place is not None, f"{package}/{room} is new: say in this file which tier it belongs to"
    above = {name for tier in tiers[:place] for name in tier}

    assert rooms_used(path, package) <= above
    assert libraries_of(path) <= tiers[place][room]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_and_library_that_a_tier_names_is_there(package):
    named = {name for tier in PACKAGES[package] for name in tier}

    assert named == {room_of(path) for path in files_of(package)} - {"__init__"}


@pytest.mark.parametrize("path", files_of("cnn_perception"), ids=lambda path: str(path.relative_to(ROOT)))
def test_runtime_never_imports_training_demo_or_benchmark(path):
    forbidden = {"torch", "torchvision", "training", "demo", "benchmark"}

    assert not {name.split(".")[0] for name in imported(path)} & forbidden


@pytest.mark.parametrize("path", files_of("cnn_perception"), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_needs_no_ros_uses_none_however_late(path):
    if room_of(path) not in NEEDS_ROS:
        assert not rooms_used(path, "cnn_perception") & NEEDS_ROS


@pytest.mark.parametrize("path", files_of("training"), ids=lambda path: str(path.relative_to(ROOT)))
def test_training_needs_neither_ros_nor_a_program_of_the_robot(path):
    used = {name.split(".")[1] for name in imported(path) if name.startswith("cnn_perception.")}
    allowed = READS_THE_ROBOT if room_of(path) == "collect" else set()

    assert not used & (NEEDS_ROS | {"evaluation", "background"}) - allowed
    assert "ros" not in used or path.parent.name == "live"


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_between_files_have_no_cycle(package):
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files_of(package)}
    finished: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in finished:
            for other in imported(modules[name]) & modules.keys():
                visit(other, (*above, name))
            finished.add(name)

    for name in modules:
        visit(name, ())


def test_no_node_reaches_the_pages():
    """Jinja2 and the reports cost a node neither time nor memory, and a robot needs them for evaluate_bag only."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files_of("cnn_perception")}
    reached: set[str] = set()
    waiting = {name for name, path in modules.items() if room_of(path) in NODES - {"dashboard_node"}}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= (imported(modules[name]) & modules.keys()) - reached

    assert "cnn_perception.pipeline.pipeline" in reached
    assert [name for name in reached if name.startswith(("cnn_perception.pages", "cnn_perception.evaluation"))] == []


@pytest.mark.parametrize("library", ["jinja2", "matplotlib", "tqdm", "av"])
def test_pages_figures_progress_and_videos_are_made_by_one_module_each(library):
    users = [path.stem for _, path in ALL_FILES if library in libraries_of(path)]

    names = {"jinja2": "rendering", "matplotlib": "figures", "tqdm": "progress", "av": "pyav_video"}
    assert users == [names[library]]


def test_what_needs_no_ros_imports_without_ros_and_torch():
    blocked = sorted(ROS | {"torch", "torchvision"})
    wanted = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in files_of("cnn_perception")
        if room_of(path) not in NEEDS_ROS and path.stem != "__main__"
    ]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"for name in {wanted!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


FACES = sorted({path.parent for path in files_of("cnn_perception") if path.stem == "__init__"})


def declared_face(folder: Path) -> set[str]:
    """The names that type checkers see in an `__init__`."""
    tree = ast.parse((folder / "__init__.py").read_text())
    block = next((node for node in tree.body if isinstance(node, ast.If)), None)
    return {alias.name for node in (block.body if block else []) for alias in node.names}


@pytest.mark.parametrize("folder", FACES, ids=lambda path: path.name)
def test_face_of_a_folder_gives_what_it_declares(folder):
    package = importlib.import_module(".".join(folder.relative_to(ROOT).parts))

    assert declared_face(folder) <= set(dir(package))
    for name in declared_face(folder):
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


@pytest.mark.parametrize("folder", FACES, ids=lambda path: path.name)
def test_face_of_a_folder_imports_nothing_heavy(folder):
    name = ".".join(folder.relative_to(ROOT).parts)
    heavy = {"numpy", "cv2", "onnxruntime", "rclpy", "rosbags", "jinja2", "PIL", "starlette", "uvicorn"}
    code = f"import sys, {name}; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"


# No finder finds torch; an empty place of it among the modules would be taken for torch by SciPy.
COLLECTED_WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder
class WithoutTorch:
    find = PathFinder.find_spec
    def __call__(self, name, *rest):
        return None if name.startswith("torch") else self.find(name, *rest)
PathFinder.find_spec = WithoutTorch()
import pytest
sys.exit(pytest.main(["--collect-only", "-q"]))
"""


def test_without_torch_every_test_is_run_or_skipped_and_none_ends_the_run():
    """As on a robot: one file that cannot be imported ends the whole of `colcon test` before its first test."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECTED_WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout[-2000:]


def subscripted_when_run(code: str) -> set[str]:
    """Names from rclpy to which a file gives types in brackets outside of annotations, which are never evaluated."""
    tree = ast.parse(code)
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rclpy"
        for alias in node.names
    }
    annotations = [
        part
        for node in ast.walk(tree)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if part is not None
    ]
    unevaluated = {id(node) for part in annotations for node in ast.walk(part)}
    return {
        node.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and id(node) not in unevaluated
    } & names


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Parameters = list[Parameter[int]]", {"Parameter"}),
        ("class Own(Parameter[int]): ...", {"Parameter"}),
        ("def of(one: Parameter[int]) -> list[Parameter[int]]: ...", set()),
        ("kept: Parameter[int] = Parameter('x')", set()),
        ("Parameters: TypeAlias = 'list[Parameter[int]]'", set()),
    ],
)
def test_types_in_brackets_that_are_evaluated_are_found(line, found):
    assert subscripted_when_run(f"from rclpy.parameter import Parameter\n{line}") == found


@pytest.mark.parametrize("package", ["cnn_perception", "benchmark", "demo"])
def test_classes_of_rclpy_are_given_types_in_annotations_alone(package):
    """Jazzy's are not generic: a module that gives them types when it is imported ends every node there."""
    for path in files_of(package):
        code = path.read_text()
        assert subscripted_when_run(code) == set(), path
        assert "import rclpy" not in code or "from __future__ import annotations" in code, path


@pytest.mark.parametrize("package", ["cnn_perception", "training"])
def test_no_file_is_called_like_what_the_init_beside_it_imports(package):
    """`from __future__ import annotations` hides a file annotations.py from whoever asks the folder for it: rosdoc2."""
    hidden = [
        path.relative_to(ROOT)
        for init in (ROOT / package).rglob("__init__.py")
        for node in ast.parse(init.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (path := init.with_name(f"{alias.asname or alias.name}.py")).is_file()
    ]

    assert hidden == []


@pytest.mark.parametrize("package", ["cnn_perception", "training", "test"])
def test_no_folder_is_a_drawer(package):
    counts = {
        str(folder.relative_to(ROOT)): len([path for path in folder.glob("*.py") if path.stem != "__init__"])
        for folder in [ROOT / package, *(ROOT / package).rglob("*")]
        if folder.is_dir() and folder.name != "__pycache__"
    }

    assert {name: count for name, count in counts.items() if count > 13} == {}
