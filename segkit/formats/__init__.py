"""Label formats of other tools: a file per format, which reads it, writes it, or both; `table` lists them."""
