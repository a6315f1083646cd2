"""The black box of a perception node: what it is given, and what has it saved."""
