"""What keeps a run safe: its folder, its checkpoints, its continuation."""
