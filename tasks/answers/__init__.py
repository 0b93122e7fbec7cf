"""Reading answers in running text: letters, choices, numbers, refusals. Pure functions that several benchmarks share."""
