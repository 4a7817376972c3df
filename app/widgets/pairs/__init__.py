"""Widgets that show and edit preference pairs."""
