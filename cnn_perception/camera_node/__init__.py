"""The node that publishes a video, a folder of images or a capture device as a ROS 2 camera."""
