"""Command-line programs, one verb each."""
