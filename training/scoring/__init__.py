"""What a network says of labelled images, and how good that is."""
