"""Teaching material without a dashboard: numbers and figures of objectives at single points, and the exercises of the lessons."""
