"""State of models and scored days, and alerts about jobs."""
