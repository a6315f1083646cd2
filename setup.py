"""Installs the runtime as an ament_python package; pip and colcon both read this file."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "cnn_perception"
ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / NAME / "__init__.py").read_text()).group(1)
EXTRAS = ("cpu", "gpu", "openvino", "fleet", "heic", "page", "test", "video")


def files(pattern: str) -> list[str]:
    """Returns the files of the source tree that match, relative to it, as data_files wants them."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file())


def requirements(name: str) -> list[str]:
    """Returns what a file of requirements itself lists."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


setup(
    name=NAME,
    version=VERSION,
    description="Recognises what a robot's camera sees, and shows why.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="cnn_perception developers",
    maintainer_email="cnn_perception@example.org",
    python_requires=">=3.10",
    # For pip alone: colcon installs no requirement and checks none, so that apt's versions stay a robot's. Which ONNX
    # Runtime is wanted depends on the machine, and an environment holds one only: an extra.
    install_requires=[*requirements("runtime"), *requirements("recordings")],
    extras_require={name: requirements(name) for name in EXTRAS},
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={"": ["templates/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", files("launch/*")),
        (f"share/{NAME}/launch/layouts", files("launch/layouts/*")),
        (f"share/{NAME}/security", files("security/*")),
        (f"share/{NAME}/models", files("models/README.md") + files("models/*.onnx")),
    ],
    entry_points={
        "console_scripts": [
            f"perception_node = {NAME}.entry_points:perception_node",
            f"camera_node = {NAME}.entry_points:camera_node",
            f"evaluate_bag = {NAME}.entry_points:evaluate_bag",
            f"follow_node = {NAME}.entry_points:follow_node",
            f"dashboard_node = {NAME}.entry_points:dashboard_node",
            f"doctor = {NAME}.doctor.cli:main",
        ],
    },
    zip_safe=False,
)
