"""The Runs page: all runs, filtered and sorted; tagged, archived, deleted, and opened on the other pages."""
