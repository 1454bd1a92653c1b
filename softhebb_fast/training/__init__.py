"""Training: a run from its configuration to its last figures, stage by stage."""
