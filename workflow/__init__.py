"""The Snakemake workflow of the whole study, its settings, and the paper's numbers."""
