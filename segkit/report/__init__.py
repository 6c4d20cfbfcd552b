"""What a person reads after a run: run folder and log, tables, pictures, TensorBoard."""
