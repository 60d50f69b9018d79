"""The planner, the preprocessor and the intensity normalization."""
