"""What a network is compared with: methods of before deep learning, fitted to the same images."""
