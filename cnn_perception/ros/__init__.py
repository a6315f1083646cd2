"""The ROS 2 code that the nodes share: parameters, subscriptions, messages, transport, and how a process runs."""
