"""Questions with verifiable answers: one type, the layouts in which data sets bring them, and a task made of them."""
