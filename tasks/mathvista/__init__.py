"""MathVista: mathematical reasoning over figures; see README.md in this folder."""
