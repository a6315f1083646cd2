"""What every node of this package needs of ROS 2, whatever it does."""
