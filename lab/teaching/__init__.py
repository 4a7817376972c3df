"""Teaching: what the Learn page and the lessons compute, without the dashboard."""
