"""The program that looks at a machine and a running system and says what to mend."""
