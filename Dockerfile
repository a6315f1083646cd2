# Its targets are `robot` and `training`; docs/install.md says how they are built and run.
# Of apt and rosdep the versions are those of the distribution, which is what a robot has.
# --build-arg ONNXRUNTIME=gpu takes the ONNX Runtime for NVIDIA GPUs; such a robot needs an image with CUDA, too.
ARG ROS_DISTRO=jazzy

FROM ros:${ROS_DISTRO}-ros-base AS robot
ARG ONNXRUNTIME=cpu
ENV CNN_PERCEPTION_ONNXRUNTIME=${ONNXRUNTIME}
# apt's numpy stays, for which the messages of ROS were compiled
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/etc/pip-constraint.txt
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /workspace
COPY package.xml src/cnn_perception/
COPY requirements/recordings.txt requirements/page.txt /tmp/
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y python3-numpy python3-pip \
    && python3 -c 'import numpy; print("numpy==" + numpy.__version__)' > "$PIP_CONSTRAINT" \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths src --ignore-src --rosdistro "$ROS_DISTRO" -y --dependency-types exec \
    && python3 -m pip install -r /tmp/recordings.txt -r /tmp/page.txt \
    && rm -rf /var/lib/apt/lists/*
COPY setup.py setup.cfg pyproject.toml README.md src/cnn_perception/
COPY cnn_perception src/cnn_perception/cnn_perception
COPY launch src/cnn_perception/launch
COPY models src/cnn_perception/models
COPY requirements src/cnn_perception/requirements
COPY resource src/cnn_perception/resource
COPY security src/cnn_perception/security
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" \
    && colcon build \
    && sed -i 's|^exec |source /workspace/install/setup.bash --\nexec |' /ros_entrypoint.sh
CMD ["ros2", "launch", "cnn_perception", "perception.launch.py"]

FROM python:3.12-slim AS tools
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y build-essential cmake git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /cnn_perception

FROM tools AS training
COPY Makefile setup.py setup.cfg pyproject.toml README.md package.xml ./
COPY interfaces interfaces
COPY requirements requirements
COPY cnn_perception/__init__.py cnn_perception/__init__.py
RUN make venv
COPY . .
CMD [".venv/bin/python", "-m", "training.train", "--help"]
