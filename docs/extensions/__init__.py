"""What these pages say of the code, read from the code."""
