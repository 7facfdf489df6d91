"""CSV files: blocks of whole rows are parsed in threads, and lines are written."""
