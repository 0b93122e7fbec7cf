"""Self-distillation: preference pairs that differ in form, sampled from the model that is to be trained on them."""
