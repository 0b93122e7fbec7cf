"""What is asked and how an answer is scored; one folder a benchmark."""
