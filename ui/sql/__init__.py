"""The page that asks all runs in SQL: its editor, its answers as tables and figures, and the glossary beside it."""
