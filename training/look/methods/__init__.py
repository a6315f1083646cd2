"""How units, answers and maps are measured: the arithmetic of the sections, which knows of no page."""
