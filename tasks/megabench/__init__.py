"""MEGA-Bench: 505 real-world tasks, scored by the official rules without running model text."""
