"""The program `doctor`: checks a machine and a running system, and says what to mend."""
