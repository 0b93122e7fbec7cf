"""LaTeX mathematics in answers: a bounded parser, arithmetic on what it reads, and equality of expressions."""
