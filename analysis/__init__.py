"""What the numbers mean: numbers in, numbers out."""
