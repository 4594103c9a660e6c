"""The files that an evaluation writes, besides its record. Loads no torch."""

TABLES = ("table1.md", "pairs.csv", "structures.csv")
"""The paper's table, a row for each pair, and a row for each structure."""
