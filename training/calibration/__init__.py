"""What is fitted after training: temperature, thresholds and the unknown rule; several networks together."""
