"""A comparison as people and CI servers read it: page, Markdown, JUnit XML and JSON."""
