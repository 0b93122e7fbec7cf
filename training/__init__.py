"""What changes the model: self-distillation, cold start, RL and the embedded tiny model."""
